"""A sender that is never the slow one: objects in memory, our own requestor machine, one Association."""

import socket
import subprocess
import time

from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.network import Command, Kind, Machine
from node.network.events import AssociationAccepted, CommandReceived, Released
from node.network.items import PresentationContext, UserInformation
from node.network.pdu import AssociateRequest

__all__ = ["free_port", "make_objects", "send", "wait_for_port"]

CONTEXT = 1
MAX_PDU_BYTES = 1 << 17


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


def send(objects: list[tuple[str, memoryview]], port: int) -> float:
    """Send all over one Association, one after the other; the seconds it took. Fails unless each is answered 0x0000."""
    user = UserInformation(max_pdu_bytes=MAX_PDU_BYTES, implementation_class_uid="2.25.4")
    context = PresentationContext(CONTEXT, str(CTImageStorage), (str(ExplicitVRLittleEndian),))
    machine = Machine(AssociateRequest("WETREAD", "BENCH", (context,), user), max_pdu_bytes=MAX_PDU_BYTES)
    buffer = memoryview(bytearray(1 << 16))
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(machine.open())
        _expect(machine, connection, buffer, AssociationAccepted)
        for number, (uid, content) in enumerate(objects, 1):
            command = Command(
                Kind.STORE_REQUEST,
                number & 0xFFFF,
                has_dataset=True,
                sop_class_uid=str(CTImageStorage),
                sop_instance_uid=uid,
            )
            parts = [machine.invoke(CONTEXT, command), *machine.send_data(CONTEXT, content, is_last=True)]
            connection.sendall(b"".join(parts))
            answer = _expect(machine, connection, buffer, CommandReceived)
            if not isinstance(answer, CommandReceived) or answer.command.status != 0x0000:
                raise SystemExit(f"object {number} was answered {answer}")
        connection.sendall(machine.release())
        _expect(machine, connection, buffer, Released)
    return time.perf_counter() - start


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
