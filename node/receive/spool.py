"""One object from its temporary file to its acknowledged place, or to quarantine with a status.

The order is the promise: checked, linked without replacing, file and folder fsynced, row committed, and only then
0x0000. Files are synced by each Association for itself, rows of several are committed together.
"""

from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from node.dicom.charset import decode_label
from node.dicom.scan import Outline, Scan
from node.dicom.uid import is_valid_uid
from node.errors import StoreError, UnreadableInstanceError
from node.store.database import Store
from node.store.digest import dataset_digest
from node.store.files import keep_instance, quarantine_file
from node.store.intake import Arrival, Kept, add_instance, add_quarantine
from node.store.volume import bad_reason, free_megabytes

__all__ = ["CANNOT_UNDERSTAND", "MISMATCH", "OUT_OF_RESOURCES", "SUCCESS", "Answer", "Incoming", "accept"]

log = structlog.get_logger(__name__)

# PS3.4 Table B.2-1
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
ALREADY_STORED = 0xC001  # "Cannot understand" range: this UID already names other content


@dataclass(frozen=True, slots=True)
class Incoming:
    """An object as it came: a Part 10 file below ``incoming/`` whose dataset is untouched, and its command set.

    `digest` and `size_bytes` of the dataset are what a receiver found in passing; "" lets the spool read it again.
    `scan` has seen all of it as it passed.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    digest: str = ""
    size_bytes: int = 0
    scan: Scan | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The DIMSE status for the sender, a comment of at most 64 characters, and the study if it was taken."""

    status: int
    comment: str = ""
    study_instance_uid: str = ""


def accept(store: Store, incoming: Incoming, *, refuse_below_free_mb: int) -> Answer:
    """Take one object, or say exactly why not.

    The temporary file is gone afterwards: linked to its place, moved to quarantine, or removed.

    Returns
    -------
    0x0000 only when file, folder and row are durable. A byte-identical duplicate is 0x0000 and changes
    nothing; the same UID with other content keeps the first object and puts the second in quarantine.
    """
    try:
        if free_megabytes(store.root) < refuse_below_free_mb:
            log.warning("object refused, disk nearly full", sop_instance_uid=incoming.sop_instance_uid)
            return Answer(OUT_OF_RESOURCES, "disk nearly full")
        if bad_reason(store.root):
            return Answer(OUT_OF_RESOURCES, "the disk has failed")
        try:
            outline = _checked_outline(incoming)
        except UnreadableInstanceError as error:
            return _quarantine(store, incoming, CANNOT_UNDERSTAND, str(error))
        if (outline.sop_class_uid, outline.sop_instance_uid) != (incoming.sop_class_uid, incoming.sop_instance_uid):
            reason = "command set and dataset name different SOP Class or Instance UIDs"
            return _quarantine(store, incoming, MISMATCH, reason)
        return _keep(store, incoming, outline)
    except OSError as error:
        log.error("object not stored", sop_instance_uid=incoming.sop_instance_uid, error=error.strerror)
        return Answer(OUT_OF_RESOURCES, "the object could not be written")
    except (SQLAlchemyError, StoreError) as error:  # locked for too long, no room for it: a later try may succeed
        log.error("object not stored", sop_instance_uid=incoming.sop_instance_uid, error=type(error).__name__)
        return Answer(OUT_OF_RESOURCES, "the object could not be noted")
    finally:
        try:
            incoming.path.unlink(missing_ok=True)
        except OSError as error:  # it has its answer; the sweep at the next start takes the file
            log.error("incoming file not removed", error=error.strerror)


def _checked_outline(incoming: Incoming) -> Outline:
    for name, uid in (("SOPClassUID", incoming.sop_class_uid), ("SOPInstanceUID", incoming.sop_instance_uid)):
        if not is_valid_uid(uid):
            raise UnreadableInstanceError(f"the command set holds no valid {name} (PS3.5 9.1)")
    outline = (incoming.scan or Scan(incoming.transfer_syntax_uid)).finish(incoming.path)
    for name, uid in (
        ("StudyInstanceUID", outline.study_instance_uid),
        ("SeriesInstanceUID", outline.series_instance_uid),
    ):
        if not is_valid_uid(uid):
            raise UnreadableInstanceError(f"the dataset holds no valid {name} (PS3.5 9.1)")
    return outline


def _keep(store: Store, incoming: Incoming, outline: Outline) -> Answer:
    digest, size_bytes = incoming.digest, incoming.size_bytes
    if not digest:
        digest, size_bytes = dataset_digest(incoming.path)
    keep_instance(store.root, incoming.path, incoming.sop_instance_uid, durably=store.is_durable)
    kept = add_instance(
        store,
        Arrival(
            sop_instance_uid=incoming.sop_instance_uid,
            sop_class_uid=incoming.sop_class_uid,
            transfer_syntax_uid=incoming.transfer_syntax_uid,
            study_instance_uid=outline.study_instance_uid,
            series_instance_uid=outline.series_instance_uid,
            path=incoming.path,
            size_bytes=size_bytes,
            digest=digest,
            calling_ae=incoming.calling_ae,
            patient_id=decode_label(outline.patient_id, outline.specific_character_set),
            accession_number=decode_label(outline.accession_number, outline.specific_character_set),
            modality=outline.modality,
        ),
    )
    if kept is Kept.COLLISION:
        return _quarantine(store, incoming, ALREADY_STORED, "this SOP Instance UID is stored with other content")
    return Answer(SUCCESS, study_instance_uid=outline.study_instance_uid)


def _quarantine(store: Store, incoming: Incoming, status: int, reason: str) -> Answer:
    size_bytes = incoming.path.stat().st_size
    number, name = quarantine_file(store.root, incoming.path)
    uid = incoming.sop_instance_uid if is_valid_uid(incoming.sop_instance_uid) else ""
    try:
        add_quarantine(
            store,
            number=number,
            name=name,
            sop_uid=uid,
            calling_ae=incoming.calling_ae,
            status=status,
            reason=reason,
            size_bytes=size_bytes,
        )
    except SQLAlchemyError:
        if not bad_reason(store.root):  # after a failed sync the row may be there in the end
            (store.root / name).unlink(missing_ok=True)  # the sender tries again
        raise
    log.warning("object quarantined", sop_instance_uid=uid, reason=reason, calling_ae=incoming.calling_ae)
    return Answer(status, reason[:64])  # ErrorComment is LO: at most 64 characters
