"""Text on the wire in HL7 v2: what is escaped, how segments are put together, how an answer is read.

Everything that enters a message passes through `escape` or `formatted`; the type `Er7` marks what has,
so that no text of a patient, a peer or a template can end a field or begin a segment.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NewType

from node.errors import ConfigError, MessageError

__all__ = [
    "ENCODING_CHARACTERS",
    "NOTHING",
    "Ack",
    "Er7",
    "codec",
    "components",
    "control_id_of",
    "escape",
    "formatted",
    "join_segments",
    "parse_ack",
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
SEGMENT_END = re.compile(r"[\r\n]+")
CODECS = {  # HL7 table 0211; UTF-16 and UTF-32 would break the frame of MLLP
    "ASCII": "ascii",
    **{f"8859/{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
    "UNICODE UTF-8": "utf-8",
}
ACK_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})  # HL7 table 0008
ERROR_CODE = re.compile(r"[0-9]{1,6}")  # HL7 table 0357; digits only, so that it can name nobody


@dataclass(frozen=True, slots=True)
class Ack:
    """A receiver's answer to one message.

    Parameters
    ----------
    code
        MSA-1: one of AA, AE, AR, CA, CE, CR.
    control_id
        MSA-2: MSH-10 of the message that is answered.
    text
        MSA-3: words of the peer, which may quote a patient; for nobody's log.
    error_codes
        HL7 error codes from ERR-3, or from ERR-1 of older versions; only those made of digits.
    """

    code: str
    control_id: str
    text: str = ""
    error_codes: tuple[str, ...] = ()


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


def control_id_of(message: bytes) -> str:
    """MSH-10 of a message of ours.

    Raises
    ------
    MessageError
        If the bytes do not begin with MSH or have no MSH-10.
    """
    fields = message.split(b"\r", 1)[0].split(b"|")
    if fields[0] != b"MSH" or len(fields) < 10 or not fields[9].isascii() or not fields[9]:
        raise MessageError("a message must begin with MSH and have an MSH-10")
    return unescape(fields[9].decode("ascii"))


def parse_ack(data: bytes, encoding: str = "utf-8") -> Ack:
    """Read an acknowledgement of any version, with segments ended by CR, LF or both.

    Raises
    ------
    MessageError
        If there is no MSH, no MSA, no known MSA-1 or no MSA-2.
    """
    text = data.decode(encoding, errors="replace").lstrip("\ufeff \t\r\n\x0b")
    if not text.startswith("MSH") or len(text) < 8 or text[3].isalnum():
        raise MessageError("an acknowledgement must begin with MSH and its delimiters")
    field, component, repetition = text[3], text[4], text[5]
    lines = [line.strip(" \t").split(field) for line in SEGMENT_END.split(text)]
    msa = next((line for line in lines if line[0] == "MSA"), None)
    if msa is None or len(msa) < 3 or not msa[2].strip():
        raise MessageError("an acknowledgement must have an MSA segment with MSA-1 and MSA-2")
    code = msa[1].strip()
    if code not in ACK_CODES:
        raise MessageError("MSA-1 of an acknowledgement must be one of AA, AE, AR, CA, CE, CR")
    found = [error for line in lines if line[0] == "ERR" for error in _error_codes(line, component, repetition)]
    return Ack(
        code=code,
        control_id=unescape(msa[2].strip()),
        text=unescape(msa[3]) if len(msa) > 3 else "",
        error_codes=tuple(dict.fromkeys(found)),
    )


def _error_codes(err: list[str], component: str, repetition: str) -> Iterable[str]:
    """Codes in ERR-3 (v2.5 and later) and in the fourth component of ERR-1 (earlier)."""
    candidates = [err[3].split(component)[0]] if len(err) > 3 else []
    for location in err[1].split(repetition) if len(err) > 1 else ():
        candidates += [part.split("&")[0] for part in location.split(component)[3:4]]
    return (code for code in candidates if ERROR_CODE.fullmatch(code))
