"""Erasing a study: a person asked that nothing of it stays, as the law may give a patient the right to."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from node.dicom.elements import PARSE_FAULTS, text
from node.errors import StoreError
from node.store.database import Store
from node.store.holding import removing_files
from node.store.removal import ERASE, Removal, begin_removal, finish_removal, is_being_read, unfinished_removals
from node.store.schema import ASSIGNMENTS, DELIVERIES, INSTANCES, OUTPUTS, QUARANTINE, STUDIES

__all__ = ["Erasable", "Erased", "erase_study", "finish_removals", "look_at_study"]

LOCK_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Erasable:
    """What there is of a study; `pending` results were not delivered yet and never will be."""

    study_uid: str
    instances: int
    outputs: int
    pending: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Erased:
    """A study whose removal is done, and the Assignments that the durable engine may forget."""

    study_uid: str
    kind: str
    assignment_ids: tuple[str, ...]


def look_at_study(store: Store, study_uid: str) -> Erasable:
    """Count what erasing a study would take.

    Raises
    ------
    StoreError
        If there is no such study.
    """
    outputs = sa.select(OUTPUTS.c.output_id).where(
        OUTPUTS.c.assignment_id.in_(sa.select(ASSIGNMENTS.c.assignment_id).where(ASSIGNMENTS.c.study_uid == study_uid))
    )
    wanted = {
        "studies": STUDIES.c.study_uid == study_uid,
        "instances": INSTANCES.c.study_uid == study_uid,
        "outputs": OUTPUTS.c.output_id.in_(outputs),
        "pending": sa.and_(DELIVERIES.c.output_id.in_(outputs), DELIVERIES.c.state == "pending"),
    }
    with store.reading() as connection:
        found = {
            name: int(connection.execute(sa.select(sa.func.count()).where(where)).scalar_one())
            for name, where in wanted.items()
        }
    if not found.pop("studies"):
        raise StoreError(f"there is no study {study_uid}; wetread explain finds it by Accession Number or Patient ID")
    return Erasable(study_uid, quarantined=len(_quarantined(store, study_uid)), **found)


def erase_study(store: Store, study_uid: str, *, may_be_waiting: bool = False) -> list[Erased]:
    """Remove everything the node holds of a study but its records in the audit trail.

    Parameters
    ----------
    may_be_waiting
        Erase it although its reading is not done; only when no node runs that may be reading it.

    Raises
    ------
    StoreError
        If there is no such study, it is being read, or a backup or a check is going on.
    """
    with removing_files(store.root, wait_s=LOCK_WAIT_S):
        with store.writing() as connection:
            if is_being_read(connection, study_uid) and not may_be_waiting:
                raise StoreError(f"study {study_uid} is being read; try again when it is reported")
            begin_removal(store, connection, study_uid, kind=ERASE, reason="erased by a person")
        done = _finish_all(store)
    with store.engine.connect() as connection:  # its log holds the old pages; readers may keep it until the node stops
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return done


def finish_removals(store: Store) -> list[Erased]:
    """Finish every removal that was cut short.

    Raises
    ------
    StoreError
        If a backup, a check or another removal is going on; then nothing was done.
    """
    if not unfinished_removals(store):
        return []
    with removing_files(store.root):
        return _finish_all(store)


def _finish_all(store: Store) -> list[Erased]:
    return [_finish(store, removal) for removal in unfinished_removals(store)]


def _finish(store: Store, removal: Removal) -> Erased:
    quarantined = _quarantined(store, removal.study_uid) if removal.kind == ERASE else []
    ids = finish_removal(store, removal, quarantined=quarantined)
    return Erased(removal.study_uid, removal.kind, tuple(ids))


def _quarantined(store: Store, study_uid: str) -> list[str]:
    """Numbers of quarantined objects of a study: by the UID of an image of it, or by their own header."""
    mine = sa.select(INSTANCES.c.sop_uid).where(INSTANCES.c.study_uid == study_uid)
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(QUARANTINE.c.quarantine_id, QUARANTINE.c.path, QUARANTINE.c.sop_uid.in_(mine).label("is_mine"))
        ).all()
    return [row.quarantine_id for row in rows if row.is_mine or _study_of(store.root / row.path) == study_uid]


def _study_of(path: Path) -> str:
    """Study Instance UID of an object that may be damaged, "" if it cannot be known."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            return text(dcmread(path, specific_tags=["StudyInstanceUID"], stop_before_pixels=True), "StudyInstanceUID")
    except (*PARSE_FAULTS, InvalidDicomError):
        return ""
