"""Everything the rows of a study tell, as sentences in the order in which it happened."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from node.explain.ordered import order_events
from node.explain.say import say, say_reason
from node.explain.words import WORDS, Words
from node.store.database import Store
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, OUTPUTS, QUARANTINE, REMOVALS, STUDIES

__all__ = ["Event", "find_studies", "story"]

ENDED_UNREAD = ("unrouted", "failed", "discarded", "superseded")
NO_REASONS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a study: when (UTC), at which stage, in one sentence.

    `code` names the kind of event, the same in every language, for programs.
    """

    at: datetime
    stage: str
    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class _Teller:
    """Who tells: a language, and sentences of the site that stand for English ones."""

    words: Words
    reasons: Mapping[str, str] = field(default_factory=dict)

    def event(self, at: float, stage: str, code: str, **values: object) -> Event:
        return Event(datetime.fromtimestamp(at, UTC), stage, say(self.words, code, **values), code)

    def reason(self, text: str) -> str:
        return say_reason(self.words, text, self.reasons)

    def kind(self, row: Mapping[str, Any]) -> str:
        return f"{self.words.kinds.get(row['kind'], row['kind'].replace('_', ' '))} {row['output_id']}"


def find_studies(store: Store, name: str) -> list[str]:
    """Study Instance UIDs with this UID, Accession Number or Patient ID, newest first."""
    match = sa.or_(STUDIES.c.study_uid == name, STUDIES.c.accession_number == name, STUDIES.c.patient_id == name)
    with store.reading() as connection:
        rows = connection.execute(sa.select(STUDIES.c.study_uid).where(match).order_by(STUDIES.c.first_at.desc()))
        return [row.study_uid for row in rows]


def story(
    store: Store, study_uid: str, *, language: str = "en", reasons: Mapping[str, str] = NO_REASONS
) -> list[Event]:
    """Everything the node knows about a study, in the order it happened.

    Parameters
    ----------
    language
        ``en`` or ``zh``; what was stated of findings stays in the language of the report.
    reasons
        What the site's templates say for an English reason, such as that of a gate.
    """
    teller = _Teller(WORDS[language], reasons)
    with store.reading() as connection:
        events = [
            *_received(teller, connection, study_uid),
            *_open(teller, connection, study_uid),
            *_frozen(teller, connection, study_uid),
            *(teller.event(at, "order", code, **said) for at, code, said in order_events(connection, study_uid)),
            *_read(teller, connection, study_uid),
            *_delivered(teller, connection, study_uid),
            *_removed(teller, connection, study_uid),
        ]
    return sorted(events, key=lambda event: event.at)


def _rows(connection: sa.Connection, query: "sa.Select[Any]") -> Iterator[dict[str, Any]]:
    return (dict(row) for row in connection.execute(query).mappings())


def _received(teller: _Teller, connection: sa.Connection, study_uid: str) -> Iterator[Event]:
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
        yield teller.event(
            row["last"], "receive", "images_came",
            count=row["count"], series=row["series_uid"], ae=row["calling_ae"],
            seconds=f"{row['last'] - row['first']:.1f}",
        )  # fmt: skip
    uids = sa.select(INSTANCES.c.sop_uid).where(INSTANCES.c.study_uid == study_uid)
    for row in _rows(connection, sa.select(QUARANTINE).where(QUARANTINE.c.sop_uid.in_(uids))):
        reason = teller.reason(row["reason"])
        yield teller.event(row["at"], "receive", "quarantined", uid=row["sop_uid"], reason=reason)


