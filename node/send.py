"""Sending files to the node as a modality would, with progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from node.dicom.requestor import Requestor
from node.errors import DeliveryError

__all__ = ["Sent", "dicom_files", "send_files"]

MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: presentation context ids are the odd numbers 1 to 255


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file: its DIMSE status, or None where no answer came."""

    path: Path
    status: int | None

    @property
    def is_taken(self) -> bool:
        """True if the peer took it, with or without a warning (PS3.7 Annex C)."""
        return self.status is not None and (self.status == 0x0000 or self.status & 0xF000 == 0xB000)


def dicom_files(paths: Sequence[Path]) -> list[Path]:
    """Every DICOM file named or below a named folder, in order; other files are left out."""
    candidates = [found for path in paths for found in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [path for path in candidates if path.is_file() and _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def send_files(
    files: Sequence[Path],
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str,
    on_sent: Callable[[Sent], None],
    timeout_s: float = 30.0,
) -> list[Sent]:
    """Send files over one Association, each in its own syntax.

    Raises
    ------
    DeliveryError
        If the Association cannot be opened, or a file is not DICOM.
    """
    contexts = _contexts(files)
    if len(contexts) > MOST_CONTEXTS:
        raise DeliveryError(f"these files need {len(contexts)} presentation contexts, an Association holds 128")
    ae = Requestor(calling_ae, timeout_s=timeout_s)
    offered = [build_context(sop_class, [syntax]) for sop_class, syntax in sorted(contexts)]
    assoc = ae.associate(host, port, contexts=offered, ae_title=called_ae)
    if not assoc.is_established:
        why = "rejected the Association" if assoc.is_rejected else "cannot be reached"
        raise DeliveryError(f"{called_ae} at {host}:{port} {why}")
    results = []
    try:
        for number, path in enumerate(files):
            results.append(Sent(path, _send_one(assoc, path, number % 0xFFFF + 1)))
            on_sent(results[-1])
    finally:
        if assoc.is_established:
            assoc.release()
    return results


def _send_one(assoc: Association, path: Path, message_id: int) -> int | None:
    try:
        answer = assoc.send_c_store(path, msg_id=message_id)
    except (RuntimeError, ValueError):  # the Association has ended, or no context was accepted for this file
        return None
    return int(answer.Status) if "Status" in answer else None


def _contexts(files: Sequence[Path]) -> set[tuple[str, str]]:
    contexts = set()
    for path in files:
        try:
            meta = read_file_meta_info(path)
        except (InvalidDicomError, OSError) as error:
            raise DeliveryError(f"{path} is not a DICOM file") from error
        contexts.add((str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)))
    return contexts
