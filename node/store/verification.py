"""Rows of outputs that a destination took and is asked about: does it have them for good?

Accepted is not delivered. What is asked next and when is in the row, so it goes on after any crash; a report of
storage commitment is known by its Transaction UID, which is written down before the request is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from node.domain.work import DeliveryState
from node.store.database import Store
from node.store.outbox import audit_step, delivery_of
from node.store.schema import ASSIGNMENTS, COMMITMENTS, DELIVERIES, OUTPUTS
from node.store.work import Delivery

__all__ = [
    "Check",
    "Step",
    "asked_to_commit",
    "begin_commitment",
    "due_checks",
    "mark_lost",
    "mark_lost_to_query",
    "mark_never_verified",
    "mark_resent",
    "mark_unverifiable",
    "mark_verified",
    "postpone_check",
]


class Step(StrEnum):
    """What is done next about an output that was accepted."""

    ASK = "ask"
    REPORT = "report"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Check:
    """One accepted output that is asked about.

    `answer` is what the destination said when it took it, `checks` how often it was asked since, `resends` how often
    it got the output again because it did not have it, `was_asked` if it was asked to commit it since.
    """

    delivery: Delivery
    study_uid: str
    answer: str
    accepted_at: float
    step: Step
    checks: int
    resends: int
    note: str
    was_asked: bool


def due_checks(store: Store, destination: str, *, most: int, longest_s: float) -> list[Check]:
    """What is to be asked of a destination now, at most so many, those that wait longest first.

    One that would wait longer than `longest_s` from now is among them: the clock was set back.
    """
    now = store.clock()
    is_due = sa.or_(DELIVERIES.c.check_at <= now, DELIVERIES.c.check_at > now + longest_s)
    was_asked = sa.exists().where(COMMITMENTS.c.delivery_id == DELIVERIES.c.delivery_id)
    query = (
        sa.select(DELIVERIES, OUTPUTS, ASSIGNMENTS.c.study_uid, was_asked.label("was_asked"))
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(DELIVERIES.c.destination == destination, DELIVERIES.c.state == "accepted", is_due)
        .order_by(DELIVERIES.c.check_at)
        .limit(most)
    )
    with store.reading() as connection:
        return [_check(store, row) for row in connection.execute(query).all()]


def _check(store: Store, row: "sa.Row[tuple[object, ...]]") -> Check:
    values = row._mapping
    return Check(
        delivery=delivery_of(store, row),
        study_uid=values["study_uid"],
        answer=values["answer"],
        accepted_at=values["accepted_at"],
        step=Step(values["check_step"]),
        checks=values["checks"],
        resends=values["resends"],
        note=values["note"],
        was_asked=bool(values["was_asked"]),
    )


def begin_commitment(store: Store, transaction_uid: str, sop_uids: Mapping[str, str], *, wait_s: float) -> None:
    """Write down what a PACS will be asked to commit, before it is; `sop_uids` are its names by delivery id."""
    now = store.clock()
    with store.writing() as connection:
        for delivery_id, sop_uid in sop_uids.items():
            values = {"check_step": str(Step.REPORT), "check_at": now + wait_s, "checks": DELIVERIES.c.checks + 1}
            if _update(connection, delivery_id, values):
                connection.execute(
                    sa.insert(COMMITMENTS).values(
                        transaction_uid=transaction_uid, delivery_id=delivery_id, sop_uid=sop_uid, asked_at=now
                    )
                )


def asked_to_commit(store: Store, transaction_uid: str) -> dict[str, str]:
    """Delivery ids of a transaction by SOP Instance UID; empty if there is no such transaction."""
    query = sa.select(COMMITMENTS).where(COMMITMENTS.c.transaction_uid == transaction_uid)
    with store.reading() as connection:
        return {row.sop_uid: row.delivery_id for row in connection.execute(query)}


def mark_verified(store: Store, delivery_id: str, by: str) -> bool:
    """Note that a destination has an output for good; False if that was known, or it is not asked about any more."""
    with store.writing() as connection:
        values = {"state": str(DeliveryState.VERIFIED), "verified_at": store.clock(), "verified_by": by, "note": ""}
        return _end(store, connection, delivery_id, values, ("output verified", {"by": by}))


def mark_lost(store: Store, delivery_id: str, transaction_uid: str, reason: str) -> bool:
    """Note that a PACS does not commit an output: it is sent once more, then it is a dead letter.

    The word of an older transaction does not count; nor the same word twice.
    """
    newest = (
        sa.select(COMMITMENTS.c.transaction_uid)
        .where(COMMITMENTS.c.delivery_id == delivery_id)
        .order_by(COMMITMENTS.c.asked_at.desc(), sa.text("rowid DESC"))
        .limit(1)
    )
    query = sa.select(DELIVERIES.c.resends, DELIVERIES.c.check_step).where(_is_open(delivery_id))
    with store.writing() as connection:
        row = connection.execute(query).first()
        is_newest = connection.execute(newest).scalar() == transaction_uid
        if row is None or not is_newest or row.check_step == Step.RESEND:
            return False
        if row.resends:
            error = f"the destination does not keep it, also after it was sent again: {reason}"
            return _bury(store, connection, delivery_id, error)
        values = {"check_step": str(Step.RESEND), "check_at": store.clock(), "note": reason}
        return _update(connection, delivery_id, values)


def mark_lost_to_query(store: Store, delivery_id: str, reason: str) -> None:
    """Note that a destination does not find what it took, again and again: it is sent once more."""
    with store.writing() as connection:
        values = {
            "check_step": str(Step.RESEND), "check_at": store.clock(), "checks": DELIVERIES.c.checks + 1, "note": reason
        }  # fmt: skip
        _update(connection, delivery_id, values)


def mark_resent(store: Store, delivery_id: str, answer: str) -> None:
    """Note that an output was sent again: it is asked about anew, and what was said before does not count."""
    now = store.clock()
    with store.writing() as connection:
        values = {"check_step": str(Step.ASK), "check_at": now, "resends": DELIVERIES.c.resends + 1, "answer": answer}
        if _update(connection, delivery_id, values):
            connection.execute(sa.delete(COMMITMENTS).where(COMMITMENTS.c.delivery_id == delivery_id))
            _audit(store, connection, delivery_id, "output sent again", {})


def mark_unverifiable(store: Store, delivery_ids: Sequence[str], note: str) -> None:
    """Note that a destination has no way to say whether it has an output: it stays accepted, and says why."""
    with store.writing() as connection:
        for delivery_id in delivery_ids:
            _update(connection, delivery_id, {"check_at": None, "check_step": "", "note": note})


def mark_never_verified(store: Store, delivery_id: str, error: str) -> bool:
    """Give up asking: a dead letter with the reason a person can see."""
    with store.writing() as connection:
        return _bury(store, connection, delivery_id, error)


def postpone_check(store: Store, delivery_id: str, note: str, *, delay_s: float, step: Step = Step.ASK) -> None:
    """Note that it is not sure yet, why, and when to ask again."""
    values = {
        "check_at": store.clock() + delay_s, "check_step": str(step), "checks": DELIVERIES.c.checks + 1, "note": note
    }  # fmt: skip
    with store.writing() as connection:
        _update(connection, delivery_id, values)


def _is_open(delivery_id: str) -> "sa.ColumnElement[bool]":
    return sa.and_(
        DELIVERIES.c.delivery_id == delivery_id, DELIVERIES.c.state == "accepted", DELIVERIES.c.check_at.is_not(None)
    )


def _update(connection: sa.Connection, delivery_id: str, values: Mapping[str, object]) -> bool:
    return bool(connection.execute(sa.update(DELIVERIES).where(_is_open(delivery_id)).values(values)).rowcount)


def _bury(store: Store, connection: sa.Connection, delivery_id: str, error: str) -> bool:
    values = {"state": str(DeliveryState.DEAD_LETTER), "error": error, "note": "", "next_attempt_at": store.clock()}
    return _end(store, connection, delivery_id, values, ("output became a dead letter", {"error": error}))


def _end(
    store: Store,
    connection: sa.Connection,
    delivery_id: str,
    values: Mapping[str, object],
    record: tuple[str, Mapping[str, str]],
) -> bool:
    if not _update(connection, delivery_id, {**values, "check_at": None, "check_step": ""}):
        return False
    _audit(store, connection, delivery_id, *record)
    return True


def _audit(store: Store, connection: sa.Connection, delivery_id: str, action: str, details: Mapping[str, str]) -> None:
    row = connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.delivery_id == delivery_id)).one()
    store.audit(
        connection,
        action,
        row.output_id,
        step=audit_step(row.destination, row.rounds),
        details={"destination": row.destination, **details},
    )
