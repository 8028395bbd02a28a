"""Text with escape sequences, as several sets in one value are written.

Two sets are in use at a time: G0 for bytes below 128, G1 for those above. An escape sequence puts another
set in one of the two places; a delimiter puts the initial sets back.

References
----------
PS3.5 6.1.2.4 and 6.1.2.5 (code extensions, ISO/IEC 2022); Annexes H, I and K have examples.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from node.dicom.mislabelled import REPLACED, Reading, read_unescaped
from node.dicom.repertoires import ASCII, CHINESE, ESCAPES, JAPANESE, JIS_X_0208, JIS_X_0212, SINGLE_BYTE

__all__ = ["BROKEN_ESCAPE", "read_escaped"]

BROKEN_ESCAPE = "an escape sequence was broken or unknown"
ESCAPE = re.compile(rb"(\x1b(?:[$()*+,\-./]{1,3}(?:[0-~]|\Z))?)")
CONTROL = re.compile(rb"([\x00-\x1f]+)")
DELIMITERS = {vr: re.compile(rb"([\\^=])") for vr in ("PN",)}  # PS3.5 6.1.2.5.3
DELIMITERS |= {vr: re.compile(rb"((?!))") for vr in ("LT", "ST", "UT")}  # one value: a backslash parts nothing
ONLY_BACKSLASH = re.compile(rb"(\\)")
PAIRS = re.compile(rb"((?:[!-~]{2})+)|([\x80-\xff]+)|(.)", re.DOTALL)


def read_escaped(value: bytes, codecs: Sequence[str], vr: str) -> Reading:
    """Read bytes that hold escape sequences; what has no meaning is replaced, not refused.

    Parameters
    ----------
    codecs
        As `node.dicom.charset.declared_sets` says, initial set first.
    vr
        Decides which characters are delimiters: those of components in PN only.

    Notes
    -----
    Where the initial set has nothing above 127, what was put in G1 outlives a delimiter: nothing else
    could read those bytes, and many senders write the escape once for a whole name.
    """
    sets = _Sets(tuple(codecs))
    delimiter = DELIMITERS.get(vr, ONLY_BACKSLASH)
    words = []
    for number, part in enumerate(ESCAPE.split(value)):
        if number % 2:
            sets.designate(part)
        else:
            words += list(_between_escapes(part, sets, delimiter))
    return Reading("".join(words), frozenset(sets.remarks))


@dataclass(slots=True)
class _Sets:
    """What is in G0 and G1 now."""

    codecs: tuple[str, ...]
    g0: str = ASCII
    g1: str = ""
    is_g1_escaped: bool = False  # a label may be wrong, an escape is meant
    remarks: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Put the initial sets back."""
        initial = self.codecs[0] if self.codecs else ASCII
        self.g0 = ASCII
        if initial not in (ASCII, JAPANESE):
            self.g1, self.is_g1_escaped = initial, False

    def designate(self, escape: bytes) -> None:
        """Do what an escape sequence says; one that says nothing is left out."""
        if escape not in ESCAPES:
            self.remarks.add(BROKEN_ESCAPE)
            return
        place, found = ESCAPES[escape]
        if place == 0:
            self.g0 = found
        else:
            self.g1, self.is_g1_escaped = found, True

    def read(self, part: bytes) -> str:
        """Text that holds no escape and no delimiter."""
        if self.g0 == ASCII:
            return self._read_single(part)
        words = []
        for pairs, high, single in PAIRS.findall(part):
            if pairs:
                words.append(self._read_pairs(pairs))
            elif high:
                words.append(self._read_single(high))
            elif single == b" ":  # never part of a set of 94 characters
                words.append(" ")
            else:
                self.remarks.add(REPLACED)
                words.append("\ufffd")
        return "".join(words)

    def _read_single(self, part: bytes) -> str:
        if self.is_g1_escaped and self.g1 in SINGLE_BYTE:
            text = part.decode(self.g1, errors="replace")
            self.remarks |= {REPLACED} if "\ufffd" in text else set()
            return text
        reading = read_unescaped(part, (self.g1,) if self.g1 else self.codecs)
        self.remarks |= reading.remarks
        return reading.text

    def _read_pairs(self, pairs: bytes) -> str:
        words = []
        for start in range(0, len(pairs), 2):
            word = _character(pairs[start], pairs[start + 1], self.g0)
            if word is None:
                self.remarks.add(REPLACED)
            words.append(word or "\ufffd")
        return "".join(words)


def _between_escapes(content: bytes, sets: _Sets, delimiter: re.Pattern[bytes]) -> Iterator[str]:
    for number, chunk in enumerate(CONTROL.split(content)):
        if number % 2:
            sets.reset()
            yield chunk.decode(ASCII)
            continue
        # In a set of two bytes a character, 0x5C and its like are half of a character and no delimiter.
        is_whole = sets.g0 != ASCII
        parts = [chunk] if is_whole else _parted(chunk, sets.g1, delimiter)
        for index, part in enumerate(parts):
            if index % 2:
                sets.reset()
                yield part.decode(ASCII)
            else:
                yield sets.read(part)


def _parted(chunk: bytes, g1: str, delimiter: re.Pattern[bytes]) -> list[bytes]:
    """Text and delimiters by turns; the second byte of a GBK character under GB 2312's escape is no delimiter."""
    if g1 != CHINESE or chunk.isascii():
        return delimiter.split(chunk)
    parts, start = [], 0
    for found in re.finditer(rb"[\x81-\xfe][@-~\x80-\xfe]|" + delimiter.pattern, chunk):
        if found[1] is not None:
            parts += [chunk[start : found.start()], found[1]]
            start = found.end()
    return [*parts, chunk[start:]]


def _character(row: int, cell: int, character_set: str) -> str | None:
    """A character of JIS X 0208 or 0212 by its two bytes, None if there is none."""
    high = bytes((row | 0x80, cell | 0x80))
    candidates = [(b"\x8f" + high, "euc_jp")] if character_set == JIS_X_0212 else [(high, "euc_jp")]
    if character_set == JIS_X_0208:  # letters of Windows in rows that JIS leaves empty, such as the 髙 of many names
        lead = (row - 0x21 >> 1) + (0x81 if row < 0x5F else 0xC1)
        trail = cell + (0x1F + (cell >= 0x60)) if row % 2 else cell + 0x7E
        candidates.append((bytes((lead, trail)), "cp932"))
    for code, codec in candidates:
        try:
            return code.decode(codec)
        except UnicodeDecodeError:
            continue
    return None
