"""Text without escape sequences, by its label where that can be true, and by what it is where it cannot.

GBK or UTF-8 bytes under an ISO_IR 100 label are the commonest Chinese fault; names cut at 64 bytes in
mid-character, Windows letters under a Latin-1 label and no label at all come next. Nothing is refused.
"""

import codecs as python_codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass

from node.dicom.repertoires import ASCII, CHINESE, EXTENSIONS, JAPANESE, LATIN_1, SINGLE_BYTE, UTF_8

__all__ = ["REPLACED", "Reading", "is_chinese", "read_unescaped"]

REPLACED = "bytes without a meaning were replaced"
REPLACEMENT = "\ufffd"
WINDOWS = "cp1252"  # Latin-1, with letters where ISO 8859 has the control characters of C1
C1 = re.compile(rb"[\x80-\x9f]")  # control characters in every part of ISO 8859: no text holds them (PS3.5 6.1.3)
NOT_GB_2312 = re.compile(rb"[\x80-\xa0]")  # never part of a character of GB 2312, often of one of UTF-8

IDEOGRAPH = "[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]"
IDEOGRAPHS = re.compile(f"{IDEOGRAPH}+")
ASCII_OR_CJK = re.compile(f"(?:[\x00-\x7f·—‘’“”…\u3000-\u303f\uff00-\uffef]|{IDEOGRAPH})*")
LONE_BESIDE_LETTER = re.compile(f"(?<!{IDEOGRAPH}){IDEOGRAPH}(?=[A-Za-z])|[A-Za-z]{IDEOGRAPH}(?!{IDEOGRAPH})")


@dataclass(frozen=True, slots=True)
class Reading:
    """Text in Unicode, and what had to be assumed to read it; a remark never quotes the text."""

    text: str
    remarks: frozenset[str] = frozenset()


def read_unescaped(value: bytes, codecs: Sequence[str]) -> Reading:
    """Read bytes that hold no escape sequence.

    Tried in order: the declared sets, UTF-8, another Japanese encoding where a Japanese set is declared,
    GB 18030 if the outcome is plausible Chinese, the declared set with what it cannot read replaced, and
    Latin-1, which reads anything. A Latin-1 label is believed last; see `_latin`.

    Parameters
    ----------
    codecs
        As `node.dicom.charset.declared_sets` says, initial set first.
    """
    if value.isascii():
        return Reading(value.decode(ASCII))
    for index, codec in enumerate(codecs):
        if codec == LATIN_1:
            return _latin(value)
        if codec in SINGLE_BYTE and C1.search(value) and _try(value, UTF_8) is not None:
            break
        found = _strict(value, codec)
        # As an extension, GB 2312 begins with an escape; without one it is only a guess like others.
        is_guess = codec == CHINESE and index > 0 and found is not None and not is_chinese(found)
        if found is not None and not (is_guess and _try(value, UTF_8) is not None):
            return Reading(found)
    return _by_what_it_is(value, codecs)


def is_chinese(text: str) -> bool:
    """True if text that was read as Chinese is plausibly meant so, and is not accented Latin-1.

    - Every character beyond ASCII is an ideograph or CJK or full-width punctuation.
    - At least half of the ideographs are among the 3,755 of GB 2312 level 1 (99.7 % of running
      text); pairs of lower-case accented Latin-1 letters fall on the rare ones of level 2.
    - An ideograph that touches a Latin letter is in a run of two or more ("Müller" read as GBK is
      "M黮ler", "Jääskinen" "J溷skinen").
    """
    ideographs = "".join(IDEOGRAPHS.findall(text))
    if not ideographs or ASCII_OR_CJK.fullmatch(text) is None or LONE_BESIDE_LETTER.search(text):
        return False
    return 2 * sum(map(_is_common, ideographs)) >= len(ideographs)


def _is_common(ideograph: str) -> bool:
    """True for GB 2312 level 1: rows 16 to 55, lead byte 0xB0 to 0xD7."""
    try:
        return 0xB0 <= ideograph.encode("gb2312")[0] <= 0xD7
    except UnicodeEncodeError:
        return False


def _latin(value: bytes) -> Reading:
    """Read bytes under a Latin-1 label, which proves nothing: many devices write it whatever they send."""
    utf_8, chinese = _try(value, UTF_8), _try(value, CHINESE)
    if utf_8 is not None and (is_chinese(utf_8) or NOT_GB_2312.search(value)):
        return _other(utf_8, UTF_8)
    if chinese is not None and is_chinese(chinese):
        return _other(chinese, CHINESE)
    if utf_8 is not None:
        return _other(utf_8, UTF_8)
    windows = _try(value, WINDOWS) if C1.search(value) else None
    return Reading(value.decode(LATIN_1)) if windows is None else _other(windows, WINDOWS)


def _by_what_it_is(value: bytes, codecs: Sequence[str]) -> Reading:
    declared = [codec for codec in codecs if codec not in (ASCII, JAPANESE)]
    is_undeclared = not declared and JAPANESE not in codecs
    if UTF_8 in declared and (cut := _cut_utf_8(value)):
        return Reading(cut, frozenset({REPLACED}))
    for codec in (UTF_8, *(("euc_jp", "cp932") if JAPANESE in codecs else ()), CHINESE):
        found = _try(value, codec)
        if found is not None and (codec != CHINESE or is_chinese(found)):
            return _other(found, codec, is_guess=is_undeclared)
    for codec in (*declared, UTF_8):
        found = value.decode(codec, errors="replace")
        broken = found.count(REPLACEMENT)
        if sum(character > "\x7f" for character in found) >= 2 * broken:
            remarks = {REPLACED} if codec in declared else {REPLACED, _remark(codec, is_guess=is_undeclared)}
            return Reading(found, frozenset(remarks))
    return _other(_try(value, WINDOWS) or value.decode(LATIN_1), LATIN_1, is_guess=is_undeclared)


def _cut_utf_8(value: bytes) -> str | None:
    """Text of which only the last character is cut, as by a device that counts 64 bytes and not characters."""
    try:
        text = python_codecs.getincrementaldecoder(UTF_8)().decode(value)
    except UnicodeDecodeError:
        return None
    return None if text.isascii() else text + REPLACEMENT


def _other(text: str, codec: str, *, is_guess: bool = False) -> Reading:
    return Reading(text, frozenset({_remark(codec, is_guess=is_guess)}))


def _remark(codec: str, *, is_guess: bool) -> str:
    return f"read as {codec}, " + ("which is a guess" if is_guess else "against its label")


def _strict(value: bytes, codec: str) -> str | None:
    """Text in a declared set, or in the superset of it that senders mean."""
    found = None if codec == JAPANESE else _try(value, codec)
    return _try(value, EXTENSIONS[codec]) if found is None and codec in EXTENSIONS else found


def _try(value: bytes, codec: str) -> str | None:
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        return None
