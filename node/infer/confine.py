"""Bounds that a child process sets for itself: memory, processor time, its parent's life, and silence."""

import ctypes
import math
import os
import resource
import signal
import threading
from pathlib import Path

__all__ = [
    "NICENESS",
    "allow_cpu_time",
    "bound_memory",
    "end_with",
    "left_running",
    "memory_mb",
    "return_memory",
    "step_back",
    "take_standard_streams",
]

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NICENESS = 5  # receiving goes first when cores are shared
MEGABYTE = 1 << 20


def end_with(parent_pid: int) -> None:
    """End when the thread that started this process ends, also if the node is killed; keep what a handler orphans."""
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)
    library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def take_standard_streams() -> tuple[int, int]:
    """Keep standard input and output for jobs and answers alone: what a handler or a library prints goes nowhere.

    Returns
    -------
    Descriptors of the jobs and of the answers, which no process started from here inherits.
    """
    jobs, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    return jobs, answers


def step_back() -> None:
    """Leave the cores to the receiver when it wants them, and no image in a core dump."""
    _lower(resource.RLIMIT_CORE, 0)
    os.nice(NICENESS)


def bound_memory(limit_mb: int) -> None:
    """Let allocations beyond the limit fail, for good."""
    _lower(resource.RLIMIT_AS, limit_mb * MEGABYTE)


def allow_cpu_time(seconds: int) -> None:
    """Let this process be ended after so much more processor time, counted from now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def return_memory() -> None:
    """Give what was freed back to the system; glibc keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not every C library has it
    if trim is not None:
        trim(0)


def memory_mb() -> int:
    """What this process holds in memory."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize() // MEGABYTE


def left_running(threads: int) -> str:
    """What a handler left running: more threads than the `threads` there were, or any process; "" if nothing.

    Processes are killed, also those that left the group of this one: orphans come to us (`end_with`).
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return "threads" if threading.active_count() > threads else ""
    for listed in Path("/proc/self/task").glob("*/children"):
        for pid in listed.read_text(encoding="ascii").split():
            os.kill(int(pid), signal.SIGKILL)  # one that ended meanwhile is ours to reap, so its number is not reused
    return "processes"


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (limit, limit))
