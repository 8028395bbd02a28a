"""The receiver on our own upper layer: one thread for an Association, bytes straight from the network to the disk.

A dataset is never in memory and never looked at: each stretch goes to a file of ours below ``incoming/`` as it
comes, and the file is gone the moment its Association breaks off. What the peer says decides nothing but the status
it gets.
"""

import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.network import Kind, Link, Machine, answer_request
from node.network.events import (
    Aborted,
    AssociationRequested,
    CommandReceived,
    DataFragment,
    Event,
    OperationComplete,
    ProtocolViolation,
    ReleaseRequested,
)
from node.network.machine import State
from node.network.negotiation import (
    KEPT_SYNTAXES,
    STORAGE_SERVICE,
    VERIFICATION,
    is_private_class,
    is_storage_class,
)
from node.network.pdu import AssociateRequest
from node.receive.entrance import LINGER_S, Entrance
from node.receive.guard import MINIMUM_BYTES_PER_S, Guard, Patience
from node.receive.landing import Landing
from node.receive.spool import CANNOT_UNDERSTAND, SUCCESS, Answer, Incoming
from node.settings import DicomSettings

__all__ = ["UpperReceiver", "serve"]

SOP_CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION = 0x0122, 0x0211  # PS3.7 C.5
VERIFICATION_SYNTAXES = (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian))
BUFFER_BYTES = 1 << 18
BACKLOG = 1024  # a burst waits here; what finds no room is tried again by its system, a second later
LAST_WORD_S = 5.0  # for open Associations to end when they were told to

Accept = Callable[[Incoming], Answer]
Released = Callable[[list[str]], None]
HasRoom = Callable[[], bool]


@dataclass(slots=True)
class UpperReceiver:
    """A running receiver; `port` is the real one when 0 was asked for."""

    port: int
    associations: "_Associations"
    entrance: Entrance

    @property
    def open_associations(self) -> int:
        """How many Associations are open now."""
        return len(self.associations.inside)

    def stop(self, *, drain_s: float) -> None:
        """Refuse new Associations, let open ones finish for `drain_s`, abort what is left."""
        self.associations.guard.is_closing = True
        self.entrance.close()
        if not self.associations.wait_until_empty(drain_s):
            self.associations.end_all()
            self.associations.wait_until_empty(LAST_WORD_S)


