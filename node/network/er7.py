"""Text on the wire in HL7 v2: what is escaped, how segments are put together, which character sets there are.

Everything that enters a message passes through `escape` or `formatted`; the type `Er7` marks what has,
so that no text of a patient, a peer or a template can end a field or begin a segment.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NewType

from node.errors import ConfigError, MessageError

__all__ = [
    "CODECS",
    "ENCODING_CHARACTERS",
    "LINE_BREAK",
    "NOTHING",
    "Er7",
    "codec",
    "components",
    "escape",
    "formatted",
    "join_segments",
    "moment_field",
    "repetitions",
    "segment",
    "unescape",
]

Er7 = NewType("Er7", str)
"""Text that is escaped already, or put together from such text."""

NOTHING = Er7("")
ENCODING_CHARACTERS = Er7("^~\\&")  # HL7 v2.5.1 2.5.4, MSH-2
ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}  # HL7 v2.5.1 2.7.1; backslash first
NAMED = {written[1:-1]: meant for meant, written in ESCAPES.items()} | {".br": "\n"}  # 2.7.6
SEQUENCE = re.compile(r"\\([^\\]*)\\")
LINE_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # 0x0B and 0x1C are the frame of MLLP, 0x0D ends a segment
DELETE = '""'  # HL7 v2.5.1 2.5.3: an order to delete what the receiver holds; never ours to give
CODECS = {  # HL7 table 0211; UTF-16 and UTF-32 would break the frame of MLLP
    "ASCII": "ascii",
    **{f"8859/{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
    "UNICODE UTF-8": "utf-8",
}


def codec(character_set: str) -> str:
    """Python's name for a character set as MSH-18 writes it.

    Raises
    ------
    ConfigError
        If the node cannot write that character set over MLLP.
    """
    try:
        return CODECS[character_set]
    except KeyError:
        raise ConfigError(f"character_set {character_set!r} is not one of: {', '.join(CODECS)}") from None


def escape(text: str) -> Er7:
    """Make text safe inside a field of one line.

    Line breaks and tabs become a space, other control characters go, delimiters are escaped. A text
    that is nothing but two double quotes would delete what the receiver holds, so it becomes nothing.
    """
    line = CONTROL.sub("", LINE_BREAK.sub(" ", text).replace("\t", " "))
    if line.strip() == DELETE:
        return NOTHING
    for meant, written in ESCAPES.items():
        line = line.replace(meant, written)
    return Er7(line)


def formatted(text: str) -> Er7:
    r"""Make text safe inside an FT field, where a line break is written ``\.br\``."""
    return Er7("\\.br\\".join(escape(line) for line in LINE_BREAK.split(text)))


def unescape(text: str) -> str:
    """Undo `escape` and `formatted`; a sequence we do not know stays as it is."""
    return SEQUENCE.sub(lambda found: NAMED.get(found[1], found[0]), text)


def components(*parts: Er7) -> Er7:
    """Join the components of a field, without empty ones at the end."""
    return Er7("^".join(parts).rstrip("^"))


def repetitions(fields: Iterable[Er7]) -> Er7:
    """Join the repetitions of a field, without empty ones."""
    return Er7("~".join(field for field in fields if field))


def segment(name: str, fields: Mapping[int, Er7]) -> Er7:
    """Write a segment from its fields, numbered as in the standard, without empty ones at the end.

    MSH counts its own separator as field 1, so its fields are numbered from 2 here as well.
    """
    first = 2 if name == "MSH" else 1
    values = [fields.get(number, NOTHING) for number in range(first, max(fields, default=0) + 1)]
    return Er7("|".join((name, *values)).rstrip("|"))


def join_segments(segments: Iterable[Er7]) -> str:
    """Put segments together to a message; each ends with a carriage return (HL7 v2.5.1 2.6)."""
    return "".join(f"{line}\r" for line in segments)


def moment_field(moment: datetime) -> Er7:
    """A time as TS writes it (HL7 v2.5.1 2.A.77): local, with its distance to UTC."""
    if moment.tzinfo is None:
        raise MessageError("a time must know its distance to UTC")
    return Er7(moment.astimezone().strftime("%Y%m%d%H%M%S%z"))
