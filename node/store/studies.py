"""Rows of studies as they become whole: freezing, and what routing said."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from node.domain.study import Instance
from node.domain.work import Assignment
from node.errors import StoreError
from node.store.database import Store
from node.store.intake import instance_row
from node.store.schema import ASSIGNMENTS, GENERATIONS, INSTANCES, STUDIES

__all__ = [
    "Try",
    "add_assignments",
    "freeze_whole",
    "instances_of",
    "mark_generation_failed",
    "patient_count",
    "unfinished_generations",
]


@dataclass(frozen=True, slots=True)
class Try:
    """What one rule said of one study: whether it took it, and why or why not in words."""

    rule: str
    is_match: bool
    reason: str


def freeze_whole(store: Store, *, quiet_s: float, after_release_s: float) -> list[tuple[str, int]]:
    """Freeze every open study that went quiet or whose senders have gone; each makes a new generation.

    A study whose last image lies in the future is due too: the clock was set back, and it would wait for
    that time to come again.

    Returns
    -------
    (Study Instance UID, generation) of each.
    """
    now = store.clock()
    is_quiet = STUDIES.c.last_instance_at <= now - quiet_s
    is_released = STUDIES.c.released_at <= now - after_release_s
    is_ahead = STUDIES.c.last_instance_at > now + quiet_s
    due = sa.select(STUDIES.c.study_uid).where(STUDIES.c.is_open, sa.or_(is_quiet, is_released, is_ahead))
    with store.reading() as connection:
        if connection.execute(due.limit(1)).first() is None:
            return []
    with store.writing() as connection:
        rows = connection.execute(sa.select(STUDIES).where(STUDIES.c.study_uid.in_(due))).all()
        return [
            _freeze(store, connection, row, "release" if row.released_at is not None else "quiet", now) for row in rows
        ]


def _freeze(
    store: Store, connection: sa.Connection, row: "sa.Row[tuple[object, ...]]", signal: str, now: float
) -> tuple[str, int]:
    study_uid, generation = str(row.study_uid), int(row.generation) + 1
    mine = INSTANCES.c.study_uid == study_uid
    connection.execute(sa.update(INSTANCES).where(mine, INSTANCES.c.generation.is_(None)).values(generation=generation))
    count = connection.execute(sa.select(sa.func.count()).select_from(INSTANCES).where(mine)).scalar_one()
    connection.execute(
        sa.update(STUDIES).where(STUDIES.c.study_uid == study_uid).values(is_open=False, generation=generation)
    )
    connection.execute(
        sa.insert(GENERATIONS).values(
            study_uid=study_uid,
            generation=generation,
            frozen_at=now,
            last_instance_at=row.last_instance_at,
            signal=signal,
            instance_count=count,
            state="frozen",
        )
    )
    details: dict[str, str | int | float] = {"generation": generation, "signal": signal, "instances": count}
    store.audit(connection, "study frozen", study_uid, step=f"generation {generation}", details=details)
    return study_uid, generation


def instances_of(store: Store, study_uid: str, generation: int) -> list[Instance]:
    """All Instances a generation of a study holds, in order of Series and arrival.

    Raises
    ------
    StoreError
        If there is no such generation.
    """
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(INSTANCES)
            .where(INSTANCES.c.study_uid == study_uid, INSTANCES.c.generation <= generation)
            .order_by(INSTANCES.c.series_uid, INSTANCES.c.received_at, INSTANCES.c.sop_uid)
        ).all()
    if not rows:
        raise StoreError(f"study {study_uid} has no generation {generation}")
    return [instance_row(store.root, row) for row in rows]


def patient_count(store: Store, study_uid: str) -> int:
    """How many different Patient IDs the images of a study name; more than one must never be read together."""
    with store.reading() as connection:
        return int(
            connection.execute(
                sa.select(sa.func.count(sa.distinct(INSTANCES.c.patient_id))).where(INSTANCES.c.study_uid == study_uid)
            ).scalar_one()
        )


def add_assignments(
    store: Store,
    study_uid: str,
    generation: int,
    assignments: Sequence[Assignment],
    tries: Sequence[Try],
    *,
    reason: str = "no rule took the study",
) -> None:
    """Write down who gets a study, or, when nobody does, why; doing it again changes nothing."""
    reason = "" if assignments else reason
    state = "routed" if assignments else "unrouted"
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(GENERATIONS)
            .where(
                GENERATIONS.c.study_uid == study_uid,
                GENERATIONS.c.generation == generation,
                GENERATIONS.c.state == "frozen",
            )
            .values(state=state, reason=reason, tries=json.dumps([asdict(item) for item in tries], ensure_ascii=False))
        )
        if not changed.rowcount:
            return
        for assignment in assignments:
            connection.execute(
                sa.insert(ASSIGNMENTS).values(
                    assignment_id=assignment.assignment_id,
                    study_uid=study_uid,
                    generation=generation,
                    handler=assignment.handler,
                    rule=assignment.rule,
                    priority=int(assignment.priority),
                    destinations=json.dumps(assignment.destinations),
                    series_uids=json.dumps(assignment.series_uids),
                    state="assigned",
                    assigned_at=store.clock(),
                )
            )
        details: dict[str, str | int | float] = {
            "generation": generation,
            "handlers": ", ".join(assignment.handler for assignment in assignments),
        }
        store.audit(connection, f"study {state}", study_uid, step=f"generation {generation}", details=details)


def mark_generation_failed(store: Store, study_uid: str, generation: int, reason: str) -> None:
    """Give up on routing a study, with the reason a person can see."""
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(GENERATIONS)
            .where(
                GENERATIONS.c.study_uid == study_uid,
                GENERATIONS.c.generation == generation,
                GENERATIONS.c.state == "frozen",
            )
            .values(state="failed", reason=reason)
        )
        if changed.rowcount:
            store.audit(
                connection, "study failed", study_uid, step=f"generation {generation}", details={"reason": reason}
            )


def unfinished_generations(store: Store) -> list[tuple[str, int]]:
    """Generations that are frozen but not yet routed: the sweep hands them to the engine again."""
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(GENERATIONS.c.study_uid, GENERATIONS.c.generation).where(GENERATIONS.c.state == "frozen")
        ).all()
    return [(row.study_uid, row.generation) for row in rows]
