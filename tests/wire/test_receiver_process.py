"""The receiver as a process of its own: flat memory, a quiet end, and several that share one port."""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydicom.filereader import dcmread
from pydicom.uid import CTImageStorage

from node.network.dimse import Command, Kind
from node.network.pdu import ReleaseRequest, data_head, encode_pdu
from node.process import is_alive, read_ready, receiver_role, without_settings
from node.store.database import open_store
from node.store.schema import INSTANCES, STUDIES
from tests.faults.running import wait_until
from tests.peers.modality import free_port, send_with_pynetdicom
from tests.unit.network.conversations import message
from tests.wire.front_door import ACCEPT_HEAD, P_DATA_HEAD, REQUEST

LONG_S = 60.0  # for a process on a machine that is busy elsewhere
MEGABYTE = 1 << 20
OBJECT_MB = 256
PIXEL_DATA = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, OBJECT_MB * MEGABYTE)
RELEASE = encode_pdu(ReleaseRequest())


@dataclass
class Site:
    """A site with nothing but a front door, and the receiver processes it was asked to start."""

    folder: Path
    port: int
    processes: dict[int, "subprocess.Popen[bytes]"]

    @property
    def root(self) -> Path:
        return self.folder / "store"

    def start(self, number: int = 1) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "node.roles", receiver_role(number), "--site", str(self.folder)]
        environment = {**without_settings(os.environ)}
        process = subprocess.Popen([*command, "--parent", str(os.getpid())], env=environment, stderr=subprocess.DEVNULL)
        self.processes[number] = process
        wait_until(
            lambda: read_ready(self.root / "run", receiver_role(number)).get("pid") == process.pid,
            timeout_s=60,
            what="the receiver is ready",
        )
        return process

    def leftovers(self) -> list[str]:
        folder = self.root / "incoming"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    def column(self, column: "sa.Column[object]") -> list[object]:
        store = open_store(self.root)
        with store.reading() as connection:
            found = list(connection.execute(sa.select(column)).scalars())
        store.close()
        return found


@contextmanager
def site_of(folder: Path, *, processes: int = 1) -> Iterator[Site]:
    folder.mkdir(exist_ok=True)
    site = Site(folder, free_port(), {})
    dicom = f"[dicom]\nport = {site.port}\nprocesses = {processes}\n"
    (folder / "config.toml").write_text(f"{dicom}[store]\nrefuse_below_free_mb = 1\n", encoding="utf-8")
    try:
        yield site
    finally:
        for process in site.processes.values():
            process.kill()
            process.wait(10)


