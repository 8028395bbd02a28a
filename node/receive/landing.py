"""An object on its way from the network to the disk.

References
----------
PS3.10 7.1: the header that is put before the dataset.
"""

import os
import uuid
from pathlib import Path

import structlog

from node.dicom.part10 import file_header
from node.dicom.scan import Scan
from node.dicom.uid import is_valid_uid
from node.network import Command
from node.receive.guard import Guard
from node.receive.spool import OUT_OF_RESOURCES, SUCCESS, Answer
from node.store.digest import new_hasher, text_of

__all__ = ["Landing"]

log = structlog.get_logger(__name__)

MOST_PIECES = 512  # of one write; the system takes 1024
LOOK_AT_DISK_BYTES = 1 << 26
NO_ROOM = Answer(OUT_OF_RESOURCES, "disk nearly full")


class Landing:
    """One object whose dataset is coming in; `path` is its file, a Part 10 file once `close` has said yes.

    If the disk refuses, the file is removed at once and the rest of the dataset is let through to nowhere: its
    sender gets a status and keeps its Association. The digest of the dataset is made in passing.

    With `writes_early` the disk begins with each stretch while the next is received, so that the fsync in the end has
    little left to wait for.
    """

    def __init__(
        self, folder: Path, guard: Guard, command: Command, transfer_syntax_uid: str, *, writes_early: bool = True
    ) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.dcm"  # no word of the peer's becomes a path
        self.refusal = Answer(SUCCESS) if guard.watermark.has_room() else NO_ROOM
        self.guard = guard
        self.pieces: list[bytes | memoryview] = []
        self.writes_early = writes_early
        self.written = 0
        self.unwatched = 0
        self.size_bytes = 0
        self.hasher = new_hasher()
        self.scan = Scan(transfer_syntax_uid)
        self.file = -1
        if self.refusal.status == SUCCESS:
            try:
                self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                self.give_up(error)
        self.pieces.append(
            file_header(_name(command.sop_class_uid), _name(command.sop_instance_uid), transfer_syntax_uid)
        )

    def add(self, piece: memoryview) -> None:
        """Take a stretch; it is written before the next bytes are received."""
        self.pieces.append(piece)
        self.hasher.update(piece)
        self.scan.see(piece)
        self.size_bytes += len(piece)
        if len(self.pieces) >= MOST_PIECES:
            self.write()

    def write(self) -> None:
        """Write what was taken; afterwards none of it is referred to."""
        if self.file >= 0 and self.pieces:
            try:
                count = _write_all(self.file, self.pieces)
                if self.writes_early:  # on Linux this begins to write what is not written yet, and waits for nothing
                    os.posix_fadvise(self.file, self.written, count, os.POSIX_FADV_DONTNEED)
                self.written += count
                self.unwatched += count
            except OSError as error:
                self.give_up(error)
        self.pieces.clear()
        if self.unwatched >= LOOK_AT_DISK_BYTES:
            self.unwatched = 0
            if not self.guard.watermark.has_room():
                self.refusal = NO_ROOM
                self.discard()

    def close(self) -> Answer:
        """Write the rest and close the file; whether it can be handed on."""
        self.write()
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
        return self.refusal

    @property
    def digest(self) -> str:
        """Digest of the dataset so far."""
        return text_of(self.hasher)

    def give_up(self, error: OSError) -> None:
        """Note that the disk refused."""
        log.error("object not written", error=error.strerror)
        self.refusal = Answer(OUT_OF_RESOURCES, "the object could not be written")
        self.discard()

    def discard(self) -> None:
        """Remove what there is of the file."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
        self.path.unlink(missing_ok=True)


def _name(uid: str) -> str:
    """What the file's header may say; whatever else the peer calls its object is for the spool to judge."""
    return uid if is_valid_uid(uid) else ""


def _write_all(file: int, pieces: list[bytes | memoryview]) -> int:
    """Write pieces one after the other, without joining them; the number of bytes."""
    total = sum(map(len, pieces))
    written = os.writev(file, pieces)
    while written < total:  # the disk took a part
        rest = memoryview(b"".join(pieces))[written:]
        written += os.write(file, rest)
    return total
