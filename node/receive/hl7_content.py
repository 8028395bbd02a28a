"""What an HL7 message says about orders and patients, field by field; what it lacks is named, never guessed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from node.domain.codes import Code
from node.domain.orders import OrderContext, PatientEvent, PatientIdentifier, Received
from node.domain.work import Priority
from node.errors import WetreadError
from node.network.hl7 import Message, Segment

__all__ = ["KINDS", "VERSIONS", "RefusedError", "read_content"]

KINDS = {  # MSH-9, and whether it brings orders
    ("ORM", "O01"): True,
    ("OMI", "O23"): True,
    ("ADT", "A01"): False,
    ("ADT", "A04"): False,
    ("ADT", "A08"): False,
    ("ADT", "A40"): False,
}
VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2")
CANCELLED = frozenset({"CA", "OC", "CR", "DC", "OD", "DR"})  # HL7 table 0119: cancelled or discontinued
URGENCY = {  # HL7 table 0485, and the words of 4.3.6
    "S": Priority.STAT, "STAT": Priority.STAT,
    "A": Priority.URGENT, "ASAP": Priority.URGENT, "P": Priority.URGENT, "C": Priority.URGENT, "U": Priority.URGENT,
    "R": Priority.ROUTINE, "ROUTINE": Priority.ROUTINE,
}  # fmt: skip
LONGEST_ID = 64  # PS3.5 6.2, VR LO; an id that is cut is another one
LONGEST_WORDS = 4000
MOST_ORDERS = 100
MOST_PATIENT_IDS = 20
# HL7 table 0357
SEGMENT_ORDER, REQUIRED, DATA_TYPE = "100", "101", "102"
KIND, EVENT, PROCESSING, VERSION = "200", "201", "202", "203"
MEANINGS = {
    SEGMENT_ORDER: "Segment sequence error", REQUIRED: "Required field missing", DATA_TYPE: "Data type error",
    KIND: "Unsupported message type", EVENT: "Unsupported event code", PROCESSING: "Unsupported processing id",
    VERSION: "Unsupported version id", "205": "Duplicate key identifier", "207": "Application internal error",
}  # fmt: skip


class RefusedError(WetreadError):
    """A message cannot be taken; `code` is of HL7 table 0357, `place` the field, such as ``OBR-18``.

    `is_rejected` if nothing is wrong with its content: it is not one we take (AR instead of AE).
    """

    def __init__(self, code: str, place: str, reason: str, *, is_rejected: bool = False) -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.code, self.place, self.is_rejected = code, place, is_rejected


@dataclass(slots=True)
class _Group:
    """The segments of one order."""

    orc: Segment | None = None
    obr: Segment | None = None
    tq1: Segment | None = None
    ipc: Segment | None = None


def read_content(message: Message, *, accession_fields: Sequence[str], data: bytes) -> Received:
    """Everything of a message that is kept.

    Raises
    ------
    RefusedError
        If it is not one we take, or lacks what it cannot do without; names the field, never its value.
    """
    msh = message.header
    kind, event = msh.text(9), msh.text(9, 2)
    if not msh.text(10) or len(msh.text(10)) > 199:  # HL7 v2.5.1 2.15.9.10 says 20, later versions 199
        raise RefusedError(REQUIRED, "MSH-10", "a message needs an id of at most 199 characters")
    if kind not in {name for name, _ in KINDS}:
        raise RefusedError(KIND, "MSH-9", "only ORM, OMI and ADT are taken", is_rejected=True)
    if (kind, event) not in KINDS:
        raise RefusedError(EVENT, "MSH-9", "this event is not taken", is_rejected=True)
    if msh.text(11) != "P":
        raise RefusedError(PROCESSING, "MSH-11", "only production messages (P) are taken", is_rejected=True)
    if msh.text(12) not in VERSIONS:
        raise RefusedError(
            VERSION, "MSH-12", f"only versions {VERSIONS[0]} to {VERSIONS[-1]} are taken", is_rejected=True
        )
    orders = _orders(message, accession_fields) if KINDS[kind, event] else ()
    events = () if orders else _events(message, event)
    sender = "^".join("&".join(msh.components(number)) for number in (3, 4))
    return Received(sender, msh.text(10), f"{kind}^{event}", hashlib.sha256(data).hexdigest(), orders, events)


def _orders(message: Message, accession_fields: Sequence[str]) -> tuple[OrderContext, ...]:
    patient = message.first("PID")
    if patient is None:
        raise RefusedError(SEGMENT_ORDER, "PID", "an order needs a patient")
    patient_ids, visit = _patient_ids(patient), message.first("PV1")
    groups = _groups(message)
    if not groups or len(groups) > MOST_ORDERS:
        raise RefusedError(SEGMENT_ORDER, "OBR", f"a message needs 1 to {MOST_ORDERS} orders, each with an OBR")
    return tuple(_order(group, patient_ids, visit, accession_fields) for group in groups)


def _groups(message: Message) -> list[_Group]:
    """Each order with its own segments; an OBR that has no ORC of its own belongs to the one before."""
    groups: list[_Group] = []
    for one in message.segments:
        if one.name == "ORC" or (one.name == "OBR" and (not groups or groups[-1].obr is not None)):
            groups.append(_Group(orc=one if one.name == "ORC" else groups[-1].orc if groups else None))
        if not groups:
            continue
        group = groups[-1]
        if one.name == "OBR":
            group.obr = one
        elif one.name == "TQ1":
            group.tq1 = group.tq1 or one
        elif one.name == "IPC":
            group.ipc = group.ipc or one
    return groups


def _order(
    group: _Group, patient_ids: tuple[PatientIdentifier, ...], visit: Segment | None, accession_fields: Sequence[str]
) -> OrderContext:
    orc, obr = group.orc, group.obr
    if obr is None:
        raise RefusedError(SEGMENT_ORDER, "OBR", "an order needs an OBR")
    accession = next((text for name in accession_fields if (text := _field(group, name))), "")
    if not accession:
        raise RefusedError(REQUIRED, accession_fields[0], "an order without an accession number fits no study")
    control = orc.text(1) if orc is not None else ""
    return OrderContext(
        accession_number=_bounded(accession, "the accession number"),
        patient_ids=patient_ids,
        control=control[:8],
        is_cancelled=control in CANCELLED,
        placer_order_number=_bounded(_first(obr, orc, 2), "OBR-2"),
        filler_order_number=_bounded(_first(obr, orc, 3), "OBR-3"),
        priority=_priority(group),
        procedure=_procedure(obr),
        indication=obr.words(13)[:LONGEST_WORDS],
        reason=_reason(obr),
        ordering_provider=_parts(obr.components(16) or (orc.components(12) if orc is not None else ())),
        patient_class=visit.text(2)[:LONGEST_ID] if visit is not None else "",
        location=_parts(visit.components(3)) if visit is not None else (),
    )


def _field(group: _Group, name: str) -> str:
    segment, _, number = name.partition("-")
    found = {"ORC": group.orc, "OBR": group.obr, "IPC": group.ipc}[segment]
    return found.text(int(number)) if found is not None else ""


def _first(obr: Segment, orc: Segment | None, number: int) -> str:
    """The number of an order, in OBR or, where that says nothing, in ORC."""
    return obr.text(number) or (orc.text(number) if orc is not None else "")


def _priority(group: _Group) -> Priority | None:
    """TQ1-9 of v2.5 and later, else the sixth component of ORC-7 or OBR-27, else OBR-5 (v2.2)."""
    said = (
        group.tq1.text(9) if group.tq1 is not None else "",
        group.orc.text(7, 6) if group.orc is not None else "",
        group.obr.text(27, 6) if group.obr is not None else "",
        group.obr.text(5) if group.obr is not None else "",
    )
    return next((URGENCY[word.upper()] for word in said if word.upper() in URGENCY), None)


def _procedure(obr: Segment) -> Code | None:
    value, meaning, scheme = (obr.text(4, number) for number in (1, 2, 3))
    return Code(value, scheme, meaning) if value and scheme and len(value) <= 16 else None  # PS3.3 8.1, VR SH


def _reason(obr: Segment) -> str:
    """OBR-31: the words of each reason, or its code if it has none."""
    said = [obr.text(31, 2, repetition=n) or obr.text(31, repetition=n) for n in range(1, obr.count(31) + 1)]
    return "; ".join(filter(None, said))[:LONGEST_WORDS]


def _events(message: Message, event: str) -> tuple[PatientEvent, ...]:
    """One for each PID: a merge message may hold several, each with the MRG behind it."""
    found: list[PatientEvent] = []
    visit = message.first("PV1")
    for number, one in enumerate(message.segments):
        if one.name != "PID":
            continue
        behind = message.segments[number + 1 :]
        until = next((i for i, other in enumerate(behind) if other.name == "PID"), len(behind))
        merge = next((other for other in behind[:until] if other.name == "MRG"), None)
        if event == "A40" and merge is None:
            raise RefusedError(SEGMENT_ORDER, "MRG", "a merge needs the id that goes")
        merged = _patient_ids(merge, 1, "MRG-1") if event == "A40" and merge is not None else ()
        stay = visit.text(2)[:LONGEST_ID] if visit is not None else ""
        location = _parts(visit.components(3)) if visit is not None else ()
        found.append(PatientEvent(event, _patient_ids(one), merged, stay, location))
    if not found or len(found) > MOST_ORDERS:
        raise RefusedError(SEGMENT_ORDER, "PID", f"an ADT message needs 1 to {MOST_ORDERS} patients")
    return tuple(found)


def _patient_ids(segment: Segment, number: int = 3, place: str = "PID-3") -> tuple[PatientIdentifier, ...]:
    repetitions = range(1, min(segment.count(number), MOST_PATIENT_IDS) + 1)
    found = [
        PatientIdentifier(
            _bounded(segment.text(number, 1, repetition=one), place),
            segment.text(number, 4, 1, repetition=one)[:LONGEST_ID],
            segment.text(number, 4, 2, repetition=one)[:LONGEST_ID],
        )
        for one in repetitions
    ]
    known = tuple(one for one in found if one.value)
    if not known:
        raise RefusedError(REQUIRED, place, "a patient needs an id")
    return known


def _bounded(text: str, place: str) -> str:
    if len(text) > LONGEST_ID or "\n" in text:
        raise RefusedError(DATA_TYPE, place, f"an id may have {LONGEST_ID} characters in one line")
    return text


def _parts(components: Sequence[str]) -> tuple[str, ...]:
    return tuple(part[:LONGEST_ID] for part in components[:10])
