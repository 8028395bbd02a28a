"""Rows of the outbox: what is still to be sent where, and every destination's answer."""

from dataclasses import dataclass

import sqlalchemy as sa

from node.domain.work import DeliveryState, Priority
from node.store.database import Store
from node.store.schema import DELIVERIES, OUTPUTS
from node.store.work import Delivery, output_of

__all__ = [
    "Batch",
    "audit_step",
    "blocked_until",
    "delivery_of",
    "mark_accepted",
    "mark_dead",
    "mark_postponed",
    "open_batches",
    "pending_deliveries",
]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one assignment still has to send to one destination, as one piece of work."""

    assignment_id: str
    destination: str
    priority: Priority


def _select() -> "sa.Select[tuple[object, ...]]":
    return sa.select(DELIVERIES, OUTPUTS).join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)


def delivery_of(store: Store, row: "sa.Row[tuple[object, ...]]") -> Delivery:
    """A Delivery from its row and that of its output."""
    values = row._mapping
    return Delivery(
        delivery_id=values["delivery_id"],
        output=output_of(store, row),
        destination=values["destination"],
        priority=Priority(values["priority"]),
        patient_key=values["patient_key"],
        sequence=values["sequence"],
        attempts=values["attempts"],
        queued_at=values["queued_at"],
        rounds=values["rounds"],
    )


def pending_deliveries(store: Store, assignment_id: str, destination: str) -> list[Delivery]:
    """Outputs of an assignment that a destination has not answered yet, oldest first."""
    query = (
        _select()
        .where(
            DELIVERIES.c.state == "pending",
            DELIVERIES.c.destination == destination,
            OUTPUTS.c.assignment_id == assignment_id,
        )
        .order_by(DELIVERIES.c.sequence)
    )
    with store.reading() as connection:
        return [delivery_of(store, row) for row in connection.execute(query).all()]


def open_batches(store: Store) -> list[Batch]:
    """Every (assignment, destination) with something still to be sent, oldest first."""
    query = (
        sa.select(
            OUTPUTS.c.assignment_id,
            DELIVERIES.c.destination,
            sa.func.min(DELIVERIES.c.priority).label("priority"),
            sa.func.min(DELIVERIES.c.sequence).label("sequence"),
        )
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .where(DELIVERIES.c.state == "pending")
        .group_by(OUTPUTS.c.assignment_id, DELIVERIES.c.destination)
        .order_by(sa.text("sequence"))
    )
    with store.reading() as connection:
        rows = connection.execute(query).all()
    return [Batch(row.assignment_id, row.destination, Priority(row.priority)) for row in rows]


def blocked_until(store: Store, item: Delivery) -> float | None:
    """When an older message of the same patient to the same destination is tried next, if one is pending.

    A RIS must not see a correction before what it corrects; DICOM objects name what they correct and need no order.
    """
    if item.output.kind.is_dicom:
        return None
    with store.reading() as connection:
        at = connection.execute(
            sa.select(sa.func.min(DELIVERIES.c.next_attempt_at))
            .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
            .where(
                DELIVERIES.c.destination == item.destination,
                DELIVERIES.c.patient_key == item.patient_key,
                DELIVERIES.c.sequence < item.sequence,
                DELIVERIES.c.state == "pending",
                OUTPUTS.c.kind == str(item.output.kind),
            )
        ).scalar_one()
    return None if at is None else float(at)


def mark_accepted(
    store: Store, item: Delivery, answer: str, *, verified_by: str = "", is_checked: bool = False, note: str = ""
) -> None:
    """Note a destination's word that it took an output.

    Parameters
    ----------
    verified_by
        What says that it has it for good already, such as ``answer``; "" if nothing does.
    is_checked
        It will be asked whether it has it for good, from now on.
    note
        Else: why it will not.
    """
    now = store.clock()
    values: dict[str, str | float] = {"answer": answer, "accepted_at": now, "error": "", "note": note}
    values |= {"check_at": now, "check_step": "ask"} if is_checked else {}
    values |= {"verified_at": now, "verified_by": verified_by} if verified_by else {}
    _finish(store, item, DeliveryState.VERIFIED if verified_by else DeliveryState.ACCEPTED, values)


def mark_dead(store: Store, item: Delivery, error: str) -> None:
    """Give up on a delivery: a dead letter with the reason a person can see."""
    _finish(store, item, DeliveryState.DEAD_LETTER, {"error": error, "next_attempt_at": store.clock()})


def _finish(store: Store, item: Delivery, state: DeliveryState, values: dict[str, str | float]) -> None:
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(DELIVERIES)
            .where(DELIVERIES.c.delivery_id == item.delivery_id, DELIVERIES.c.state == "pending")
            .values(state=str(state), attempts=DELIVERIES.c.attempts + 1, **values)
        )
        if changed.rowcount:
            step = audit_step(item.destination, item.rounds)
            details: dict[str, str | int | float] = {"destination": item.destination, "kind": str(item.output.kind)}
            details |= {key: value for key, value in values.items() if key in ("answer", "error") and value}
            action = "output became a dead letter" if state is DeliveryState.DEAD_LETTER else "output accepted"
            store.audit(connection, action, item.output.output_id, step=step, details=details)
            if state is DeliveryState.VERIFIED:
                details = {"destination": item.destination, "by": str(values["verified_by"])}
                store.audit(connection, "output verified", item.output.output_id, step=step, details=details)


def audit_step(destination: str, rounds: int) -> str:
    """What tells the records of an output apart: its destination, and how often a person has sent it again."""
    return f"{destination}, again {rounds}" if rounds else destination


def mark_postponed(store: Store, item: Delivery, error: str, *, delay_s: float) -> None:
    """Note that a destination did not take an output this time, why, and when it is tried again."""
    with store.writing() as connection:
        connection.execute(
            sa.update(DELIVERIES)
            .where(DELIVERIES.c.delivery_id == item.delivery_id, DELIVERIES.c.state == "pending")
            .values(attempts=DELIVERIES.c.attempts + 1, error=error, next_attempt_at=store.clock() + delay_s)
        )
