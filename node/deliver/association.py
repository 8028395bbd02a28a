"""One Association that we opened: asked for, used for one object after the other, ended with a word.

Nothing here waits without an end. A peer has `timeout_s` to be reached, as long to let us in, as long to take each
stretch of an object and as long to answer; every limit counts from its beginning, so dripping bytes win no time.

References
----------
PS3.8 7 (association service), PS3.7 9.1.1 (C-STORE), 9.1.2 (C-FIND), 10.1.4 (N-ACTION).
"""

import contextlib
import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from node.deliver.peer import ApplicationEntity, connect, rejection
from node.errors import DeliveryError, ProtocolError
from node.network import Command, Kind, Link, Machine
from node.network.dimse import PENDING, RESPONSE_BIT
from node.network.events import (
    Aborted,
    AssociationAccepted,
    AssociationRejected,
    CommandReceived,
    DataFragment,
    Event,
    OperationComplete,
    ProtocolViolation,
    Released,
    ReleaseRequested,
)
from node.network.items import PresentationContext, UserInformation
from node.network.negotiation import OWN_CLASS_UID, OWN_VERSION
from node.network.pdu import AssociateAccept, AssociateRequest

__all__ = [
    "MOST_CONTEXTS",
    "ApplicationEntity",
    "Association",
    "Context",
    "End",
    "Message",
    "Readable",
    "open_association",
]

Context = tuple[str, str]
"""A SOP class and the one transfer syntax in which it is offered."""

MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: their ids are the odd numbers 1 to 255
LAST_MESSAGE_ID = 0xFFFF  # PS3.7 E.1
UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 C.5
OWN_PDU_BYTES = 1 << 14  # all that a peer sends us are answers
ANSWER_BYTES = 1 << 16
STRETCH_BYTES = 1 << 18  # of a dataset, read and sent at once; and what a peer must take within its time limit
LAST_WORD_S = 5.0  # for the peer to agree to our release
LINGER_S = 1.0
LONGEST_MESSAGE_BYTES = 1 << 20  # dataset of a match or a report
MOST_MATCHES = 1000


