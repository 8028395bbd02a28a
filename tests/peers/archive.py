"""An archive on loopback whose every byte a test decides: it drips, dies, releases in between, asks back."""

import contextlib
import enum
import socket
import ssl
import threading
from collections.abc import Collection, Mapping

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.network import Machine, answer_request
from node.network.dimse import Command, Kind
from node.network.events import AssociationRequested, DataFragment, OperationComplete, ReleaseRequested
from node.network.pdu import AssociateAccept, ReleaseRequest, encode_pdu

__all__ = ["Act", "Archive"]

DRIP_EVERY_S = 0.05
LONGEST = 16384
ANY_LENGTH = 1 << 21
NATIVE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


class Act(enum.Enum):
    """What the archive does when an object is whole."""

    TAKE = enum.auto()
    TAKE_AND_RELEASE = enum.auto()
    RELEASE_INSTEAD = enum.auto()
    DIE = enum.auto()
    ABORT = enum.auto()
    DRIP = enum.auto()
    SILENCE = enum.auto()
    ASK_BACK = enum.auto()
    ANSWER_ANOTHER = enum.auto()
    NO_PDU = enum.auto()


class Archive:
    """Follows a script, one `Act` for each object; the last one goes on for ever.

    `objects` are (SOP class, SOP instance, transfer syntax, dataset) of all that came whole; `associations` counts
    connections; `has_closed` is set when the archive ended a connection.
    """

    def __init__(
        self,
        *script: Act,
        taken: Mapping[str, Collection[str]] | None = None,
        drips_accept: bool = False,
        tls: ssl.SSLContext | None = None,
        max_pdu_bytes: int = LONGEST,
        host: str = "127.0.0.1",
    ) -> None:
        self._script = list(script) or [Act.TAKE]
        self._taken = taken
        self._drips_accept = drips_accept
        self._tls = tls
        self._max_pdu_bytes = max_pdu_bytes
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = int(self._listener.getsockname()[1])
        self._let_go = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.objects: list[tuple[str, str, str, bytes]] = []
        self.message_ids: list[int] = []
        self.proposed: list[list[tuple[str, str]]] = []
        self.associations = 0
        self.has_closed = threading.Event()
        self.was_released: list[bool] = []
        self.faults: list[str] = []

    def __enter__(self) -> "Archive":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go.set()
        self.lock()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def lock(self) -> None:
        """Let nobody in any more; who is inside stays."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self.associations += 1
                plain.settimeout(10)
                connection = plain
                try:
                    if self._tls is not None:
                        connection = self._tls.wrap_socket(plain, server_side=True)
                    with contextlib.suppress(OSError):
                        self._converse(connection)
                except ssl.SSLError as error:
                    self.faults.append(error.reason or "")
                finally:
                    connection.close()
                    plain.close()
                    self.has_closed.set()

    def _converse(self, connection: socket.socket) -> None:
        machine = Machine(max_pdu_bytes=self._max_pdu_bytes or ANY_LENGTH)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.was_released.append(False)
        contexts: dict[int, tuple[str, str]] = {}
        dataset = bytearray()
        while not machine.is_closed and (data := connection.recv(1 << 16)):
            for event in machine.receive(memoryview(data)):
                if isinstance(event, AssociationRequested):
                    accept = answer_request(event.request, self._syntaxes, max_pdu_bytes=self._max_pdu_bytes)
                    offered = {one.context_id: one for one in event.request.contexts}
                    self.proposed.append([(one.abstract_syntax, *one.transfer_syntaxes) for one in offered.values()])
                    contexts = self._contexts(accept, {key: one.abstract_syntax for key, one in offered.items()})
                    self._send(connection, machine.accept(accept), drips=self._drips_accept)
                elif isinstance(event, DataFragment):
                    dataset += event.data
                elif isinstance(event, ReleaseRequested):
                    self.was_released[-1] = True
                    connection.sendall(machine.reply_release())
                elif isinstance(event, OperationComplete) and not event.command.is_response:
                    self.objects.append(
                        (event.command.sop_class_uid, event.command.sop_instance_uid, contexts[event.context_id][1],
                         bytes(dataset))
                    )  # fmt: skip
                    self.message_ids.append(event.command.message_id)
                    dataset.clear()
                    if not self._act(connection, machine, event.context_id):
                        return

    def _syntaxes(self, abstract: str) -> Collection[str]:
        return NATIVE if self._taken is None else self._taken.get(abstract, ())

    def _contexts(self, accept: AssociateAccept, abstracts: Mapping[int, str]) -> dict[int, tuple[str, str]]:
        return {one.context_id: (abstracts[one.context_id], one.transfer_syntax) for one in accept.answers}

    def _act(self, connection: socket.socket, machine: Machine, context_id: int) -> bool:
        """True if the connection stays open."""
        act = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if act is Act.DIE:
            return False
        if act is Act.ABORT:
            connection.sendall(machine.abort())
            return False
        if act is Act.SILENCE:
            while connection.recv(1 << 16):
                pass
            return False
        if act is Act.NO_PDU:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return True
        if act is Act.RELEASE_INSTEAD:
            connection.sendall(encode_pdu(ReleaseRequest()))
            return bool(connection.recv(1 << 16)) and False
        if act is Act.ASK_BACK:
            asked = Command(Kind.ECHO_REQUEST, 77, sop_class_uid="1.2.840.10008.1.1")
            connection.sendall(machine.invoke(context_id, asked))
        answer = machine.respond(0x0000)
        if act is Act.ANSWER_ANOTHER:
            number = self.message_ids[-1].to_bytes(2, "little")
            answer = answer.replace(b"\x20\x01\x02\0\0\0" + number, b"\x20\x01\x02\0\0\0\xee\xee")
        self._send(connection, answer, drips=act is Act.DRIP)
        if act is Act.TAKE_AND_RELEASE:
            connection.sendall(encode_pdu(ReleaseRequest()))
            self.was_released[-1] = connection.recv(1 << 16)[:1] == b"\x06"  # PS3.8 9.3.7
            return False
        return True

    def _send(self, connection: socket.socket, data: bytes, *, drips: bool) -> None:
        for start in range(0, len(data), 1 if drips else len(data)):
            connection.sendall(data[start : start + (1 if drips else len(data))])
            if drips:
                self._let_go.wait(DRIP_EVERY_S)
