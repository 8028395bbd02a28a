"""A sender that is never the slow one: all is encoded before the clock starts, a process for each Association."""

import os
import socket
import subprocess
import time

from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.network import Command, Kind, Machine
from node.network.dimse import decode_command, encode_command
from node.network.events import AssociationAccepted, Released
from node.network.items import PresentationContext, UserInformation
from node.network.pdu import PDU_HEAD, AssociateRequest, data_head

__all__ = ["free_port", "make_objects", "send", "wait_for_port"]

CONTEXT = 1
MAX_PDU_BYTES = 1 << 17
HEADS_BYTES = 12  # of a P-DATA-TF and of its first value


def make_objects(count: int, size_bytes: int) -> list[tuple[str, memoryview]]:
    """CT images with a real header and noise for pixels: (SOP Instance UID, encoded dataset)."""
    ds = dcmread(str(get_testdata_file("CT_small.dcm")))
    ds.Rows = ds.Columns = int((size_bytes / 2) ** 0.5)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
    ds.PixelData = bytes(range(256)) * (ds.Rows * ds.Columns * 2 // 256 + 1)
    ds.PixelData = ds.PixelData[: ds.Rows * ds.Columns * 2]
    objects = []
    for number in range(count):
        ds.SOPInstanceUID = f"2.25.3.{number}"
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, ds)
        objects.append((str(ds.SOPInstanceUID), memoryview(buffer.getvalue())))
    return objects


def send(objects: list[tuple[str, memoryview]], port: int, *, associations: int = 1) -> float:
    """Send all, each Association its share one after the other; the seconds from the first to the last answer.

    Each Association has a process of its own. What it sends is encoded before the clock starts. Fails unless every
    object is answered 0x0000.
    """
    senders = [_Sender(objects[number::associations], port) for number in range(associations)]
    start = time.perf_counter()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.wait()
    return time.perf_counter() - start


class _Sender:
    """One Association in a process of its own, ready to send."""

    def __init__(self, objects: list[tuple[str, memoryview]], port: int) -> None:
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            try:
                _send_when_told(objects, port, theirs)
            except BaseException as error:  # noqa: BLE001  the end of this process
                theirs.sendall(str(error).encode()[:1000] or b"?")
            os._exit(0)
        theirs.close()
        self._hear(b"ready")

    def start(self) -> None:
        self._ours.sendall(b"go")

    def wait(self) -> None:
        self._hear(b"done")
        os.waitpid(self._pid, 0)
        self._ours.close()

    def _hear(self, expected: bytes) -> None:
        found = self._ours.recv(1000)
        if found != expected:
            raise SystemExit(f"a sender said {found.decode(errors='replace')}")


def _send_when_told(objects: list[tuple[str, memoryview]], port: int, control: socket.socket) -> None:
    user = UserInformation(max_pdu_bytes=MAX_PDU_BYTES, implementation_class_uid="2.25.4")
    context = PresentationContext(CONTEXT, str(CTImageStorage), (str(ExplicitVRLittleEndian),))
    machine = Machine(AssociateRequest("WETREAD", "BENCH", (context,), user), max_pdu_bytes=MAX_PDU_BYTES)
    buffer = memoryview(bytearray(1 << 16))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(machine.open())
        _expect(machine, connection, buffer, AssociationAccepted)
        requests = [_encode(number, *one, machine.fragment_bytes) for number, one in enumerate(objects, 1)]
        control.sendall(b"ready")
        control.recv(2)
        for number, request in enumerate(requests, 1):
            connection.sendall(request)
            _expect_success(connection, number)
        control.sendall(b"done")
        connection.sendall(machine.release())
        _expect(machine, connection, buffer, Released)


def _encode(number: int, uid: str, content: memoryview, room: int) -> bytes:
    """A C-STORE request with its dataset, ready for the wire."""
    command = encode_command(
        Command(Kind.STORE_REQUEST, number, has_dataset=True, sop_class_uid=str(CTImageStorage), sop_instance_uid=uid)
    )
    parts: list[bytes | memoryview] = [data_head(CONTEXT, len(command), is_command=True, is_last=True), command]
    for start in range(0, len(content), room):
        piece = content[start : start + room]
        parts += [data_head(CONTEXT, len(piece), is_command=False, is_last=start + room >= len(content)), piece]
    return b"".join(parts)


def _expect_success(connection: socket.socket, number: int) -> None:
    """Read the one PDU of an answer; its command begins behind the heads of PDU and value."""
    answer = connection.recv(1 << 12)
    while len(answer) < HEADS_BYTES or len(answer) < PDU_HEAD.unpack_from(answer)[1] + PDU_HEAD.size:
        more = connection.recv(1 << 12)
        if not more:
            raise SystemExit(f"the receiver closed the connection after object {number - 1}")
        answer += more
    status = decode_command(answer[HEADS_BYTES:]).status
    if status != 0x0000:
        raise SystemExit(f"object {number} was answered {status}")


def _expect(machine: Machine, connection: socket.socket, buffer: memoryview, kind: type) -> object:
    while True:
        count = connection.recv_into(buffer)
        if not count:
            raise SystemExit("the receiver closed the connection")
        events = list(machine.receive(buffer[:count]))
        found = [event for event in events if isinstance(event, kind)]
        if found:
            return found[0]
        if events:
            raise SystemExit(f"the receiver said {events}")


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until somebody listens, at most 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nobody listens on port {port}")
