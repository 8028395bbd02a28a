"""A process of the node: ends with its parent, stops when asked, says when it is ready."""

import ctypes
import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

from node.paths import write_atomically

__all__ = [
    "die_with_parent",
    "is_alive",
    "read_ready",
    "receiver_role",
    "roles",
    "say_ready",
    "stop_requested",
    "without_settings",
]

PR_SET_PDEATHSIG = 1  # prctl(2)
STOPPING = (signal.SIGTERM, signal.SIGINT)


def receiver_role(number: int) -> str:
    """The name of receiver process `number`: the first is ``receiver``, as it is called when there is no other."""
    return "receiver" if number == 1 else f"receiver-{number}"


def roles(receivers: int) -> tuple[str, ...]:
    """The names of all processes of a node with so many receivers."""
    return (*(receiver_role(number) for number in range(1, receivers + 1)), "worker")


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

    def set_when_asked() -> None:
        while os.read(read_end, 1)[0] not in STOPPING:
            pass
        event.set()

    threading.Thread(target=set_when_asked, name="stop-requested", daemon=True).start()
    # The system may give the signal to any thread, but Python's handlers run in the main thread alone, which waits and
    # is not woken by a signal that another thread got. What is written here comes from whichever thread got it.
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in STOPPING:
        signal.signal(number, _nothing)
    return event


def _nothing(_number: int, _frame: object) -> None:
    """A handler must be there, so that the signal does not end the process."""


def say_ready(run_folder: Path, role: str, *, port: int = 0, tls_port: int = 0) -> None:
    """Tell the supervisor and ``wetread status`` that this process does its work."""
    record = {"role": role, "pid": os.getpid(), "port": port, "tls_port": tls_port}
    write_atomically(run_folder / f"{role}.json", json.dumps(record).encode())


def read_ready(run_folder: Path, role: str) -> dict[str, int]:
    """What a living process of this role said of itself: ``pid``, ``port``, ``tls_port``; empty if there is none."""
    try:
        record = json.loads((run_folder / f"{role}.json").read_text(encoding="ascii"))
        found = {"pid": int(record["pid"]), "port": int(record["port"]), "tls_port": int(record.get("tls_port", 0))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found if is_alive(found["pid"]) else {}


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
