"""What a receiver answered to a message of ours: read whatever its version, its line ends and its delimiters."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from node.errors import MessageError
from node.network.er7 import unescape

__all__ = ["Ack", "control_id_of", "parse_ack"]

SEGMENT_END = re.compile(r"[\r\n]+")
ACK_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})  # HL7 table 0008
ERROR_CODE = re.compile(r"[0-9]{1,6}")  # HL7 table 0357; digits only, so that it can name nobody
ASKS_FOR_COMMIT = frozenset({"AL", "SU"})  # HL7 table 0155


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
    own_id
        MSH-10 of the answer itself.
    asks_for_commit
        True if its MSH-15 asks to be told that it arrived, as enhanced mode allows.
    """

    code: str
    control_id: str
    text: str = ""
    error_codes: tuple[str, ...] = ()
    own_id: str = ""
    asks_for_commit: bool = False


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
    msh = lines[0]
    return Ack(
        code=code,
        control_id=unescape(msa[2].strip()),
        text=unescape(msa[3]) if len(msa) > 3 else "",
        error_codes=tuple(dict.fromkeys(found)),
        own_id=unescape(msh[9].strip()) if len(msh) > 9 else "",
        asks_for_commit=len(msh) > 14 and msh[14].strip() in ASKS_FOR_COMMIT,
    )


def _error_codes(err: list[str], component: str, repetition: str) -> Iterable[str]:
    """Codes in ERR-3 (v2.5 and later) and in the fourth component of ERR-1 (earlier)."""
    candidates = [err[3].split(component)[0]] if len(err) > 3 else []
    for location in err[1].split(repetition) if len(err) > 1 else ():
        candidates += [part.split("&")[0] for part in location.split(component)[3:4]]
    return (code for code in candidates if ERROR_CODE.fullmatch(code))
