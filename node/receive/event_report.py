"""What a PACS tells us of its own accord: "I have committed these", in a message of its own.

References
----------
PS3.4 J.3.3 (Storage Commitment, N-EVENT-REPORT), PS3.7 10.1.1 and C.5 (statuses).
"""

from collections.abc import Callable
from dataclasses import dataclass

from node.dicom.commitment import COMMITMENT, COMMITMENT_INSTANCE
from node.network import Command
from node.network.items import RoleSelection
from node.network.pdu import AssociateRequest
from node.receive.spool import Answer

__all__ = ["COMMITMENT", "INVALID_ARGUMENT", "EventReport", "ReportInMemory", "Reported", "is_reporter", "role_for"]

EVENT_TYPES = (1, 2)  # PS3.4 J.3.3.1: all are committed; some are not
NO_SUCH_INSTANCE, NO_SUCH_EVENT_TYPE, INVALID_ARGUMENT, RESOURCE_LIMITATION = 0x0112, 0x0113, 0x0115, 0x0213
LONGEST_REPORT_BYTES = 1 << 20  # some 5,000 references


@dataclass(frozen=True, slots=True)
class EventReport:
    """A report as it came: the dataset is encoded, and whether it can be read is for whoever takes it to find out."""

    event_type: int
    dataset: bytes
    transfer_syntax_uid: str
    calling_ae: str


Reported = Callable[[EventReport], Answer]


def is_reporter(request: AssociateRequest) -> bool:
    """True if a peer says that it is the one who commits (PS3.7 D.3.3.4); without that it asks us to be."""
    return any(role.sop_class_uid == COMMITMENT and role.is_scp for role in request.user.roles)


def role_for(request: AssociateRequest) -> dict[str, RoleSelection]:
    """Our word on the roles: we ask, the peer commits, never the other way round."""
    agreed = RoleSelection(COMMITMENT, is_scu=False, is_scp=True)
    return {COMMITMENT: agreed} if is_reporter(request) else {}


class ReportInMemory:
    """A report whose dataset is coming in; it is small, and one that is not is let through to nowhere."""

    def __init__(self, command: Command, transfer_syntax_uid: str, calling_ae: str) -> None:
        self._command = command
        self._syntax = transfer_syntax_uid
        self._calling_ae = calling_ae
        self._dataset = bytearray()
        self._is_too_long = False

    def add(self, piece: memoryview) -> None:
        """Take a stretch."""
        self._is_too_long = self._is_too_long or len(self._dataset) + len(piece) > LONGEST_REPORT_BYTES
        if self._is_too_long:
            self._dataset.clear()
        else:
            self._dataset += piece

    def hand_on(self, reported: Reported) -> Answer:
        """Give it to whoever waits for it, if it can be one; the answer for the peer."""
        command = self._command
        if self._is_too_long:
            return Answer(RESOURCE_LIMITATION, f"longer than {LONGEST_REPORT_BYTES} bytes")
        if command.sop_instance_uid != COMMITMENT_INSTANCE:
            return Answer(NO_SUCH_INSTANCE)
        if command.type_id not in EVENT_TYPES:
            return Answer(NO_SUCH_EVENT_TYPE)
        if not self._dataset:
            return Answer(INVALID_ARGUMENT, "the report is empty")
        return reported(EventReport(command.type_id, bytes(self._dataset), self._syntax, self._calling_ae))
