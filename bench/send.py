"""How fast the sender is, beside DCMTK's dcmsend and storescu, in one run: python -m bench.send

Each round starts the receivers afresh in folders of their own and lets every sender send it the same files over one
Association. Rounds are interleaved, so that a slow minute of the machine slows all. A sender's rate is that of the
objects after the first: the median time for one object alone is taken off, so that neither the start of a process nor
the opening of an Association counts. Figures are medians of objects per second and their ratio
to ours; nothing else is claimed. DCMTK's senders run with TCP_NODELAY=1, the tuned receiver too; the untuned one is
DCMTK as it comes, whose answers wait for an acknowledgement that other systems delay by 40 ms.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from bench.sender import free_port, make_objects, wait_for_port
from node.deliver import DicomConnection
from node.deliver.stored import check_stored
from node.dicom.part10 import file_header
from node.domain.work import Output, OutputKind
from node.send import send_files
from node.settings import DicomDestination
from node.store.digest import content_digest

NODELAY = {**os.environ, "TCP_NODELAY": "1"}
UNTUNED = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
RECEIVERS = {"tuned": NODELAY, "untuned": UNTUNED}
OURS = "wetread send"
"""The sender whose median the others are compared with."""

Send = Callable[[list[Path], int], None]


@contextlib.contextmanager
def _storescp(folder: Path, environment: dict[str, str]) -> Iterator[int]:
    """DCMTK's receiver, which forgets what it gets: only the way there is measured."""
    port = free_port()
    process = subprocess.Popen(
        ["storescp", "--fork", "--ignore", "+xa", "-od", str(folder), str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wetread(files: list[Path], port: int) -> None:
    """What the command does: headers first, then one file after the other."""
    results = send_files(
        files, host="127.0.0.1", port=port, called_ae="BENCH", calling_ae="WETREAD", on_sent=lambda _sent: None
    )
    _check(all(one.status == 0x0000 for one in results), "wetread send")


def _deliver(files: list[Path], port: int) -> None:
    """What the worker does: the same with every file's digest checked before it goes."""
    destination = DicomDestination("bench", "127.0.0.1", port, "BENCH")
    outputs = [
        Output(f"2.25.3.{path.stem}", OutputKind.HEAT_MAP, path, "", path.stat().st_size, digest=DIGESTS[path])
        for path in files
    ]
    with DicomConnection(destination, calling_ae="WETREAD") as connection:
        answers = set()
        for output in outputs:
            check_stored(output.path, output)
            answers.add(connection.send(output.path, output))
    _check(answers == {"0x0000"}, "wetread deliver")


def _dcmtk(program: str, *options: str) -> Send:
    def send(files: list[Path], port: int) -> None:
        command = [program, *options, "-aec", "BENCH", "127.0.0.1", str(port), *map(str, files)]
        done = subprocess.run(command, env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        _check(done.returncode == 0 and not done.stderr, program)

    return send


def _check(is_whole: bool, name: str) -> None:  # noqa: FBT001  a claim
    if not is_whole:
        raise SystemExit(f"{name} did not send everything")


DIGESTS: dict[Path, str] = {}
SENDERS: dict[str, Send] = {
    OURS: _wetread,
    "wetread worker, BLAKE3 checked": _deliver,
    "dcmsend": _dcmtk("dcmsend"),
    "storescu": _dcmtk("storescu", "-xs"),
}


def _files(folder: Path, count: int, size_bytes: int) -> list[Path]:
    files = []
    for number, (uid, content) in enumerate(make_objects(count, size_bytes)):
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(file_header(str(CTImageStorage), uid, str(ExplicitVRLittleEndian)) + content)
        DIGESTS[files[-1]] = content_digest(files[-1].read_bytes())
    return files


def _seconds(send: Send, files: list[Path], port: int) -> float:
    start = time.perf_counter()
    send(files, port)
    return time.perf_counter() - start


def run(count: int, size_bytes: int, rounds: int) -> None:
    """Send `count` objects of about `size_bytes` with every sender to every receiver, and print the table."""
    alone: dict[tuple[str, str], list[float]] = {(to, name): [] for to in RECEIVERS for name in SENDERS}
    whole: dict[tuple[str, str], list[float]] = {pair: [] for pair in alone}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        files = _files(Path(folder), count, size_bytes)
        for _ in range(rounds):
            for to, environment in RECEIVERS.items():
                with tempfile.TemporaryDirectory(dir=Path.cwd()) as place, _storescp(Path(place), environment) as port:
                    for name, send in SENDERS.items():
                        alone[to, name].append(_seconds(send, files[:1], port))
                        whole[to, name].append(_seconds(send, files, port))
    rates = {
        pair: [(count - 1) / (seconds - statistics.median(alone[pair])) for seconds in found]
        for pair, found in whole.items()
    }
    print(f"\n{count} objects of {size_bytes // 1024} KB, {rounds} rounds, one Association, to DCMTK's storescp")
    print("| receiver | sender | objects/s, median | least | most | ours is |")
    print("|---|---|---|---|---|---|")
    for (to, name), found in rates.items():
        median = statistics.median(found)
        ratio = statistics.median(rates[to, OURS]) / median
        print(f"| {to} | {name} | {median:.0f} | {min(found):.0f} | {max(found):.0f} | {ratio:.2f} x |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=100)
    asked = parser.parse_args()
    run(asked.count, 512 * 1024, asked.rounds)
    run(asked.count * 2, 64 * 1024, asked.rounds)
