"""Locks that a process holds as long as it lives, however it ends."""

import fcntl
import os
from pathlib import Path

from node.errors import AlreadyRunningError

__all__ = ["lock_executor"]


def lock_executor(folder: Path, executor_id: str) -> int:
    """Take the lock of an executor id; it is given back when the process ends, however it ends.

    Raises
    ------
    AlreadyRunningError
        If a living process has it.
    """
    descriptor = os.open(folder / f"{executor_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AlreadyRunningError(f"executor {executor_id} of this store is already running") from error
    return descriptor
