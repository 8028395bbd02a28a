"""What a PACS reports of what it was asked to commit, on whichever Association its report comes.

References
----------
PS3.4 J.3.3 (N-EVENT-REPORT), PS3.7 C.5 (statuses).
"""

import structlog

from node.dicom.commitment import failure_in_words, read_report
from node.errors import UnreadableInstanceError
from node.store.database import Store
from node.store.verification import asked_to_commit, mark_lost, mark_verified

__all__ = ["COMMITTED", "take_report"]

log = structlog.get_logger(__name__)

SUCCESS, INVALID_ARGUMENT = 0x0000, 0x0115
COMMITTED = "commitment"


def take_report(store: Store, data: bytes, transfer_syntax_uid: str) -> int:
    """Note for every output that a report names whether the PACS has it for good; the status of our answer.

    The transaction must be one that this node asked for; the same report twice changes nothing.
    """
    try:
        report = read_report(data, transfer_syntax_uid)
    except UnreadableInstanceError as error:
        log.warning("commitment report refused", reason=str(error))
        return INVALID_ARGUMENT
    asked = asked_to_commit(store, report.transaction_uid)
    if not asked:
        log.warning("commitment report refused", reason="its transaction was not asked for")
        return INVALID_ARGUMENT
    verified = sum(mark_verified(store, asked[uid], COMMITTED) for uid in report.committed & asked.keys())
    lost = 0
    for uid in report.failed.keys() & asked.keys():
        words = f"it is not committed: {failure_in_words(report.failed[uid])}"
        lost += mark_lost(store, asked[uid], report.transaction_uid, words)
    log.info("commitment report taken", count=verified)
    if lost:
        log.warning("outputs not committed", count=lost)
    return SUCCESS
