"""Rows of assignments on their way from routed to reported."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.domain.work import Assignment, Output, OutputKind, Priority
from node.errors import StoreError
from node.store.database import Store
from node.store.schema import ASSIGNMENTS, DELIVERIES, OUTPUTS, REMOVALS

__all__ = [
    "Delivery",
    "add_outputs",
    "analysed_at",
    "assignment",
    "assignments_of",
    "corrected_outputs",
    "fill_outbox",
    "mark_analysed",
    "mark_assignment_failed",
    "mark_reported",
    "output_of",
    "outputs_of",
    "state_of",
    "unfinished_assignments",
]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One output for one destination; `rounds` is how often a person has sent it again."""

    delivery_id: str
    output: Output
    destination: str
    priority: Priority
    patient_key: str
    sequence: int
    attempts: int
    queued_at: float
    rounds: int = 0


def assignment(store: Store, assignment_id: str) -> Assignment:
    """One Assignment.

    Raises
    ------
    StoreError
        If there is none with this id.
    """
    with store.reading() as connection:
        row = connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.assignment_id == assignment_id)).first()
    if row is None:
        raise StoreError(f"there is no assignment {assignment_id}")
    return _assignment(row)


def assignments_of(store: Store, study_uid: str, generation: int) -> list[Assignment]:
    """Assignments of one generation of a study."""
    where = (ASSIGNMENTS.c.study_uid == study_uid, ASSIGNMENTS.c.generation == generation)
    with store.reading() as connection:
        rows = connection.execute(sa.select(ASSIGNMENTS).where(*where).order_by(ASSIGNMENTS.c.assignment_id)).all()
    return [_assignment(row) for row in rows]


def unfinished_assignments(store: Store) -> list[Assignment]:
    """Assignments that are neither reported nor failed: the sweep hands them to the engine again."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.state.in_(("assigned", "analysed")))).all()
    return [_assignment(row) for row in rows]


def _assignment(row: "sa.Row[tuple[object, ...]]") -> Assignment:
    values = row._mapping
    return Assignment(
        assignment_id=values["assignment_id"],
        study_instance_uid=values["study_uid"],
        generation=values["generation"],
        handler=values["handler"],
        rule=values["rule"],
        priority=Priority(values["priority"]),
        destinations=tuple(json.loads(values["destinations"])),
        series_uids=tuple(json.loads(values["series_uids"])),
    )


def mark_analysed(store: Store, item: Assignment, *, status: str, reason: str, folder: str, workflow: str) -> float:
    """Note that the analysis is on disk; returns when, which stays the same however often it is noted.

    That time stands in every result, so results can be built again with the same bytes.
    """
    now = store.clock()
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(ASSIGNMENTS)
            .where(ASSIGNMENTS.c.assignment_id == item.assignment_id, ASSIGNMENTS.c.state == "assigned")
            .values(state="analysed", analysed_at=now, status=status, reason=reason, analysis_path=folder)
        )
        if changed.rowcount:
            details: dict[str, str | int | float] = {
                "handler": item.handler, "status": status, "generation": item.generation
            }  # fmt: skip
            store.audit(
                connection, "study analysed", item.study_instance_uid, workflow=workflow, step="infer", details=details
            )
        at = connection.execute(
            sa.select(ASSIGNMENTS.c.analysed_at).where(ASSIGNMENTS.c.assignment_id == item.assignment_id)
        ).scalar_one()
    return now if at is None else float(at)  # None: discarded meanwhile, nobody will ask for the time


def mark_assignment_failed(store: Store, item: Assignment, reason: str, *, workflow: str) -> None:
    """Give up on an assignment: a dead letter with the reason a person can see."""
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(ASSIGNMENTS)
            .where(ASSIGNMENTS.c.assignment_id == item.assignment_id, ASSIGNMENTS.c.state.in_(("assigned", "analysed")))
            .values(state="failed", reason=reason)
        )
        if changed.rowcount:
            store.audit(
                connection,
                "assignment failed",
                item.study_instance_uid,
                workflow=workflow,
                details={"reason": reason, "handler": item.handler},
            )


def mark_reported(
    store: Store,
    item: Assignment,
    outputs: Sequence[Output],
    deliveries: Sequence[tuple[str, str]],
    *,
    patient_key: str,
    summary: Sequence[object],
    workflow: str,
) -> None:
    """Commit the outputs of an assignment and one outbox row for each (output id, destination).

    Everything that will be sent is known from here on; doing it again changes nothing.

    Raises
    ------
    StoreError
        If a later generation was reported first: the older word must not be the last one that a RIS gets.
    """
    now = store.clock()
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(ASSIGNMENTS)
            .where(ASSIGNMENTS.c.assignment_id == item.assignment_id, ASSIGNMENTS.c.state == "analysed")
            .values(state="reported", reported_at=now, summary=json.dumps(list(summary), ensure_ascii=False))
        )
        if not changed.rowcount:
            return
        newer = sa.select(ASSIGNMENTS.c.generation).where(
            ASSIGNMENTS.c.study_uid == item.study_instance_uid,
            ASSIGNMENTS.c.handler == item.handler,
            ASSIGNMENTS.c.generation > item.generation,
            ASSIGNMENTS.c.state == "reported",
        )
        if connection.execute(newer).first() is not None:
            raise StoreError("a later generation of the study, with more images, was reported first")
        add_outputs(store, connection, item, outputs, now)
        fill_outbox(connection, item, deliveries, patient_key, now)
        details: dict[str, str | int | float] = {"handler": item.handler, "outputs": len(outputs)}
        store.audit(
            connection, "study reported", item.study_instance_uid, workflow=workflow, step="report", details=details
        )


def add_outputs(
    store: Store, connection: sa.Connection, item: Assignment, outputs: Sequence[Output], now: float
) -> None:
    """Add the rows of what an Assignment has made, in the caller's transaction."""
    for output in outputs:
        connection.execute(
            sa.insert(OUTPUTS).values(
                output_id=output.output_id,
                assignment_id=item.assignment_id,
                kind=str(output.kind),
                path=str(output.path.relative_to(store.root)),
                sha256=output.sha256,
                digest=output.digest,
                size_bytes=output.size_bytes,
                sop_class_uid=output.sop_class_uid,
                transfer_syntax_uid=output.transfer_syntax_uid,
                made_at=now,
            )
        )


