"""A PACS for a first try and for tests: Orthanc if it is installed, else a small storage SCP of our own."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import requests
from orthanc_api_client import OrthancApiClient
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, VerificationPresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from node.dicom.uid import is_valid_uid
from node.errors import StoreError

__all__ = ["DemoPacs", "OrthancPacs", "SmallPacs", "find_orthanc", "open_pacs"]

ORTHANC = "/usr/sbin/Orthanc"  # where Debian puts it, outside most users' PATH
NODE_AE = "WETREAD"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0
POLL_S = 0.05
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700  # PS3.4 B.2.3
CANNOT_UNDERSTAND = 0xC000  # PS3.4 B.2.3
DUPLICATE = 0x0111  # PS3.7 C.5.11


class DemoPacs(Protocol):
    """What the demonstration and the tests ask of a PACS."""

    port: int
    ae_title: str

    def start(self) -> None:
        """Start to listen, after `stop` on the same port and with the same objects again."""
        ...

    def stop(self) -> None:
        """Stop; what was stored stays."""
        ...

    def instances(self) -> list[str]:
        """SOP Instance UIDs of all objects, sorted."""
        ...

    def download(self, sop_instance_uid: str) -> bytes:
        """One object as a Part 10 file."""
        ...


@contextlib.contextmanager
def open_pacs(folder: Path) -> Iterator[DemoPacs]:
    """Run a PACS on free loopback ports as long as the ``with`` block lasts."""
    program = find_orthanc()
    pacs: DemoPacs = OrthancPacs(folder, program) if program else SmallPacs(folder)
    pacs.start()
    try:
        yield pacs
    finally:
        pacs.stop()


def find_orthanc() -> str | None:
    """Path of the Orthanc program, or None if it is not installed."""
    return shutil.which("Orthanc") or shutil.which(ORTHANC)


class OrthancPacs:
    """Orthanc in a process of its own, without plug-ins, with a folder of its own."""

    def __init__(self, folder: Path, program: str = ORTHANC, *, ae_title: str = "ORTHANC") -> None:
        """Choose free ports and write the configuration; nothing runs yet."""
        self.ae_title = ae_title
        self.port, self.http_port = _free_ports(2)
        self._folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._client = OrthancApiClient(f"http://127.0.0.1:{self.http_port}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(self._configuration(), indent=2), encoding="utf-8")

    def start(self) -> None:
        """Start Orthanc and wait until it answers.

        Raises
        ------
        StoreError
            If it ends or does not answer in time; its own words are in ``orthanc.log``.
        """
        with (self._folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._folder / "orthanc.json")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                requests.get(f"http://127.0.0.1:{self.http_port}/system", timeout=POLL_S * 20).raise_for_status()
                return
            time.sleep(POLL_S)
        self.stop()
        raise StoreError(f"Orthanc does not answer; see {self._folder / 'orthanc.log'}")

    def stop(self) -> None:
        """Ask Orthanc to end, and end it if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)
        self._process = None

    def instances(self) -> list[str]:
        """SOP Instance UIDs of all objects, sorted."""
        instances = self._client.instances
        return sorted(str(instances.get_tags(found)["SOPInstanceUID"]) for found in instances.get_all_ids())

    def download(self, sop_instance_uid: str) -> bytes:
        """One object as a Part 10 file.

        Raises
        ------
        StoreError
            If there is no such object.
        """
        found = self._client.instances.lookup(sop_instance_uid)
        if not found:
            raise StoreError(f"no object {sop_instance_uid}")
        return bytes(self._client.instances.get_file(found))

    def _configuration(self) -> dict[str, object]:
        store = str((self._folder / "store").resolve())
        return {
            "Name": "Demonstration PACS",
            "StorageDirectory": store,
            "IndexDirectory": store,
            "Plugins": [],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            # Orthanc listens on every address: only this machine's node may store.
            "DicomAlwaysAllowStore": False,
            "DicomCheckModalityHost": True,
            "DicomModalities": {"node": {"AET": NODE_AE, "Host": "127.0.0.1", "Port": 104, "AllowStore": True}},
            "OverwriteInstances": False,
            "ConcurrentJobs": 1,
        }


class SmallPacs:
    """A storage SCP with a folder, for machines without Orthanc."""

    def __init__(self, folder: Path, *, ae_title: str = "PACS") -> None:
        """Choose a free port; nothing runs yet."""
        self.ae_title = ae_title
        (self.port,) = _free_ports(1)
        self._folder = folder
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> None:
        """Start to listen."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ae = AE(ae_title=self.ae_title)
        for context in (*VerificationPresentationContexts, *AllStoragePresentationContexts):
            ae.add_supported_context(UID(str(context.abstract_syntax)), AllTransferSyntaxes)
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    def stop(self) -> None:
        """Stop; what was stored stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def instances(self) -> list[str]:
        """SOP Instance UIDs of all objects, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.dcm"))

    def download(self, sop_instance_uid: str) -> bytes:
        """One object as a Part 10 file.

        Raises
        ------
        StoreError
            If there is no such object.
        """
        if sop_instance_uid not in self.instances():
            raise StoreError(f"no object {sop_instance_uid}")
        return (self._folder / f"{sop_instance_uid}.dcm").read_bytes()

    def _store(self, event: Event) -> int:
        sop_instance_uid = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        if not is_valid_uid(sop_instance_uid):  # it becomes a file name
            return CANNOT_UNDERSTAND
        part = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            part.write_bytes(event.encoded_dataset())
            part.with_name(f"{sop_instance_uid}.dcm").hardlink_to(part)
        except FileExistsError:
            return DUPLICATE
        except OSError:
            return OUT_OF_RESOURCES
        finally:
            part.unlink(missing_ok=True)
        return SUCCESS


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; all are held until the last is found, so that no two are the same."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [int(found.getsockname()[1]) for found in sockets]
