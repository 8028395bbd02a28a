"""The receiving side of the node, wired: the front door for images and reports, the ear for orders."""

from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from node.errors import StoreError
from node.receive import Answer, EventReport, Receiver, TouchedStudies, accept, own_folder, serve, sweep_leftovers
from node.receive.hl7_listener import Hl7Listener, serve_hl7
from node.receive.orders import take_message
from node.settings import DicomDestination, Settings, Verify
from node.store.commitment import take_report
from node.store.database import Store
from node.store.intake import mark_released, sweep_quarantine
from node.store.volume import bad_reason, free_megabytes

__all__ = ["may_hear_reports", "note_report", "start_listener", "start_receiver"]

log = structlog.get_logger(__name__)

PROCESSING_FAILURE = 0x0110  # PS3.7 C.5


def start_receiver(settings: Settings, store: Store, *, number: int = 1) -> Receiver:
    """Open the front door on a store; what an interrupted receive left behind is swept first.

    `number` tells the processes apart that share the door, from 1.
    """
    processes = settings.dicom.processes
    count = sweep_leftovers(store.root, number, processes)
    if number == 1:
        count += sweep_quarantine(store)
    if count:
        log.info("unfinished objects swept", count=count)
    least_mb = settings.store.refuse_below_free_mb
    again_mb = settings.store.accept_again_above_free_mb or least_mb * 11 // 10
    return serve(
        settings.dicom,
        own_folder(store.root, number),
        accept=partial(accept, store, refuse_below_free_mb=least_mb),
        released=partial(mark_released, store),
        has_room=lambda: free_megabytes(store.root) >= least_mb and not bad_reason(store.root),
        has_ample_room=lambda: free_megabytes(store.root) >= again_mb and not bad_reason(store.root),
        touched=TouchedStudies(store.root / "run", number, processes) if processes > 1 else None,
        writes_early=store.is_durable,
        reported=partial(note_report, store) if may_hear_reports(settings) else None,
    )


def may_hear_reports(settings: Settings) -> bool:
    """True if some PACS may be asked for storage commitment and the receiver can take its report."""
    return settings.dicom.receiver == "own" and any(
        isinstance(one, DicomDestination) and one.verify in (Verify.AUTO, Verify.COMMITMENT)
        for one in settings.destinations.values()
    )


def note_report(store: Store, report: EventReport) -> Answer:
    """Take what a PACS says it has committed, on an Association of its own."""
    try:
        return Answer(take_report(store, report.dataset, report.transfer_syntax_uid))
    except (StoreError, SQLAlchemyError) as error:  # locked for too long: the PACS may say it again
        log.error("commitment report not noted", error=type(error).__name__)
        return Answer(PROCESSING_FAILURE, "the report could not be noted")


def start_listener(settings: Settings, store: Store) -> Hl7Listener | None:
    """Listen for orders of the hospital's systems, if the site wants that."""
    if not settings.hl7.port:
        return None
    least_mb = settings.store.refuse_below_free_mb

    def has_room() -> bool:
        return free_megabytes(store.root) >= least_mb and not bad_reason(store.root)

    return serve_hl7(settings.hl7, partial(take_message, store, settings.hl7, has_room))
