"""Bytes on disk: never partial, never overwritten, never named by a peer.

An incoming object is written under ``incoming/``, made durable, then linked to its place by a name
that is the digest of its SOP Instance UID; linking fails if the name is taken, so the first object
with a UID stays.
"""

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from node.dicom.part10 import dataset_offset
from node.domain.study import Instance
from node.errors import StoreError
from node.paths import sync_folder

__all__ = [
    "dataset_digest",
    "file_digest",
    "free_megabytes",
    "keep_instance",
    "make_instance_folders",
    "name_of",
    "quarantine_file",
    "sweep_incoming",
    "sync_file",
    "verify_instance",
]

BLOCK_BYTES = 1 << 20


def name_of(sop_instance_uid: str) -> str:
    """Path of an object inside the store; derived by digest, so no peer text is ever part of a path."""
    digest = hashlib.sha256(sop_instance_uid.encode()).hexdigest()
    return f"instances/{digest[:2]}/{digest}.dcm"


def dataset_digest(path: Path) -> tuple[str, int]:
    """SHA-256 of the encoded dataset of a Part 10 file, and its size: what came over the wire, no file header.

    Raises
    ------
    UnreadableInstanceError
        If the file has no Part 10 header.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with path.open("rb") as file:
        file.seek(dataset_offset(file))
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    return digest.hexdigest(), size_bytes


def file_digest(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable.

    Raises
    ------
    OSError
        If the disk refuses; the caller must not acknowledge.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def keep_instance(root: Path, incoming: Path, sop_instance_uid: str) -> str:
    """Link a durable incoming object to its place, durably; give its path relative to `root`.

    Call it inside the write transaction that commits the row and has seen that there is none: a file
    that is in the place already was then never acknowledged (a crash came between link and row), and
    makes way.
    """
    name = name_of(sop_instance_uid)
    target = root / name
    try:
        os.link(incoming, target)
    except FileExistsError:
        incoming.replace(target)
    sync_folder(target.parent)
    return name


def make_instance_folders(root: Path) -> None:
    """Make every folder an object can go to, once and durably, so that keeping one costs no new folder."""
    missing = [path for number in range(256) if not (path := root / "instances" / f"{number:02x}").is_dir()]
    for path in missing:
        path.mkdir(mode=0o750, exist_ok=True)
    if missing:
        sync_folder(root / "instances")


def quarantine_file(root: Path, incoming: Path) -> tuple[str, str]:
    """Move an object that cannot be taken aside, durably; give its number and relative path."""
    number = uuid.uuid4().hex
    name = f"quarantine/{number}.dcm"
    sync_file(incoming)
    incoming.replace(root / name)
    sync_folder(root / "quarantine")
    return number, name


def sweep_incoming(root: Path) -> int:
    """Remove what an interrupted receive left behind; none of it was acknowledged."""
    count = 0
    for path in (root / "incoming").iterdir():
        path.unlink(missing_ok=True)
        count += 1
    return count


def free_megabytes(root: Path) -> int:
    """Free space on the store's volume, in MB."""
    return shutil.disk_usage(root).free // 1_000_000


def verify_instance(instance: Instance) -> None:
    """Compare a stored object with its row, before anything is concluded from it.

    Raises
    ------
    StoreError
        If the file is gone or its bytes are not the ones that were acknowledged.
    """
    try:
        sha256, _ = dataset_digest(instance.path)
    except OSError as error:
        raise StoreError(f"the file of SOP Instance {instance.sop_instance_uid} is gone: {error.strerror}") from error
    if sha256 != instance.sha256:
        raise StoreError(
            f"the file of SOP Instance {instance.sop_instance_uid} was changed: "
            f"expected sha256 {instance.sha256}, found {sha256}"
        )
