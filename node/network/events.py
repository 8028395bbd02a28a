"""What can happen on an Association, in the order in which it does."""

from dataclasses import dataclass

from node.network.dimse import Command
from node.network.pdu import AssociateAccept, AssociateReject, AssociateRequest

__all__ = [
    "Aborted",
    "AssociationAccepted",
    "AssociationRejected",
    "AssociationRequested",
    "CommandReceived",
    "DataFragment",
    "Event",
    "OperationComplete",
    "ProtocolViolation",
    "ReleaseRequested",
    "Released",
]


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """The peer wants to come in; answer with `Machine.accept` or `Machine.reject`."""

    request: AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociationAccepted:
    """The peer let us in."""

    accept: AssociateAccept


@dataclass(frozen=True, slots=True)
class AssociationRejected:
    """The peer did not let us in; the Association is over."""

    reject: AssociateReject


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A command set is whole; if it says so, its dataset follows as `DataFragment` events."""

    context_id: int
    command: Command


@dataclass(frozen=True, slots=True)
class DataFragment:
    """A stretch of the dataset of the last command; a view that is good until more bytes are received."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class OperationComplete:
    """Command and dataset are whole; a request wants an answer now (`Machine.respond`)."""

    context_id: int
    command: Command


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer has finished; answer with `Machine.reply_release`."""


@dataclass(frozen=True, slots=True)
class Released:
    """The peer agreed to our release; the Association is over."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer broke the Association off; `source` and `reason` as in PS3.8 Table 9-26."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ProtocolViolation:
    """The peer broke the rules and the Association is over; `abort` are the bytes to tell it so."""

    reason: str
    abort: bytes


Event = (
    AssociationRequested
    | AssociationAccepted
    | AssociationRejected
    | CommandReceived
    | DataFragment
    | OperationComplete
    | ReleaseRequested
    | Released
    | Aborted
    | ProtocolViolation
)
