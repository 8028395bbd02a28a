"""The identity gate of messages: an ORU that does not say the same patient as its images never leaves.

It is the twin of the gate of DICOM results (`node/report/checks.py`), and shares no code with what wrote the message:
the bytes are read back by the parser that the listener has for the messages of others.
"""

import unicodedata
from collections.abc import Collection, Iterator

from node.deliver.person import DATES, SEXES, checked
from node.domain.study import Order, Patient
from node.errors import MessageError
from node.network.er7 import LINE_BREAK
from node.network.hl7 import Segment, parse_message
from node.settings import FieldRule, Hl7Destination

__all__ = ["check_message"]

REPRESENTATIONS = {"ideographic": "I", "alphabetic": "A", "phonetic": "P"}  # HL7 table 0465
PARTS = {0: 1, 1: 2, 2: 3, 3: 5, 4: 4}  # of a PN (PS3.5 6.2.1.1) and of an XPN (HL7 v2.5.1 2.A.88): prefix, suffix
REPRESENTATION = 8  # XPN.8
DELETE = '""'  # HL7 v2.5.1 2.5.3: would delete what the RIS holds, so it is never written
Pair = tuple[str, str, str]


def check_message(content: bytes, *, patient: Patient, order: Order, destination: Hl7Destination) -> None:
    """Read a message back as a RIS would, and compare whose it is with the images it was made from.

    Compared are the bytes of every value once it is without its escapes: Patient ID, issuer, all groups of the name,
    birth date, sex and accession number. What the site's own `fields` fill is the site's, but the Patient ID in PID-3
    is not.

    Raises
    ------
    MessageError
        If one differs, or the character set is not that of the destination. Fields are named, values never.
    """
    message = parse_message(content, character_set=destination.character_set)
    pid, obr = message.first("PID"), message.first("OBR")
    if pid is None or obr is None:
        raise MessageError("the message that was written cannot be read back: PID or OBR is missing")
    wrong = [] if message.character_set == destination.character_set else ["MSH-18"]
    if sum(one.name == "PID" for one in message.segments) != 1 or pid.count(3) != 1:
        wrong.append("PID-3")
    pairs = (*_identifiers(pid, patient, destination.fields), *_names(pid, patient, destination.fields),
             *_demographics(pid, patient, destination.fields), *_order(obr, order, destination.fields))  # fmt: skip
    wrong += [field for field, expected, found in pairs if expected.encode() != found.encode()]
    if wrong:
        differing = ", ".join(dict.fromkeys(wrong))
        raise MessageError(f"the message that was written differs from its images in {differing}")


def _identifiers(pid: Segment, patient: Patient, rules: Collection[FieldRule]) -> Iterator[Pair]:
    yield "PID-3.1", _as_line(patient.patient_id), pid.text(3)
    if not _is_filled_by_site(rules, "PID", 3, 4):
        namespace, universal = pid.text(3, 4), pid.text(3, 4, 2)
        yield "PID-3.4", _as_line(patient.issuer), namespace or universal


def _names(pid: Segment, patient: Patient, rules: Collection[FieldRule]) -> Iterator[Pair]:
    if _is_filled_by_site(rules, "PID", 5):
        return
    repetitions = range(1, pid.count(5) + 1)
    for group, representation in REPRESENTATIONS.items():
        expected = getattr(patient.name, group).split("^", 4)
        place = next((one for one in repetitions if pid.text(5, REPRESENTATION, repetition=one) == representation), 0)
        for part, component in PARTS.items():
            value = _as_line(expected[part]) if part < len(expected) else ""
            yield f"PID-5.{component}", value, pid.text(5, component, repetition=place) if place else ""


def _demographics(pid: Segment, patient: Patient, rules: Collection[FieldRule]) -> Iterator[Pair]:
    if not _is_filled_by_site(rules, "PID", 7):
        yield "PID-7", checked(patient.birth_date, DATES), pid.text(7)
    if not _is_filled_by_site(rules, "PID", 8):
        yield "PID-8", patient.sex if patient.sex in SEXES else "", pid.text(8)


def _order(obr: Segment, order: Order, rules: Collection[FieldRule]) -> Iterator[Pair]:
    if not _is_filled_by_site(rules, "OBR", 18):
        yield "OBR-18", _as_line(order.accession_number), obr.text(18)


def _is_filled_by_site(rules: Collection[FieldRule], segment: str, number: int, component: int = 0) -> bool:
    fields = [rule for rule in rules if (rule.segment, rule.number) == (segment, number)]
    return any(not component or rule.component in (0, component) for rule in fields)


def _as_line(text: str) -> str:
    """A value of a header as far as a field of one line can hold it: no line breaks, no control characters."""
    line = LINE_BREAK.sub(" ", text).replace("\t", " ")
    line = "".join(sign for sign in line if unicodedata.category(sign) != "Cc").strip()
    return "" if line == DELETE else line
