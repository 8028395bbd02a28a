"""What hospital systems said about a study: its orders, what each was used for, and merges of its patient's id."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from node.store.orders import FOR_PRIORITY, FOR_REPORT, FOR_RESENDING, LEFT, MERGE, StoredOrder, belongs, order_row
from node.store.schema import ASSIGNMENTS, ORDER_USES, ORDERS, PATIENT_EVENTS, STUDIES

__all__ = ["Told", "order_events"]

CODES = {FOR_PRIORITY: "order_urgent", FOR_REPORT: "order_used", FOR_RESENDING: "order_resent"}
Told = tuple[float, str, Mapping[str, str]]
"""When it happened, the code of its sentence, and the values that stand in it."""


def order_events(connection: sa.Connection, study_uid: str) -> Iterator[Told]:
    """Everything about orders that a person who looks at a study wants to know."""
    study = connection.execute(sa.select(STUDIES).where(STUDIES.c.study_uid == study_uid)).first()
    if study is None:
        return
    mine = sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.study_uid == study_uid)
    assignments = {row["assignment_id"]: row for row in connection.execute(mine).mappings()}
    reported = [row["reported_at"] for row in assignments.values() if row["reported_at"] is not None]
    query = sa.select(ORDER_USES).where(ORDER_USES.c.assignment_id.in_(list(assignments)), ORDER_USES.c.purpose != LEFT)
    uses = [dict(row) for row in connection.execute(query).mappings()]
    named = sa.and_(ORDERS.c.accession_number == study.accession_number, study.accession_number != "")
    used = ORDERS.c.order_id.in_({use["order_id"] for use in uses})
    for row in connection.execute(sa.select(ORDERS).where(sa.or_(named, used)).order_by(ORDERS.c.order_id)):
        one, own = order_row(row), [use for use in uses if use["order_id"] == row.order_id]
        control = {"control": one.context.control or "-"}
        yield row.at, _came(one, study.patient_id, own, reported), control
        for use in own:
            yield use["at"], CODES[use["purpose"]], {**control, "handler": assignments[use["assignment_id"]]["handler"]}
    yield from _merges(connection, study.patient_id)


def _came(one: StoredOrder, patient_id: str, uses: Sequence[Mapping[str, Any]], reported: Sequence[float]) -> str:
    if one.context.is_cancelled:
        return "order_cancelled"
    if uses:
        return "order_came"
    if not belongs(one.context, patient_id, ""):
        return "order_other_patient"
    if any(at <= one.at for at in reported):
        return "order_late"
    return "order_unfit" if reported else "order_waits"


def _merges(connection: sa.Connection, patient_id: str) -> Iterator[Told]:
    query = sa.select(PATIENT_EVENTS).where(
        PATIENT_EVENTS.c.patient_id == patient_id, PATIENT_EVENTS.c.trigger == MERGE, PATIENT_EVENTS.c.patient_id != ""
    )
    for row in connection.execute(query):
        yield row.at, "merged", {"stays": ", ".join(json.loads(row.content)["stays"])}