def fill_outbox(
    connection: sa.Connection, item: Assignment, deliveries: Sequence[tuple[str, str]], patient_key: str, now: float
) -> None:
    """Add a row for each (output id, destination) at the end of the outbox, in the caller's transaction."""
    last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(DELIVERIES.c.sequence), 0))).scalar_one()
    for number, (output_id, destination) in enumerate(deliveries, start=last + 1):
        connection.execute(
            sa.insert(DELIVERIES).values(
                delivery_id=f"{output_id}@{destination}",
                output_id=output_id,
                destination=destination,
                patient_key=patient_key,
                sequence=number,
                priority=int(item.priority),
                state="pending",
                attempts=0,
                queued_at=now,
                next_attempt_at=now,
            )
        )


def outputs_of(store: Store, assignment_id: str) -> list[Output]:
    """Outputs of an assignment, in the order they were made."""
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(OUTPUTS).where(OUTPUTS.c.assignment_id == assignment_id).order_by(sa.text("rowid"))
        ).all()
    return [output_of(store, row) for row in rows]


def output_of(store: Store, row: "sa.Row[tuple[object, ...]]") -> Output:
    """An Output from its row."""
    values = row._mapping
    return Output(
        output_id=values["output_id"],
        kind=OutputKind(values["kind"]),
        path=store.root / values["path"],
        sha256=values["sha256"],
        digest=values["digest"],
        size_bytes=values["size_bytes"],
        sop_class_uid=values["sop_class_uid"],
        transfer_syntax_uid=values["transfer_syntax_uid"],
    )


def corrected_outputs(store: Store, item: Assignment) -> list[Output]:
    """What the same handler last reported of an earlier generation of this study; a new report corrects it.

    None if what that generation held was removed since: a report on a part of the images takes nothing back.
    """
    is_there = ~sa.exists().where(
        REMOVALS.c.study_uid == ASSIGNMENTS.c.study_uid, REMOVALS.c.generation >= ASSIGNMENTS.c.generation
    )
    with store.reading() as connection:
        row = connection.execute(
            sa.select(ASSIGNMENTS.c.assignment_id)
            .where(
                ASSIGNMENTS.c.study_uid == item.study_instance_uid,
                ASSIGNMENTS.c.handler == item.handler,
                ASSIGNMENTS.c.generation < item.generation,
                ASSIGNMENTS.c.state == "reported",
                is_there,
            )
            .order_by(ASSIGNMENTS.c.generation.desc())
        ).first()
    return [] if row is None else outputs_of(store, row.assignment_id)


def state_of(store: Store, assignment_id: str) -> str:
    """How far an Assignment is: ``assigned``, ``analysed``, ``reported`` or ``failed``."""
    with store.reading() as connection:
        query = sa.select(ASSIGNMENTS.c.state).where(ASSIGNMENTS.c.assignment_id == assignment_id)
        return str(connection.execute(query).scalar_one())


def analysed_at(store: Store, assignment_id: str) -> float:
    """When an Assignment was analysed, seconds since the epoch: the time that stands in its results.

    Raises
    ------
    StoreError
        If it was not analysed yet.
    """
    with store.reading() as connection:
        at = connection.execute(
            sa.select(ASSIGNMENTS.c.analysed_at).where(ASSIGNMENTS.c.assignment_id == assignment_id)
        ).scalar_one_or_none()
    if at is None:
        raise StoreError(f"assignment {assignment_id} was not analysed yet")
    return float(at)
