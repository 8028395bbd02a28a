"""Rows of studies that are still open: what is known of them, what their sender said, and freezing them."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.store.database import Store
from node.store.schema import ASSIGNMENTS, GENERATIONS, INSTANCES, OUTPUTS, STUDIES

__all__ = [
    "DISCARDED",
    "OpenStudy",
    "Pauses",
    "Verdict",
    "freeze",
    "instance_count",
    "made_here",
    "note_expected",
    "open_studies",
    "pauses_of",
]

DISCARDED = "discarded by a person"
AT_ONCE = 10  # studies frozen in one transaction: receivers wait for it, about 80 ms


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study with images that no generation holds yet; times are seconds since the epoch.

    `modality` is that of its first image. `expected_count` is what its sender said it holds, when it was asked
    at `asked_at`; None if it did not answer.
    """

    study_uid: str
    calling_ae: str
    modality: str
    last_instance_at: float
    released_at: float | None
    forced_at: float | None = None
    asked_at: float | None = None
    expected_count: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """An open study is whole: by which signal, since when, and how long was waited for it and why so long."""

    study: OpenStudy
    signal: str
    basis: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Pauses:
    """The longest pause between two images of one study, and the longest that followed a release."""

    longest_s: float
    after_release_s: float


def open_studies(store: Store, *, quiet_s: float, after_release_s: float) -> list[OpenStudy]:
    """Open studies that had no image for `quiet_s`, were released `after_release_s` ago, or a person calls whole.

    A study whose last image lies in the future is among them: the clock was set back, and it would wait for
    that time to come again.
    """
    now = store.clock()
    is_due = sa.or_(
        STUDIES.c.forced_at.is_not(None),
        STUDIES.c.last_instance_at <= now - quiet_s,
        STUDIES.c.released_at <= now - after_release_s,
        STUDIES.c.last_instance_at > now + quiet_s,
    )
    modality = (
        sa.select(INSTANCES.c.modality)
        .where(INSTANCES.c.study_uid == STUDIES.c.study_uid, INSTANCES.c.modality != "")
        .order_by(sa.text("instances.rowid"))  # the order of arrival, which the index on study_uid has as well
        .limit(1)
        .scalar_subquery()
    )
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(STUDIES, sa.func.coalesce(modality, "").label("modality")).where(STUDIES.c.is_open, is_due)
        ).all()
    return [
        OpenStudy(
            row.study_uid,
            row.calling_ae,
            row.modality,
            row.last_instance_at,
            row.released_at,
            row.forced_at,
            row.asked_at,
            row.expected_count,
        )
        for row in rows
    ]


def instance_count(store: Store, study_uid: str) -> int:
    """How many images of a study are here."""
    query = sa.select(sa.func.count()).select_from(INSTANCES).where(INSTANCES.c.study_uid == study_uid)
    with store.reading() as connection:
        return int(connection.execute(query).scalar_one())


