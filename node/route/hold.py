"""Which studies are not of a patient: phantoms, quality checks and calibrations, known by words in the header."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from node.domain.study import HeaderValue, Study
from node.settings import Hold

__all__ = ["held_by"]

LETTERS = "a-z\u00df-\u024f\u0370-\u052f"  # Latin, Greek and Cyrillic; Chinese puts no space between words
SHORT = 2  # a word as short as this is part of many numbers, such as QC0012


def held_by(study: Study, holds: Sequence[Hold]) -> str:
    """Why a study is held, in words; "" if it is not.

    The words name the hold, the keyword and the word of the site's own list, never what else stands there.
    """
    for hold in holds:
        for series in study.series:
            reason = _found(hold, series.header)
            if reason:
                return f"held as {hold.name!r}: {reason}"
    return ""


def _found(hold: Hold, header: Mapping[str, HeaderValue]) -> str:
    for keyword in hold.keywords:
        value = header.get(keyword)
        for part in value if isinstance(value, list) else [value]:
            text = _plain(str(part or ""))
            for phrase in hold.unless:
                text = re.sub(_pattern(phrase), " ", text)
            for word in hold.words:
                if text and re.search(_pattern(word), text):
                    return f"{keyword} has the word {word!r}"
    return ""


def _pattern(word: str) -> str:
    """A regular expression for a word on its own; beside digits only if it is long enough, Chinese anywhere."""
    plain = r"[\s_^-]+".join(re.escape(part) for part in _plain(word).split())
    if not word.isascii():
        return plain
    beside = LETTERS if len(word.strip()) > SHORT else f"{LETTERS}0-9"
    return f"(?<![{beside}]){plain}(?![{beside}])"


def _plain(text: str) -> str:
    """One spelling for full-width and half-width, capital and small letters."""
    return unicodedata.normalize("NFKC", text).casefold()
