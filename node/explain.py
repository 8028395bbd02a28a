"""The story of a study in words: what came, what ran, what did not and why, and where the results are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from node.store.database import Store
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, OUTPUTS, QUARANTINE, STUDIES

__all__ = ["Event", "find_studies", "story"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a study: when (UTC), at which stage, in one sentence."""

    at: datetime
    stage: str
    text: str


def find_studies(store: Store, name: str) -> list[str]:
    """Study Instance UIDs with this UID, Accession Number or Patient ID, newest first."""
    match = sa.or_(STUDIES.c.study_uid == name, STUDIES.c.accession_number == name, STUDIES.c.patient_id == name)
    with store.reading() as connection:
        rows = connection.execute(sa.select(STUDIES.c.study_uid).where(match).order_by(STUDIES.c.first_at.desc()))
        return [row.study_uid for row in rows]


def story(store: Store, study_uid: str) -> list[Event]:
    """Everything the node knows about a study, in the order it happened."""
    with store.reading() as connection:
        events = [
            *_received(connection, study_uid),
            *_frozen(connection, study_uid),
            *_read(connection, study_uid),
            *_delivered(connection, study_uid),
        ]
    return sorted(events, key=lambda event: event.at)


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _rows(connection: sa.Connection, query: "sa.Select[Any]") -> Iterator[dict[str, Any]]:
    return (dict(row) for row in connection.execute(query).mappings())


def _received(connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    query = (
        sa.select(
            INSTANCES.c.series_uid,
            INSTANCES.c.calling_ae,
            sa.func.count().label("count"),
            sa.func.min(INSTANCES.c.received_at).label("first"),
            sa.func.max(INSTANCES.c.received_at).label("last"),
        )
        .where(INSTANCES.c.study_uid == study_uid)
        .group_by(INSTANCES.c.series_uid, INSTANCES.c.calling_ae)
    )
    for row in _rows(connection, query):
        seconds = row["last"] - row["first"]
        text = f"{row['count']} images of series {row['series_uid']} came from {row['calling_ae']} in {seconds:.1f} s"
        yield Event(_at(row["last"]), "receive", text)
    uids = sa.select(INSTANCES.c.sop_uid).where(INSTANCES.c.study_uid == study_uid)
    for row in _rows(connection, sa.select(QUARANTINE).where(QUARANTINE.c.sop_uid.in_(uids))):
        text = f"another object with SOP Instance UID {row['sop_uid']} was put in quarantine: {row['reason']}"
        yield Event(_at(row["at"]), "receive", text)


SIGNALS = {"quiet": "no image came for the quiet time", "release": "the sender released its Association"}


def _frozen(connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    for row in _rows(connection, sa.select(GENERATIONS).where(GENERATIONS.c.study_uid == study_uid)):
        why = SIGNALS.get(row["signal"], row["signal"])
        text = f"generation {row['generation']} is whole with {row['instance_count']} images: {why}"
        yield Event(_at(row["frozen_at"]), "complete", text)
        for item in json.loads(row["tries"]):
            verdict = "took it" if item["is_match"] else "did not take it"
            yield Event(_at(row["frozen_at"]), "route", f"rule {item['rule']!r} {verdict}: {item['reason']}")
        if row["state"] in ("unrouted", "failed"):
            text = f"no algorithm ran on generation {row['generation']}: {row['reason']}"
            yield Event(_at(row["frozen_at"]), "route", text)


def _read(connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    for row in _rows(connection, sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.study_uid == study_uid)):
        if row["analysed_at"] is not None:
            seconds = row["analysed_at"] - row["assigned_at"]
            reason = f": {row['reason']}" if row["reason"] else ""
            status = row["status"].replace("_", " ")
            text = f"{row['handler']} answered {status!r} after {seconds:.1f} s{reason}"
            yield Event(_at(row["analysed_at"]), "infer", text)
        if row["reported_at"] is not None:
            findings = [item["sentence"] for item in json.loads(row["summary"] or "[]")]
            text = f"{row['handler']} was reported: " + (" ".join(findings) or "no findings stated")
            yield Event(_at(row["reported_at"]), "report", text)
        if row["state"] == "failed":
            text = f"{row['handler']} has no result: {row['reason']}"
            yield Event(_at(row["analysed_at"] or row["assigned_at"]), "report", text)


def _delivered(connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    query = (
        sa.select(DELIVERIES, OUTPUTS.c.kind)
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(ASSIGNMENTS.c.study_uid == study_uid)
    )
    for row in _rows(connection, query):
        what = f"{row['kind'].replace('_', ' ')} {row['output_id']}"
        if row["state"] == "accepted":
            tries = f" at attempt {row['attempts']}" if row["attempts"] > 1 else ""
            text = f"{row['destination']} took {what}{tries} with {row['answer']}"
            yield Event(_at(row["accepted_at"]), "deliver", text)
        elif row["state"] == "dead_letter":
            text = f"{what} for {row['destination']} is a dead letter: {row['error']}"
            yield Event(_at(row["next_attempt_at"]), "deliver", text)
        else:
            why = f": {row['error']}" if row["error"] else ""
            text = f"{what} waits for {row['destination']}, {row['attempts']} attempts so far{why}"
            yield Event(_at(row["next_attempt_at"]), "deliver", text)
