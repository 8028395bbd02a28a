"""Whose turn it is with files that others may be reading: many may look at the store at once, one alone may remove.

A backup or a check that runs for an hour must find every file that its rows name, so nothing is removed meanwhile;
receiving, reading and delivering go on.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.errors import AlreadyRunningError, StoreError

__all__ = ["keeping_files", "lock_folder", "removing_files", "store_alone"]

POLL_S = 0.1
FILES_LOCK = "files.lock"
SUPERVISOR_LOCK = "supervisor.lock"  # whoever holds it keeps a node from starting


@contextmanager
def keeping_files(root: Path, *, wait_s: float = 60.0) -> Iterator[None]:
    """Nothing is removed from the store while this lasts.

    Raises
    ------
    StoreError
        If something is being removed all the time.
    """
    with _locked(root / "run" / FILES_LOCK, fcntl.LOCK_SH, wait_s, "files of this store are being removed; try again"):
        yield


@contextmanager
def removing_files(root: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Nobody counts on the files of the store while this lasts.

    Raises
    ------
    StoreError
        If a backup, a check or another removal goes on for longer than `wait_s`.
    """
    refusal = "a backup, a check or a removal is going on; try again when it is done"
    with _locked(root / "run" / FILES_LOCK, fcntl.LOCK_EX, wait_s, refusal):
        yield


@contextmanager
def store_alone(root: Path) -> Iterator[None]:
    """No process of a node works on the store, and none can begin to, while this lasts.

    Raises
    ------
    AlreadyRunningError
        If one does.
    """
    (root / "run").mkdir(parents=True, exist_ok=True)
    names = {SUPERVISOR_LOCK, *(path.name for path in (root / "run").glob("*.lock"))}
    held = []
    try:
        for name in sorted(names):
            held.append(os.open(root / "run" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
            if not _try(held[-1], fcntl.LOCK_EX):
                raise AlreadyRunningError(f"{name} of this store is held: stop the node, wait for what else uses it")
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Nobody else makes a backup in a folder while this lasts.

    Raises
    ------
    StoreError
        If somebody does.
    """
    with _locked(folder / "backup.lock", fcntl.LOCK_EX, 0.0, f"another backup is being made in {folder}"):
        yield


@contextmanager
def _locked(path: Path, how: int, wait_s: float, refusal: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    deadline = time.monotonic() + wait_s
    try:
        while not _try(descriptor, how):
            if time.monotonic() >= deadline:
                raise StoreError(refusal)
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
