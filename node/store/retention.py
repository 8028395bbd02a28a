"""How long the node keeps what is finished: for some days, or until the disk is needed for what comes in.

Only a study at rest may go: closed, every generation routed or explained, every result accepted or long a
dead letter. Its rows stay, so that its story can be told.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from node.paths import sync_folder
from node.settings import StoreSettings
from node.store.database import Store
from node.store.erase import finish_removals
from node.store.holding import removing_files
from node.store.removal import EXPIRE, UNROUTED, begin_removal
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, OUTPUTS, QUARANTINE, STUDIES
from node.store.volume import free_megabytes

__all__ = ["Tidied", "sweep_partial", "tidy"]

DAY_S = 86400.0
LEAST_AGE_S = 3600.0  # a study that ended just now may still be looked at, however full the disk is
MOST_AT_ONCE = 200
LEFTOVERS = (".new-*", "*/.new-*", "results/*/.new-*", "*/*.part", "analyses/*/*.part", "*.part", ".*.part")


@dataclass(frozen=True, slots=True)
class Tidied:
    """What went: studies for their age, studies for want of room, quarantined objects."""

    too_old: int = 0
    for_room: int = 0
    quarantined: int = 0


def tidy(store: Store, settings: StoreSettings) -> Tidied:
    """Remove what was kept long enough, oldest first, at most 200 studies of each sort at a time.

    Raises
    ------
    StoreError
        If a backup, a check or another removal is going on; the next time will do.
    """
    now = store.clock()
    too_old = for_room = quarantined = 0
    if settings.keep_days:
        for study_uid in _finished(store, settings, before=now - settings.keep_days * DAY_S):
            too_old += _expire(store, study_uid, settings, f"{settings.keep_days} days after the last of it")
    if settings.free_below_mb and free_megabytes(store.root) < settings.free_below_mb:
        for study_uid in _finished(store, settings, before=now - LEAST_AGE_S):
            if free_megabytes(store.root) >= settings.free_below_mb:
                break
            for_room += _expire(store, study_uid, settings, "the disk was needed for new images")
    if settings.keep_quarantine_days:
        quarantined = _expire_quarantine(store, before=now - settings.keep_quarantine_days * DAY_S)
    return Tidied(too_old, for_room, quarantined)


def _finished(store: Store, settings: StoreSettings, *, before: float) -> list[str]:
    with store.reading() as connection:
        query = _at_rest(store, settings, before).order_by(STUDIES.c.last_instance_at).limit(MOST_AT_ONCE)
        return [row.study_uid for row in connection.execute(query)]


def _at_rest(store: Store, settings: StoreSettings, before: float) -> "sa.Select[tuple[str]]":
    """Studies that still have images, to which nothing happened since, and nothing will."""
    study = STUDIES.c.study_uid
    generations = sa.exists().where(
        GENERATIONS.c.study_uid == study,
        sa.or_(GENERATIONS.c.state.in_(UNROUTED), GENERATIONS.c.frozen_at > before),
    )
    assignments = sa.exists().where(
        ASSIGNMENTS.c.study_uid == study,
        sa.or_(ASSIGNMENTS.c.state.in_(("assigned", "analysed")), ASSIGNMENTS.c.reported_at > before),
    )
    # A dead letter waits for a person, for as long as a study is kept; where studies are kept for ever, so are they.
    patience_s = (settings.keep_days or 36500) * DAY_S
    deliveries = (
        sa.select(DELIVERIES.c.delivery_id)
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(
            ASSIGNMENTS.c.study_uid == study,
            sa.or_(
                DELIVERIES.c.state == "pending",
                DELIVERIES.c.check_at.is_not(None),
                DELIVERIES.c.accepted_at > before,
                sa.and_(DELIVERIES.c.state == "dead_letter", DELIVERIES.c.next_attempt_at > store.clock() - patience_s),
            ),
        )
        .correlate(STUDIES)
        .exists()
    )
    has_images = sa.exists().where(INSTANCES.c.study_uid == study)
    return sa.select(study).where(
        STUDIES.c.is_open.is_(False), STUDIES.c.last_instance_at <= before, has_images,
        ~generations, ~assignments, ~deliveries,
    )  # fmt: skip


def _expire(store: Store, study_uid: str, settings: StoreSettings, reason: str) -> int:
    """Remove one study if it is still at rest; 1 if it went."""
    with removing_files(store.root), store.writing() as connection:
        still = _at_rest(store, settings, store.clock() - LEAST_AGE_S).where(STUDIES.c.study_uid == study_uid)
        if connection.execute(still).first() is None:
            return 0
        begin_removal(store, connection, study_uid, kind=EXPIRE, reason=reason)
    finish_removals(store)
    return 1


def _expire_quarantine(store: Store, *, before: float) -> int:
    with removing_files(store.root), store.writing() as connection:
        old = QUARANTINE.c.at <= before
        rows = connection.execute(
            sa.select(QUARANTINE.c.quarantine_id, QUARANTINE.c.path).where(old).limit(MOST_AT_ONCE)
        ).all()
        for row in rows:
            (store.root / row.path).unlink(missing_ok=True)
        if rows:
            sync_folder(store.root / "quarantine")
            numbers = [row.quarantine_id for row in rows]
            connection.execute(sa.delete(QUARANTINE).where(QUARANTINE.c.quarantine_id.in_(numbers)))
            details: dict[str, str | int | float] = {"count": len(rows)}
            store.audit(connection, "quarantine tidied", "quarantine", step=f"{store.clock():.3f}", details=details)
    return len(rows)


def sweep_partial(root: Path, *, now: float) -> int:
    """Remove what writes that were cut short left behind a day ago or earlier; none of it has a name that counts."""
    count = 0
    for pattern in LEFTOVERS:
        for path in root.glob(pattern):
            if path.lstat().st_mtime > now - DAY_S:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            count += 1
    return count
