"""Writes records as TOML that a person reads and edits."""

import dataclasses
import json

from node.domain.models import ModelCard

__all__ = ["card_toml", "quoted"]

ALWAYS = ("device",)


def card_toml(card: ModelCard, heading: str) -> str:
    """The manifest of a card: what was said, in the order of the card, without what is at its default."""
    plain: list[str] = [f"# {line}" for line in heading.splitlines()]
    tables: list[str] = []
    for field in dataclasses.fields(card):
        value = getattr(card, field.name)
        if field.default is not dataclasses.MISSING and value == field.default and field.name not in ALWAYS:
            continue
        if field.name in ("inputs", "outputs"):
            for tensor in value:
                tables += ["", f"[[{field.name}]]", *_lines(tensor)]
        elif dataclasses.is_dataclass(value):
            tables += ["", f"[{field.name}]", *_lines(value)]
        else:
            plain.append(f"{field.name} = {_value(value)}")
    return "\n".join([*plain, *tables, ""])


def quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines(record: object) -> list[str]:
    lines = []
    for field in dataclasses.fields(record):  # type: ignore[arg-type]  # callers give records
        value = getattr(record, field.name)
        if value is not None and value != field.default:
            lines.append(f"{field.name} = {_value(value)}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, tuple):
        are_sentences = any(isinstance(one, str) and len(one) > 20 for one in value)
        if are_sentences:
            return "[\n" + "".join(f"    {_value(one)},\n" for one in value) + "]"
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        return repr(value)
    return str(value)
