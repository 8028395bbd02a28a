"""The Associations that are open: one thread for each, bytes straight from the network to the disk.

A dataset is never in memory and never looked at: each stretch goes to a file of ours below ``incoming/`` as it
comes, and the file is gone the moment its Association breaks off. What the peer says decides nothing but the status
it gets.
"""

import socket
import ssl
import threading
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
from node.network.tls import Context
from node.receive.entrance import LINGER_S
from node.receive.event_report import COMMITMENT, INVALID_ARGUMENT, Reported, ReportInMemory, is_reporter, role_for
from node.receive.guard import MINIMUM_BYTES_PER_S, NO_NAMES, Clock, Guard, Patience
from node.receive.landing import Landing
from node.receive.spool import CANNOT_UNDERSTAND, SUCCESS, Answer, Incoming
from node.receive.touched import TouchedStudies
from node.settings import DicomSettings

__all__ = ["Associations"]

SOP_CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION = 0x0122, 0x0211  # PS3.7 C.5
NOT_STORED = (VERIFICATION, COMMITMENT)
PLAIN_SYNTAXES = (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian))
BUFFER_BYTES = 1 << 18


@dataclass(slots=True)
class Associations:
    """What all Associations share: the rules, and which studies each of them has touched.

    `touched` tells the studies to the other processes of the node, if there are any; without `reported` no reports
    are taken.
    """

    settings: DicomSettings
    incoming: Path
    accept: Callable[[Incoming], Answer]
    released: Callable[[list[str]], None]
    reported: Reported | None
    guard: Guard
    clock: Clock
    touched: TouchedStudies | None = None
    writes_early: bool = True
    is_over: bool = False
    inside: dict["_Association", set[str]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def welcome(self, connection: socket.socket, address: str, context: Context | None) -> None:
        """Give a connection that has its place a thread of its own."""
        connection.settimeout(self.settings.network_timeout_s)
        assoc = _Association(self, Link(connection), address, context)
        with self.changed:
            self.inside[assoc] = set()
        try:
            threading.Thread(target=assoc.run, name="association", daemon=True).start()
        except RuntimeError:
            assoc.note("association rejected", "the system gives no more threads")
            assoc.link.close()
            self.leave(assoc)

    def touch(self, assoc: "_Association", study_instance_uid: str) -> None:
        """Note that an Association brings images of a study."""
        with self.changed:
            if self.touched is not None and study_instance_uid not in self.inside[assoc]:
                self.touched.add(study_instance_uid)
            self.inside[assoc].add(study_instance_uid)

    def end(self, assoc: "_Association") -> None:
        """Name the studies no open Association touches any more.

        One that broke off says nothing about its studies: its sender will come again, so nothing is whole by this.
        """
        with self.changed:
            mine, self.inside[assoc] = self.inside[assoc], set()
            mine = mine.difference(*self.inside.values())
            if self.touched is not None:
                for study_instance_uid in mine:
                    self.touched.remove(study_instance_uid)
                mine = {one for one in mine if not self.touched.is_elsewhere(one)}
        if mine and assoc.is_released:
            self.released(sorted(mine))

    def leave(self, assoc: "_Association") -> None:
        """Give the place back."""
        self.guard.leave(assoc.address)
        with self.changed:
            del self.inside[assoc]
            self.changed.notify_all()

    def wait_until_empty(self, limit_s: float) -> bool:
        """Wait for all to end; False if some have not."""
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
        takes_reports = self.reported is not None and is_reporter(request)
        declared = {
            one.sop_class_uid for one in request.user.common_extended if one.service_class_uid == STORAGE_SERVICE
        }

        def taken(abstract: str) -> Collection[str]:
            if abstract in NOT_STORED:
                return PLAIN_SYNTAXES if abstract == VERIFICATION or takes_reports else ()
            is_private = is_private_class(abstract) and self.settings.accept_private_sop_classes
            return KEPT_SYNTAXES if is_private or is_storage_class(abstract) or abstract in declared else ()

        return taken


class _Association:
    """One Association, in a thread of its own from the first byte to the last."""

    def __init__(self, associations: Associations, link: Link, address: str, context: Context | None) -> None:
        self.associations = associations
        self.link = link
        self.address = address
        self.context = context
        self.names = NO_NAMES
        self.machine = Machine(max_pdu_bytes=associations.settings.max_pdu_bytes)
        # Handshake and request must be whole in time, however fast their bytes come.
        self.patience = Patience(associations.settings.acse_timeout_s, now=associations.clock())
        self.contexts: dict[int, tuple[str, str]] = {}  # abstract and transfer syntax of each accepted context
        self.calling_ae = ""
        self.landing: Landing | None = None
        self.report: ReportInMemory | None = None
        self.due: OperationComplete | None = None
        self.is_released = False

    def run(self) -> None:
        """Listen and answer until the Association is over; whatever happens, nothing is left behind."""
        is_secure = False
        try:
            is_secure = self.context is None or self.shakes_hands(self.context)
            buffer = memoryview(bytearray(BUFFER_BYTES if is_secure else 0))
            while is_secure and not self.machine.is_closed and not self.associations.is_over and self.hear(buffer):
                pass
        finally:
            if self.landing is not None:
                self.landing.discard()
            is_told = self.machine.is_closed or not is_secure
            if not is_told and self.machine.state is not State.AWAITING_REQUEST:
                self.say(self.machine.abort())
            try:
                self.associations.end(self)
            finally:
                self.link.close(linger_s=LINGER_S if is_told or self.associations.is_over else 0.0)
                self.associations.leave(self)

    def shakes_hands(self, context: Context) -> bool:
        """Begin TLS; False if the peer cannot or will not."""
        try:
            self.names = self.link.secure(context, timeout_s=self.patience.left(self.associations.clock()))
        except TimeoutError:
            self.note("association out of time", "no TLS handshake")
        except ssl.SSLError as error:
            self.note("association rejected", f"TLS: {error.reason or 'the peer broke off'}")
        except (OSError, ValueError):  # gone before it began
            self.note("association rejected", "TLS: the peer broke off")
        else:
            return True
        return False

    def hear(self, buffer: memoryview) -> bool:
        """Take what the peer sends next, and answer; False if it is gone or its time is up."""
        clock = self.associations.clock
        was_idle = self.machine.is_idle
        if was_idle:
            self.patience.restart(clock())
        try:
            count = self.link.receive(buffer, timeout_s=self.patience.left(clock()))
        except TimeoutError:
            self.note("association out of time", "the peer was silent or too slow")
            return False
        if was_idle:
            self.patience.restart(clock())
        else:
            self.patience.earn(count, clock())
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
            elif self.report is not None:
                self.report.add(event.data)
        elif isinstance(event, CommandReceived):
            self.prepare(event)
        elif isinstance(event, OperationComplete):
            if event.command.kind != Kind.CANCEL_REQUEST:
                self.due = event  # answered when every byte that is here is seen: more of them would be a violation
        elif isinstance(event, AssociationRequested):
            self.admit(event.request)
        elif isinstance(event, ReleaseRequested):
            self.is_released = True  # it has finished, whether or not it still hears the reply
            self.say(self.machine.reply_release())
        elif isinstance(event, Aborted):
            self.note("association aborted by the peer", "")
        elif isinstance(event, ProtocolViolation):
            self.note("association aborted", event.reason)
            self.say(event.abort)

    def admit(self, request: AssociateRequest) -> None:
        self.calling_ae = request.calling_ae
        refusal = self.associations.guard.judge(request, self.address, self.names)
        if refusal is not None:
            self.say(self.machine.reject(refusal))
            return
        settings = self.associations.settings
        accept = answer_request(
            request,
            self.associations.syntaxes_for(request),
            max_pdu_bytes=settings.max_pdu_bytes,
            roles=role_for(request) if self.associations.reported is not None else None,
        )
        abstracts = {context.context_id: context.abstract_syntax for context in request.contexts}
        self.contexts = {
            answer.context_id: (abstracts[answer.context_id], answer.transfer_syntax)
            for answer in accept.answers
            if answer.result == 0
        }
        now = self.associations.clock()
        self.patience = Patience(settings.network_timeout_s, now=now, bytes_per_s=MINIMUM_BYTES_PER_S)
        self.say(self.machine.accept(accept))

    def prepare(self, event: CommandReceived) -> None:
        """Make ready for the dataset of a command, if there is one and we want it."""
        command = event.command
        abstract, transfer = self.contexts[event.context_id]
        if not command.has_dataset:
            return
        if command.kind == Kind.STORE_REQUEST and abstract not in NOT_STORED:
            about = self.associations
            self.landing = Landing(about.incoming, about.guard, command, transfer, writes_early=about.writes_early)
        elif command.kind == Kind.EVENT_REPORT_REQUEST and abstract == COMMITMENT:
            self.report = ReportInMemory(command, transfer, self.calling_ae)

    def perform(self, due: OperationComplete) -> Answer:
        """Do what was asked; its status for the peer."""
        abstract, transfer = self.contexts[due.context_id]
        kind = due.command.kind
        if kind == Kind.ECHO_REQUEST:
            return Answer(SUCCESS)
        if kind == Kind.EVENT_REPORT_REQUEST and abstract == COMMITMENT:
            return self.hand_on()
        if kind != Kind.STORE_REQUEST:
            return Answer(UNRECOGNIZED_OPERATION)
        if self.landing is None:
            return Answer(SOP_CLASS_NOT_SUPPORTED if abstract in NOT_STORED else CANNOT_UNDERSTAND)
        return self.keep(self.landing, due, transfer)

    def hand_on(self) -> Answer:
        report, self.report = self.report, None
        if report is None or self.associations.reported is None:
            return Answer(INVALID_ARGUMENT, "the report is empty")
        return report.hand_on(self.associations.reported)

    def keep(self, landing: Landing, due: OperationComplete, transfer_syntax_uid: str) -> Answer:
        answer = landing.close()
        if answer.status == SUCCESS:
            answer = self.associations.accept(
                Incoming(
                    path=landing.path,
                    sop_class_uid=due.command.sop_class_uid,
                    sop_instance_uid=due.command.sop_instance_uid,
                    transfer_syntax_uid=transfer_syntax_uid,
                    calling_ae=self.calling_ae,
                    digest=landing.digest,
                    size_bytes=landing.size_bytes,
                    scan=landing.scan,
                )
            )
        self.landing = None
        if answer.study_instance_uid:
            self.associations.touch(self, answer.study_instance_uid)
        return answer

    def note(self, event: str, reason: str) -> None:
        self.associations.guard.report(event, reason=reason, address=self.address, calling_ae=self.calling_ae)

    def say(self, data: bytes) -> bool:
        return self.link.send(data, timeout_s=self.associations.settings.network_timeout_s)