def made_here(store: Store, study_uid: str) -> frozenset[str]:
    """SOP Instance UIDs of the results this node made of a study: its sender may hold them, and owes us none."""
    query = (
        sa.select(OUTPUTS.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(ASSIGNMENTS.c.study_uid == study_uid, OUTPUTS.c.sop_class_uid != "")
    )
    with store.reading() as connection:
        return frozenset(row.output_id for row in connection.execute(query))


def note_expected(store: Store, study_uid: str, count: int | None, *, asked_at: float) -> None:
    """Note how many images the sender of a study said it holds; None if it did not answer."""
    mine = STUDIES.c.study_uid == study_uid
    with store.writing() as connection:
        connection.execute(sa.update(STUDIES).where(mine).values(expected_count=count, asked_at=asked_at))


def pauses_of(store: Store, calling_ae: str, modality: str, *, most_s: float, studies: int) -> list[Pauses]:
    """Pauses in the last `studies` studies of a sender and modality; one over `most_s` was no pause but an end."""
    recent = (
        sa.select(GENERATIONS.c.study_uid)
        .where(GENERATIONS.c.calling_ae == calling_ae, GENERATIONS.c.modality == modality)
        .order_by(GENERATIONS.c.frozen_at.desc())
        .limit(2 * studies)
        .subquery()
    )
    columns = (GENERATIONS.c.longest_pause_s, GENERATIONS.c.late_pause_s)
    longest, late = (sa.func.max(sa.case((column <= most_s, column), else_=0.0)) for column in columns)
    query = (
        sa.select(longest.label("longest"), late.label("late"))
        .where(GENERATIONS.c.study_uid.in_(sa.select(recent.c.study_uid)))
        .group_by(GENERATIONS.c.study_uid)
        .order_by(sa.func.max(GENERATIONS.c.frozen_at).desc())
        .limit(studies)
    )
    with store.reading() as connection:
        return [Pauses(float(row.longest), float(row.late)) for row in connection.execute(query)]


def freeze(store: Store, verdicts: Sequence[Verdict]) -> list[tuple[str, int]]:
    """Freeze studies that are whole; each makes a new generation with all images so far.

    A study that changed since it was looked at (another image, another sender) stays open.

    Returns
    -------
    (Study Instance UID, generation) of each that is to be routed.
    """
    found = []
    for start in range(0, len(verdicts), AT_ONCE):
        found += _freeze_some(store, verdicts[start : start + AT_ONCE])
    return found


def _freeze_some(store: Store, verdicts: Sequence[Verdict]) -> list[tuple[str, int]]:
    found = []
    with store.writing() as connection:
        for verdict in verdicts:
            query = sa.select(STUDIES).where(STUDIES.c.study_uid == verdict.study.study_uid, STUDIES.c.is_open)
            row = connection.execute(query).first()
            seen = (verdict.study.last_instance_at, verdict.study.released_at)
            if row is None or (verdict.signal != "forced" and (row.last_instance_at, row.released_at) != seen):
                continue
            generation = _freeze(store, connection, row, verdict)
            if row.discarded_at is None:
                found.append((verdict.study.study_uid, generation))
    return found


def _freeze(store: Store, connection: sa.Connection, row: "sa.Row[tuple[object, ...]]", verdict: Verdict) -> int:
    study_uid, generation = str(row.study_uid), int(row.generation) + 1
    mine, is_discarded = INSTANCES.c.study_uid == study_uid, row.discarded_at is not None
    pauses = _pauses(connection, study_uid, generation)
    connection.execute(sa.update(INSTANCES).where(mine, INSTANCES.c.generation.is_(None)).values(generation=generation))
    count = connection.execute(sa.select(sa.func.count()).select_from(INSTANCES).where(mine)).scalar_one()
    connection.execute(
        sa.update(STUDIES)
        .where(STUDIES.c.study_uid == study_uid)
        .values(is_open=False, generation=generation, forced_at=None)
    )
    reason = f"generation {generation} holds its images and more, which came while it waited"
    connection.execute(
        sa.update(GENERATIONS)
        .where(GENERATIONS.c.study_uid == study_uid, GENERATIONS.c.state == "waiting")
        .values(state="superseded", reason=reason)
    )
    connection.execute(
        sa.insert(GENERATIONS).values(
            study_uid=study_uid,
            generation=generation,
            frozen_at=store.clock(),
            last_instance_at=row.last_instance_at,
            signal=verdict.signal,
            instance_count=count,
            state="discarded" if is_discarded else "frozen",
            reason=DISCARDED if is_discarded else "",
            calling_ae=row.calling_ae,
            modality=verdict.study.modality,
            longest_pause_s=pauses.longest_s,
            late_pause_s=pauses.after_release_s,
            basis=verdict.basis,
        )
    )
    details: dict[str, str | int | float] = {"generation": generation, "signal": verdict.signal, "instances": count}
    store.audit(connection, "study frozen", study_uid, step=f"generation {generation}", details=details)
    return generation


def _pauses(connection: sa.Connection, study_uid: str, generation: int) -> Pauses:
    """Pauses between the images that no generation holds yet, and before the first of them."""
    before = connection.execute(
        sa.select(GENERATIONS.c.last_instance_at, GENERATIONS.c.signal).where(
            GENERATIONS.c.study_uid == study_uid, GENERATIONS.c.generation == generation - 1
        )
    ).first()
    at = INSTANCES.c.received_at
    mine = (INSTANCES.c.study_uid == study_uid, INSTANCES.c.generation.is_(None))
    steps = sa.select(at, (at - sa.func.lag(at).over(order_by=at)).label("pause")).where(*mine).subquery()
    row = connection.execute(
        sa.select(sa.func.max(steps.c.pause).label("longest"), sa.func.min(steps.c.received_at).label("first"))
    ).one()
    late = 0.0 if before is None or row.first is None else max(0.0, row.first - before.last_instance_at)
    after_release = late if before is not None and before.signal == "release" else 0.0
    return Pauses(max(row.longest or 0.0, late), after_release)
