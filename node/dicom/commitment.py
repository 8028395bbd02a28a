"""Storage commitment: what a PACS is asked to keep for good, and what it reports.

References
----------
PS3.4 Annex J (Storage Commitment Service Class), PS3.3 C.14 (the datasets).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from node.dicom.elements import items, number, text
from node.dicom.encoded import decode_dataset, encode_dataset
from node.dicom.uid import is_valid_uid
from node.errors import UnreadableInstanceError

__all__ = [
    "COMMITMENT",
    "COMMITMENT_INSTANCE",
    "REQUEST_COMMITMENT",
    "CommitmentReport",
    "failure_in_words",
    "read_report",
    "write_request",
]

# PS3.6 Table A-1: Storage Commitment Push Model and its one instance; pydicom's names are made at run time
COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT = 1  # PS3.4 J.3.2.1: the one Action Type
FAILURE_REASONS: Mapping[int, str] = {  # PS3.3 C.14.1.1
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "it is known there as an object of another class",
    0x0122: "its SOP class is not supported",
    0x0131: "the transaction UID was used before",
    0x0213: "resource limitation",
}


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a PACS has committed and what it has not, by SOP Instance UID; None where it gives no reason."""

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int | None]


def write_request(transaction_uid: str, references: Sequence[tuple[str, str]], transfer_syntax_uid: str) -> bytes:
    """The dataset of an N-ACTION that asks to commit (SOP class, SOP instance) pairs."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [_reference(sop_class_uid, sop_uid) for sop_class_uid, sop_uid in references]
    return encode_dataset(ds, transfer_syntax_uid)


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def read_report(data: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Read the dataset of an N-EVENT-REPORT.

    Raises
    ------
    UnreadableInstanceError
        If it cannot be parsed or names no transaction.
    """
    ds = decode_dataset(data, transfer_syntax_uid)
    transaction_uid = text(ds, "TransactionUID")
    if not is_valid_uid(transaction_uid):
        raise UnreadableInstanceError("TransactionUID is missing or is no UID")
    failed: dict[str, int | None] = {}
    for item in items(ds, "FailedSOPSequence"):
        reason = number(item, "FailureReason")
        failed[text(item, "ReferencedSOPInstanceUID")] = None if reason is None else int(reason)
    committed = {text(item, "ReferencedSOPInstanceUID") for item in items(ds, "ReferencedSOPSequence")}
    return CommitmentReport(transaction_uid, frozenset(committed - failed.keys()), failed)


def failure_in_words(reason: int | None) -> str:
    """Why a PACS does not commit an object."""
    if reason is None:
        return "no reason given"
    return f"{FAILURE_REASONS.get(reason, 'a reason the standard does not know')} (0x{reason:04X})"
