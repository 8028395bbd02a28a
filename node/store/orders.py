"""Rows of what hospital systems say about a study: orders, where a patient is, and what was made of it.

An order belongs to a study when Accession Number and Patient ID agree, and the issuers do not contradict each other;
never by the Accession Number alone.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from node.domain.codes import Code
from node.domain.orders import OrderContext, PatientEvent, PatientIdentifier, Received, add_orders
from node.domain.study import Order, Patient
from node.domain.work import Priority
from node.store.database import Store
from node.store.schema import HL7_MESSAGES, ORDER_USES, ORDERS, PATIENT_EVENTS, STUDIES

__all__ = [
    "FOR_PRIORITY",
    "FOR_REPORT",
    "FOR_RESENDING",
    "LEFT",
    "MERGE",
    "StoredOrder",
    "Taken",
    "add_uses",
    "belongs",
    "complete_order",
    "find_orders",
    "forget_orders",
    "forget_orders_before",
    "keep_message",
    "last_stay",
    "note_use",
    "order_row",
]

FOR_PRIORITY, FOR_REPORT, FOR_RESENDING = "priority", "report", "resend"
LEFT = "left"  # it was looked at when the results were made already, and nothing was sent again
SAME_ID_WITHIN_S = 7 * 86400.0  # then a sender's counter may have begun anew
MERGE = "A40"
MOST_AT_ONCE = 500
Row = sa.Row[Any]


class Taken(StrEnum):
    """What became of a message: kept, known already, or refused because its id was another message's."""

    NEW = "new"
    REPEATED = "repeated"
    ID_IN_USE = "id in use"


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order and when it came; `ids` are its own and those of messages that changed it, oldest first."""

    ids: tuple[int, ...]
    at: float
    context: OrderContext


def keep_message(store: Store, message: Received) -> Taken:
    """Commit what a message says; only after this may its sender be told that it was taken.

    A message that came before changes nothing, so its sender may repeat it as often as it likes.
    """
    now = store.clock()
    with store.writing() as connection:
        known = connection.execute(
            sa.select(HL7_MESSAGES.c.digest).where(
                HL7_MESSAGES.c.control_id == message.control_id,
                HL7_MESSAGES.c.sender == message.sender,
                HL7_MESSAGES.c.at > now - SAME_ID_WITHIN_S,
            )
        ).scalars()
        digests = set(known)
        if digests:
            return Taken.REPEATED if message.digest in digests else Taken.ID_IN_USE
        number = connection.execute(
            sa.insert(HL7_MESSAGES).values(
                at=now, sender=message.sender, control_id=message.control_id, kind=message.kind, digest=message.digest
            )
        ).inserted_primary_key
        message_id = int(number[0]) if number else 0
        for order in message.orders:
            values = {"message_id": message_id, "at": now, "accession_number": order.accession_number}
            connection.execute(sa.insert(ORDERS).values(**values, content=_content(order)))
        for event in message.events:
            _add_event(connection, message_id, now, event)
        details: dict[str, str | int | float] = {"kind": message.kind, "sha256": message.digest}
        store.audit(connection, "message kept", f"hl7 {message_id}", details=details)
    return Taken.NEW


def _add_event(connection: sa.Connection, message_id: int, at: float, event: PatientEvent) -> None:
    is_merge = event.trigger == MERGE
    stays = [one.value for one in event.patient_ids] if is_merge else []
    content = {"class": event.patient_class, "location": event.location, "stays": stays}
    for patient in event.merged_ids if is_merge else event.patient_ids:
        connection.execute(
            sa.insert(PATIENT_EVENTS).values(
                message_id=message_id, at=at, trigger=event.trigger, patient_id=patient.value, issuer=patient.issuer,
                content=json.dumps(content, ensure_ascii=False),
            )
        )  # fmt: skip


def _content(order: OrderContext) -> str:
    return json.dumps(asdict(replace(order, accession_number="")), ensure_ascii=False)


def order_row(row: Row) -> StoredOrder:
    """An order from its row."""
    said = json.loads(row.content)
    context = OrderContext(
        accession_number=row.accession_number,
        patient_ids=tuple(PatientIdentifier(**one) for one in said["patient_ids"]),
        control=said["control"],
        is_cancelled=said["is_cancelled"],
        placer_order_number=said["placer_order_number"],
        filler_order_number=said["filler_order_number"],
        priority=None if said["priority"] is None else Priority(said["priority"]),
        procedure=None if said["procedure"] is None else Code(**said["procedure"]),
        indication=said["indication"],
        reason=said["reason"],
        ordering_provider=tuple(said["ordering_provider"]),
        patient_class=said["patient_class"],
        location=tuple(said["location"]),
    )
    return StoredOrder((row.order_id,), row.at, context)


def belongs(order: OrderContext, patient_id: str, issuer: str) -> bool:
    """True if one of the order's ids is this patient's, and nobody else's by its issuer."""
    return bool(patient_id) and any(one.value == patient_id and one.is_issued_by(issuer) for one in order.patient_ids)


def find_orders(store: Store, *, accession_number: str, patient_id: str, issuer: str) -> list[StoredOrder]:
    """Orders that stand for a study: cancelled ones are left out, and what changed one is part of it."""
    if not accession_number or not patient_id:
        return []
    query = sa.select(ORDERS).where(ORDERS.c.accession_number == accession_number).order_by(ORDERS.c.order_id)
    with store.reading() as connection:
        rows = [order_row(row) for row in connection.execute(query)]
    standing: list[StoredOrder] = []
    for one in rows:
        if belongs(one.context, patient_id, issuer):
            place = next((i for i, other in enumerate(standing) if _is_same(other.context, one.context)), None)
            if place is None:
                standing.append(one)
            else:
                standing[place] = _changed(standing[place], one)
    return [one for one in standing if not one.context.is_cancelled]


