"""A sender on our own machine that says exactly what a test wants: any request, any command, any bytes."""

import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from node.network import Command, Kind, Machine
from node.network.events import AssociationAccepted, AssociationRejected, Event, OperationComplete
from node.network.items import PresentationContext, UserInformation
from node.network.pdu import AssociateAccept, AssociateReject, AssociateRequest

__all__ = ["MOST_CONTEXTS", "Requestor", "ask", "contexts"]

MOST_CONTEXTS = 128  # PS3.8 9.3.2.2
OWN_PDU_BYTES = 1 << 14
LIMIT_S = 20.0


def contexts(pairs: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[PresentationContext, ...]:
    """Presentation contexts of these abstract syntaxes, each with its transfer syntaxes."""
    return tuple(
        PresentationContext(2 * number + 1, abstract, syntaxes) for number, (abstract, syntaxes) in enumerate(pairs)
    )


class Requestor:
    """An Association that was asked for; `answer` is what came back, None if the peer closed or aborted."""

    def __init__(self, port: int, request: AssociateRequest) -> None:
        self._machine = Machine(request, max_pdu_bytes=OWN_PDU_BYTES)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self._events: list[Event] = []
        self._socket.sendall(self._machine.open())
        self._wait(lambda event: isinstance(event, AssociationAccepted | AssociationRejected))
        said = self._events.pop() if self._events else None
        self.answer: AssociateAccept | AssociateReject | None = None
        if isinstance(said, AssociationAccepted):
            self.answer = said.accept
        elif isinstance(said, AssociationRejected):
            self.answer = said.reject

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self.answer, AssociateAccept) and not self._machine.is_closed:
            self._socket.sendall(self._machine.release())
            self._wait(lambda _: self._machine.is_closed)
        self._socket.close()

    def invoke(self, context_id: int, command: Command, dataset: bytes = b"") -> Command:
        """Send a request and wait for its answer."""
        self._socket.sendall(self._machine.invoke(context_id, command))
        if command.has_dataset:
            for part in self._machine.send_data(context_id, memoryview(dataset), is_last=True):
                self._socket.sendall(part)
        self._wait(lambda event: isinstance(event, OperationComplete))
        event = self._events.pop()
        assert isinstance(event, OperationComplete), event
        return event.command

    def store(
        self, sop_class: str, sop_instance_uid: str, dataset: bytes | None, *, context_id: int = 1, message_id: int = 1
    ) -> Command:
        """A C-STORE; without a dataset if it is None."""
        command = Command(
            Kind.STORE_REQUEST,
            message_id,
            has_dataset=dataset is not None,
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance_uid,
        )
        return self.invoke(context_id, command, dataset or b"")

    def _wait(self, is_it: Callable[[Event], bool]) -> None:
        while data := self._socket.recv(1 << 16):
            for event in self._machine.receive(memoryview(data)):
                self._events.append(event)
                if is_it(event):
                    return


def ask(
    port: int, pairs: Sequence[tuple[str, tuple[str, ...]]], *, user: UserInformation | None = None
) -> list[tuple[int, str]]:
    """Result and accepted transfer syntax for each of any number of contexts, 128 to an Association."""
    found: list[tuple[int, str]] = []
    for start in range(0, len(pairs), MOST_CONTEXTS):
        batch = contexts(pairs[start : start + MOST_CONTEXTS])
        request = AssociateRequest("WETREAD", "ASKER", batch, user or UserInformation(OWN_PDU_BYTES, "1.2.3", "ASKER"))
        with Requestor(port, request) as requestor:
            assert isinstance(requestor.answer, AssociateAccept)
            answers = {one.context_id: one for one in requestor.answer.answers}
        found += [(answers[one.context_id].result, answers[one.context_id].transfer_syntax) for one in batch]
    return found
