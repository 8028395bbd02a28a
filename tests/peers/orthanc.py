"""Orthanc as the PACS of the test suite."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from node.demo.pacs import OrthancPacs, find_orthanc
from node.settings import DicomDestination
from tests.peers.modality import wait_until_open

__all__ = ["destination", "echo_from", "knows", "orthanc", "orthanc_with_dicomweb", "store_from", "upload"]

LIMIT_S = 60.0
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # where Debian puts it


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[OrthancPacs]:
    """Run Orthanc as long as the ``with`` block lasts; skip the test where it is not installed."""
    program = find_orthanc()
    if program is None:
        pytest.skip("Orthanc is not installed")
    pacs = OrthancPacs(folder, program)
    pacs.start()
    try:
        yield pacs
    finally:
        pacs.stop()


@contextlib.contextmanager
def orthanc_with_dicomweb(folder: Path, **more: object) -> Iterator[OrthancPacs]:
    """Run Orthanc with its DICOMweb plug-in, and with more of its own settings; skip without the plug-in."""
    program = find_orthanc()
    if program is None or not DICOMWEB.exists():
        pytest.skip("Orthanc or its DICOMweb plug-in is not installed")
    pacs = _WebPacs(folder, program, more)
    pacs.start()
    try:
        yield pacs
    finally:
        pacs.stop()


class _WebPacs(OrthancPacs):
    """Orthanc with a DICOMweb service below ``/dicom-web``."""

    def __init__(self, folder: Path, program: str, more: dict[str, object]) -> None:
        self._more = more
        super().__init__(folder, program)

    def start(self) -> None:
        if not self._more.get("AuthenticationEnabled"):
            super().start()
            return
        # One that asks for a password says so to the question with which the others are found to be up.
        with (self._folder / "orthanc.log").open("ab") as log:
            command = [self._program, str(self._folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until_open(self.http_port, self._process)

    def _configuration(self) -> dict[str, object]:
        web = {"Plugins": [str(DICOMWEB)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
        return super()._configuration() | web | self._more


def destination(pacs: OrthancPacs, *, timeout_s: float = 10.0) -> DicomDestination:
    return DicomDestination("orthanc", "127.0.0.1", pacs.port, pacs.ae_title, timeout_s=timeout_s)


def knows(pacs: OrthancPacs, name: str, ae_title: str, port: int) -> None:
    """Tell Orthanc of a peer on this machine that may query it and that it may send to."""
    _ask(
        pacs,
        "PUT",
        f"modalities/{name}",
        {"AET": ae_title, "Host": "127.0.0.1", "Port": port, "AllowTranscoding": False},
    )


def upload(pacs: OrthancPacs, files: Sequence[Path]) -> list[str]:
    """Give Orthanc files over its REST interface; its names for them."""
    address = f"http://127.0.0.1:{pacs.http_port}/instances"
    names = []
    for path in files:
        answer = requests.post(address, data=path.read_bytes(), timeout=LIMIT_S)
        answer.raise_for_status()
        names.append(str(answer.json()["ID"]))
    return names


def echo_from(pacs: OrthancPacs, name: str) -> None:
    """Let Orthanc send a C-ECHO; an error unless the peer answers."""
    _ask(pacs, "POST", f"modalities/{name}/echo", {})


def store_from(pacs: OrthancPacs, name: str, instances: Sequence[str]) -> int:
    """Let Orthanc send objects by C-STORE; how many the peer did not take."""
    body = {"Resources": list(instances), "Synchronous": True, "Permissive": False}
    return int(_ask(pacs, "POST", f"modalities/{name}/store", body).json()["FailedInstancesCount"])


def _ask(pacs: OrthancPacs, method: str, path: str, body: dict[str, Any]) -> requests.Response:
    answer = requests.request(method, f"http://127.0.0.1:{pacs.http_port}/{path}", json=body, timeout=LIMIT_S)
    answer.raise_for_status()
    return answer
