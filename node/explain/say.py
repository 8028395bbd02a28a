"""Sentences from words and values; a value is never read as words, whoever sent it."""

import re
from collections.abc import Mapping

from node.explain.words import Words

__all__ = ["say", "say_reason"]

PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
LONGEST_VALUE = 1000


def say(words: Words, code: str, **values: object) -> str:
    """One sentence; a part of it whose value is None or "" is left out."""
    plain = {key: _plain(value) for key, value in values.items() if value is not None}
    return _fill(words.sentences[code], plain)


def say_reason(words: Words, text: str, reasons: Mapping[str, str]) -> str:
    """A reason that was written down in English, in another language as far as it is known; else as it is.

    Parameters
    ----------
    reasons
        Whole sentences of the site and what they are in this language.
    """
    if not words.reasons or not text:
        return text
    whole = reasons.get(text) or _translated(words, text, reasons)
    if whole:
        return whole
    parts = text.split("; ")
    return words.clause.join(reasons.get(part) or _translated(words, part, reasons) or part for part in parts)


def _translated(words: Words, text: str, reasons: Mapping[str, str]) -> str:
    for pattern, sentence in words.reasons:
        match = pattern.fullmatch(text)
        if match:
            values = {
                key: say_reason(words, value, reasons) if key == "reason" else value
                for key, value in match.groupdict(default="").items()
            }
            return _fill((sentence,), values)
    return ""


def _fill(parts: tuple[str, ...], values: Mapping[str, str]) -> str:
    kept = (part for part in parts if all(values.get(name) for name in PLACEHOLDER.findall(part)))
    return "".join(PLACEHOLDER.sub(lambda match: values[match.group(1)], part) for part in kept)


def _plain(value: object) -> str:
    """One line of printable characters: what a peer sent forges neither a line nor a colour."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return text[:LONGEST_VALUE]
