"""One Association, from the first byte to the last, kept to the rules: bytes in, events out; words in, bytes out.

No socket, no clock, no thread. Whichever side opened it, everything a peer may send in each state is in one
table; the peer's first step outside of it ends the Association with an A-ABORT. Memory is bounded by one short
PDU and one command set, whatever comes.

References
----------
PS3.8 9.2 (states), Table 9-10 (what may happen in each).
"""

import enum
from collections.abc import Iterator

from node.errors import ProtocolError
from node.network.dimse import Command, encode_command, response_to
from node.network.events import (
    Aborted,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    Event,
    ProtocolViolation,
    Released,
    ReleaseRequested,
)
from node.network.exchange import Exchange
from node.network.items import UNEXPECTED_PDU
from node.network.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ControlPdu,
    ReleaseReply,
    ReleaseRequest,
    data_head,
    decode_pdu,
    encode_pdu,
)
from node.network.stream import PduStream, Piece

__all__ = ["Machine", "State"]

SERVICE_USER, SERVICE_PROVIDER = 0, 2  # PS3.8 Table 9-26: who aborts
SHORTEST_LIMIT = 16  # below this a P-DATA-TF holds nothing worth sending
LONGEST_OWN_DATA_BYTES = 1 << 20  # what we send to a peer that takes any length
VALUE_BYTES = 6  # head of a Presentation Data Value, which the limit includes (PS3.8 D.1)


class State(enum.Enum):
    """Where an Association is; the numbers are those of PS3.8 9.2."""

    AWAITING_REQUEST = "Sta2"
    AWAITING_OUR_ANSWER = "Sta3"
    CONNECTED = "Sta4"
    AWAITING_ANSWER = "Sta5"
    OPEN = "Sta6"
    AWAITING_RELEASE = "Sta7"
    AWAITING_OUR_RELEASE = "Sta8"
    BOTH_RELEASE = "Sta9"
    AWAITING_LAST_RELEASE = "Sta11"
    CLOSED = "Sta13"


MAY_COME: dict[State, frozenset[int]] = {  # PS3.8 Table 9-10: PDUs that are no violation
    State.AWAITING_REQUEST: frozenset({ASSOCIATE_RQ, ABORT}),
    State.AWAITING_OUR_ANSWER: frozenset({ABORT}),
    State.CONNECTED: frozenset({ABORT}),
    State.AWAITING_ANSWER: frozenset({ASSOCIATE_AC, ASSOCIATE_RJ, ABORT}),
    State.OPEN: frozenset({P_DATA, RELEASE_RQ, ABORT}),
    State.AWAITING_RELEASE: frozenset({P_DATA, RELEASE_RQ, RELEASE_RP, ABORT}),
    State.AWAITING_OUR_RELEASE: frozenset({ABORT}),
    State.BOTH_RELEASE: frozenset({ABORT}),
    State.AWAITING_LAST_RELEASE: frozenset({RELEASE_RP, ABORT}),
    State.CLOSED: frozenset(),
}


