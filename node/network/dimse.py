"""The commands that go before a dataset: "is anybody there", "store this", "I have committed these".

Command sets are always implicit VR little endian and hold a handful of elements, so they are written and
read directly.

References
----------
PS3.7 6.3 (encoding), 9.3 and 10.3 (messages), E.1 (elements).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from node.errors import ProtocolError

__all__ = [
    "LONGEST_COMMAND_BYTES",
    "PENDING",
    "RESPONSE_BIT",
    "Command",
    "Kind",
    "decode_command",
    "encode_command",
    "response_to",
]

LONGEST_COMMAND_BYTES = 1 << 16
LONGEST_COMMENT = 64  # PS3.7 E.1: Error Comment is LO
RESPONSE_BIT = 0x8000  # PS3.7 E.1: the field of a response is that of its request with this bit
NO_DATASET = 0x0101  # PS3.7 E.1, Command Data Set Type; anything else means that a dataset follows
SOME_DATASET = 0x0001
MEDIUM_PRIORITY = 0
PENDING = (0xFF00, 0xFF01)  # PS3.4 C.4.1.1.4: a match, and more answers to the same C-FIND come

ELEMENT = struct.Struct("<HHI")
SHORT = struct.Struct("<H")
LONG = struct.Struct("<I")

# PS3.7 E.1: element numbers in group 0000
GROUP_LENGTH = 0x0000
AFFECTED_SOP_CLASS, REQUESTED_SOP_CLASS = 0x0002, 0x0003
COMMAND_FIELD, MESSAGE_ID, RESPONDED_ID = 0x0100, 0x0110, 0x0120
PRIORITY, DATASET_TYPE, STATUS, ERROR_COMMENT = 0x0700, 0x0800, 0x0900, 0x0902
AFFECTED_SOP_INSTANCE, REQUESTED_SOP_INSTANCE = 0x1000, 0x1001
EVENT_TYPE, ACTION_TYPE = 0x1002, 0x1008
MOVE_ORIGINATOR_AE, MOVE_ORIGINATOR_ID = 0x1030, 0x1031


class Kind(IntEnum):
    """The commands this node speaks (PS3.7 E.1, Command Field)."""

    STORE_REQUEST = 0x0001
    STORE_RESPONSE = 0x8001
    FIND_REQUEST = 0x0020
    FIND_RESPONSE = 0x8020
    ECHO_REQUEST = 0x0030
    ECHO_RESPONSE = 0x8030
    EVENT_REPORT_REQUEST = 0x0100
    EVENT_REPORT_RESPONSE = 0x8100
    ACTION_REQUEST = 0x0130
    ACTION_RESPONSE = 0x8130
    CANCEL_REQUEST = 0x0FFF


TYPE_ELEMENTS: Mapping[int, int] = {  # where a command says which event or action it is about
    Kind.EVENT_REPORT_REQUEST: EVENT_TYPE,
    Kind.EVENT_REPORT_RESPONSE: EVENT_TYPE,
    Kind.ACTION_REQUEST: ACTION_TYPE,
    Kind.ACTION_RESPONSE: ACTION_TYPE,
}
SHORTS = frozenset(
    {COMMAND_FIELD, MESSAGE_ID, RESPONDED_ID, PRIORITY, DATASET_TYPE, STATUS, EVENT_TYPE, ACTION_TYPE}
    | {MOVE_ORIGINATOR_ID}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """One command set.

    `kind` is the Command Field, one of `Kind` or any other number; `message_id` is the Message ID of a request and,
    for a response, the one it answers. The UIDs are the affected ones, of an N-ACTION-RQ the requested ones; they
    are the peer's text as it came and need not be UIDs. `type_id` is the Event or Action Type ID.
    """

    kind: int
    message_id: int
    has_dataset: bool = False
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    status: int | None = None
    comment: str = ""
    priority: int = MEDIUM_PRIORITY
    type_id: int | None = None
    move_originator_ae: str = ""
    move_originator_id: int | None = None

    @property
    def is_response(self) -> bool:
        """True for the answer to a request."""
        return bool(self.kind & RESPONSE_BIT)


def response_to(request: Command, status: int, comment: str = "") -> Command:
    """The answer to a request that carries no dataset; a `comment` says why, in at most 64 characters."""
    return Command(
        kind=request.kind | RESPONSE_BIT,
        message_id=request.message_id,
        sop_class_uid=request.sop_class_uid,
        sop_instance_uid=request.sop_instance_uid,
        status=status,
        comment=comment[:LONGEST_COMMENT],
        type_id=request.type_id,
    )


def encode_command(command: Command) -> bytes:
    """The bytes of a command set, elements in ascending order."""
    is_requested = command.kind == Kind.ACTION_REQUEST
    sop_class = _text(command.sop_class_uid, b"\0")
    parts = []
    if command.sop_class_uid:
        parts.append(_element(REQUESTED_SOP_CLASS if is_requested else AFFECTED_SOP_CLASS, sop_class))
    parts.append(_short(COMMAND_FIELD, command.kind))
    parts.append(_short(RESPONDED_ID if command.is_response else MESSAGE_ID, command.message_id))
    if command.kind in (Kind.STORE_REQUEST, Kind.FIND_REQUEST):
        parts.append(_short(PRIORITY, command.priority))
    parts.append(_short(DATASET_TYPE, SOME_DATASET if command.has_dataset else NO_DATASET))
    if command.status is not None:
        parts.append(_short(STATUS, command.status))
    if command.comment:
        parts.append(_element(ERROR_COMMENT, _text(command.comment, b" ")))
    if command.sop_instance_uid:
        instance = _text(command.sop_instance_uid, b"\0")
        parts.append(_element(REQUESTED_SOP_INSTANCE if is_requested else AFFECTED_SOP_INSTANCE, instance))
    if command.type_id is not None and command.kind in TYPE_ELEMENTS:
        parts.append(_short(TYPE_ELEMENTS[command.kind], command.type_id))
    if command.move_originator_ae:
        parts.append(_element(MOVE_ORIGINATOR_AE, _text(command.move_originator_ae, b" ")))
    if command.move_originator_id is not None:
        parts.append(_short(MOVE_ORIGINATOR_ID, command.move_originator_id))
    body = b"".join(parts)
    return _element(GROUP_LENGTH, LONG.pack(len(body))) + body


def decode_command(data: bytes) -> Command:
    """Read a command set.

    Elements the node has no use for are passed over, and the group length is not believed.

    Raises
    ------
    ProtocolError
        If an element reaches beyond the end, is of another group or out of order, or if the Command Field,
        the Message ID or the Data Set Type is missing or no 16 bit number.
    """
    numbers: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    position, previous = 0, -1
    while position < len(data):
        if position + ELEMENT.size > len(data):
            raise ProtocolError("a command set is cut short")
        group, element, length = ELEMENT.unpack_from(data, position)
        start, position = position + ELEMENT.size, position + ELEMENT.size + length
        if group != 0 or element <= previous or position > len(data):
            raise ProtocolError(f"({group:04X},{element:04X}) does not belong there in a command set")
        previous = element
        if element in SHORTS:
            if length != SHORT.size:
                raise ProtocolError(f"(0000,{element:04X}) has {length} bytes, not 2")
            (numbers[element],) = SHORT.unpack_from(data, start)
        else:
            texts[element] = data[start:position]
    return _command(numbers, texts)


def _command(numbers: dict[int, int], texts: dict[int, bytes]) -> Command:
    kind, data_set_type = numbers.get(COMMAND_FIELD), numbers.get(DATASET_TYPE)
    if kind is None or data_set_type is None:
        raise ProtocolError("a command set lacks its Command Field or Data Set Type")
    is_answer = bool(kind & RESPONSE_BIT) or kind == Kind.CANCEL_REQUEST  # PS3.7 9.3.2.3: it names what it cancels
    message_id = numbers.get(RESPONDED_ID if is_answer else MESSAGE_ID)
    if message_id is None:
        raise ProtocolError("a command set lacks its Message ID")
    is_requested = kind == Kind.ACTION_REQUEST
    return Command(
        kind=kind,
        message_id=message_id,
        has_dataset=data_set_type != NO_DATASET,
        sop_class_uid=_read(texts, REQUESTED_SOP_CLASS if is_requested else AFFECTED_SOP_CLASS),
        sop_instance_uid=_read(texts, REQUESTED_SOP_INSTANCE if is_requested else AFFECTED_SOP_INSTANCE),
        status=numbers.get(STATUS),
        comment=_read(texts, ERROR_COMMENT)[:LONGEST_COMMENT],
        priority=numbers.get(PRIORITY, MEDIUM_PRIORITY),
        type_id=numbers.get(TYPE_ELEMENTS.get(kind, EVENT_TYPE)),
        move_originator_ae=_read(texts, MOVE_ORIGINATOR_AE),
        move_originator_id=numbers.get(MOVE_ORIGINATOR_ID),
    )


def _read(texts: Mapping[int, bytes], element: int) -> str:
    # Latin-1 keeps whatever bytes a peer sends, so that a UID is echoed as it came.
    return texts.get(element, b"").strip(b" \0").decode("latin-1")


def _text(value: str, padding: bytes) -> bytes:
    encoded = value.encode("latin-1", errors="replace")
    return encoded + padding * (len(encoded) % 2)


def _element(number: int, value: bytes) -> bytes:
    return ELEMENT.pack(0, number, len(value)) + value


def _short(number: int, value: int) -> bytes:
    return ELEMENT.pack(0, number, SHORT.size) + SHORT.pack(value)
