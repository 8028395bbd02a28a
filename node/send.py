"""Sending files to the node as a modality would, with progress."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from node.deliver.association import ApplicationEntity, Context, End
from node.deliver.storage import StorageUser, contexts_of
from node.dicom.part10 import FileMeta, read_file_meta
from node.errors import DeliveryError, UnreadableInstanceError

__all__ = ["Sent", "dicom_files", "send_files"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file: its DIMSE status, or None where no answer came, and then why.

    `form` says how it was sent if not as it is, such as ``Implicit VR``.
    """

    path: Path
    status: int | None
    form: str = ""
    reason: str = ""

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
    """Send files over one Association, each in its own syntax, or uncompressed if the peer takes it only so.

    What follows an Association that broke off goes over another, as long as the peer lets us in again in time.

    Raises
    ------
    DeliveryError
        If the first Association cannot be opened, or a file is not DICOM.
    """
    metas = [_meta(path) for path in files]
    peer = ApplicationEntity(f"{called_ae} at {host}:{port}", host, port, called_ae, timeout_s)
    contexts = [contexts_of(meta) for meta in metas]
    results: list[Sent] = []
    lost = ""
    with StorageUser(peer, calling_ae=calling_ae) as user:
        for number, (path, meta) in enumerate(zip(files, metas, strict=True)):
            try:
                if not lost:
                    user.open(contexts[number][0], _to_come(contexts, number))
            except DeliveryError as error:
                if not results:
                    raise
                lost = str(error)
            results.append(Sent(path, None, reason=lost) if lost else _send_one(user, path, meta))
            if user.end is End.OUT_OF_TIME:
                lost = results[-1].reason
            on_sent(results[-1])
    return results


def _to_come(contexts: Sequence[tuple[Context, ...]], number: int) -> Iterator[Context]:
    """First what the files are, then what they might become: an Association holds 128 of these."""
    yield from (own for own, *_ in islice(contexts, number, None))
    yield from (other for _, *others in islice(contexts, number, None) for other in others)


def _send_one(user: StorageUser, path: Path, meta: FileMeta) -> Sent:
    try:
        answer = user.send(path, meta)
    except DeliveryError as error:
        return Sent(path, None, reason=str(error))
    except OSError as error:
        return Sent(path, None, reason=f"cannot be read: {error.strerror or type(error).__name__}")
    return Sent(path, answer.status, answer.form)


def _meta(path: Path) -> FileMeta:
    try:
        with path.open("rb") as file:
            return read_file_meta(file)
    except (UnreadableInstanceError, OSError) as error:
        raise DeliveryError(f"{path} is not a DICOM file") from error
