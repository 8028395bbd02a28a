"""Rows of frozen studies: what each generation holds, what routing said, and which wait for a required Series."""

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
    "Frozen",
    "Try",
    "Unfinished",
    "add_assignments",
    "end_waits",
    "frozen",
    "hold",
    "instances_of",
    "is_let_go",
    "keep_held",
    "mark_generation_failed",
    "patient_count",
    "unfinished_generations",
]

CLOCK_SET_BACK_S = 60.0  # an image that is further ahead came before the clock was set back


@dataclass(frozen=True, slots=True)
class Try:
    """What one rule said of one study: whether it took it, and why or why not in words."""

    rule: str
    is_match: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Frozen:
    """What routing must know of a generation.

    `may_wait` is False once it has waited, `waited_s` from its last image on, or a person calls it whole.
    """

    signal: str
    last_instance_at: float
    may_wait: bool
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A frozen generation that was not routed yet, and how often it was put off to wait for a Series."""

    study_uid: str
    generation: int
    waits: int = 0


def frozen(store: Store, study_uid: str, generation: int) -> Frozen:
    """How a generation was settled.

    Raises
    ------
    StoreError
        If there is no such generation.
    """
    with store.reading() as connection:
        row = connection.execute(sa.select(GENERATIONS).where(_is(study_uid, generation))).first()
    if row is None:
        raise StoreError(f"study {study_uid} has no generation {generation}")
    may_wait = row.wait_until is None and row.signal != "forced"
    waited_s = 0.0 if row.wait_until is None else round(row.wait_until - row.last_instance_at, 3)
    return Frozen(row.signal, row.last_instance_at, may_wait, waited_s)


def _is(study_uid: str, generation: int) -> "sa.ColumnElement[bool]":
    return sa.and_(GENERATIONS.c.study_uid == study_uid, GENERATIONS.c.generation == generation)


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
            .where(_is(study_uid, generation), GENERATIONS.c.state == "frozen")
            .values(state=state, reason=reason, tries=_tries(tries))
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
            .where(_is(study_uid, generation), GENERATIONS.c.state == "frozen")
            .values(state="failed", reason=reason)
        )
        if changed.rowcount:
            store.audit(
                connection, "study failed", study_uid, step=f"generation {generation}", details={"reason": reason}
            )


def hold(
    store: Store, study_uid: str, generation: int, tries: Sequence[Try], *, reason: str, wait_until: float
) -> None:
    """Put a generation off until more images come or the time is over; `reason` says what it waits for.

    If a later generation is there already, that one holds what came, and this one has ended.
    """
    with store.writing() as connection:
        newer = sa.select(GENERATIONS.c.generation).where(
            GENERATIONS.c.study_uid == study_uid, GENERATIONS.c.generation > generation
        )
        is_last = connection.execute(newer).first() is None
        state = "waiting" if is_last else "superseded"
        changed = connection.execute(
            sa.update(GENERATIONS)
            .where(_is(study_uid, generation), GENERATIONS.c.state == "frozen")
            .values(state=state, reason=reason, tries=_tries(tries), wait_until=wait_until)
        )
        if changed.rowcount:
            details: dict[str, str | int | float] = {"generation": generation, "reason": reason}
            store.audit(connection, f"study {state}", study_uid, step=f"generation {generation}", details=details)


def is_let_go(store: Store, study_uid: str) -> bool:
    """True if a person said that no hold keeps a study from being read."""
    with store.reading() as connection:
        query = sa.select(STUDIES.c.let_go_at).where(STUDIES.c.study_uid == study_uid)
        return connection.execute(query).scalar() is not None


def keep_held(store: Store, study_uid: str, generation: int, reason: str) -> None:
    """Leave a generation unread until a person releases it; doing it again changes nothing."""
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(GENERATIONS)
            .where(_is(study_uid, generation), GENERATIONS.c.state == "frozen")
            .values(state="held", reason=reason)
        )
        if changed.rowcount:
            details: dict[str, str | int | float] = {"generation": generation, "reason": reason}
            store.audit(connection, "study held", study_uid, step=f"generation {generation}", details=details)


def end_waits(store: Store) -> list[tuple[str, int]]:
    """Take up the generations that have waited long enough; (Study Instance UID, generation) of each.

    Long enough is also when the clock was set back to before their last image.
    """
    now = store.clock()
    is_over = sa.or_(GENERATIONS.c.wait_until <= now, GENERATIONS.c.last_instance_at > now + CLOCK_SET_BACK_S)
    due = sa.select(GENERATIONS.c.study_uid, GENERATIONS.c.generation).where(GENERATIONS.c.state == "waiting", is_over)
    with store.reading() as connection:
        if connection.execute(due.limit(1)).first() is None:
            return []
    with store.writing() as connection:
        found = [(row.study_uid, row.generation) for row in connection.execute(due)]
        for study_uid, generation in found:
            connection.execute(
                sa.update(GENERATIONS).where(_is(study_uid, generation)).values(state="frozen", reason="")
            )
    return found


def unfinished_generations(store: Store) -> list[Unfinished]:
    """Generations that are frozen but not yet routed: the sweep hands them to the engine again."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(GENERATIONS).where(GENERATIONS.c.state == "frozen")).all()
    return [Unfinished(row.study_uid, row.generation, int(row.wait_until is not None)) for row in rows]


def _tries(tries: Sequence[Try]) -> str:
    return json.dumps([asdict(item) for item in tries], ensure_ascii=False)
