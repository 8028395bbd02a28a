"""Bytes from the network, cut into Protocol Data Units as they come.

Nothing waits for the end of a P-DATA-TF: each stretch of a fragment is handed on as a view into the bytes
just received. What is kept between two calls is a head of six bytes or one short PDU, and its length has
been judged before the first byte of it is kept.

References
----------
PS3.8 9.3.1, 9.3.5.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from node.errors import ProtocolError
from node.network.items import INVALID_PARAMETER, UNEXPECTED_PDU, UNRECOGNIZED_PDU
from node.network.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    COMMAND_BIT,
    LAST_BIT,
    LONGEST_ASSOCIATE_BYTES,
    P_DATA,
    PDU_HEAD,
    VALUE_HEAD,
)

__all__ = ["PduStream", "Piece", "WholePdu"]

HEAD_BYTES = 6  # of a PDU, and of a Presentation Data Value
FEWEST_DATA_BYTES = 6  # one Presentation Data Value without a fragment


@dataclass(frozen=True, slots=True)
class WholePdu:
    """A PDU that is not a P-DATA-TF: what follows its head."""

    kind: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a fragment; `data` is a view that is good until more bytes are fed.

    `is_last` is True when the fragment is whole with this stretch and is the last one of its command or dataset.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class PduStream:
    """Where in the stream of one Association we are.

    `expected` are the PDU types that may begin now and `longest_data_bytes` is the longest P-DATA-TF; whoever
    drives the stream keeps both up to date.
    """

    def __init__(self, expected: frozenset[int], *, longest_data_bytes: int) -> None:
        """Start before the first byte."""
        self.expected = expected
        self.longest_data_bytes = longest_data_bytes
        self._head = bytearray()
        self._body = bytearray()
        self._kind = 0
        self._pdu_left = 0
        self._value_left = 0
        self._context_id = 0
        self._control = 0

    @property
    def is_between_pdus(self) -> bool:
        """True when no PDU has begun and not ended."""
        return not self._head and not self._pdu_left

    def feed(self, data: memoryview) -> Iterator[Piece | WholePdu]:
        """Cut what was received; to be exhausted before more is fed.

        Raises
        ------
        ProtocolError
            If a PDU has no known or no expected type, or a length cannot be right.
        """
        position, end = 0, len(data)
        while position < end:
            if self._value_left:
                stop = min(position + self._value_left, end)
                yield self._piece(data[position:stop])
            elif self._pdu_left and self._kind != P_DATA:
                stop = min(position + self._pdu_left, end)
                self._body += data[position:stop]
                self._pdu_left -= stop - position
                if not self._pdu_left:
                    yield self._whole()
            else:
                stop = min(position + HEAD_BYTES - len(self._head), end)
                self._head += data[position:stop]
                if len(self._head) == HEAD_BYTES and self._open():
                    yield self._piece(data[stop:stop])
            position = stop

    def _piece(self, data: memoryview) -> Piece:
        self._value_left -= len(data)
        self._pdu_left -= len(data)
        is_last = bool(self._control & LAST_BIT) and not self._value_left
        return Piece(self._context_id, bool(self._control & COMMAND_BIT), is_last, data)

    def _whole(self) -> WholePdu:
        body = bytes(self._body)
        self._body.clear()
        return WholePdu(self._kind, body)

    def _open(self) -> bool:
        """Judge a whole head; True if it is that of a fragment without bytes."""
        if not self._pdu_left:
            self._kind, length = PDU_HEAD.unpack(self._head)
            self._judge(length)
            self._pdu_left = length
            self._head.clear()
            return False
        length, self._context_id, self._control = VALUE_HEAD.unpack(self._head)
        self._head.clear()
        self._pdu_left -= HEAD_BYTES
        self._value_left = length - 2  # the length counts the context ID and the control header
        rest = self._pdu_left - self._value_left
        if length < 2 or rest < 0 or 0 < rest < FEWEST_DATA_BYTES:
            raise ProtocolError(f"a fragment of {length} bytes does not fit its P-DATA-TF", reason=INVALID_PARAMETER)
        return not self._value_left

    def _judge(self, length: int) -> None:
        if not ASSOCIATE_RQ <= self._kind <= ABORT:
            raise ProtocolError(f"there is no PDU of type {self._kind}", reason=UNRECOGNIZED_PDU)
        if self._kind not in self.expected:
            raise ProtocolError(f"a PDU of type {self._kind} was not expected now", reason=UNEXPECTED_PDU)
        if self._kind == P_DATA:
            fewest, most = FEWEST_DATA_BYTES, self.longest_data_bytes
        elif self._kind in (ASSOCIATE_RQ, ASSOCIATE_AC):
            fewest, most = 68, LONGEST_ASSOCIATE_BYTES  # PS3.8 9.3.2: the fixed fields
        else:
            fewest, most = 4, 4
        if not fewest <= length <= most:
            raise ProtocolError(
                f"a PDU of type {self._kind} says {length} bytes; {fewest} to {most} were expected",
                reason=INVALID_PARAMETER,
            )
