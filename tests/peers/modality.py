"""Senders: a modality that speaks through pynetdicom, another through DCMTK, and DCMTK's receiver."""

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, build_context

__all__ = ["dcmtk_receiver", "free_port", "send_with_dcmtk", "send_with_pynetdicom", "wait_until_open"]

LIMIT_S = 60.0
STATUS = re.compile(r"Status:\s*0x([0-9a-fA-F]{4})|DIMSE Status\s*:\s*0x([0-9a-fA-F]{4})")


def send_with_pynetdicom(
    folder: Path, port: int, *, called_ae: str = "WETREAD", calling_ae: str = "CT1", timeout_s: float = 30.0
) -> dict[str, int | None]:
    """Send every ``.dcm`` file of a folder over one Association.

    Returns the status for each file name; None where there was no answer.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # the files' own bytes
    files = sorted(folder.glob("**/*.dcm"))
    metas = {path: read_file_meta_info(path) for path in files}
    offered = sorted({(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas.values()})
    ae = AE(ae_title=calling_ae)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    contexts = [build_context(sop_class, [syntax]) for sop_class, syntax in offered]
    assoc = ae.associate("127.0.0.1", port, contexts=contexts, ae_title=called_ae)
    statuses: dict[str, int | None] = {}
    for number, path in enumerate(files, 1):
        answer = assoc.send_c_store(path, msg_id=number) if assoc.is_established else {}
        statuses[path.name] = int(answer.Status) if "Status" in answer else None
    if assoc.is_established:
        assoc.release()
    return statuses


def send_with_dcmtk(
    folder: Path, port: int, *, called_ae: str = "WETREAD", calling_ae: str = "MR1", options: tuple[str, ...] = ()
) -> tuple[int, list[int]]:
    """Send every ``.dcm`` file of a folder with storescu: its exit code and the statuses, in order."""
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("DCMTK's storescu is not installed")
    command = [program, "-d", "-aec", called_ae, "-aet", calling_ae, *options, "127.0.0.1", str(port)]
    files = [str(path) for path in sorted(folder.glob("**/*.dcm"))]
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    statuses = [int(first or second, 16) for first, second in STATUS.findall(done.stdout + done.stderr)]
    return done.returncode, statuses


@contextlib.contextmanager
def dcmtk_receiver(folder: Path, *options: str) -> Iterator[int]:
    """Run DCMTK's storescp as long as the ``with`` block lasts; gives its port. It stores what comes bit for bit."""
    program = shutil.which("storescp")
    if program is None:
        pytest.skip("DCMTK's storescp is not installed")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [program, "+B", "+xa", "-od", str(folder), *options, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_open(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until_open(port: int, process: "subprocess.Popen[bytes]", *, limit_s: float = 10.0) -> None:
    """Wait until a program that was just started takes connections."""
    deadline = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} did not open its port")
