"""Keeps the processes of a node running, and tells them apart from a node that is already there.

``python -m node.supervisor --site DIR`` runs in the foreground (for systemd); ``wetread start`` runs it
detached and waits until every role is ready.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from node.errors import AlreadyRunningError, ConfigError, WetreadError
from node.log import configure_logging, turn_log
from node.process import is_alive, read_ready, roles, stop_requested
from node.settings import Settings, load_settings

__all__ = ["is_ready", "main", "running_pid", "start_detached", "stop_running"]

log = structlog.get_logger(__name__)

DRAIN_S = 30.0
LONGEST_RESTART_WAIT_S = 10.0
STEADY_S = 60.0
POLL_S = 0.1
LONGEST_LOG_BYTES = 64 << 20
QUOTED_LOG_BYTES = 16 << 10
LOCK_WAIT_S = 0.5


@dataclass(slots=True)
class _Child:
    role: str
    process: subprocess.Popen[bytes]
    started_at: float
    restart_at: float | None = None
    failures: int = 0


@dataclass(slots=True)
class _Supervisor:
    site: Path
    children: dict[str, _Child] = field(default_factory=dict)

    def start(self, role: str, failures: int = 0) -> None:
        command = [sys.executable, "-m", "node.roles", role, "--site", str(self.site), "--parent", str(os.getpid())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.children[role] = _Child(role, process, time.monotonic(), failures=failures)

    def watch(self) -> None:
        """Start again what has ended, sooner the steadier it was."""
        now = time.monotonic()
        for child in list(self.children.values()):
            if child.process.poll() is None:
                continue
            if child.restart_at is None:
                was_steady = now - child.started_at > STEADY_S
                child.failures = 1 if was_steady else child.failures + 1
                wait_s = min(LONGEST_RESTART_WAIT_S, 0.25 * 2**child.failures)
                child.restart_at = now + wait_s
                log.error("process ended", process=child.role, exit_code=child.process.returncode, delay_s=wait_s)
            elif now >= child.restart_at:
                self.start(child.role, child.failures)

    def stop(self) -> None:
        """Ask all to finish, and end what has not after 30 s."""
        for child in self.children.values():
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + DRAIN_S
        for child in self.children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("process did not stop", process=child.role, pid=child.process.pid)
                child.process.kill()
                child.process.wait()


def main(arguments: list[str]) -> int:
    """Supervise until SIGTERM."""
    parser = argparse.ArgumentParser(prog="node.supervisor")
    parser.add_argument("--site", type=Path, required=True)
    site = parser.parse_args(arguments).site.resolve()
    try:
        settings = load_settings(site / "config.toml", os.environ)
        configure_logging(settings.log.level, settings.log.format)
        lock = _lock(settings)
    except WetreadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stop = stop_requested()
    supervisor = _Supervisor(site)
    for role in roles(settings.dicom.processes):
        (_run_folder(settings) / f"{role}.json").unlink(missing_ok=True)
        supervisor.start(role)
    log_path = settings.store.path / "logs" / "node.log"
    while not stop.wait(POLL_S):
        supervisor.watch()
        turn_log(log_path, longest_bytes=LONGEST_LOG_BYTES)
    supervisor.stop()
    os.ftruncate(lock, 0)
    os.close(lock)
    return 0


def _run_folder(settings: Settings) -> Path:
    return settings.store.path / "run"


def _lock(settings: Settings) -> int:
    folder = _run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    deadline = time.monotonic() + LOCK_WAIT_S
    while not _is_locked(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:  # a look of `running_pid` holds the lock for a moment
            os.close(descriptor)
            raise AlreadyRunningError(f"a node already runs on the store {settings.store.path}")
        time.sleep(POLL_S)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _is_locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def running_pid(settings: Settings) -> int | None:
    """Process id of the supervisor that holds this store, None if none does."""
    path = _run_folder(settings) / "supervisor.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _is_locked(descriptor, fcntl.LOCK_SH):  # shared, so that two looks are not taken for a node
            return None
        text = os.pread(descriptor, 32, 0).decode("ascii", errors="replace")
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)


def is_ready(settings: Settings) -> bool:
    """True if every role of this store runs and does its work."""
    return all(read_ready(_run_folder(settings), role) for role in roles(settings.dicom.processes))


def start_detached(
    site: Path, settings: Settings, *, timeout_s: float = 60.0, environment: Mapping[str, str] = os.environ
) -> int:
    """Start a node that goes on when this process ends; returns its process id once it is ready.

    Parameters
    ----------
    environment
        What the node gets; its settings must be those that `settings` was read with.

    Raises
    ------
    AlreadyRunningError
        If a node already runs on this store.
    ConfigError
        If it does not become ready; the message quotes the end of its log.
    """
    if running_pid(settings) is not None:
        raise AlreadyRunningError(f"a node already runs on the store {settings.store.path}")
    log_path = settings.store.path / "logs" / "node.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    start = _log_size(log_path)
    if start > LONGEST_LOG_BYTES:
        log_path.replace(log_path.with_suffix(".log.1"))
        start = 0
    pid = _spawn(site, log_path, environment)
    deadline = time.monotonic() + timeout_s
    while not _has_ended(pid) and time.monotonic() < deadline:
        if running_pid(settings) == pid and is_ready(settings):
            return pid
        time.sleep(POLL_S)
    if not _has_ended(pid):
        os.kill(pid, signal.SIGTERM)
        _wait_until_gone(pid)
    with log_path.open("rb") as file:
        file.seek(max(start, _log_size(log_path) - QUOTED_LOG_BYTES))
        said = file.read().decode("utf-8", errors="replace").strip().splitlines()[-8:]
    raise ConfigError("the node did not become ready; the end of its log:\n" + "\n".join(said))


def _log_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _spawn(site: Path, log_path: Path, environment: Mapping[str, str]) -> int:
    """Start a supervisor in a session of its own, which no object of this process holds on to."""
    write_log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "node.supervisor", "--site", str(site)],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_path), write_log, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _has_ended(pid: int) -> bool:
    """True if a process is gone; takes note of its end if it was ours."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not is_alive(pid)


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + DRAIN_S + 10
    while not _has_ended(pid) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def stop_running(settings: Settings) -> bool:
    """Stop the node on this store and wait until it is gone; False if none ran."""
    pid = running_pid(settings)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
        os.kill(pid, signal.SIGTERM)
    _wait_until_gone(pid)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
