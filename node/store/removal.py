"""Removing what belongs to a study, so that a removal cut short at any moment is finished later.

The order: a row says that it goes, then the files go, then the rows. A file and its row go in one write
transaction, so a sender that brings the same object again finds both or neither.

Two kinds: ``expire`` takes images and results and leaves the rows that tell the story; ``erase`` leaves
nothing but the audit trail.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import sqlalchemy as sa

from node.errors import StoreError
from node.paths import sync_folder
from node.store.analyses import discard_partial
from node.store.database import Store
from node.store.orders import forget_orders
from node.store.schema import (
    ASSIGNMENTS,
    COMMITMENTS,
    DELIVERIES,
    GENERATIONS,
    INSTANCES,
    OUTPUTS,
    QUARANTINE,
    REMOVALS,
    STUDIES,
)

__all__ = [
    "ERASE",
    "EXPIRE",
    "UNROUTED",
    "Removal",
    "begin_removal",
    "finish_removal",
    "is_being_read",
    "unfinished_removals",
]

ERASE, EXPIRE = "erase", "expire"
UNROUTED = ("frozen", "waiting")
OVERWRITE = "PRAGMA secure_delete=ON"  # else what a deleted row said stays in the file until its place is needed
AT_ONCE = 25  # files in one transaction: a receiver waits no longer than for so many folders to be synced
UID_PREFIX = "2.25."


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal that has begun: everything of a study up to a generation, and what came before that moment."""

    removal_id: int
    study_uid: str
    generation: int
    kind: str
    begun_at: float
    instances: int
    outputs: int


def is_being_read(connection: sa.Connection, study_uid: str) -> bool:
    """True if a study waits for its routing or its reading, or is being read now."""
    frozen = sa.select(GENERATIONS.c.generation).where(
        GENERATIONS.c.study_uid == study_uid, GENERATIONS.c.state.in_(UNROUTED)
    )
    reading = sa.select(ASSIGNMENTS.c.generation).where(
        ASSIGNMENTS.c.study_uid == study_uid, ASSIGNMENTS.c.state.in_(("assigned", "analysed"))
    )
    return connection.execute(sa.union_all(frozen, reading).limit(1)).first() is not None


def begin_removal(store: Store, connection: sa.Connection, study_uid: str, *, kind: str, reason: str) -> None:
    """Write down that a study goes; what was still to be sent of it is not sent any more.

    Raises
    ------
    StoreError
        If there is no such study.
    """
    study = connection.execute(sa.select(STUDIES).where(STUDIES.c.study_uid == study_uid)).first()
    if study is None:
        raise StoreError(f"there is no study {study_uid}")
    mine = INSTANCES.c.study_uid == study_uid
    connection.execute(
        sa.insert(REMOVALS).values(
            study_uid=study_uid,
            generation=study.generation,
            kind=kind,
            reason=reason,
            instance_count=connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one(),
            output_count=connection.execute(
                sa.select(sa.func.count()).where(OUTPUTS.c.assignment_id.in_(_assignments(study_uid, study.generation)))
            ).scalar_one(),
            begun_at=store.clock(),
        )
    )
    connection.execute(sa.update(STUDIES).where(STUDIES.c.study_uid == study_uid).values(is_open=False))
    outputs = sa.select(OUTPUTS.c.output_id).where(
        OUTPUTS.c.assignment_id.in_(_assignments(study_uid, study.generation))
    )
    connection.execute(
        sa.delete(DELIVERIES).where(DELIVERIES.c.output_id.in_(outputs), DELIVERIES.c.state == "pending")
    )


def unfinished_removals(store: Store) -> list[Removal]:
    """Removals that have begun and not ended, oldest first."""
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(REMOVALS).where(REMOVALS.c.ended_at.is_(None)).order_by(REMOVALS.c.removal_id)
        ).all()
    return [
        Removal(
            row.removal_id, row.study_uid, row.generation, row.kind, row.begun_at, row.instance_count, row.output_count
        )
        for row in rows
    ]


def finish_removal(store: Store, removal: Removal, *, quarantined: Sequence[str] = ()) -> list[str]:
    """Remove the files, then the rows; may be begun again at any point.

    Parameters
    ----------
    quarantined
        Numbers of quarantined objects that go as well.

    Returns
    -------
    Ids of the study's Assignments that went.
    """
    _remove_quarantined(store, quarantined)
    while _remove_instances(store, removal):
        pass
    with store.reading() as connection:
        rows = connection.execute(_assignments(removal.study_uid, removal.generation))
        ids = [str(row.assignment_id) for row in rows]
    _remove_results(store, removal, [assignment_id.removeprefix(UID_PREFIX) for assignment_id in ids])
    with store.writing() as connection:
        if removal.kind == ERASE:
            connection.exec_driver_sql(OVERWRITE)
            _forget_rows(connection, removal)
        connection.execute(
            sa.update(REMOVALS).where(REMOVALS.c.removal_id == removal.removal_id).values(ended_at=store.clock())
        )
        store.audit(
            connection,
            "study erased" if removal.kind == ERASE else "study expired",
            removal.study_uid,
            step=f"{removal.begun_at:.3f}",  # a study may come back and go again
            details={
                "instances": removal.instances, "outputs": removal.outputs, "quarantined": len(quarantined)
            },
        )  # fmt: skip
    return ids


