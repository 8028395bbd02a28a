"""What was given up, for a person who decides: send it again, or leave it.

Sent again are the very bytes that were made, under the same SOP Instance UID or message control id. A message that
a later one of the same reading has overtaken is not sent again: the older word must not be the last one a RIS gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.domain.work import OutputKind
from node.errors import StoreError
from node.store.database import Store
from node.store.outbox import audit_step
from node.store.schema import ASSIGNMENTS, COMMITMENTS, DELIVERIES, OUTPUTS, STUDIES

__all__ = ["DeadLetter", "dead_letters", "drop", "retry"]

LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One output that a destination did not get, or of which it never said that it has it; times since the epoch."""

    delivery_id: str
    output_id: str
    kind: str
    destination: str
    study_uid: str
    accession_number: str
    reason: str
    since: float
    queued_at: float
    attempts: int
    rounds: int


def dead_letters(store: Store, *, names: Sequence[str] = (), destination: str = "") -> list[DeadLetter]:
    """Dead letters, oldest first; all of them, or those of a destination, or those that are named.

    Parameters
    ----------
    names
        Output ids (SOP Instance UID, MSH-10), or output id ``@`` destination.

    Raises
    ------
    StoreError
        If a name is that of no dead letter.
    """
    query = (
        sa.select(DELIVERIES, OUTPUTS.c.kind, ASSIGNMENTS.c.study_uid, STUDIES.c.accession_number)
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .join(STUDIES, STUDIES.c.study_uid == ASSIGNMENTS.c.study_uid)
        .where(DELIVERIES.c.state == "dead_letter")
        .order_by(DELIVERIES.c.next_attempt_at, DELIVERIES.c.sequence)
    )
    if destination:
        query = query.where(DELIVERIES.c.destination == destination)
    with store.reading() as connection:
        found = [_letter(row) for row in connection.execute(query).all()]
    for name in names:
        if not any(name in (one.output_id, one.delivery_id) for one in found):
            raise StoreError(f"there is no dead letter {name}")
    return [one for one in found if not names or one.output_id in names or one.delivery_id in names]


def _letter(row: "sa.Row[tuple[object, ...]]") -> DeadLetter:
    values = row._mapping
    return DeadLetter(
        delivery_id=values["delivery_id"],
        output_id=values["output_id"],
        kind=values["kind"],
        destination=values["destination"],
        study_uid=values["study_uid"],
        accession_number=values["accession_number"],
        reason=values["error"],
        since=values["next_attempt_at"],
        queued_at=values["queued_at"],
        attempts=values["attempts"],
        rounds=values["rounds"],
    )


def retry(store: Store, letter: DeadLetter, *, by: str) -> str:
    """Let a dead letter be sent again, because a person says so; "" or why it cannot be.

    The worker takes it up at its next sweep.
    """
    now = store.clock()
    with store.writing() as connection:
        reason = _why_not(store, connection, letter)
        if reason:
            return reason
        connection.execute(
            sa.update(DELIVERIES)
            .where(DELIVERIES.c.delivery_id == letter.delivery_id)
            .values(
                state="pending", attempts=0, queued_at=now, next_attempt_at=now, accepted_at=None, answer="", error="",
                rounds=letter.rounds + 1, check_at=None, check_step="", checks=0, resends=0, note="",
            )
        )  # fmt: skip
        connection.execute(sa.delete(COMMITMENTS).where(COMMITMENTS.c.delivery_id == letter.delivery_id))
        details: dict[str, str | int | float] = {"destination": letter.destination, "by": by}
        step = audit_step(letter.destination, letter.rounds + 1)
        store.audit(connection, "dead letter sent again", letter.output_id, step=step, details=details)
    return ""


def drop(store: Store, letter: DeadLetter, reason: str, *, by: str) -> str:
    """Leave a dead letter for good, with a person's reason; "" or why it cannot be.

    Raises
    ------
    StoreError
        If there is no reason, or a long one.
    """
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise StoreError(f"a reason of 1 to {LONGEST_REASON} characters is needed")
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(DELIVERIES)
            .where(DELIVERIES.c.delivery_id == letter.delivery_id, DELIVERIES.c.state == "dead_letter")
            .values(state="dropped", note=reason.strip(), next_attempt_at=store.clock())
        )
        if not changed.rowcount:
            return "it is no dead letter any more"
        details: dict[str, str | int | float] = {"destination": letter.destination, "by": by, "reason": reason.strip()}
        step = audit_step(letter.destination, letter.rounds)
        store.audit(connection, "dead letter dropped", letter.output_id, step=step, details=details)
    return ""


def _why_not(store: Store, connection: sa.Connection, letter: DeadLetter) -> str:
    query = (
        sa.select(
            DELIVERIES.c.state,
            DELIVERIES.c.sequence,
            OUTPUTS.c.kind,
            OUTPUTS.c.path,
            ASSIGNMENTS.c.handler,
            ASSIGNMENTS.c.generation,
        )
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(DELIVERIES.c.delivery_id == letter.delivery_id)
    )
    row = connection.execute(query).first()
    if row is None or row.state != "dead_letter":
        return "it is no dead letter any more"
    if not (store.root / row.path).is_file():
        return "its bytes were removed"
    if OutputKind(row.kind).is_dicom:
        return ""
    later = (
        sa.select(DELIVERIES.c.delivery_id)
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(
            ASSIGNMENTS.c.study_uid == letter.study_uid,
            ASSIGNMENTS.c.handler == row.handler,
            sa.or_(
                ASSIGNMENTS.c.generation > row.generation,
                sa.and_(ASSIGNMENTS.c.generation == row.generation, DELIVERIES.c.sequence > row.sequence),
            ),
            DELIVERIES.c.destination == letter.destination,
            DELIVERIES.c.state.in_(("accepted", "verified")),
            OUTPUTS.c.kind == row.kind,
        )
    )
    return "" if connection.execute(later).first() is None else "the destination has a later message of this reading"
