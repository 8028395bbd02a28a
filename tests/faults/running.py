"""A whole node for a fault test: real processes on free ports, with a real PACS and RIS beside it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from node.demo.pacs import DemoPacs, open_pacs
from node.demo.ris import DemoRis
from node.demo.run import demo_site
from node.errors import DeliveryError, WetreadError
from node.process import is_alive, read_ready, roles, without_settings
from node.send import Sent, send_files
from node.settings import Settings, load_settings
from node.store.database import Store, open_store
from node.supervisor import running_pid, start_detached, stop_running
from tests.invariants import check_invariants, digests_of, unfinished

__all__ = ["RunningNode", "running_node", "wait_until"]

POLL_S = 0.1


def wait_until(is_so: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Look often until something is so; fail with `what` at the limit."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)


@dataclass
class RunningNode:
    """A node, its PACS and its RIS, and what it has acknowledged."""

    site: Path
    settings: Settings
    store: Store
    pacs: DemoPacs
    ris: DemoRis
    acknowledged: list[Path] = field(default_factory=list)
    canaries: tuple[str, ...] = ()

    def start(self) -> None:
        """Start it, however it ended before."""
        wait_until(lambda: running_pid(self.settings) is None, timeout_s=40, what="the old supervisor is gone")
        start_detached(self.site, self.settings, environment=without_settings(os.environ))

    def processes(self) -> dict[str, int]:
        """Process ids by role: supervisor, receivers, worker, and the children that read images."""
        found = {
            role: read_ready(self.store.root / "run", role).get("pid", 0)
            for role in roles(self.settings.dicom.processes)
        }
        found["supervisor"] = running_pid(self.settings) or 0
        if found["worker"]:
            for task in Path(f"/proc/{found['worker']}/task").glob("*/children"):
                for number, pid in enumerate(task.read_text(encoding="ascii").split()):
                    found[f"child {task.parent.name}.{number}"] = int(pid)
        return {role: pid for role, pid in found.items() if pid and is_alive(pid)}

    def kill(self, pid: int) -> None:
        """End a process of this node at once."""
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), timeout_s=10, what=f"process {pid} is gone")

    def send(self, files: list[Path], *, until: float) -> None:
        """Send until every file was acknowledged, as a modality with a queue does."""
        left = list(files)
        while left:
            assert time.monotonic() < until, f"{len(left)} files were never taken"

            def note(sent: Sent) -> None:
                if sent.status == 0x0000:
                    self.acknowledged.append(sent.path)

            port = read_ready(self.store.root / "run", "receiver").get("port", 0)
            try:
                send_files(
                    left, host="127.0.0.1", port=port or 1, called_ae="WETREAD", calling_ae="CT1", on_sent=note,
                    timeout_s=5,
                )  # fmt: skip
            except DeliveryError:
                time.sleep(POLL_S)
            left = [path for path in left if path not in self.acknowledged]

    def wait_until_at_rest(self, *, timeout_s: float) -> None:
        """Wait until nothing is left to do; fail with what is left."""
        deadline = time.monotonic() + timeout_s
        while unfinished(self.store):
            assert time.monotonic() < deadline, f"not at rest: {unfinished(self.store)}\n{self.log()}"
            time.sleep(POLL_S)

    def check(self) -> None:
        """All invariants, with the node stopped."""
        stop_running(self.settings)
        left = self.processes()
        assert not left, f"still running: {left}\n{self.log()}"
        check_invariants(
            self.store, digests_of(self.acknowledged), self.pacs, self.ris.receipts(), canaries=self.canaries
        )

    def log(self) -> str:
        """The end of its log."""
        path = self.store.root / "logs" / "node.log"
        return path.read_text(encoding="utf-8")[-3000:] if path.exists() else ""


@contextmanager
def running_node(
    folder: Path, *, change: Callable[[str], str] = str, prepare: Callable[[Path], None] = lambda _site: None
) -> Iterator[RunningNode]:
    """Start all three; `change` edits the text of the site's ``config.toml`` first, `prepare` the site's folder."""
    with open_pacs(folder / "pacs") as pacs, DemoRis(folder / "ris") as ris:
        site = demo_site(folder / "site", pacs_port=pacs.port, pacs_ae=pacs.ae_title, ris_port=ris.port)
        config = site / "config.toml"
        config.write_text(change(config.read_text(encoding="utf-8")), encoding="utf-8")
        prepare(site)
        settings = load_settings(config, {})
        node = RunningNode(site, settings, open_store(settings.store.path), pacs, ris)
        node.start()
        try:
            yield node
        except WetreadError as error:
            raise AssertionError(f"{error}\n{node.log()}") from error
        finally:
            stop_running(settings)
            node.store.close()
