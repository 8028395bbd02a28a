"""A process of the node: ends with its parent, stops when asked, says when it is ready."""

import contextlib
import ctypes
import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

from node.paths import write_atomically

__all__ = ["die_with_parent", "is_alive", "read_ready", "say_ready", "stop_requested", "without_settings"]

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to stop this process (SIGTERM, so it drains) when its parent ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGTERM)


def stop_requested() -> threading.Event:
    """An event that is set when this process is asked to stop (SIGTERM or SIGINT)."""
    event = threading.Event()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def ask(_number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(write_end, b"x")

    def set_when_asked() -> None:
        os.read(read_end, 1)
        event.set()

    # The handler interrupts the main thread anywhere, also inside the event's own lock: another thread sets it.
    threading.Thread(target=set_when_asked, name="stop-requested", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return event


def say_ready(run_folder: Path, role: str, *, port: int = 0) -> None:
    """Tell the supervisor and ``wetread status`` that this process does its work."""
    record = {"role": role, "pid": os.getpid(), "port": port}
    write_atomically(run_folder / f"{role}.json", json.dumps(record).encode())


def read_ready(run_folder: Path, role: str) -> dict[str, int]:
    """What a living process of this role said of itself: ``pid`` and ``port``; empty if there is none."""
    try:
        record = json.loads((run_folder / f"{role}.json").read_text(encoding="ascii"))
        pid, port = int(record["pid"]), int(record["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"pid": pid, "port": port} if is_alive(pid) else {}


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which nothing overrides a site, for a node that must not touch another one's store."""
    return {name: value for name, value in environment.items() if not name.startswith("WETREAD_")}


def is_alive(pid: int) -> bool:
    """True if a process with this id runs (a zombie does not)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return fields.rpartition(")")[2].split()[0] != "Z"
