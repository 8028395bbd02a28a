"""Rows of what came in: instances, studies that are still open, and what was put aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from node.domain.study import Instance
from node.store.database import Store
from node.store.files import keep_instance
from node.store.schema import INSTANCES, QUARANTINE, STUDIES

__all__ = ["Arrival", "Kept", "add_instance", "add_quarantine", "instance_row", "mark_released", "missing_files"]


class Kept(StrEnum):
    """What became of an object that arrived."""

    NEW = "new"
    DUPLICATE = "duplicate"
    COLLISION = "collision"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object whose bytes are durable at `path` below ``incoming/`` and that waits for its place and row."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    path: Path
    size_bytes: int
    sha256: str
    calling_ae: str
    patient_id: str = ""
    accession_number: str = ""


def add_instance(store: Store, arrival: Arrival) -> Kept:
    """Put an object in its place and commit its row; only after this may the sender be told Success.

    A new object opens its study again, so images that come late make the next generation. An object
    that was here before changes nothing, whether its content is the same or not; but a sender that
    begins anew is there again, so its release is waited for.
    """
    now = store.clock()
    with store.writing() as connection:
        known = connection.execute(
            sa.select(INSTANCES.c.sha256).where(INSTANCES.c.sop_uid == arrival.sop_instance_uid)
        ).first()
        if known is not None:
            connection.execute(
                sa.update(STUDIES)
                .where(STUDIES.c.study_uid == arrival.study_instance_uid, STUDIES.c.is_open)
                .values(released_at=None)
            )
            return Kept.DUPLICATE if known.sha256 == arrival.sha256 else Kept.COLLISION
        opened = connection.execute(
            insert(STUDIES)
            .values(
                study_uid=arrival.study_instance_uid,
                first_at=now,
                last_instance_at=now,
                is_open=True,
                generation=0,
                calling_ae=arrival.calling_ae,
                patient_id=arrival.patient_id,
                accession_number=arrival.accession_number,
            )
            .on_conflict_do_nothing()
        )
        if opened.rowcount:
            store.audit(connection, "study opened", arrival.study_instance_uid, details={"by": arrival.calling_ae})
        connection.execute(
            sa.update(STUDIES)
            .where(STUDIES.c.study_uid == arrival.study_instance_uid)
            .values(last_instance_at=now, released_at=None, is_open=True)
        )
        name = keep_instance(store.root, arrival.path, arrival.sop_instance_uid)
        connection.execute(
            sa.insert(INSTANCES).values(
                sop_uid=arrival.sop_instance_uid,
                study_uid=arrival.study_instance_uid,
                series_uid=arrival.series_instance_uid,
                sop_class_uid=arrival.sop_class_uid,
                transfer_syntax_uid=arrival.transfer_syntax_uid,
                path=name,
                size_bytes=arrival.size_bytes,
                sha256=arrival.sha256,
                patient_id=arrival.patient_id,
                calling_ae=arrival.calling_ae,
                received_at=now,
            )
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
        sha256=values["sha256"],
    )


def missing_files(store: Store) -> list[str]:
    """SOP Instance UIDs of rows whose file is gone."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(INSTANCES.c.sop_uid, INSTANCES.c.path)).all()
    return [row.sop_uid for row in rows if not (store.root / row.path).is_file()]
