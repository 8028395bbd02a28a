"""Results as files in a folder of another system: whole or not there at all, and never over another file."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from node.deliver.web import stretches
from node.dicom.read import read_dataset
from node.domain.work import Output, OutputKind
from node.errors import DeliveryError, UnreadableInstanceError
from node.paths import sync_folder
from node.settings import FolderDestination

__all__ = ["FolderConnection"]

SUFFIXES: Mapping[OutputKind, str] = {
    OutputKind.ORU: ".hl7",
    OutputKind.JSON: ".json",
    OutputKind.FHIR: ".fhir.json",
    OutputKind.PDF: ".pdf",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
WRITTEN, THERE = "written", "there already"


class FolderConnection:
    """What is put into one folder. It must be there: a share that is not mounted is not made anew below its name."""

    def __init__(self, destination: FolderDestination) -> None:
        """Remember the folder."""
        self._name = destination.name
        self._folder = Path(destination.path)

    def close(self) -> None:
        """Nothing is kept open."""

    def send(self, path: Path, output: Output) -> str:
        """Put one stored result there: written aside, made durable, then given its name.

        Its name is its own id, with ``.dcm``, ``.pdf``, ``.hl7``, ``.json`` or ``.fhir.json``. An encapsulated PDF is
        put there as the PDF itself; everything else byte for byte.

        Returns
        -------
        ``written``, or ``there already`` for a file with the same bytes.

        Raises
        ------
        DeliveryError
            Permanent if there is another file of that name; else it may be tried again.
        OSError
            If the stored result cannot be read.
        """
        if not NAME.fullmatch(output.output_id):
            raise DeliveryError(f"{self._name}: the id of the output is no file name", is_permanent=True)
        target = self._folder / f"{output.output_id}{SUFFIXES.get(output.kind, '.dcm')}"
        if output.kind is OutputKind.PDF:
            content = _pdf(path, output)
            pieces: Iterable[bytes] = (content,)
            digest = hashlib.sha256(content).hexdigest()
        else:
            path.stat()  # what is missing here is not the folder's fault
            pieces, digest = stretches(path), output.sha256
        try:
            if _is_there(target, digest, self._name):
                return THERE
            _put(target, pieces)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DeliveryError(f"{self._name}: {target.name} cannot be written: {reason}") from error
        return WRITTEN


def _is_there(target: Path, digest: str, name: str) -> bool:
    """True for a file with these bytes, False for none; another file is none of ours to replace."""
    try:
        kind = target.lstat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(kind):
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return True
    raise DeliveryError(f"{name}: another file is there as {target.name}", is_permanent=True)


def _put(target: Path, pieces: Iterable[bytes]) -> None:
    """Write aside under a name that only this file has, so that what a crash left is replaced by the next try."""
    aside = target.with_name(f".{target.name}.part")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def _pdf(path: Path, output: Output) -> bytes:
    """The document inside an Encapsulated PDF (PS3.3 C.24.2), without the byte that makes its length even."""
    try:
        ds = read_dataset(path, with_pixels=True)
        document = bytes(ds.EncapsulatedDocument)
    except (UnreadableInstanceError, AttributeError, TypeError):
        raise DeliveryError(f"{output.output_id} holds no document", is_permanent=True) from None
    length = ds.get("EncapsulatedDocumentLength")
    return document[:length] if isinstance(length, int) and 0 < length <= len(document) else document
