"""Senders of several makers, each in its own words: DCMTK, odil, dcmjs-dimse, pynetdicom (Orthanc is in `orthanc.py`).

Each echo gives nothing and fails if the peer does not answer 0x0000; each store gives the statuses in order, or
nothing where the program does not tell them but would have ended with an error.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pynetdicom import AE, build_context

from tests.peers.modality import free_port, wait_until_open

__all__ = [
    "dcmqrscp",
    "echo_with_dcmjs",
    "echo_with_dcmtk",
    "echo_with_odil",
    "echo_with_pynetdicom",
    "move_with_dcmtk",
    "program",
    "run",
    "send_with_dcmjs",
    "send_with_dcmsend",
    "send_with_odil",
    "send_with_storescu",
]

CALLED, CALLING = "WETREAD", "TESTER"
LIMIT_S = 60.0
DRIVER = Path(__file__).parent / "js" / "store.js"
NPM_PACKAGES = Path(sys.prefix) / "peers" / "node_modules"  # tools/npm_packages.sh puts them there
STATUS = re.compile(r"DIMSE Status\s*:\s*0x([0-9a-fA-F]{4})")
VERIFICATION = "1.2.840.10008.1.1"


def program(name: str) -> str:
    """Where a program is; skip the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: object, environment: dict[str, str] | None = None) -> str:
    """Run a program to its end; what it said, or a failed test if it ends with an error."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def echo_with_dcmtk(port: int) -> None:
    run(program("echoscu"), "-aec", CALLED, "-aet", CALLING, "127.0.0.1", port)


def echo_with_odil(port: int) -> None:
    run(program("odil"), "echo", "127.0.0.1", port, CALLING, CALLED)


def echo_with_pynetdicom(port: int) -> None:
    assoc = AE(CALLING).associate("127.0.0.1", port, contexts=[build_context(VERIFICATION)], ae_title=CALLED)
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()


def echo_with_dcmjs(port: int) -> None:
    assert _dcmjs(port, []) == [0x0000]


def send_with_storescu(files: Sequence[Path], port: int, *options: str) -> list[int]:
    """DCMTK's storescu; encodes again what it does not find an accepted context for, if it can."""
    said = run(program("storescu"), "-d", "-aec", CALLED, "-aet", CALLING, *options, "127.0.0.1", port, *files)
    return [int(status, 16) for status in STATUS.findall(said)]


def send_with_dcmsend(files: Sequence[Path], port: int, *options: str) -> list[int]:
    """DCMTK's dcmsend: one context for each kind and syntax it needs."""
    said = run(program("dcmsend"), "-d", "-dn", "-aec", CALLED, "-aet", CALLING, *options, "127.0.0.1", port, *files)
    return [int(status, 16) for status in STATUS.findall(said)]


def send_with_odil(files: Sequence[Path], port: int) -> list[int]:
    """odil, which has an upper layer of its own; it encodes each object in explicit VR little endian."""
    said = run(program("odil"), "store", "127.0.0.1", port, CALLING, CALLED, *files)
    assert "Could not store" not in said, said
    return []


def send_with_dcmjs(files: Sequence[Path], port: int) -> list[int]:
    """dcmjs-dimse in Node."""
    return _dcmjs(port, files)


def _dcmjs(port: int, files: Sequence[Path]) -> list[int]:
    node = program("node")
    if not (NPM_PACKAGES / "dcmjs-dimse").is_dir():
        pytest.skip("dcmjs-dimse is not installed (tools/npm_packages.sh)")
    said = run(
        node, DRIVER, "127.0.0.1", port, CALLED, CALLING, *files, environment={"NODE_PATH": str(NPM_PACKAGES)}
    )  # fmt: skip
    statuses: list[int] = json.loads(next(line for line in said.splitlines() if line.startswith("[")))
    return statuses


@contextlib.contextmanager
def dcmqrscp(folder: Path, *, destination: tuple[str, int]) -> Iterator[int]:
    """Run DCMTK's archive as long as the ``with`` block lasts; gives its port.

    Its AE title is ARCHIVE; `destination` is the AE title and port of whom it may be told to send to.
    """
    found = program("dcmqrscp")
    port, (name, to) = free_port(), destination
    area = folder / "archive"
    area.mkdir(parents=True)
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nwetread = ({name}, 127.0.0.1, {to})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {area} RW (200, 1024mb) ANY\nAETable END\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [found, "-c", str(folder / "dcmqrscp.cfg"), str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until_open(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def move_with_dcmtk(study_instance_uid: str, port: int, *, archive: str, destination: str) -> None:
    """Tell an archive to send a study to `destination`, with DCMTK's movescu."""
    run(
        program("movescu"), "-S", "-aet", "MOVESCU", "-aec", archive, "-aem", destination,
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_instance_uid}", "127.0.0.1", port,
    )  # fmt: skip
