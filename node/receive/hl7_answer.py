"""What the sender of an HL7 message is told: ACK with MSA and, if it was not taken, ERR with code, place and reason.

In enhanced mode (MSH-15 or MSH-16 is there) the commit answer and the application's own are two messages.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from node.network.er7 import CODECS, ENCODING_CHARACTERS, NOTHING, Er7, components, escape, join_segments, moment_field
from node.network.er7 import segment as write
from node.network.hl7 import Message, Segment
from node.receive.hl7_content import MEANINGS
from node.settings import Hl7Settings

__all__ = ["Verdict", "answers"]

PLACE = re.compile(r"([A-Z][A-Z0-9]{2})(?:-([0-9]+))?")
VERSION_OF_UNREADABLE = "2.5.1"
OLD_ERR = ("2.1", "2.2", "2.3", "2.3.1", "2.4")  # HL7 v2.5 made ERR-1 into ERR-2, 3 and 4
ALWAYS, ON_SUCCESS, ON_ERROR = "AL", "SU", "ER"  # HL7 table 0155
LONGEST_CONTROL_ID = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a message was judged: taken (`code` ""), refused for its content, or rejected for what it is or we are."""

    code: str = ""
    place: str = ""
    reason: str = ""
    is_rejected: bool = False

    @property
    def letter(self) -> str:
        """Second letter of MSA-1: accept, error or reject (HL7 table 0008)."""
        return "A" if not self.code else "R" if self.is_rejected else "E"


def answers(message: Message | None, verdict: Verdict, ours: Hl7Settings) -> list[bytes]:
    """The frames to send back, in their order; none where enhanced mode wants none."""
    if message is None:
        return [_answer(None, verdict, ours, f"A{verdict.letter}")]
    return [_answer(message, verdict, ours, code) for code in _codes(message.header, verdict)]


def _codes(msh: Segment, verdict: Verdict) -> Iterator[str]:
    commit, application = msh.text(15), msh.text(16)
    if not commit and not application:
        yield f"A{verdict.letter}"
        return
    wanted = (ALWAYS, ON_ERROR) if verdict.code else (ALWAYS, ON_SUCCESS)
    if commit in wanted:
        yield f"C{verdict.letter}"
    if application in wanted:
        yield f"A{verdict.letter}"


def _answer(message: Message | None, verdict: Verdict, ours: Hl7Settings, code: str) -> bytes:
    msh = message.header if message is not None else None
    version = _version(msh)
    event = escape(msh.text(9, 2)) if msh is not None else NOTHING
    character_set = message.character_set if message is not None else "ASCII"
    control_id = uuid.uuid4().hex[:LONGEST_CONTROL_ID].upper()
    is_enhanced = msh is not None and bool(msh.text(15) or msh.text(16))
    fields = {
        2: ENCODING_CHARACTERS,
        3: escape(ours.application),
        4: escape(ours.facility),
        5: _repeated(msh, 3),
        6: _repeated(msh, 4),
        7: moment_field(datetime.now(UTC)),
        9: components(Er7("ACK"), event, NOTHING if version in OLD_ERR else Er7("ACK")),
        10: Er7(control_id),
        11: Er7("P"),
        12: Er7(version),
        15: Er7("NE") if is_enhanced else NOTHING,
        16: Er7("NE") if is_enhanced else NOTHING,
        18: escape(character_set),
    }
    msa = {1: Er7(code), 2: escape(msh.text(10)) if msh is not None else NOTHING, 3: escape(verdict.reason)}
    lines = [write("MSH", fields), write("MSA", msa)]
    if verdict.code:
        lines.append(_err(verdict, version))
    return join_segments(lines).encode(CODECS[character_set], errors="replace")


def _repeated(msh: Segment | None, number: int) -> Er7:
    """Their name as they wrote it, with our delimiters."""
    return components(*map(escape, msh.components(number))) if msh is not None else NOTHING


def _version(msh: Segment | None) -> str:
    said = msh.text(12) if msh is not None else ""
    return said if re.fullmatch(r"2\.[0-9](\.[0-9])?", said) else VERSION_OF_UNREADABLE


def _err(verdict: Verdict, version: str) -> Er7:
    place = PLACE.fullmatch(verdict.place)
    segment, field = (place[1], place[2] or "") if place else ("", "")
    meaning = MEANINGS.get(verdict.code, "")
    if version in OLD_ERR:
        code = Er7(f"{verdict.code}&{escape(meaning)}&HL70357")
        return write("ERR", {1: Er7("^".join((segment, "1" if segment else "", field, code)))})
    where = components(Er7(segment), Er7("1"), Er7(field)) if segment else NOTHING
    code = components(Er7(verdict.code), escape(meaning), Er7("HL70357"))
    return write("ERR", {2: where, 3: code, 4: Er7("E"), 8: escape(verdict.reason)})
