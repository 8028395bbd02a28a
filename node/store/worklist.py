"""The newest studies and how far each is, for a list that a person reads."""

import json
from dataclasses import dataclass

import sqlalchemy as sa

from node.domain.findings import Tier
from node.store.database import Store
from node.store.gathering import DISCARDED
from node.store.schema import ASSIGNMENTS, GENERATIONS, INSTANCES, STUDIES

__all__ = ["StudyState", "study_states"]


@dataclass(frozen=True, slots=True)
class StudyState:
    """How far a study is.

    `state` is ``open``, ``waiting`` (for a required Series), ``held`` (as one of a
    phantom or quality check), ``frozen``, ``being read``, ``done``, ``unrouted``,
    ``failed`` or ``discarded``; `reason` says why, where there is a reason. Times are seconds since the epoch.
    `needs_review` if a finding of its last generation is of the tier review: a person is to look first.
    """

    study_uid: str
    accession_number: str
    state: str
    generation: int
    instances: int
    expected: int | None
    calling_ae: str
    modality: str
    last_instance_at: float
    reason: str
    needs_review: bool = False


def study_states(store: Store, *, limit: int) -> list[StudyState]:
    """The studies that got images last, newest first."""
    newest = sa.select(STUDIES).order_by(STUDIES.c.last_instance_at.desc()).limit(limit)
    with store.reading() as connection:
        return [_state(connection, row) for row in connection.execute(newest).all()]


def _state(connection: sa.Connection, row: "sa.Row[tuple[object, ...]]") -> StudyState:
    mine = INSTANCES.c.study_uid == row.study_uid
    count = connection.execute(sa.select(sa.func.count()).select_from(INSTANCES).where(mine)).scalar_one()
    modality = connection.execute(
        sa.select(INSTANCES.c.modality)
        .where(mine, INSTANCES.c.modality != "")
        .order_by(sa.text("instances.rowid"))
        .limit(1)
    ).scalar()
    state, reason = _how_far(connection, row)
    return StudyState(
        study_uid=str(row.study_uid),
        accession_number=str(row.accession_number),
        state=state,
        generation=int(row.generation) + int(row.is_open),
        instances=int(count),
        expected=row.expected_count if row.is_open else None,
        calling_ae=str(row.calling_ae),
        modality=modality or "",
        last_instance_at=float(row.last_instance_at),
        reason=reason,
        needs_review=_needs_review(connection, row),
    )


def _needs_review(connection: sa.Connection, row: "sa.Row[tuple[object, ...]]") -> bool:
    summaries = connection.execute(
        sa.select(ASSIGNMENTS.c.summary).where(
            ASSIGNMENTS.c.study_uid == row.study_uid, ASSIGNMENTS.c.generation == row.generation
        )
    ).scalars()
    findings = [finding for summary in summaries for finding in json.loads(summary or "[]")]
    return any((finding.get("certainty") or {}).get("tier") == Tier.REVIEW for finding in findings)


def _how_far(connection: sa.Connection, row: "sa.Row[tuple[object, ...]]") -> tuple[str, str]:
    if row.is_open:
        return "open", DISCARDED if row.discarded_at is not None else ""
    last = connection.execute(
        sa.select(GENERATIONS.c.state, GENERATIONS.c.reason).where(
            GENERATIONS.c.study_uid == row.study_uid, GENERATIONS.c.generation == row.generation
        )
    ).one_or_none()
    if last is None:
        return "erasing", ""
    if last.state != "routed":
        return str(last.state), str(last.reason)
    readings = connection.execute(
        sa.select(ASSIGNMENTS.c.state, ASSIGNMENTS.c.reason).where(
            ASSIGNMENTS.c.study_uid == row.study_uid, ASSIGNMENTS.c.generation == row.generation
        )
    ).all()
    if any(one.state in ("assigned", "analysed") for one in readings):
        return "being read", ""
    for state in ("failed", "discarded"):
        reasons = [str(one.reason) for one in readings if one.state == state]
        if reasons:
            return state, "; ".join(dict.fromkeys(reasons))
    return "done", ""
