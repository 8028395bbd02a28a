"""A received HL7 v2 message: its text in Unicode, its segments, and any value of it without its escapes.

Nothing a peer sends is trusted: the delimiters are its own, the character set is what its MSH-18 says only if the
bytes agree, and every list of it is bounded.
"""

import re
from dataclasses import dataclass

from node.errors import MessageError
from node.network.er7 import CODECS

__all__ = ["Delimiters", "Message", "Segment", "parse_message"]

SEGMENT_END = re.compile(r"[\r\n]+")
NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the line feed, which an escape may have meant
HEXADECIMAL = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
MOST_SEGMENTS = 2000
MOST_FIELDS = 250
DELETE = '""'  # HL7 v2.5.1 2.5.3
MSH_18 = 17  # its place behind the first separator, counted from 0 for the segment's name
SYNONYMS = {
    "UTF-8": "UNICODE UTF-8",
    "UNICODE": "UNICODE UTF-8",
    "GB 18030": "GB 18030-2000",
    "GB18030": "GB 18030-2000",
}
SYNONYMS |= {"US-ASCII": "ASCII", "UTF8": "UNICODE UTF-8", "GBK": "GB 18030-2000", "GB2312": "GB 18030-2000"}


@dataclass(frozen=True, slots=True)
class Delimiters:
    """The five signs that a message says it is written with (MSH-1 and MSH-2)."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; `fields` are as written, the first at index 1 is field 1."""

    name: str
    fields: tuple[str, ...]
    delimiters: Delimiters
    encoding: str

    def written(self, number: int) -> str:
        """A field as written, "" if it is not there."""
        return self.fields[number] if 0 < number < len(self.fields) else ""

    def count(self, number: int) -> int:
        """How many repetitions a field has; at least one."""
        return self.written(number).count(self.delimiters.repetition) + 1

    def components(self, number: int, repetition: int = 1) -> tuple[str, ...]:
        """The first subcomponent of each component, without empty ones at the end."""
        parts = _part(self.written(number), self.delimiters.repetition, repetition).split(self.delimiters.component)
        found = [self._plain(part.split(self.delimiters.subcomponent)[0]) for part in parts]
        while found and not found[-1]:
            found.pop()
        return tuple(found)

    def text(self, number: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 1) -> str:
        """One value without its escapes and without spaces around it; "" if it is not there or to be deleted."""
        field = _part(self.written(number), self.delimiters.repetition, repetition)
        part = _part(field, self.delimiters.component, component)
        return self._plain(_part(part, self.delimiters.subcomponent, subcomponent))

    def words(self, number: int) -> str:
        """A whole field that is meant as text: all repetitions, a line each; delimiters nobody escaped are text."""
        plain = self._plain(self.written(number).replace(self.delimiters.repetition, "\n"))
        return plain.replace(self.delimiters.component, " ").strip()

    def _plain(self, written: str) -> str:
        found = CONTROL.sub("", _unescape(written, self.delimiters, self.encoding)).strip()
        return "" if found == DELETE else found


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was sent; its first segment is MSH."""

    segments: tuple[Segment, ...]
    character_set: str

    @property
    def header(self) -> Segment:
        """MSH, whose field 1 is its own separator as the standard counts."""
        return self.segments[0]

    def first(self, name: str) -> Segment | None:
        """The first segment of this name."""
        return next((one for one in self.segments if one.name == name), None)


def parse_message(data: bytes, *, character_set: str) -> Message:
    """Read a message.

    Parameters
    ----------
    character_set
        What it is written in if its MSH-18 is empty, as HL7 table 0211 names it.

    Raises
    ------
    MessageError
        If it does not begin with MSH and its delimiters, is not written in the character set it names, or has a line
        that is no segment; no value of it is quoted.
    """
    text, found = _decode(data, character_set)
    delimiters = _delimiters(text)
    lines = [line for line in SEGMENT_END.split(text) if line.strip(" \t\x00")]
    if len(lines) > MOST_SEGMENTS:
        raise MessageError(f"a message may have {MOST_SEGMENTS} segments, found {len(lines)}")
    return Message(tuple(_segment(line, delimiters, CODECS[found]) for line in lines), found)


def _decode(data: bytes, default: str) -> tuple[str, str]:
    """The text, and the character set that its own MSH-18 names once it is read in that set.

    A trail byte of GB 18030 can equal the separator, so a name before MSH-18 can hide it from a reader of bytes.
    """
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    tried = dict.fromkeys((default, "UNICODE UTF-8", *CODECS))
    named = ""
    for candidate in tried:
        try:
            text = data.decode(CODECS[candidate])
        except UnicodeDecodeError:
            continue
        named = _named_set(text)
        if (SYNONYMS.get(named, named) or default) == candidate:
            return text, candidate
    if not data.startswith(b"MSH"):
        raise MessageError("a message must begin with MSH")
    raise MessageError("MSH-18 names a character set that is not known, or the message is not written in it")


def _named_set(text: str) -> str:
    fields = SEGMENT_END.split(text, maxsplit=1)[0].split(text[3:4] or "|")
    repetition = text[5:6] or "~"
    return fields[MSH_18].split(repetition)[0].strip() if len(fields) > MSH_18 else ""


def _delimiters(text: str) -> Delimiters:
    """HL7 v2.5.1 2.5.4; a fifth encoding character, for text that was cut, came with v2.7."""
    encoding = text[4:].split(text[3:4], maxsplit=1)[0] if len(text) > 4 else ""
    signs = text[3:4] + encoding[:4]
    is_plain = all("!" <= sign <= "~" and not sign.isalnum() for sign in signs)
    if not text.startswith("MSH") or len(encoding) not in (4, 5) or not is_plain or len(set(signs)) != len(signs):
        raise MessageError("a message must begin with MSH and its five delimiters")
    return Delimiters(*signs)


def _segment(line: str, delimiters: Delimiters, encoding: str) -> Segment:
    fields = line.strip(" \t\x00").split(delimiters.field)
    if not NAME.fullmatch(fields[0]) or len(fields) > MOST_FIELDS:
        raise MessageError("a line of the message is no segment: it needs a name of three letters and its fields")
    if fields[0] == "MSH":
        fields.insert(1, delimiters.field)
    return Segment(fields[0], tuple(fields), delimiters, encoding)


def _part(written: str, separator: str, number: int) -> str:
    parts = written.split(separator)
    return parts[number - 1] if 0 < number <= len(parts) else ""


def _unescape(written: str, delimiters: Delimiters, encoding: str) -> str:
    """HL7 v2.5.1 2.7; how text looks is dropped, and a sequence that is not known stays as it is."""
    if delimiters.escape not in written:
        return written
    escape = re.escape(delimiters.escape)
    meant = {
        "E": delimiters.escape, "F": delimiters.field, "S": delimiters.component, "T": delimiters.subcomponent,
        "R": delimiters.repetition, "H": "", "N": "", ".br": "\n", ".sp": "\n", ".ce": "\n",
    }  # fmt: skip

    def replaced(found: "re.Match[str]") -> str:
        bytes_ = HEXADECIMAL.fullmatch(found[1])
        if bytes_ is None:
            return meant.get(found[1], found[0])
        return bytes.fromhex(bytes_[1]).decode(encoding, errors="replace").replace("\r", "\n")

    return re.sub(f"{escape}([^{escape}]*){escape}", replaced, written)
