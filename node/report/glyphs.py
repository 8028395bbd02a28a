"""Characters that the font of the page lacks, said by their number: a name must never be printed with gaps."""

import functools
import unicodedata
from typing import TypeVar

from PIL import ImageFont
from pylopdf_fonts_zh_cn import sans_path

__all__ = ["shown_in"]

T = TypeVar("T")
SIZE_PX = 24
NO_CHARACTER = "\U0010ffff"  # a noncharacter (Unicode 23.7): what the font draws for it, it draws for all it lacks


def shown_in(data: T) -> T:
    """Replace every character without a glyph by ``[U+AC15]``, in all texts of nested lists and tables."""
    if isinstance(data, str):
        return "".join(map(_shown, data))  # type: ignore[return-value]  # a text stays a text
    if isinstance(data, dict):
        return {key: shown_in(value) for key, value in data.items()}  # type: ignore[return-value]
    if isinstance(data, list):
        return [shown_in(value) for value in data]  # type: ignore[return-value]
    return data


@functools.lru_cache(maxsize=8192)
def _shown(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
        return " "
    is_drawn = character.isspace() or _drawn(character) != _drawn(NO_CHARACTER)
    return character if is_drawn else f"[U+{ord(character):04X}]"


@functools.lru_cache(maxsize=64)
def _drawn(character: str) -> bytes:
    mask = _font().getmask(character, mode="L")
    return bytes(mask) + repr(mask.size).encode()


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(sans_path(), SIZE_PX, layout_engine=ImageFont.Layout.BASIC)