def serve(
    settings: DicomSettings,
    incoming: Path,
    *,
    accept: Accept,
    released: Released,
    has_room: HasRoom,
    shares_port: bool = False,
) -> UpperReceiver:
    """Open the front door.

    Parameters
    ----------
    incoming
        Folder on the store's volume for objects that are not complete yet.
    accept
        Called in the Association's thread for every object; its answer is the sender's answer.
    released
        Called with the studies an Association touched, once no other open Association touches them.
    has_room
        False refuses every new Association and object as transient, so that senders come back later.
    shares_port
        True lets several processes listen on the port; the system deals the connections out among them.

    Raises
    ------
    OSError
        If the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server(
        (settings.host, settings.port),
        family=family,
        backlog=BACKLOG,
        reuse_port=shares_port,
        dualstack_ipv6=settings.host == "::",
    )
    guard = Guard(settings, has_room, clock=time.monotonic)
    associations = _Associations(settings, incoming, accept, released, guard)
    entrance = Entrance(listener, guard, associations.welcome)
    return UpperReceiver(listener.getsockname()[1], associations, entrance)


@dataclass(slots=True)
class _Associations:
    """What all Associations share: the rules, and which studies each of them has touched."""

    settings: DicomSettings
    incoming: Path
    accept: Accept
    released: Released
    guard: Guard
    is_over: bool = False
    inside: dict["_Association", set[str]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def welcome(self, connection: socket.socket, address: str) -> None:
        """Give a connection that has its place a thread of its own."""
        connection.settimeout(self.settings.network_timeout_s)
        assoc = _Association(self, Link(connection), address)
        with self.changed:
            self.inside[assoc] = set()
        try:
            threading.Thread(target=assoc.run, name="association", daemon=True).start()
        except RuntimeError:
            assoc.report("association rejected", "the system gives no more threads")
            assoc.link.close()
            self.leave(assoc)

    def touch(self, assoc: "_Association", study_instance_uid: str) -> None:
        with self.changed:
            self.inside[assoc].add(study_instance_uid)

    def report(self, assoc: "_Association") -> None:
        """Name the studies no open Association touches any more.

        One that broke off says nothing about its studies: its sender will come again, so nothing is whole by this.
        """
        with self.changed:
            mine, self.inside[assoc] = self.inside[assoc], set()
            mine = mine.difference(*self.inside.values()) if assoc.is_released else set()
        if mine:
            self.released(sorted(mine))

    def leave(self, assoc: "_Association") -> None:
        """Give the place back."""
        self.guard.leave(assoc.address)
        with self.changed:
            del self.inside[assoc]
            self.changed.notify_all()

    def wait_until_empty(self, limit_s: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: not self.inside, timeout=limit_s)

    def end_all(self) -> None:
        """Let every Association abort at its next step, and wake those that wait for their peer."""
        self.is_over = True
        with self.changed:
            for assoc in self.inside:
                assoc.link.wake()

    def syntaxes_for(self, request: AssociateRequest) -> Callable[[str], Collection[str]]:
        """Which transfer syntaxes are taken for each abstract syntax of a request."""
        declared = {
            one.sop_class_uid for one in request.user.common_extended if one.service_class_uid == STORAGE_SERVICE
        }

        def taken(abstract: str) -> Collection[str]:
            if abstract == VERIFICATION:
                return VERIFICATION_SYNTAXES
            is_private = is_private_class(abstract) and self.settings.accept_private_sop_classes
            return KEPT_SYNTAXES if is_private or is_storage_class(abstract) or abstract in declared else ()

        return taken


class _Association:
    """One Association, in a thread of its own from the first byte to the last."""

    def __init__(self, associations: _Associations, link: Link, address: str) -> None:
        self.associations = associations
        self.link = link
        self.address = address
        self.machine = Machine(max_pdu_bytes=associations.settings.max_pdu_bytes)
        # The request must be whole in time, however fast its bytes come.
        self.patience = Patience(associations.settings.acse_timeout_s, now=time.monotonic())
        self.contexts: dict[int, tuple[str, str]] = {}  # abstract and transfer syntax of each accepted context
        self.calling_ae = ""
        self.landing: Landing | None = None
        self.due: OperationComplete | None = None
        self.is_released = False

    def run(self) -> None:
        """Listen and answer until the Association is over; whatever happens, nothing is left behind."""
        buffer = memoryview(bytearray(BUFFER_BYTES))
        try:
            while not self.machine.is_closed and not self.associations.is_over and self.hear(buffer):
                pass
        finally:
            if self.landing is not None:
                self.landing.discard()
            is_told = self.machine.is_closed
            if not is_told and self.machine.state is not State.AWAITING_REQUEST:
                self.say(self.machine.abort())
            try:
                self.associations.report(self)
            finally:
                self.link.close(linger_s=LINGER_S if is_told or self.associations.is_over else 0.0)
                self.associations.leave(self)

    def hear(self, buffer: memoryview) -> bool:
        """Take what the peer sends next, and answer; False if it is gone or its time is up."""
        was_idle = self.machine.is_idle
        if was_idle:
            self.patience.restart(time.monotonic())
        try:
            count = self.link.receive(buffer, timeout_s=self.patience.left(time.monotonic()))
        except TimeoutError:
            self.report("association out of time", "the peer was silent or too slow")
            return False
        if was_idle:
            self.patience.restart(time.monotonic())
        else:
            self.patience.earn(count, time.monotonic())
        for event in self.machine.receive(buffer[:count]):
            self.take(event)
        if self.landing is not None:
            self.landing.write()
        if self.due is not None and not self.machine.is_closed:
            answer = self.perform(self.due)
            self.due = None
            return self.say(self.machine.respond(answer.status, answer.comment))
        return count > 0

    def take(self, event: Event) -> None:
        if isinstance(event, DataFragment):
            if self.landing is not None:
                self.landing.add(event.data)
        elif isinstance(event, CommandReceived):
            abstract, transfer = self.contexts[event.context_id]
            if event.command.kind == Kind.STORE_REQUEST and event.command.has_dataset and abstract != VERIFICATION:
                self.landing = Landing(self.associations.incoming, self.associations.guard, event.command, transfer)
        elif isinstance(event, OperationComplete):
            if event.command.kind != Kind.CANCEL_REQUEST:
                self.due = event  # answered when every byte that is here is seen: more of them would be a violation
        elif isinstance(event, AssociationRequested):
            self.admit(event.request)
        elif isinstance(event, ReleaseRequested):
            self.is_released = True  # it has finished, whether or not it still hears the reply
            self.say(self.machine.reply_release())
        elif isinstance(event, Aborted):
            self.report("association aborted by the peer", "")
        elif isinstance(event, ProtocolViolation):
            self.report("association aborted", event.reason)
            self.say(event.abort)

    def admit(self, request: AssociateRequest) -> None:
        self.calling_ae = request.calling_ae
        refusal = self.associations.guard.judge(request, self.address)
        if refusal is not None:
            self.say(self.machine.reject(refusal))
            return
        settings = self.associations.settings
        accept = answer_request(request, self.associations.syntaxes_for(request), max_pdu_bytes=settings.max_pdu_bytes)
        abstracts = {context.context_id: context.abstract_syntax for context in request.contexts}
        self.contexts = {
            answer.context_id: (abstracts[answer.context_id], answer.transfer_syntax)
            for answer in accept.answers
            if answer.result == 0
        }
        self.patience = Patience(settings.network_timeout_s, now=time.monotonic(), bytes_per_s=MINIMUM_BYTES_PER_S)
        self.say(self.machine.accept(accept))

    def perform(self, due: OperationComplete) -> Answer:
        """Do what was asked; its status for the peer."""
        command = due.command
        if command.kind == Kind.ECHO_REQUEST:
            return Answer(SUCCESS)
        if command.kind != Kind.STORE_REQUEST:
            return Answer(UNRECOGNIZED_OPERATION)
        abstract, transfer = self.contexts[due.context_id]
        if self.landing is None:
            return Answer(SOP_CLASS_NOT_SUPPORTED if abstract == VERIFICATION else CANNOT_UNDERSTAND)
        answer = self.landing.close()
        if answer.status == SUCCESS:
            answer = self.associations.accept(
                Incoming(
                    path=self.landing.path,
                    sop_class_uid=command.sop_class_uid,
                    sop_instance_uid=command.sop_instance_uid,
                    transfer_syntax_uid=transfer,
                    calling_ae=self.calling_ae,
                )
            )
        self.landing = None
        if answer.study_instance_uid:
            self.associations.touch(self, answer.study_instance_uid)
        return answer

    def report(self, event: str, reason: str) -> None:
        self.associations.guard.report(event, reason=reason, address=self.address, calling_ae=self.calling_ae)

    def say(self, data: bytes) -> bool:
        return self.link.send(data, timeout_s=self.associations.settings.network_timeout_s)
