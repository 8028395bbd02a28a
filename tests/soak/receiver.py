"""The node's receiver in a process of its own, on a store of its own, so that it can be watched and killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from node.front import start_receiver
from node.process import is_alive, read_ready, without_settings
from node.settings import load_settings
from node.store.database import Store, open_store
from tests.faults.running import wait_until
from tests.invariants import Footprint, footprint

__all__ = ["ReceiverProcess", "receiver_process", "restarted"]

CONFIG = """
[dicom]
port = 0
acse_timeout_s = {patience_s}
network_timeout_s = {patience_s}
[store]
path = "{store}"
refuse_below_free_mb = {least_mb}
"""


class ReceiverProcess:
    """``python -m node.roles receiver`` as the supervisor starts it; started and ended as often as a test wants."""

    def __init__(self, site: Path, *, store: Path | None = None, patience_s: float = 10.0, least_mb: int = 1) -> None:
        site.mkdir(parents=True, exist_ok=True)
        self.site = site
        self.root = store or site / "store"
        config = CONFIG.format(patience_s=patience_s, store=self.root, least_mb=least_mb)
        (site / "config.toml").write_text(config, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def port(self) -> int:
        return read_ready(self.root / "run", "receiver").get("port", 0)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self, *prefix: str) -> None:
        """Begin to start it; `prefix` is a program that runs it and leaves it our child."""
        command = [*prefix, sys.executable, "-m", "node.roles", "receiver", "--site", str(self.site)]
        with (self.site / "stderr.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=without_settings(os.environ),
            )

    def start(self) -> int:
        """Start it and wait until it is ready; its port."""
        self.launch()
        wait_until(
            lambda: read_ready(self.root / "run", "receiver").get("pid") == self.pid or not self.is_running,
            timeout_s=60,
            what="the receiver is ready",
        )
        assert self.is_running, f"the receiver did not start\n{self.log()}"
        return self.port

    def stop(self) -> int:
        """Ask it to end as the supervisor does; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._end(40)

    def kill(self) -> None:
        """End it at once, with everything it started."""
        for pid in (self.pid, *descendants(self.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._end(10)

    def pause(self) -> None:
        """Let none of its processes take another step."""
        for pid in (self.pid, *descendants(self.pid)):
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: _has_stopped(pid), timeout_s=10, what="the process stands still")  # type: ignore[misc]

    def footprint(self) -> Footprint:
        """What it holds of the machine now."""
        return footprint(self.pid, *descendants(self.pid))

    def open_store(self) -> Store:
        return open_store(self.root)

    def log(self) -> str:
        """The end of what it said."""
        return (self.site / "stderr.log").read_text(encoding="utf-8", errors="replace")[-3000:]

    def _end(self, limit_s: float) -> int:
        assert self._process is not None
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            raise


@contextmanager
def restarted(receiver: ReceiverProcess) -> Iterator[tuple[int, Store]]:
    """The door opened on the same store again, in this process because that is quicker; its port and the store."""
    settings = load_settings(receiver.site / "config.toml", {})
    store = receiver.open_store()
    opened = start_receiver(settings, store)
    try:
        yield opened.port, store
    finally:
        opened.stop(drain_s=5)
        store.close()


@contextmanager
def receiver_process(
    site: Path, *, store: Path | None = None, patience_s: float = 10.0, least_mb: int = 1
) -> Iterator[ReceiverProcess]:
    """A started receiver that is gone after the ``with`` block, however that ended."""
    receiver = ReceiverProcess(site, store=store, patience_s=patience_s, least_mb=least_mb)
    receiver.start()
    try:
        yield receiver
    finally:
        if receiver.is_running:
            receiver.kill()


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process started and that are still there."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text(encoding="ascii").split()):
                found += [child, *descendants(child)]
    return [child for child in found if is_alive(child)]


def _has_stopped(pid: int) -> bool:
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            states.append((task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0])
    return set(states) <= {"T", "Z", "X"}
