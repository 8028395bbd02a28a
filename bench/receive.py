"""How fast the front door is, beside DCMTK, Orthanc and a bare copy, in one run: python -m bench.receive

Each round starts every receiver afresh in a folder of its own on the same disk, sends it the same objects, from a
process for each Association, and stops it. Rounds are interleaved, so that a slow minute of the machine slows all.
Figures are medians of objects per second and their ratio to ours; nothing else is claimed. DCMTK and Orthanc run
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
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.sender import free_port, make_objects, send, wait_for_port
from node.process import read_ready, receiver_role

LENGTH_BYTES = 8
NODELAY = {**os.environ, "TCP_NODELAY": "1"}
Starter = Callable[[Path], contextlib.AbstractContextManager[int]]
SITE = """[dicom]
receiver = "{receiver}"
port = {port}
processes = {processes}
max_associations_per_address = 100
[store]
path = "store"
sync = {sync}
refuse_below_free_mb = 64
"""


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


@contextlib.contextmanager
def _receivers(folder: Path, port: int, processes: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        for number in range(1, processes + 1):
            role, parent = receiver_role(number), str(os.getpid())
            command = [sys.executable, "-m", "node.roles", role, "--site", str(folder), "--parent", parent]
            stack.enter_context(_process(command, port))
            while not read_ready(folder / "store" / "run", role):
                time.sleep(0.05)
        yield port


def _node(receiver: str = "own", *, sync: bool = True, processes: int = 1) -> Starter:
    """The real receiver process: header walk, digest and the committed row included."""

    def start(folder: Path) -> contextlib.AbstractContextManager[int]:
        port = free_port()
        text = SITE.format(receiver=receiver, port=port, sync=str(sync).lower(), processes=processes)
        (folder / "config.toml").write_text(text, encoding="utf-8")
        return _receivers(folder, port, processes)

    return start


def _storescp(*options: str) -> Starter:
    """DCMTK: a process for each Association, no fsync."""

    def start(folder: Path) -> contextlib.AbstractContextManager[int]:
        port = free_port()
        return _process(["storescp", "--fork", "-pdu", "131072", *options, "-od", str(folder), str(port)], port)

    return start


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


OURS, OURS_UNSYNCED, COPY = "wetread", "wetread, sync = false", "loopback copy, fsync"
RECEIVERS: dict[str, Starter] = {
    OURS: _node(),
    OURS_UNSYNCED: _node(sync=False),
    "wetread, two processes": _node(processes=2),
    "wetread on pynetdicom": _node("pynetdicom"),
    "storescp --fork, no fsync": _storescp(),
    "storescp --fork +B, bytes unseen, no fsync": _storescp("+B"),
    "Orthanc, synchronous": _orthanc,
}


def _copy(objects: list[memoryview], folder: Path, associations: int) -> float:
    """Objects a second over loopback TCP into fsynced files: the limit for one process that promises as much."""
    with socket.create_server(("127.0.0.1", 0), backlog=associations) as server:
        receiver = _fork(partial(_take_all, server, folder, associations))
        shares = [objects[number::associations] for number in range(associations)]
        address = server.getsockname()
        start = time.perf_counter()
        senders = [_fork(partial(_give, address, share)) for share in shares]
        for pid in (*senders, receiver):
            os.waitpid(pid, 0)
        return len(objects) / (time.perf_counter() - start)


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def _give(address: tuple[str, int], share: list[memoryview]) -> None:
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for content in share:
            connection.sendall(len(content).to_bytes(LENGTH_BYTES) + content)
            connection.recv(1)


def _take_all(server: socket.socket, folder: Path, associations: int) -> None:
    threads = [
        threading.Thread(target=_take, args=(server.accept()[0], folder, number)) for number in range(associations)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _take(connection: socket.socket, folder: Path, number: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(1 << 18))
    index = 0
    while length := connection.recv(LENGTH_BYTES, socket.MSG_WAITALL):
        left, index = int.from_bytes(length), index + 1
        file = os.open(folder / f"{number}-{index}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        while left:
            count = connection.recv_into(buffer[: min(left, len(buffer))])
            os.write(file, buffer[:count])
            left -= count
        os.fsync(file)
        os.close(file)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        connection.sendall(b"!")


def run(count: int, size_bytes: int, rounds: int, associations: int) -> None:
    """Send `count` objects of about `size_bytes` to every receiver, `rounds` times, and print the table."""
    objects = make_objects(count, size_bytes)
    rates: dict[str, list[float]] = {name: [] for name in (*RECEIVERS, COPY)}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root:  # kept to the end: a disk is slow after much is removed
        for _ in range(rounds):
            for name, start in RECEIVERS.items():
                with start(Path(tempfile.mkdtemp(dir=root))) as port:
                    rates[name].append(count / send(objects, port, associations=associations))
            contents = [content for _, content in objects]
            rates[COPY].append(_copy(contents, Path(tempfile.mkdtemp(dir=root)), associations))
    ours, unsynced = (statistics.median(rates[name]) for name in (OURS, OURS_UNSYNCED))
    who = "one Association" if associations == 1 else f"{associations} Associations at once"
    print(f"\n{count} objects of {size_bytes // 1024} KB, {rounds} rounds, {who}")
    print("| receiver | objects/s, median | least | most | wetread is | with sync = false |")
    print("|---|---|---|---|---|---|")
    for name, found in rates.items():
        median = statistics.median(found)
        ratios = f"{ours / median:.2f} x | {unsynced / median:.2f} x"
        print(f"| {name} | {median:.0f} | {min(found):.0f} | {max(found):.0f} | {ratios} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=100)
    asked = parser.parse_args()
    run(asked.count, 512 * 1024, asked.rounds, 1)
    run(asked.count * 2, 64 * 1024, asked.rounds, 1)
    run(asked.count * 2, 512 * 1024, asked.rounds, 20)