class Readable(Protocol):
    """Where an encoded dataset comes from: any binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer as far as there are bytes; how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """A command of the peer with its dataset, encoded in `transfer_syntax_uid`; b"" if it has none."""

    command: Command
    dataset: bytes
    transfer_syntax_uid: str


class End(enum.Enum):
    """How an Association ended."""

    RELEASED = "released"
    CLOSED = "the connection was closed"
    ABORTED = "aborted by the peer"
    OUT_OF_TIME = "out of time"
    VIOLATION = "the peer did not keep to the protocol"
    BY_US = "aborted by us"


def open_association(peer: ApplicationEntity, *, calling_ae: str, contexts: Sequence[Context]) -> "Association":
    """Ask a peer to let us in.

    Parameters
    ----------
    contexts
        What is offered, best first; at most 128.

    Raises
    ------
    DeliveryError
        If it cannot be reached, rejects us or does not answer in time; permanent if the request cannot be said.
    """
    proposed = tuple(
        PresentationContext(2 * number + 1, sop_class, (syntax,)) for number, (sop_class, syntax) in enumerate(contexts)
    )
    user = UserInformation(OWN_PDU_BYTES, OWN_CLASS_UID, OWN_VERSION)
    machine = Machine(AssociateRequest(peer.ae_title, calling_ae, proposed, user), max_pdu_bytes=OWN_PDU_BYTES)
    try:
        request = machine.open()
    except ProtocolError as error:
        raise DeliveryError(f"{peer.title} cannot be asked: {error}", is_permanent=True) from error
    assoc = Association(peer, machine, Link(connect(peer)), proposed)
    assoc.begin(request)
    return assoc


class Association:
    """An Association for one thread at a time; `end` is None as long as it can be used.

    `accepted` are the ids of the contexts that the peer takes, `refused` what it said to the others. `on_report` takes
    what the peer reports of its own accord (N-EVENT-REPORT) and gives the status of our answer.
    """

    def __init__(
        self, peer: ApplicationEntity, machine: Machine, link: Link, proposed: Sequence[PresentationContext]
    ) -> None:
        """Take over a connection; `begin` is what opens the Association."""
        self.end: End | None = None
        self.reason = ""  # more about the end
        self.accepted: Mapping[Context, int] = {}
        self.refused: Mapping[Context, int] = {}
        self._peer = peer
        self._machine = machine
        self._link = link
        self._proposed = {one.context_id: (one.abstract_syntax, one.transfer_syntaxes[0]) for one in proposed}
        self._incoming = memoryview(bytearray(ANSWER_BYTES))
        self._outgoing = memoryview(b"")
        self._message_id = 0
        self._accept: AssociateAccept | None = None
        self._invoked: Command | None = None
        self._answer: Command | None = None
        self._matches: list[Message] = []
        self._dataset = bytearray()
        self.on_report: Callable[[Message], int] | None = None

    def begin(self, request: bytes) -> None:
        """Send the request and wait for the yes."""
        self._say(request)
        self._listen(lambda: self._accept is not None)
        if self._accept is None:
            raise DeliveryError(f"{self._peer.title} {self.reason or f'did not open the Association: {self._why()}'}")
        results = {answer.context_id: answer.result for answer in self._accept.answers}
        contexts = self._proposed.items()
        self.accepted = {context: number for number, context in contexts if results.get(number) == 0}
        self.refused = {context: results.get(number, 0) for number, context in contexts if results.get(number) != 0}
        room = self._machine.fragment_bytes
        self._outgoing = memoryview(bytearray(max(1, STRETCH_BYTES // room) * room))

    def is_usable(self) -> bool:
        """Hear what the peer said meanwhile; False if the Association has ended."""
        if self.end is None and self._link.has_news():
            self._hear(time.monotonic() + 0.001)
        return self.end is None

    def store(self, context: Context, sop_instance_uid: str, dataset: Readable, size_bytes: int) -> int:
        """Send one object.

        Parameters
        ----------
        context
            One of `accepted`.
        dataset
            Its next `size_bytes` are the encoded dataset.

        Returns
        -------
        The peer's status.

        Raises
        ------
        DeliveryError
            If the Association ended before an answer came; `end` says how.
        """
        context_id = self.accepted[context]
        command = Command(
            Kind.STORE_REQUEST,
            self._next_message_id(),
            has_dataset=True,
            sop_class_uid=context[0],
            sop_instance_uid=sop_instance_uid,
        )
        head, left = self._invoke(context_id, command), size_bytes
        while left and self.end is None:
            stretch = self._read(dataset, min(left, len(self._outgoing)))
            left -= len(stretch)
            fragments = self._machine.send_data(context_id, stretch, is_last=not left)
            self._say(b"".join((head, *fragments)))
            head = b""
        return self._status(sop_instance_uid)

    def ask(
        self,
        context: Context,
        kind: Kind,
        *,
        dataset: bytes = b"",
        sop_instance_uid: str = "",
        type_id: int | None = None,
    ) -> tuple[int, list[Message]]:
        """Make a request that carries no object: C-ECHO, C-FIND, N-ACTION.

        Returns
        -------
        The peer's final status, and the matches that came before it.

        Raises
        ------
        DeliveryError
            If the Association ended before the final answer came; `end` says how.
        """
        if self.end is not None:
            raise DeliveryError(f"{self._peer.title}: the Association has ended: {self._why()}")
        context_id = self.accepted[context]
        command = Command(
            kind,
            self._next_message_id(),
            has_dataset=bool(dataset),
            sop_class_uid=context[0],
            sop_instance_uid=sop_instance_uid,
            type_id=type_id,
        )
        request = self._invoke(context_id, command)
        fragments = self._machine.send_data(context_id, memoryview(dataset), is_last=True) if dataset else ()
        self._say(b"".join((request, *fragments)))
        return self._status(kind.name.removesuffix("_REQUEST")), self._matches

    def attend(self, is_said: Callable[[], bool], *, limit_s: float) -> None:
        """Hear the peer until something is said, the Association has ended or the time is up."""
        deadline = time.monotonic() + limit_s
        while self.end is None and not is_said() and self._hear(deadline):
            pass

    @property
    def peer_max_pdu_bytes(self) -> int:
        """The longest P-DATA-TF that the peer takes, 0 for any length."""
        return 0 if self._accept is None else self._accept.user.max_pdu_bytes

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % LAST_MESSAGE_ID + 1
        return self._message_id

    def _invoke(self, context_id: int, command: Command) -> bytes:
        self._invoked, self._answer, self._matches = command, None, []
        return self._machine.invoke(context_id, command)

    def _status(self, what: str) -> int:
        """Wait for the final answer."""
        self._listen(lambda: self._answer is not None)
        if self._answer is None or self._answer.status is None:
            self.abort()
            raise DeliveryError(f"{self._peer.title}: no answer to {what}: {self._why()}")
        return self._answer.status

    def release(self) -> None:
        """Say that we have finished, and wait a moment for the peer to agree."""
        if self.end is None and self.is_usable():
            self._say(self._machine.release())
            self._listen(lambda: False, limit_s=min(LAST_WORD_S, self._peer.timeout_s))

    def abort(self) -> None:
        """Break off, if it is not over."""
        if self.end is None:
            self._finish(End.BY_US, self._machine.abort())

    def _read(self, dataset: Readable, count: int) -> memoryview:
        """The next bytes; never fewer, because what was announced must come."""
        stretch, done = self._outgoing[:count], 0
        while done < count:
            try:
                got = dataset.readinto(stretch[done:])
            except OSError as error:
                self.abort()
                reason = error.strerror or type(error).__name__
                raise DeliveryError(f"{self._peer.title}: the file cannot be read to its end: {reason}") from error
            if not got:
                self.abort()
                raise DeliveryError(f"{self._peer.title}: the file became shorter while it was sent")
            done += got
        return stretch

    def _say(self, data: bytes) -> None:
        deadline = time.monotonic() + self._peer.timeout_s
        if self.end is None and not self._link.send(data, timeout_s=self._peer.timeout_s):
            if time.monotonic() >= deadline:
                self._finish(End.OUT_OF_TIME)  # in the middle of a PDU: an A-ABORT would not be one
                return
            self._listen(lambda: False, limit_s=LAST_WORD_S)  # gone; its last word may say why
            self._finish(End.CLOSED)

    def _listen(self, is_said: Callable[[], bool], *, limit_s: float | None = None) -> None:
        """Take what comes until something is said, the Association has ended or the time is up."""
        deadline = time.monotonic() + (self._peer.timeout_s if limit_s is None else limit_s)
        while self.end is None and not is_said():
            if not self._hear(deadline):
                self._finish(End.OUT_OF_TIME, self._machine.abort())

    def _hear(self, deadline: float) -> bool:
        """Take what comes next; False if nothing did."""
        try:
            count = self._link.receive(self._incoming, timeout_s=deadline - time.monotonic())
        except TimeoutError:
            return False
        for event in self._machine.receive(self._incoming[:count]):
            self._take(event)
        if not count:
            self._finish(End.CLOSED)
        return True

    def _take(self, event: Event) -> None:
        if isinstance(event, AssociationAccepted):
            self._accept = event.accept
        elif isinstance(event, AssociationRejected):
            self.reason = f"rejected the Association: {rejection(event.reject)}"
            self._finish(End.ABORTED)
        elif isinstance(event, CommandReceived):
            self._dataset.clear()
        elif isinstance(event, DataFragment):
            self._dataset += event.data
            if len(self._dataset) > LONGEST_MESSAGE_BYTES:
                self._finish(End.VIOLATION, self._machine.abort())
        elif isinstance(event, OperationComplete):
            self._complete(Message(event.command, bytes(self._dataset), self._proposed[event.context_id][1]))
        elif isinstance(event, ReleaseRequested):
            reply = self._machine.reply_release()
            if self._machine.is_closed:
                self._finish(End.RELEASED, reply)
            else:
                self._say(reply)  # both sides asked at once
        elif isinstance(event, Released):
            self._finish(End.RELEASED)
        elif isinstance(event, Aborted):
            self._finish(End.ABORTED)
        elif isinstance(event, ProtocolViolation):
            self._finish(End.VIOLATION, event.abort)

    def _complete(self, message: Message) -> None:
        command = message.command
        if not command.is_response:  # but for reports no role was agreed on in which it might ask us for something
            take = self.on_report if command.kind == Kind.EVENT_REPORT_REQUEST else None
            self._say(self._machine.respond(UNRECOGNIZED_OPERATION if take is None else take(message)))
            return
        expected = None if self._invoked is None else self._invoked.kind | RESPONSE_BIT
        if command.kind != expected or command.status is None or len(self._matches) >= MOST_MATCHES:
            self._finish(End.VIOLATION, self._machine.abort())
        elif command.kind == Kind.FIND_RESPONSE and command.status in PENDING:
            self._matches.append(message)
        else:
            self._answer = command

    def _finish(self, end: End, last_word: bytes = b"") -> None:
        """Note the end once, say the last word if the peer may still hear it, and close."""
        if self.end is not None:
            return
        self.end = end
        if last_word:
            self._link.send(last_word, timeout_s=min(LAST_WORD_S, self._peer.timeout_s))
        with contextlib.suppress(ProtocolError):
            self._machine.abort()
        # PS3.8 9.1.5: whom we said a last word to closes first
        self._link.close(linger_s=min(LINGER_S, self._peer.timeout_s) if last_word else 0.0)

    def _why(self) -> str:
        return self.end.value if self.end is not None else "out of time"
