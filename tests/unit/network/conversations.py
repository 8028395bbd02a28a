"""What a sender says on the wire, byte by byte, for the tests of the upper layer."""

from collections.abc import Iterable

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.network.dimse import Command, Kind, encode_command
from node.network.events import AssociationRequested, DataFragment, Event, OperationComplete
from node.network.items import PresentationContext, UserInformation
from node.network.machine import Machine
from node.network.negotiation import answer_request
from node.network.pdu import AssociateRequest, ReleaseRequest, data_head, encode_pdu

__all__ = ["ECHO", "OPEN", "RELEASE", "STORE", "VERIFICATION", "drive", "message", "request", "store"]

VERIFICATION = "1.2.840.10008.1.1"
LONGEST = 16384


def request(*, max_pdu_bytes: int = 16384, calling_ae: str = "CT1") -> AssociateRequest:
    return AssociateRequest(
        "WETREAD",
        calling_ae,
        (
            PresentationContext(1, VERIFICATION, (str(ImplicitVRLittleEndian),)),
            PresentationContext(3, str(CTImageStorage), (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))),
            PresentationContext(5, "1.2.3.4", (str(ImplicitVRLittleEndian),)),
        ),
        UserInformation(max_pdu_bytes, "1.2.3", "TEST"),
    )


def message(context_id: int, command: Command, dataset: bytes = b"", *, fragment: int = LONGEST - 6) -> bytes:
    """A command and its dataset, each fragment in a P-DATA-TF of its own."""
    sent = b""
    for data, is_command in ((encode_command(command), True), (dataset, False)):
        for start in range(0, len(data), fragment):
            part = data[start : start + fragment]
            is_last = start + fragment >= len(data)
            sent += data_head(context_id, len(part), is_command=is_command, is_last=is_last) + part
    return sent


def store(number: int, dataset: bytes, *, fragment: int = LONGEST - 6) -> bytes:
    command = Command(
        Kind.STORE_REQUEST,
        number,
        has_dataset=True,
        sop_class_uid=str(CTImageStorage),
        sop_instance_uid=f"2.25.{number}",
    )
    return message(3, command, dataset, fragment=fragment)


OPEN = encode_pdu(request())
ECHO = message(1, Command(Kind.ECHO_REQUEST, 7, sop_class_uid=VERIFICATION))
STORE = store(8, bytes(range(256)) * 200)
RELEASE = encode_pdu(ReleaseRequest())


def drive(machine: Machine, chunks: Iterable[bytes], *, is_answering: bool = True) -> list[Event | bytes]:
    """Feed an acceptor and answer it; its events in order, with neighbouring stretches of a dataset put together."""
    events: list[Event | bytes] = []
    for chunk in chunks:
        for event in machine.receive(memoryview(chunk)):
            if isinstance(event, DataFragment):
                before = events.pop() if events and isinstance(events[-1], bytes) else b""
                assert isinstance(before, bytes)
                events.append(before + bytes(event.data))
                continue
            events.append(event)
            if isinstance(event, AssociationRequested):
                classes = {VERIFICATION: [str(ImplicitVRLittleEndian)], str(CTImageStorage): [ExplicitVRLittleEndian]}
                machine.accept(
                    answer_request(event.request, lambda uid, taken=classes: taken.get(uid, ()), max_pdu_bytes=LONGEST)
                )
            elif isinstance(event, OperationComplete) and is_answering:
                machine.respond(0x0000)
    return events
