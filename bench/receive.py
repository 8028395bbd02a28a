"""How fast the front door is, beside DCMTK, Orthanc and a bare copy, in one run: python -m bench.receive

Each round starts every receiver afresh in a folder of its own on the same disk, sends it the same objects over one
Association from a process of its own, and stops it. Rounds are interleaved, so that a slow minute of the machine slows
all. Figures are medians of objects per second and their ratio to ours; nothing else is claimed. DCMTK and Orthanc run
with TCP_NODELAY=1, without which Nagle against delayed ACK costs them 44 ms an object.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.sender import free_port, make_objects, send, wait_for_port

NODELAY = {**os.environ, "TCP_NODELAY": "1"}
SITE = '[dicom]\nreceiver = "{receiver}"\nport = {port}\n[store]\npath = "store"\nrefuse_below_free_mb = 64\n'


@contextlib.contextmanager
def _process(command: list[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(command, env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _node(receiver: str) -> Callable[[Path], contextlib.AbstractContextManager[int]]:
    """Header scan, hash, fsync of file and folder, and the committed row included."""

    def start(folder: Path) -> contextlib.AbstractContextManager[int]:
        port = free_port()
        (folder / "config.toml").write_text(SITE.format(receiver=receiver, port=port), encoding="utf-8")
        command = [sys.executable, "-m", "node.roles", "receiver", "--site", str(folder), "--parent", str(os.getpid())]
        return _process(command, port)

    return start


def _storescp(folder: Path) -> contextlib.AbstractContextManager[int]:
    """DCMTK: bit preserving, a process for each Association, no fsync."""
    port = free_port()
    return _process(["storescp", "--fork", "+B", "+xa", "-od", str(folder), str(port)], port)


def _orthanc(folder: Path) -> contextlib.AbstractContextManager[int]:
    """Orthanc as the demonstration starts it, with synchronous storage."""
    port = free_port()
    (folder / "orthanc.json").write_text(
        f'{{"StorageDirectory": "{folder}/s", "IndexDirectory": "{folder}/s", "Plugins": [],'
        f' "HttpServerEnabled": false,'
        f' "DicomPort": {port}, "DicomCheckCalledAet": false, "DicomAlwaysAllowStore": true,'
        ' "SyncStorageArea": true}}',
        encoding="utf-8",
    )
    return _process([shutil.which("Orthanc") or "/usr/sbin/Orthanc", str(folder / "orthanc.json")], port)


RECEIVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[int]]] = {
    "wetread, fsync and row": _node("own"),
    "wetread on pynetdicom, fsync and row": _node("pynetdicom"),
    "storescp --fork, no fsync": _storescp,
    "Orthanc, synchronous": _orthanc,
}


def _copy(objects: list[memoryview], folder: Path) -> float:
    """Objects a second over a loopback socket into fsynced, renamed files: the limit for whoever promises as much."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        buffer = memoryview(bytearray(1 << 18))
        for number, content in enumerate(objects):
            left = len(content)
            with (folder / f"{number}.part").open("wb") as file:
                while left:
                    count = theirs.recv_into(buffer[: min(left, len(buffer))])
                    file.write(buffer[:count])
                    left -= count
                file.flush()
                os.fsync(file.fileno())
            (folder / f"{number}.part").rename(folder / f"{number}")
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            theirs.sendall(b"!")
        os._exit(0)
    theirs.close()
    start = time.perf_counter()
    for content in objects:
        ours.sendall(content)
        ours.recv(1)
    seconds = time.perf_counter() - start
    os.waitpid(child, 0)
    ours.close()
    return len(objects) / seconds


def run(count: int, size_bytes: int, rounds: int) -> None:
    """Send `count` objects of about `size_bytes` to every receiver, `rounds` times, and print the table."""
    objects = make_objects(count, size_bytes)
    rates: dict[str, list[float]] = {name: [] for name in (*RECEIVERS, "loopback copy, fsync")}
    for _ in range(rounds):
        for name, start in RECEIVERS.items():
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, start(Path(folder)) as port:
                rates[name].append(count / send(objects, port))
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            rates["loopback copy, fsync"].append(_copy([content for _, content in objects], Path(folder)))
    ours = statistics.median(rates["wetread, fsync and row"])
    print(f"\n{count} objects of {size_bytes // 1024} KB, {rounds} rounds, one Association")
    print("| receiver | objects/s, median | least | most | ours is |")
    print("|---|---|---|---|---|")
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"| {name} | {median:.0f} | {min(found):.0f} | {max(found):.0f} | {ours / median:.2f} x |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=100)
    asked = parser.parse_args()
    run(asked.count, 512 * 1024, asked.rounds)
    run(asked.count * 2, 64 * 1024, asked.rounds)
