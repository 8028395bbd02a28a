"""Bytes on disk: never partial, never overwritten, never named by a peer.

An incoming object is written under ``incoming/`` and linked to its place by a name that is the digest of its SOP
Instance UID, and both are made durable before its row is; linking fails if the name is taken, so the first object
with a UID stays.
"""

import hashlib
import os
import uuid
from pathlib import Path

from node.domain.study import Instance
from node.errors import StoreError
from node.paths import sync_folder
from node.store.digest import is_same_dataset
from node.store.volume import sync_file, sync_names

FOLDER_LENGTH = len("instances/00")

__all__ = [
    "file_digest",
    "keep_instance",
    "make_instance_folders",
    "name_of",
    "quarantine_file",
    "replace_instance",
    "verify_instance",
]


def name_of(sop_instance_uid: str) -> str:
    """Path of an object inside the store; derived by digest, so no peer text is ever part of a path."""
    digest = hashlib.sha256(sop_instance_uid.encode()).hexdigest()
    return f"instances/{digest[:2]}/{digest}.dcm"


def file_digest(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_instance(root: Path, incoming: Path, sop_instance_uid: str, *, durably: bool = True) -> str:
    """Give an incoming object its place as well, unless the place is taken, and make it durable.

    A file in its place is nothing yet: what counts is its row. So this needs no lock, and whoever commits the row
    calls `replace_instance` when the file in the place was not this one. For the same reason the name may be there
    before the bytes are durable; a disk with a journal then writes the two at once.

    Returns
    -------
    Its path relative to `root`.
    """
    name = name_of(sop_instance_uid)
    is_new = True
    try:
        os.link(incoming, f"{root}/{name}")
    except FileExistsError:
        is_new = False
    if durably:
        sync_file(root, incoming)
        if is_new:
            sync_names(root, f"{root}/{name[:FOLDER_LENGTH]}")
    return name


def replace_instance(root: Path, incoming: Path, name: str, *, durably: bool = True) -> None:
    """Put an incoming object in its place if another file is there, one that was never acknowledged.

    Call it in the write transaction that has seen that the object has no row: then a crash came between the other
    file and its row, or its sender is another Association that will find this row.
    """
    target = f"{root}/{name}"
    if not _is_same_file(target, incoming):
        temporary = incoming.with_suffix(".link")
        os.link(incoming, temporary)
        temporary.replace(target)
        if durably:
            sync_names(root, f"{root}/{name[:FOLDER_LENGTH]}")


def _is_same_file(one: str, other: Path) -> bool:
    try:
        return os.path.samestat(os.stat(one), os.stat(other))  # noqa: PTH116  once for every object received
    except FileNotFoundError:
        return False


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
    sync_file(root, incoming)
    incoming.replace(root / name)
    sync_names(root, f"{root}/quarantine")
    return number, name


def verify_instance(instance: Instance) -> None:
    """Compare a stored object with its row, before anything is concluded from it.

    Raises
    ------
    StoreError
        If the file is gone or its bytes are not the ones that were acknowledged.
    """
    try:
        is_same = is_same_dataset(instance.path, instance.digest)
    except OSError as error:
        raise StoreError(f"the file of SOP Instance {instance.sop_instance_uid} is gone: {error.strerror}") from error
    if not is_same:
        raise StoreError(f"the file of SOP Instance {instance.sop_instance_uid} was changed after it was acknowledged")