class Machine:
    """One side of one Association.

    Parameters
    ----------
    request
        The request with which this side opens it, or None for the side that is called.
    max_pdu_bytes
        The longest P-DATA-TF this side takes; said to the peer by whoever makes `request` or the accept.
    """

    def __init__(self, request: AssociateRequest | None = None, *, max_pdu_bytes: int) -> None:
        self.state = State.AWAITING_REQUEST if request is None else State.CONNECTED
        self._request = request
        self._stream = PduStream(MAY_COME[self.state], longest_data_bytes=max_pdu_bytes)
        self._exchange = Exchange()
        self._peer_limit = 0

    @property
    def is_closed(self) -> bool:
        """True when the Association is over, or was never opened and never will be."""
        return self.state is State.CLOSED

    @property
    def is_idle(self) -> bool:
        """True on an open Association when nothing has begun that is not ended: no PDU, message or answer of ours."""
        return self.state is State.OPEN and self._exchange.is_idle and self._stream.is_between_pdus

    @property
    def fragment_bytes(self) -> int:
        """How much of a dataset the longest P-DATA-TF to this peer holds, once the Association is open."""
        room = self._peer_limit - VALUE_BYTES
        return room - room % 2  # PS3.8 E.2: fragments of even length

    def receive(self, data: memoryview) -> Iterator[Event]:
        """What the bytes mean; nothing is raised, a peer that breaks the rules is an event and the last one.

        To be exhausted before more is received. Events come lazily: an answer given between two of them counts
        for what follows.
        """
        if self.is_closed:
            return
        try:
            for piece in self._stream.feed(data):
                if isinstance(piece, Piece):
                    yield from self._exchange.take(piece)
                else:
                    yield self._control(decode_pdu(piece.kind, piece.body))
                if self.is_closed:
                    return
        except ProtocolError as error:
            self._enter(State.CLOSED)
            yield ProtocolViolation(str(error), encode_pdu(Abort(SERVICE_PROVIDER, error.reason)))

    # What this side says. Each gives the bytes to send, and raises ProtocolError if it is not the time for it.

    def open(self) -> bytes:
        """Ask the peer to let us in."""
        self._demand(State.CONNECTED)
        if self._request is None:
            raise ProtocolError("the side that is called does not open the Association")
        self._enter(State.AWAITING_ANSWER)
        return encode_pdu(self._request)

    def accept(self, accept: AssociateAccept) -> bytes:
        """Let the peer in with the contexts whose result is 0."""
        self._demand(State.AWAITING_OUR_ANSWER)
        self._exchange.context_ids = frozenset(answer.context_id for answer in accept.answers if answer.result == 0)
        self._enter(State.OPEN)
        return encode_pdu(accept)

    def reject(self, reject: AssociateReject) -> bytes:
        """Refuse the peer."""
        self._demand(State.AWAITING_OUR_ANSWER)
        self._enter(State.CLOSED)
        return encode_pdu(reject)

    def respond(self, status: int, comment: str = "") -> bytes:
        """Answer the request that waits, without a dataset."""
        self._demand(State.OPEN)
        if self._exchange.unanswered is None:
            raise ProtocolError("there is no request to answer")
        context_id, command = self._exchange.unanswered
        self._exchange.unanswered = None
        return self._encode(context_id, response_to(command, status, comment))

    def invoke(self, context_id: int, command: Command) -> bytes:
        """Send a request; if it says so, its dataset goes after it through `send_data`."""
        self._demand(State.OPEN)
        if self._exchange.invoked is not None:
            raise ProtocolError("the request before has no answer yet")
        if context_id not in self._exchange.context_ids:
            raise ProtocolError(f"Presentation Context {context_id} was not accepted")
        self._exchange.invoked = command.message_id
        return self._encode(context_id, command)

    def send_data(self, context_id: int, data: memoryview, *, is_last: bool) -> Iterator[bytes | memoryview]:
        """Heads and views of a stretch of a dataset, to be sent one after the other without a copy."""
        self._demand(State.OPEN)
        return self._fragments(context_id, data, is_command=False, is_last=is_last)

    def release(self) -> bytes:
        """Say that we have finished; only the side that opened the Association does."""
        self._demand(State.OPEN)
        if self._request is None or self._exchange.invoked is not None:
            raise ProtocolError("there is still something to be done on this Association")
        self._enter(State.AWAITING_RELEASE)
        return encode_pdu(ReleaseRequest())

    def reply_release(self) -> bytes:
        """Agree that the peer has finished."""
        self._demand(State.AWAITING_OUR_RELEASE, State.BOTH_RELEASE)
        is_both = self.state is State.BOTH_RELEASE
        self._enter(State.AWAITING_LAST_RELEASE if is_both else State.CLOSED)
        return encode_pdu(ReleaseReply())

    def abort(self) -> bytes:
        """Break the Association off, at any time."""
        self._enter(State.CLOSED)
        return encode_pdu(Abort(SERVICE_USER))

    def _control(self, pdu: ControlPdu) -> Event:
        if isinstance(pdu, AssociateRequest):
            self._enter(State.AWAITING_OUR_ANSWER)
            self._note_limit(pdu.user.max_pdu_bytes)
            return AssociationRequested(pdu)
        if isinstance(pdu, AssociateAccept):
            self._note_limit(pdu.user.max_pdu_bytes)
            self._exchange.context_ids = self._proposed(pdu)
            self._enter(State.OPEN)
            return AssociationAccepted(pdu)
        if isinstance(pdu, ReleaseRequest):
            if not self._exchange.is_idle:
                raise ProtocolError("a release came before the end of an operation", reason=UNEXPECTED_PDU)
            is_both = self.state is State.AWAITING_RELEASE
            self._enter(State.BOTH_RELEASE if is_both else State.AWAITING_OUR_RELEASE)
            return ReleaseRequested()
        self._enter(State.CLOSED)
        if isinstance(pdu, AssociateReject):
            return AssociationRejected(pdu)
        return Aborted(pdu.source, pdu.reason) if isinstance(pdu, Abort) else Released()

    def _proposed(self, accept: AssociateAccept) -> frozenset[int]:
        contexts = self._request.contexts if self._request is not None else ()
        proposed = {context.context_id: context.transfer_syntaxes for context in contexts}
        accepted = [answer for answer in accept.answers if answer.result == 0]
        if any(answer.transfer_syntax not in proposed.get(answer.context_id, ()) for answer in accepted):
            raise ProtocolError("a context or transfer syntax was accepted that was not proposed")
        return frozenset(answer.context_id for answer in accepted)

    def _note_limit(self, limit: int) -> None:
        if 0 < limit < SHORTEST_LIMIT:
            raise ProtocolError(f"a maximum length of {limit} leaves no room for data")
        self._peer_limit = min(limit or LONGEST_OWN_DATA_BYTES, LONGEST_OWN_DATA_BYTES)

    def _encode(self, context_id: int, command: Command) -> bytes:
        data = memoryview(encode_command(command))
        return b"".join(self._fragments(context_id, data, is_command=True, is_last=True))

    def _fragments(
        self, context_id: int, data: memoryview, *, is_command: bool, is_last: bool
    ) -> Iterator[bytes | memoryview]:
        room = self.fragment_bytes
        for start in range(0, len(data) or 1, room):
            fragment = data[start : start + room]
            is_final = is_last and start + room >= len(data)
            yield data_head(context_id, len(fragment), is_command=is_command, is_last=is_final)
            yield fragment

    def _demand(self, *states: State) -> None:
        if self.state not in states:
            raise ProtocolError(f"this cannot be said in state {self.state.value}")

    def _enter(self, state: State) -> None:
        self.state = state
        self._stream.expected = MAY_COME[state]
