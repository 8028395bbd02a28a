"""The disk below the store: how much room it has, and whether it can still be believed.

When fsync fails, the kernel may already have dropped the bytes and call the next fsync a success. So nothing is tried
again: the volume is marked, nothing more is acknowledged on it, and a person decides.

References
----------
Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020.
"""

import errno
import os
import shutil
from pathlib import Path

import structlog

__all__ = ["bad_reason", "clear_bad", "free_megabytes", "mark_bad", "sync_file", "sync_names"]

log = structlog.get_logger(__name__)

MARK = "run/volume.bad"
CANNOT_MARK = 74  # sysexits.h, EX_IOERR
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # a full disk has lost nothing that was acknowledged


def free_megabytes(root: Path) -> int:
    """Free space on the store's volume, in MB."""
    return shutil.disk_usage(root).free // 1_000_000


def bad_reason(root: Path) -> str:
    """Why the volume of a store is not believed any more; "" if it is."""
    if not os.path.lexists(f"{root}/{MARK}"):
        return ""
    try:
        return (root / MARK).read_text(encoding="utf-8", errors="replace").strip() or "marked bad"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"the volume cannot be read: {error.strerror}"


def mark_bad(root: Path, reason: str) -> None:
    """Note that the disk failed to make bytes durable; every process of the node sees it at once."""
    log.error("volume marked bad", reason=reason)
    try:
        (root / MARK).parent.mkdir(exist_ok=True)
        (root / MARK).write_text(reason + "\n", encoding="utf-8")
    except OSError as error:
        # Not even this can be written. To go on would be to believe the next fsync; a process that starts anew
        # becomes ready only if it can write.
        log.critical("volume not marked, the process ends", error=error.strerror)
        os._exit(CANNOT_MARK)


def clear_bad(root: Path) -> None:
    """Believe the volume again; for a person who has seen to the disk."""
    (root / MARK).unlink(missing_ok=True)


def sync_file(root: Path, path: Path) -> None:
    """Make the bytes of a file of the store durable.

    Raises
    ------
    OSError
        If the disk refuses; the caller must not acknowledge. Unless it is merely full, the volume is marked bad.
    """
    _sync(root, path, os.O_RDWR)


def sync_names(root: Path, folder: str) -> None:
    """Make the names in a folder of the store durable; raises as `sync_file` does."""
    _sync(root, folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(root: Path, path: Path | str, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_ROOM:
            mark_bad(root, f"fsync failed: {error.strerror}")
        raise
    finally:
        os.close(descriptor)
