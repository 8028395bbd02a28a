"""What the front door costs when little happens, beside pynetdicom's own SCP, in one run: python -m bench.idle

The processor time of a receiver process with 20 idle Associations, the time of an Association that is opened and
released at once, of a C-ECHO, and how much memory one large object takes. Every receiver is a process of its own; ours
is the real one, with header walk, digest, fsync and row. pynetdicom's is tuned as our fall-back receiver is, in a
process that throws every object away. The rounds of the two are interleaved.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import ImplicitVRLittleEndian

from bench.sender import free_port, make_objects, send, wait_for_port
from node.network import Command, Kind, Machine
from node.network.events import AssociationAccepted, CommandReceived, Released
from node.network.items import PresentationContext, UserInformation
from node.network.negotiation import VERIFICATION
from node.network.pdu import AssociateRequest

IDLE = 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SITE = "[dicom]\nport = {port}\n[store]\nrefuse_below_free_mb = 64\n"
# Tuned as in node/receive/scp.py: only what is needed is offered, objects go to a file as they come.
PYNETDICOM = """
import sys, tempfile
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, _config, build_context, evt
_config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL, tempfile.tempdir = True, "none", sys.argv[2]
ae = AE("WETREAD")
ae.maximum_associations, ae.maximum_pdu_size = 100, 131072
contexts = [build_context("1.2.840.10008.1.1"), build_context("1.2.840.10008.5.1.4.1.1.2", ALL_TRANSFER_SYNTAXES)]
ae.start_server(("127.0.0.1", int(sys.argv[1])), contexts=contexts, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
"""
RECEIVERS: dict[str, Callable[[Path, int], list[str]]] = {
    "wetread": lambda folder, _: _node(folder),
    "pynetdicom, tuned": lambda folder, port: [sys.executable, "-c", PYNETDICOM, str(port), str(folder)],
}


def _node(folder: Path) -> list[str]:
    return [sys.executable, "-m", "node.roles", "receiver", "--site", str(folder), "--parent", str(os.getpid())]


@dataclass
class Figures:
    """What was found for one receiver, a value for each round."""

    idle_share: list[float] = field(default_factory=list)
    opening_ms: list[float] = field(default_factory=list)
    echo_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


@contextmanager
def _started(name: str) -> Iterator[tuple[int, int]]:
    """Process id and port of a receiver in a folder of its own on the disk of the working folder."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        (Path(folder) / "config.toml").write_text(SITE.format(port=port), encoding="utf-8")
        process = subprocess.Popen(RECEIVERS[name](Path(folder), port), stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port, process)
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


class Caller:
    """An Association for C-ECHO, on our own requestor machine."""

    def __init__(self, port: int) -> None:
        user = UserInformation(max_pdu_bytes=16384, implementation_class_uid="2.25.4")
        context = PresentationContext(1, VERIFICATION, (str(ImplicitVRLittleEndian),))
        self.machine = Machine(AssociateRequest("WETREAD", "BENCH", (context,), user), max_pdu_bytes=16384)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._say(self.machine.open(), AssociationAccepted)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._say(self.machine.release(), Released)
        self.socket.close()

    def echo(self) -> None:
        self._say(self.machine.invoke(1, Command(Kind.ECHO_REQUEST, 1, sop_class_uid=VERIFICATION)), CommandReceived)

    def _say(self, data: bytes, awaited: type) -> None:
        self.socket.sendall(data)
        heard: list[object] = []
        while not any(isinstance(event, awaited) for event in heard):
            part = self.socket.recv(1 << 16)
            if not part:
                raise SystemExit("the receiver closed the connection")
            heard.extend(self.machine.receive(memoryview(part)))


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _peak_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) / 1024


def _median_ms(act: Callable[[], None], count: int) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        act()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def _measure(name: str, large: list[tuple[str, memoryview]], *, seconds: float, count: int, into: Figures) -> None:
    with _started(name) as (pid, port):

        def open_and_release() -> None:
            with Caller(port):
                pass

        open_and_release()
        with ExitStack() as stack:
            for _ in range(IDLE):
                stack.enter_context(Caller(port))
            before = _processor_s(pid)
            time.sleep(seconds)
            into.idle_share.append((_processor_s(pid) - before) / seconds * 100)
        into.opening_ms.append(_median_ms(open_and_release, count))
        with Caller(port) as caller:
            into.echo_ms.append(_median_ms(caller.echo, count))
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # proc(5): the peak begins anew
        idle_mb = _peak_mb(pid)
        send(large, port)
        into.memory_mb.append(_peak_mb(pid) - idle_mb)


def run(*, rounds: int, seconds: float, count: int, large_mb: int) -> None:
    """Measure both receivers, `rounds` times in turn, and print the table."""
    large = make_objects(1, large_mb << 20)
    figures = {name: Figures() for name in RECEIVERS}
    for _ in range(rounds):
        for name, found in figures.items():
            _measure(name, large, seconds=seconds, count=count, into=found)
    print(f"\n{rounds} rounds, medians; {IDLE} idle Associations for {seconds:g} s, {count} of each other")
    print(f"| receiver | idle, % of a core | associate and release, ms | C-ECHO, ms | {large_mb} MB object, MB more |")
    print("|---|---|---|---|---|")
    for name, found in figures.items():
        values = (found.idle_share, found.opening_ms, found.echo_ms, found.memory_mb)
        idle, opening, echo, memory = map(statistics.median, values)
        print(f"| {name} | {idle:.1f} | {opening:.2f} | {echo:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--large-mb", type=int, default=400)
    asked = parser.parse_args()
    run(rounds=asked.rounds, seconds=asked.seconds, count=asked.count, large_mb=asked.large_mb)