def _is_same(one: OrderContext, other: OrderContext) -> bool:
    """True if two messages speak of the same order of an Accession Number: by its placer number, else its filler's."""
    for name in ("placer_order_number", "filler_order_number"):
        numbers = (getattr(one, name), getattr(other, name))
        if all(numbers):
            return bool(numbers[0] == numbers[1])
    return not any((one.placer_order_number, other.placer_order_number))


def _changed(before: StoredOrder, later: StoredOrder) -> StoredOrder:
    """What the later message says, and what only the earlier one said."""
    old, new = before.context, later.context
    merged = replace(
        new,
        placer_order_number=new.placer_order_number or old.placer_order_number,
        filler_order_number=new.filler_order_number or old.filler_order_number,
        priority=old.priority if new.priority is None else new.priority,
        procedure=new.procedure or old.procedure,
        indication=new.indication or old.indication,
        reason=new.reason or old.reason,
        ordering_provider=new.ordering_provider or old.ordering_provider,
        patient_class=new.patient_class or old.patient_class,
        location=new.location or old.location,
    )
    return StoredOrder((*before.ids, *later.ids), later.at, merged)


def last_stay(store: Store, *, patient_id: str, issuer: str) -> tuple[str, tuple[str, ...]]:
    """Patient class and location by the last ADT message about a patient; empty if there is none."""
    query = (
        sa.select(PATIENT_EVENTS)
        .where(PATIENT_EVENTS.c.patient_id == patient_id, PATIENT_EVENTS.c.trigger != MERGE)
        .order_by(PATIENT_EVENTS.c.event_id.desc())
        .limit(MOST_AT_ONCE)
    )
    with store.reading() as connection:
        for row in connection.execute(query):
            if PatientIdentifier(row.patient_id, row.issuer).is_issued_by(issuer):
                said = json.loads(row.content)
                return said["class"], tuple(said["location"])
    return "", ()


def complete_order(store: Store, patient: Patient, order: Order) -> tuple[Order, list[StoredOrder]]:
    """What a header says was ordered, with what the orders of the same study say beside it, and those orders."""
    mine = {"patient_id": patient.patient_id, "issuer": patient.issuer}
    orders = find_orders(store, accession_number=order.accession_number.strip(), **mine)
    if not orders:
        return order, []
    order = add_orders(order, [one.context for one in orders])
    patient_class, location = last_stay(store, **mine)
    return replace(
        order, patient_class=order.patient_class or patient_class, location=order.location or location
    ), orders


def note_use(store: Store, orders: Sequence[StoredOrder], assignment_ids: Sequence[str], purpose: str) -> None:
    """Write down that orders were used for Assignments; doing it again changes nothing."""
    order_ids = [order_id for one in orders for order_id in one.ids]
    if not order_ids or not assignment_ids:
        return
    with store.writing() as connection:
        for item in assignment_ids:
            add_uses(connection, order_ids, item, purpose, at=store.clock())


def add_uses(
    connection: sa.Connection, order_ids: Iterable[int], assignment_id: str, purpose: str, *, at: float
) -> None:
    """Write down what messages were used for, in the caller's transaction; doing it again changes nothing."""
    mine = (ORDER_USES.c.assignment_id == assignment_id, ORDER_USES.c.purpose == purpose)
    known = set(connection.execute(sa.select(ORDER_USES.c.order_id).where(*mine)).scalars())
    for order_id in sorted(set(order_ids) - known):
        connection.execute(
            sa.insert(ORDER_USES).values(order_id=order_id, assignment_id=assignment_id, purpose=purpose, at=at)
        )


def forget_orders(connection: sa.Connection, study_uid: str) -> None:
    """Take the orders of a study that is erased, and what is known of its patient if there is no other study."""
    study = connection.execute(sa.select(STUDIES).where(STUDIES.c.study_uid == study_uid)).first()
    if study is None:
        return
    query = sa.select(ORDERS).where(ORDERS.c.accession_number == study.accession_number)
    mine = [one for one in map(order_row, connection.execute(query)) if belongs(one.context, study.patient_id, "")]
    _delete_orders(connection, [order_id for one in mine for order_id in one.ids])
    others = sa.select(STUDIES.c.study_uid).where(
        STUDIES.c.patient_id == study.patient_id, STUDIES.c.study_uid != study_uid
    )
    if connection.execute(others.limit(1)).first() is None:
        connection.execute(sa.delete(PATIENT_EVENTS).where(PATIENT_EVENTS.c.patient_id == study.patient_id))


def forget_orders_before(store: Store, *, before: float) -> int:
    """Take messages that came before a moment, with their orders and events, some at a time; how many went."""
    with store.writing() as connection:
        old = connection.execute(
            sa.select(HL7_MESSAGES.c.message_id).where(HL7_MESSAGES.c.at < before).limit(MOST_AT_ONCE)
        )
        numbers = list(old.scalars())
        orders = connection.execute(sa.select(ORDERS.c.order_id).where(ORDERS.c.message_id.in_(numbers))).scalars()
        _delete_orders(connection, list(orders))
        connection.execute(sa.delete(PATIENT_EVENTS).where(PATIENT_EVENTS.c.message_id.in_(numbers)))
        connection.execute(sa.delete(HL7_MESSAGES).where(HL7_MESSAGES.c.message_id.in_(numbers)))
    return len(numbers)


def _delete_orders(connection: sa.Connection, order_ids: Sequence[int]) -> None:
    connection.execute(sa.delete(ORDER_USES).where(ORDER_USES.c.order_id.in_(order_ids)))
    connection.execute(sa.delete(ORDERS).where(ORDERS.c.order_id.in_(order_ids)))