class Sender:
    """An Association that says what it likes, to one process of those that share the port."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.sendall(REQUEST)
        assert self.hears().startswith(ACCEPT_HEAD)

    def hears(self) -> bytes:
        with_head = self.socket.recv(6, socket.MSG_WAITALL)
        return with_head + self.socket.recv(struct.unpack(">I", with_head[2:])[0], socket.MSG_WAITALL)

    def sends(self, data: bytes) -> int:
        """The status of an object."""
        self.socket.sendall(data)
        answer = self.hears()
        assert answer.startswith(P_DATA_HEAD)
        place = answer.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return int(struct.unpack_from("<H", answer, place + 8)[0])

    def releases(self) -> None:
        self.socket.sendall(RELEASE)
        assert self.hears().startswith(b"\x06\0")
        self.socket.close()


def _object(folder: Path, last: str = "") -> tuple[str, bytes]:
    """SOP Instance UID and encoded dataset of the real image; its UID with another end if one is given."""
    content = (folder / "a.dcm").read_bytes()
    uid = str(dcmread(folder / "a.dcm").SOPInstanceUID)
    other = uid[: -len(last)] + last if last else uid
    dataset = content[144 + struct.unpack_from("<I", content, 140)[0] :]
    return other, dataset.replace(uid.encode(), other.encode())


def _command(uid: str) -> Command:
    return Command(Kind.STORE_REQUEST, 1, has_dataset=True, sop_class_uid=str(CTImageStorage), sop_instance_uid=uid)


def _peak_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def test_an_object_of_256_mb_takes_no_memory(tmp_path: Path, ct_folder: Path) -> None:
    uid, dataset = _object(ct_folder)
    header = dataset[: dataset.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))] + PIXEL_DATA
    megabyte = b"".join(data_head(3, 1 << 16, is_command=False, is_last=False) + bytes(1 << 16) for _ in range(16))
    last = data_head(3, 0, is_command=False, is_last=True)
    with site_of(tmp_path / "site") as site:
        process = site.start()
        assert set(send_with_pynetdicom(ct_folder, site.port).values()) == {0x0000}
        Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")  # proc(5): the peak begins anew
        idle_mb = _peak_mb(process.pid)
        sender = Sender(site.port)
        sender.socket.sendall(message(3, _command("2.25.256")))
        changed = header.replace(uid.encode(), b"2.25.256".ljust(len(uid) + len(uid) % 2, b"\0")[: len(uid)])
        sender.socket.sendall(data_head(3, len(changed), is_command=False, is_last=False) + changed)
        for _ in range(OBJECT_MB):
            sender.socket.sendall(megabyte)
        assert sender.sends(last) == 0x0000
        sender.releases()
        assert _peak_mb(process.pid) - idle_mb < 64
        assert set(send_with_pynetdicom(ct_folder, site.port).values()) == {0x0000}
    assert sorted(str(one) for one in site.column(INSTANCES.c.sop_uid)) == sorted([uid, "2.25.256"])


def test_sigterm_in_the_middle_of_an_object_lets_it_finish_and_exits_with_0(tmp_path: Path, ct_folder: Path) -> None:
    uid, dataset = _object(ct_folder)
    data = message(3, _command(uid), dataset)
    with site_of(tmp_path / "site") as site:
        process = site.start()
        sender = Sender(site.port)
        sender.socket.sendall(data[:20_000])
        wait_until(lambda: len(site.leftovers()) == 1, timeout_s=LONG_S, what="the object has begun")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: _is_closed(site.port), timeout_s=LONG_S, what="the door is closed")
        assert sender.sends(data[20_000:]) == 0x0000
        sender.releases()
        assert process.wait(30) == 0
        assert site.leftovers() == []
        site.start()
        assert set(send_with_pynetdicom(ct_folder, site.port).values()) == {0x0000}
    assert site.column(INSTANCES.c.sop_uid) == [uid]


def _is_closed(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=LONG_S).close()
    except OSError:
        return True
    return False


# Several processes on one port.


@contextmanager
def _spread(site: Site) -> Iterator[dict[int, Sender]]:
    """An Association with each of two processes; the system deals them out as it likes, so some more are opened."""
    found: dict[int, Sender] = {}
    spare: list[Sender] = []
    while len(found) < 2:
        before = {number: _threads(site, number) for number in (1, 2)}
        sender = Sender(site.port)
        (number,) = [number for number in (1, 2) if _threads(site, number) > before[number]]
        spare.append(found.setdefault(number, sender))
        spare.append(sender)
        assert len(spare) < 60
    try:
        yield found
    finally:
        for sender in spare:
            sender.socket.close()


def _threads(site: Site, number: int) -> int:
    return len(list(Path(f"/proc/{site.processes[number].pid}/task").iterdir()))


def test_two_processes_share_a_port_and_each_sweeps_its_own(tmp_path: Path, ct_folder: Path) -> None:
    uid, dataset = _object(ct_folder)
    data = message(3, _command(uid), dataset)
    with site_of(tmp_path / "site", processes=2) as site:
        site.start(1)
        site.start(2)
        with _spread(site) as senders:
            for sender in senders.values():
                sender.socket.sendall(data[:20_000])
            wait_until(lambda: len(site.leftovers()) == 3, timeout_s=LONG_S, what="both objects have begun")
            assert [one for one in site.leftovers() if one.startswith("2/")]
            site.processes[1].kill()
            site.processes[1].wait(10)
            site.start(1)
            assert [one[:2] for one in site.leftovers()] == ["2", "2/"]  # its own is gone, the other's is not
            assert senders[2].sends(data[20_000:]) == 0x0000
            senders[2].releases()
        for number in (1, 2):
            site.processes[number].terminate()
            assert site.processes[number].wait(30) == 0
        assert site.leftovers() == []
    assert site.column(INSTANCES.c.sop_uid) == [uid]


def test_what_a_process_left_behind_that_is_no_more_is_swept_by_the_first(tmp_path: Path, ct_folder: Path) -> None:
    with site_of(tmp_path / "site") as site:
        for number, pid in ((7, 0), (8, os.getpid())):
            folder = site.root / "incoming" / str(number)
            folder.mkdir(parents=True)
            (folder / "x.dcm").write_bytes(b"half")
            if pid:
                run = site.root / "run"
                run.mkdir()
                (run / f"receiver-{number}.json").write_text(f'{{"pid": {pid}, "port": 1}}', encoding="ascii")
        site.start()
        assert site.leftovers() == ["8", "8/x.dcm"]  # a living process still drains
        assert set(send_with_pynetdicom(ct_folder, site.port).values()) == {0x0000}


def test_a_study_is_not_released_while_an_association_of_another_process_brings_it(
    tmp_path: Path, ct_folder: Path
) -> None:
    with site_of(tmp_path / "site", processes=2) as site:
        site.start(1)
        site.start(2)
        with _spread(site) as senders:
            for number, sender in senders.items():
                uid, dataset = _object(ct_folder, str(number))
                assert sender.sends(message(3, _command(uid), dataset)) == 0x0000
            senders[1].releases()
            wait_until(lambda: len(_touched(site)) == 1, timeout_s=LONG_S, what="the first has left")
            assert site.column(STUDIES.c.released_at) == [None]
            senders[2].releases()
            wait_until(lambda: site.column(STUDIES.c.released_at) != [None], timeout_s=LONG_S, what="it is released")
            assert _touched(site) == []


def test_a_process_that_died_holds_back_no_release(tmp_path: Path, ct_folder: Path) -> None:
    with site_of(tmp_path / "site", processes=2) as site:
        site.start(1)
        site.start(2)
        with _spread(site) as senders:
            for number, sender in senders.items():
                uid, dataset = _object(ct_folder, str(number))
                assert sender.sends(message(3, _command(uid), dataset)) == 0x0000
            site.processes[2].kill()
            site.processes[2].wait(10)
            assert not is_alive(site.processes[2].pid)
            senders[1].releases()
            wait_until(lambda: site.column(STUDIES.c.released_at) != [None], timeout_s=LONG_S, what="it is released")


def _touched(site: Site) -> list[Path]:
    return [path for path in (site.root / "run" / "touched").rglob("*") if path.is_file()]


def test_a_process_the_site_does_not_have_does_not_start(tmp_path: Path) -> None:
    with site_of(tmp_path / "site", processes=2) as site:
        command = [sys.executable, "-m", "node.roles", "receiver-3", "--site", str(site.folder)]
        done = subprocess.run(
            [*command, "--parent", str(os.getpid())], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, "receiver, receiver-2, worker" in done.stderr) == (1, True)
