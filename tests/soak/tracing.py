"""strace on a running process: what it asks of the disk, and one of these requests refused or cut short."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["DISK_CALLS", "Call", "Tracer", "calls_below", "need_strace", "traced"]

DISK_CALLS = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate"),
    *("fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)
LINE = re.compile(r"^(\d+) +(\w+)\((.*)")
INJECTED, KILLED = "(INJECTED)", "+++ killed by SIGKILL +++"
ATTACH_LIMIT_S = 20


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: its name, the how manieth of this name its thread made, and the file it first names."""

    name: str
    number: int
    file: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Tracer:
    """A strace at work."""

    log: Path

    @property
    def has_hit(self) -> bool:
        """Whether the fault was put in."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return INJECTED in text or KILLED in text


def need_strace() -> None:
    """Skip the test, with the reason, where strace cannot follow a process of ours."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run([program, "-qq", "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not follow processes here: {tried.stderr.strip()[:200]}")


@contextmanager
def traced(pid: int, log: Path, *options: str) -> Iterator[Tracer]:
    """Follow every thread of a process as long as the ``with`` block lasts; it goes on, or is gone, after it."""
    command = ["strace", "-f", "-y", "-s", "0", "-p", str(pid), "-o", str(log), "-e", f"trace={','.join(DISK_CALLS)}"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stderr is not None
    try:
        os.set_blocking(process.stderr.fileno(), True)
        said = process.stderr.readline()
        assert b"attached" in said, f"strace: {said!r}"
        yield Tracer(log)
    finally:
        process.terminate()
        try:
            process.wait(ATTACH_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()


def calls_below(log: Path, folder: Path) -> list[Call]:
    """Every call in a trace that concerns a file below `folder`, once for each name and number, in order."""
    counts: dict[tuple[str, str], int] = {}
    found: dict[Call, None] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        match = LINE.match(line)
        if match is None or "resumed>" in line.split("(")[0]:
            continue
        thread, name, arguments = match.groups()
        counts[thread, name] = counts.get((thread, name), 0) + 1
        named = re.search(rf"{re.escape(str(folder))}/([^\">]*)", arguments)
        if named is not None:
            found.setdefault(Call(name, counts[thread, name], named[1]))
    return list(found)
