"""A receiver on our own upper layer, honest senders and bad ones, for the tests of the front door.

Each hostile act is followed by the same question: are a C-ECHO and an honest sender still served?
"""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context

from node.network.dimse import Command, Kind
from node.network.items import PresentationContext, UserInformation
from node.network.pdu import AssociateRequest, encode_pdu
from node.receive.event_report import EventReport
from node.receive.spool import Answer, Incoming
from node.receive.upper import UpperReceiver, serve
from node.settings import DicomSettings
from tests.peers.modality import send_with_pynetdicom
from tests.unit.network.conversations import VERIFICATION, message

__all__ = [
    "ABORT_HEAD",
    "ACCEPT_HEAD",
    "CT_CONTEXT",
    "LIMIT_S",
    "PATIENT",
    "P_DATA_HEAD",
    "REJECT_HEAD",
    "REQUEST",
    "SHORT_OF_TIME",
    "Bad",
    "Node",
    "half_a_store",
    "opened",
    "serves",
    "store",
    "until",
]

PATIENT = DicomSettings(port=0, acse_timeout_s=5, network_timeout_s=10)
SHORT_OF_TIME = replace(PATIENT, acse_timeout_s=1.0, network_timeout_s=1.0)
LIMIT_S = 8.0
CT_CONTEXT = build_context(CTImageStorage, [ExplicitVRLittleEndian])
P_DATA_HEAD = b"\x04\0"
ABORT_HEAD, REJECT_HEAD, ACCEPT_HEAD = b"\x07\0", b"\x03\0", b"\x02\0"
REQUEST = encode_pdu(
    AssociateRequest(
        "WETREAD",
        "BAD",
        (
            PresentationContext(1, VERIFICATION, (str(ImplicitVRLittleEndian),)),
            PresentationContext(3, str(CTImageStorage), (str(ExplicitVRLittleEndian),)),
        ),
        UserInformation(16384, "1.2.3", "BAD"),
    )
)


@dataclass
class Node:
    """A receiver, and what it handed on."""

    incoming: Path
    receiver: UpperReceiver
    objects: dict[str, bytes] = field(default_factory=dict)
    taken: list[Incoming] = field(default_factory=list)
    released: list[list[str]] = field(default_factory=list)
    is_roomy: bool = True

    @property
    def port(self) -> int:
        return self.receiver.port

    def leftovers(self) -> list[str]:
        return [path.name for path in self.incoming.iterdir()]


@contextmanager
def opened(
    folder: Path,
    settings: DicomSettings = PATIENT,
    accept: Callable[[Incoming], Answer] | None = None,
    *,
    reported: Callable[[EventReport], Answer] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Node]:
    incoming = folder / "incoming"
    incoming.mkdir()

    def keep(one: Incoming) -> Answer:
        node.taken.append(one)
        if accept is not None:
            return accept(one)
        node.objects[one.sop_instance_uid] = one.path.read_bytes()
        one.path.unlink()
        return Answer(0x0000, study_instance_uid=f"study of {one.calling_ae}")

    released: list[list[str]] = []
    receiver = serve(
        settings,
        incoming,
        accept=keep,
        released=released.append,
        has_room=lambda: node.is_roomy,
        reported=reported,
        clock=clock,
    )
    node = Node(incoming, receiver, released=released)
    try:
        yield node
    finally:
        receiver.stop(drain_s=LIMIT_S)
        until(lambda: not {"association", "entrance"} & {thread.name for thread in threading.enumerate()})
        assert node.leftovers() == []


def serves(node: Node, folder: Path) -> None:
    """Fail unless an honest sender can echo and store."""
    ae = AE("GOOD")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = LIMIT_S
    assoc = ae.associate("127.0.0.1", node.port, contexts=[build_context(VERIFICATION)])
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert send_with_pynetdicom(folder, node.port, calling_ae="GOOD") == {"a.dcm": 0x0000}


def until(claim: Callable[[], bool]) -> None:
    """Wait for another thread, but not for ever."""
    deadline = time.monotonic() + LIMIT_S
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Bad:
    """A raw connection that says what it likes."""

    def __init__(
        self, node: Node, *said: bytes, source: str = "127.0.0.1", context: ssl.SSLContext | None = None
    ) -> None:
        port = node.port if context is None else node.receiver.tls_port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S, source_address=(source, 0))
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        for data in said:
            self.socket.sendall(data)

    def __enter__(self) -> "Bad":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hears(self) -> bytes:
        """The next whole PDU, or nothing if the node has closed."""
        head = self._exactly(6)
        return head + self._exactly(struct.unpack(">I", head[2:])[0]) if head else b""

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            try:
                part = self.socket.recv(count - len(found))
            except ConnectionResetError:
                return b""
            if not part:
                return b""
            found += part
        return found

    def comes_in(self) -> "Bad":
        self.socket.sendall(REQUEST)
        assert self.hears().startswith(ACCEPT_HEAD)
        return self

    def reset(self) -> None:
        """Close so that the node is told with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def store(number: int, dataset: bytes, *, instance: str = "", context_id: int = 3) -> bytes:
    command = Command(
        Kind.STORE_REQUEST,
        number,
        has_dataset=True,
        sop_class_uid=str(CTImageStorage),
        sop_instance_uid=instance or f"2.25.{number}",
    )
    return message(context_id, command, dataset)


def half_a_store() -> bytes:
    """A command, one whole fragment and half of the next."""
    return store(1, bytes(40_000))[:30_000]
