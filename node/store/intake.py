"""Rows of what came in: instances, studies that are still open, and what was put aside."""

import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa

from node.domain.study import Instance
from node.errors import StoreError
from node.store.database import Store
from node.store.files import name_of, replace_instance
from node.store.schema import INSTANCES, QUARANTINE, STUDIES

__all__ = [
    "Arrival",
    "Kept",
    "add_instance",
    "add_quarantine",
    "instance_row",
    "mark_released",
    "missing_files",
    "sweep_quarantine",
]


ORPHAN_AFTER_S = 3600.0  # another process may be just about to note a younger one
TOUCH_STUDY = "UPDATE studies SET last_instance_at = ?, released_at = NULL, is_open = 1 WHERE study_uid = ?"
OPEN_STUDY = (
    "INSERT INTO studies (study_uid, first_at, last_instance_at, is_open, generation, calling_ae, patient_id,"
    " accession_number) VALUES (?, ?, ?, 1, 0, ?, ?, ?)"
)
ADD_INSTANCE = (
    "INSERT INTO instances (sop_uid, study_uid, series_uid, sop_class_uid, transfer_syntax_uid, path, size_bytes,"
    " digest, modality, patient_id, calling_ae, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Kept(StrEnum):
    """What became of an object that arrived."""

    NEW = "new"
    DUPLICATE = "duplicate"
    COLLISION = "collision"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object whose bytes are durable at `path` below ``incoming/`` and linked to their place; it lacks its row."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    path: Path
    size_bytes: int
    digest: str
    calling_ae: str
    patient_id: str = ""
    accession_number: str = ""
    modality: str = ""


@dataclass(slots=True)
class _Ticket:
    """An arrival that waits for the next commit, and what became of it."""

    arrival: Arrival
    kept: Kept | None = None
    error: Exception | None = None


def add_instance(store: Store, arrival: Arrival) -> Kept:
    """Commit the row of an object that is in its place; only after this may the sender be told Success.

    A new object opens its study again, so images that come late make the next generation. An object
    that was here before changes nothing, whether its content is the same or not; but a sender that
    begins anew is there again, so its release is waited for.

    Several that arrive at once share one commit: whoever gets the turn to write takes along all that wait.

    Raises
    ------
    StoreError
        If the index cannot be written now; nothing of the object is noted, and its sender may come again.
    """
    ticket = _Ticket(arrival)
    store.arrivals.append(ticket)
    try:
        with store.taking_turn():
            if ticket.kept is None and ticket.error is None:
                _commit(store, _take_all(store.arrivals))
    except StoreError as error:
        ticket.error = error  # its file will be gone when its turn comes
    if ticket.kept is None:
        raise StoreError(f"the index cannot be written: {type(ticket.error).__name__}") from ticket.error
    return ticket.kept


def _take_all(arrivals: "deque[_Ticket]") -> list[_Ticket]:
    waiting = [arrivals.popleft() for _ in range(len(arrivals))]  # what comes meanwhile waits for the next turn
    return [ticket for ticket in waiting if ticket.error is None]


def _commit(store: Store, tickets: Sequence[_Ticket]) -> None:
    try:
        with store.writing_directly() as (driver, connection):
            outcomes = [_try_add(store, driver, connection, ticket.arrival) for ticket in tickets]
    except (sqlite3.Error, sa.exc.SQLAlchemyError) as error:
        for ticket in tickets:
            ticket.error = error
        return
    for ticket, outcome in zip(tickets, outcomes, strict=True):
        if isinstance(outcome, Kept):
            ticket.kept = outcome
        else:
            ticket.error = outcome


def _try_add(store: Store, driver: sqlite3.Connection, connection: sa.Connection, arrival: Arrival) -> Kept | OSError:
    """Note one object; if its file cannot be put in its place, nothing of it is noted and the others go on."""
    try:
        return _add(store, driver, connection, arrival)
    except OSError as error:
        return error


def _add(store: Store, driver: sqlite3.Connection, connection: sa.Connection, arrival: Arrival) -> Kept:
    """Note one object in an open transaction."""
    execute = driver.execute
    now = store.clock()
    known = execute("SELECT digest FROM instances WHERE sop_uid = ?", (arrival.sop_instance_uid,)).fetchone()
    if known is not None:
        execute("UPDATE studies SET released_at = NULL WHERE study_uid = ? AND is_open", (arrival.study_instance_uid,))
        return Kept.DUPLICATE if known[0] == arrival.digest else Kept.COLLISION
    name = name_of(arrival.sop_instance_uid)
    replace_instance(store.root, arrival.path, name, durably=store.is_durable)
    if not execute(TOUCH_STUDY, (now, arrival.study_instance_uid)).rowcount:
        who = (arrival.calling_ae, arrival.patient_id, arrival.accession_number)
        execute(OPEN_STUDY, (arrival.study_instance_uid, now, now, *who))
        store.audit(connection, "study opened", arrival.study_instance_uid, details={"by": arrival.calling_ae})
    execute(
        ADD_INSTANCE,
        (
            arrival.sop_instance_uid,
            arrival.study_instance_uid,
            arrival.series_instance_uid,
            arrival.sop_class_uid,
            arrival.transfer_syntax_uid,
            name,
            arrival.size_bytes,
            arrival.digest,
            arrival.modality,
            arrival.patient_id,
            arrival.calling_ae,
            now,
        ),
    )
    return Kept.NEW


def mark_released(store: Store, study_uids: Sequence[str]) -> None:
    """Note that no Association that brought images of these studies is open any more."""
    with store.writing() as connection:
        connection.execute(
            sa.update(STUDIES)
            .where(STUDIES.c.study_uid.in_(study_uids), STUDIES.c.is_open)
            .values(released_at=store.clock())
        )


def add_quarantine(
    store: Store, *, number: str, name: str, sop_uid: str, calling_ae: str, status: int, reason: str, size_bytes: int
) -> None:
    """Note an object that was put aside, with the reason and the DIMSE status its sender was given."""
    with store.writing() as connection:
        connection.execute(
            sa.insert(QUARANTINE).values(
                quarantine_id=number,
                at=store.clock(),
                sop_uid=sop_uid,
                calling_ae=calling_ae,
                status=status,
                reason=reason,
                path=name,
                size_bytes=size_bytes,
            )
        )
        store.audit(
            connection, "object quarantined", number, details={"reason": reason, "sop_uid": sop_uid, "by": calling_ae}
        )


def sweep_quarantine(store: Store) -> int:
    """Remove files that were put aside just before a crash and have no row: their senders were never answered."""
    now = time.time()  # of the file system, not of the store
    with store.reading() as connection:
        known = set(connection.execute(sa.select(QUARANTINE.c.path)).scalars())
    orphans = [
        path
        for path in (store.root / "quarantine").iterdir()
        if f"quarantine/{path.name}" not in known and path.stat().st_mtime < now - ORPHAN_AFTER_S
    ]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def instance_row(root: Path, row: "sa.Row[tuple[object, ...]]") -> Instance:
    """An Instance from its row."""
    values = row._mapping
    return Instance(
        sop_instance_uid=values["sop_uid"],
        sop_class_uid=values["sop_class_uid"],
        transfer_syntax_uid=values["transfer_syntax_uid"],
        series_instance_uid=values["series_uid"],
        path=root / values["path"],
        size_bytes=values["size_bytes"],
        digest=values["digest"],
    )


def missing_files(store: Store) -> list[str]:
    """SOP Instance UIDs of rows whose file is gone."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(INSTANCES.c.sop_uid, INSTANCES.c.path)).all()
    return [row.sop_uid for row in rows if not (store.root / row.path).is_file()]