def _assignments(study_uid: str, generation: int) -> "sa.Select[tuple[str]]":
    return sa.select(ASSIGNMENTS.c.assignment_id).where(
        ASSIGNMENTS.c.study_uid == study_uid, ASSIGNMENTS.c.generation <= generation
    )


def _remove_instances(store: Store, removal: Removal) -> int:
    """Remove some files together with their rows; how many."""
    goes = sa.or_(INSTANCES.c.generation <= removal.generation, INSTANCES.c.received_at <= removal.begun_at)
    with store.writing() as connection:
        rows = connection.execute(
            sa.select(INSTANCES.c.sop_uid, INSTANCES.c.path)
            .where(INSTANCES.c.study_uid == removal.study_uid, goes)
            .limit(AT_ONCE)
        ).all()
        _unlink(store.root, [row.path for row in rows])
        connection.exec_driver_sql(OVERWRITE)
        connection.execute(sa.delete(INSTANCES).where(INSTANCES.c.sop_uid.in_([row.sop_uid for row in rows])))
    return len(rows)


def _remove_quarantined(store: Store, numbers: Sequence[str]) -> None:
    for start in range(0, len(numbers), AT_ONCE):
        mine = QUARANTINE.c.quarantine_id.in_(numbers[start : start + AT_ONCE])
        with store.writing() as connection:
            _unlink(store.root, list(connection.execute(sa.select(QUARANTINE.c.path).where(mine)).scalars()))
            connection.execute(sa.delete(QUARANTINE).where(mine))


def _unlink(root: Path, names: Sequence[str]) -> None:
    """Remove files durably: a name that comes back after a power cut would be a patient's image without a row."""
    paths = sorted(root / name for name in names)
    for folder, members in groupby(paths, key=lambda path: path.parent):
        for path in members:
            path.unlink(missing_ok=True)
        sync_folder(folder)


def _remove_results(store: Store, removal: Removal, names: Sequence[str]) -> None:
    """Remove what was found and what was made of it, whether or not it came as far as a row."""
    mine = _assignments(removal.study_uid, removal.generation)
    with store.reading() as connection:
        outputs = connection.execute(sa.select(OUTPUTS.c.path).where(OUTPUTS.c.assignment_id.in_(mine))).scalars().all()
        analyses = connection.execute(
            sa.select(ASSIGNMENTS.c.analysis_path).where(ASSIGNMENTS.c.assignment_id.in_(mine))
        ).scalars()
        folders = {store.root / name for name in analyses if name}
    folders |= {store.root / kind / name for kind in ("analyses", "results") for name in names}
    _unlink(store.root, [name for name in outputs if (store.root / name).parent.is_dir()])
    for folder in folders:
        discard_partial(folder)
        if folder.is_dir():
            shutil.rmtree(folder)
            sync_folder(folder.parent)


def _forget_rows(connection: sa.Connection, removal: Removal) -> None:
    """Take every row of a study up to its generation; the study's own only if nothing came meanwhile."""
    study_uid = removal.study_uid
    forget_orders(connection, study_uid)
    assignments = _assignments(study_uid, removal.generation)
    outputs = sa.select(OUTPUTS.c.output_id).where(OUTPUTS.c.assignment_id.in_(assignments))
    deliveries = sa.select(DELIVERIES.c.delivery_id).where(DELIVERIES.c.output_id.in_(outputs))
    connection.execute(sa.delete(COMMITMENTS).where(COMMITMENTS.c.delivery_id.in_(deliveries)))
    connection.execute(sa.delete(DELIVERIES).where(DELIVERIES.c.output_id.in_(outputs)))
    connection.execute(sa.delete(OUTPUTS).where(OUTPUTS.c.assignment_id.in_(assignments)))
    for table in (ASSIGNMENTS, GENERATIONS):
        connection.execute(
            sa.delete(table).where(table.c.study_uid == study_uid, table.c.generation <= removal.generation)
        )
    left = (table.c.study_uid == study_uid for table in (INSTANCES, GENERATIONS))
    if all(connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one() == 0 for mine in left):
        connection.execute(sa.delete(STUDIES).where(STUDIES.c.study_uid == study_uid))
    connection.execute(sa.delete(REMOVALS).where(REMOVALS.c.study_uid == study_uid))