def _open(teller: _Teller, connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    for row in _rows(connection, sa.select(STUDIES).where(STUDIES.c.study_uid == study_uid)):
        if row["discarded_at"] is not None:
            yield teller.event(row["discarded_at"], "complete", "discarded")
        if row["let_go_at"] is not None:
            yield teller.event(row["let_go_at"], "route", "let_go")
        if row["is_open"]:
            yield teller.event(
                row["last_instance_at"], "complete", "open",
                generation=row["generation"] + 1, expected=row["expected_count"],
            )  # fmt: skip


def _frozen(teller: _Teller, connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    for row in _rows(connection, sa.select(GENERATIONS).where(GENERATIONS.c.study_uid == study_uid)):
        at, number, reason = row["frozen_at"], row["generation"], teller.reason(row["reason"])
        signal = teller.words.signals.get(row["signal"], row["signal"])
        basis = teller.reason(row["basis"])
        yield teller.event(
            at, "complete", "whole", generation=number, count=row["instance_count"], signal=signal, basis=basis
        )
        if row["state"] == "waiting":
            until = datetime.fromtimestamp(row["wait_until"], UTC).strftime("%H:%M:%S")
            yield teller.event(at, "route", "waits", until=until, reason=reason)
        for item in json.loads(row["tries"]):
            code = "rule_took" if item["is_match"] else "rule_left"
            yield teller.event(at, "route", code, rule=item["rule"], reason=teller.reason(item["reason"]))
        if row["state"] == "recovered":
            yield teller.event(at, "report", "recovered", generation=number, reason=reason)
        if row["state"] == "held":
            yield teller.event(at, "route", "held", generation=number, reason=reason)
        if row["state"] in ENDED_UNREAD:
            yield teller.event(at, "route", "unread", generation=number, reason=reason)


def _read(teller: _Teller, connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    for row in _rows(connection, sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.study_uid == study_uid)):
        handler, reason = row["handler"], teller.reason(row["reason"])
        if row["analysed_at"] is not None:
            status = teller.words.statuses.get(row["status"], row["status"].replace("_", " "))
            seconds = f"{row['analysed_at'] - row['assigned_at']:.1f}"
            yield teller.event(
                row["analysed_at"], "infer", "answered", handler=handler, status=status, seconds=seconds, reason=reason
            )
        if row["reported_at"] is not None and row["summary"]:  # else the index was rebuilt
            findings = " ".join(item["sentence"] for item in json.loads(row["summary"] or "[]"))
            code = "reported" if findings else "reported_nothing"
            yield teller.event(row["reported_at"], "report", code, handler=handler, findings=findings)
        if row["state"] in ("failed", "discarded"):
            at = row["analysed_at"] or row["assigned_at"]
            yield teller.event(at, "report", "no_result", handler=handler, reason=reason)


def _delivered(teller: _Teller, connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    query = (
        sa.select(DELIVERIES, OUTPUTS.c.kind)
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(ASSIGNMENTS.c.study_uid == study_uid)
    )
    for row in _rows(connection, query):
        to = {"what": teller.kind(row), "destination": row["destination"]}
        error, note = teller.reason(row["error"]), teller.reason(row["note"])
        if row["rounds"]:
            yield teller.event(row["queued_at"], "deliver", "sent_again", **to, rounds=row["rounds"])
        if row["accepted_at"] is not None:
            attempts = row["attempts"] if row["attempts"] > 1 else None
            yield teller.event(row["accepted_at"], "deliver", "taken", **to, attempts=attempts, answer=row["answer"])
        if row["state"] == "accepted":
            yield from _unsure(teller, row, to, note)
        elif row["state"] == "verified":
            how = teller.words.proofs.get(row["verified_by"], row["verified_by"])
            yield teller.event(row["verified_at"], "deliver", "verified", **to, how=how)
        elif row["state"] == "dead_letter":
            yield teller.event(row["next_attempt_at"], "deliver", "dead_letter", **to, error=error)
        elif row["state"] == "dropped":
            yield teller.event(row["next_attempt_at"], "deliver", "dropped", **to, note=row["note"], error=error)
        else:
            yield teller.event(
                row["next_attempt_at"], "deliver", "pending", **to, attempts=row["attempts"], error=error
            )


def _unsure(teller: _Teller, row: Mapping[str, Any], to: Mapping[str, str], note: str) -> Iterator[Event]:
    """What is not known of an output that was accepted."""
    if row["check_at"] is not None:
        code = "will_be_resent" if row["check_step"] == "resend" else "unsure"
        yield teller.event(row["check_at"], "deliver", code, **to, checks=row["checks"], note=note)
    elif note:
        yield teller.event(row["accepted_at"], "deliver", "unverifiable", **to, note=note)


def _removed(teller: _Teller, connection: sa.Connection, study_uid: str) -> Iterator[Event]:
    for row in _rows(connection, sa.select(REMOVALS).where(REMOVALS.c.study_uid == study_uid)):
        code = "being_removed" if row["ended_at"] is None else "removed"
        at = row["begun_at"] if row["ended_at"] is None else row["ended_at"]
        counts = {"images": row["instance_count"], "results": row["output_count"]}
        yield teller.event(at, "store", code, **counts, reason=teller.reason(row["reason"]))
