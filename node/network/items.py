"""What two sides tell each other when an Association begins: contexts, lengths, roles.

Items are encoded and decoded here without knowing what they are for. Everything is bounded by the PDU
that holds it, every byte is looked at a fixed number of times, and items of unknown types are passed over,
as the standard demands.

References
----------
PS3.8 9.3.2 and 9.3.3 (items), PS3.7 D.3.3 (user information).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import ImplicitVRLittleEndian

from node.errors import ProtocolError

__all__ = [
    "INVALID_PARAMETER",
    "NO_REASON",
    "UNEXPECTED_PDU",
    "UNRECOGNIZED_PDU",
    "CommonExtended",
    "ContextAnswer",
    "Extended",
    "PresentationContext",
    "RoleSelection",
    "UserInformation",
    "decode_answer",
    "decode_items",
    "decode_proposal",
    "decode_uid",
    "encode_answer",
    "encode_item",
    "encode_proposal",
]

# PS3.8 9.3.8: reasons of an A-ABORT
NO_REASON, UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 1, 2, 6

ABSTRACT_SYNTAX, TRANSFER_SYNTAX = 0x30, 0x40  # PS3.8 9.3.2.2
MAXIMUM_LENGTH = 0x51  # PS3.8 D.1
# PS3.7 D.3.3
IMPLEMENTATION_CLASS, ASYNC_WINDOW, ROLE, IMPLEMENTATION_VERSION, EXTENDED, COMMON_EXTENDED = (
    0x52,
    0x53,
    0x54,
    0x55,
    0x56,
    0x57,
)
LONGEST_UID = 64  # PS3.5 9.1
ITEM_HEAD = struct.Struct(">BxH")
LENGTH = struct.Struct(">H")
CONTEXT_HEAD = struct.Struct(">BxBx")  # Presentation-context-ID, reserved, Result, reserved
WINDOW = struct.Struct(">HH")
LONG = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """One kind of object the requestor wants to send, and the encodings it has for it, best first."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextAnswer:
    """What the acceptor says to one Presentation Context; `result` 0 is yes (PS3.8 Table 9-18)."""

    context_id: int
    result: int
    transfer_syntax: str = str(ImplicitVRLittleEndian)


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """Which sides of a SOP class the requestor wants to be, or may be (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    is_scu: bool
    is_scp: bool


@dataclass(frozen=True, slots=True)
class Extended:
    """Service class application information about a SOP class, as bytes (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtended:
    """The service class a SOP class belongs to, and the general ones it specializes (PS3.7 D.3.3.6)."""

    sop_class_uid: str
    service_class_uid: str
    related_sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserInformation:
    """What one side says about itself; a user's identity is passed over.

    `max_pdu_bytes` is the longest P-DATA-TF it takes, 0 for any length. `async_window` is how many
    operations it would have outstanding as (invoker, performer), None if it does not say.
    """

    max_pdu_bytes: int = 0
    implementation_class_uid: str = ""
    implementation_version: str = ""
    async_window: tuple[int, int] | None = None
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[Extended, ...] = ()
    common_extended: tuple[CommonExtended, ...] = ()

    def encode(self) -> bytes:
        """The sub-items in the order of their numbers."""
        parts = [encode_item(MAXIMUM_LENGTH, LONG.pack(self.max_pdu_bytes))]
        if self.implementation_class_uid:
            parts.append(encode_item(IMPLEMENTATION_CLASS, self.implementation_class_uid.encode("ascii")))
        if self.async_window is not None:
            parts.append(encode_item(ASYNC_WINDOW, WINDOW.pack(*self.async_window)))
        parts.extend(
            encode_item(ROLE, _counted(role.sop_class_uid) + bytes((role.is_scu, role.is_scp))) for role in self.roles
        )
        if self.implementation_version:
            parts.append(encode_item(IMPLEMENTATION_VERSION, self.implementation_version.encode("ascii")))
        parts.extend(encode_item(EXTENDED, _counted(one.sop_class_uid) + one.information) for one in self.extended)
        parts.extend(encode_item(COMMON_EXTENDED, _encode_common(one)) for one in self.common_extended)
        return b"".join(parts)

    @classmethod
    def decode(cls, body: bytes) -> "UserInformation":
        """Read the sub-items.

        Raises
        ------
        ProtocolError
            If one is too short, too long or reaches beyond its end.
        """
        roles, extended, common = [], [], []
        max_pdu_bytes, class_uid, version = 0, "", ""
        window: tuple[int, int] | None = None
        for kind, value in decode_items(body):
            if kind == MAXIMUM_LENGTH:
                (max_pdu_bytes,) = _fixed(LONG, value)
            elif kind == IMPLEMENTATION_CLASS:
                class_uid = decode_uid(value)
            elif kind == IMPLEMENTATION_VERSION:
                version = value.decode("ascii", errors="replace").strip(" \0")
            elif kind == ASYNC_WINDOW:
                invoked, performed = _fixed(WINDOW, value)
                window = (invoked, performed)
            elif kind == ROLE:
                roles.append(_decode_role(value))
            elif kind == EXTENDED:
                uid, position = _take_counted(value, 0)
                extended.append(Extended(decode_uid(uid), value[position:]))
            elif kind == COMMON_EXTENDED:
                common.append(_decode_common(value))
        return cls(max_pdu_bytes, class_uid, version, window, tuple(roles), tuple(extended), tuple(common))


def encode_proposal(context: PresentationContext) -> bytes:
    """The value of a Presentation Context item of an A-ASSOCIATE-RQ."""
    syntaxes = [encode_item(TRANSFER_SYNTAX, uid.encode("ascii")) for uid in context.transfer_syntaxes]
    abstract = encode_item(ABSTRACT_SYNTAX, context.abstract_syntax.encode("ascii"))
    return CONTEXT_HEAD.pack(context.context_id, 0) + abstract + b"".join(syntaxes)


def decode_proposal(body: bytes) -> PresentationContext:
    """Read the value of a Presentation Context item of an A-ASSOCIATE-RQ."""
    context_id, _ = _context_head(body)
    abstract = ""
    syntaxes = []
    for kind, value in decode_items(body[CONTEXT_HEAD.size :]):
        if kind == ABSTRACT_SYNTAX:
            abstract = decode_uid(value)
        elif kind == TRANSFER_SYNTAX:
            syntaxes.append(decode_uid(value))
    if not abstract or not syntaxes:
        raise ProtocolError("a Presentation Context lacks its abstract or transfer syntax", reason=INVALID_PARAMETER)
    return PresentationContext(context_id, abstract, tuple(syntaxes))


def encode_answer(answer: ContextAnswer) -> bytes:
    """The value of a Presentation Context item of an A-ASSOCIATE-AC."""
    syntax = encode_item(TRANSFER_SYNTAX, answer.transfer_syntax.encode("ascii"))
    return CONTEXT_HEAD.pack(answer.context_id, answer.result) + syntax


def decode_answer(body: bytes) -> ContextAnswer:
    """Read the value of a Presentation Context item of an A-ASSOCIATE-AC; a refusal may lack its syntax."""
    context_id, result = _context_head(body)
    syntaxes = [decode_uid(value) for kind, value in decode_items(body[CONTEXT_HEAD.size :]) if kind == TRANSFER_SYNTAX]
    if len(syntaxes) != 1 and result == 0:
        raise ProtocolError("an accepted Presentation Context needs one transfer syntax", reason=INVALID_PARAMETER)
    return ContextAnswer(context_id, result, syntaxes[0]) if syntaxes else ContextAnswer(context_id, result)


def encode_item(kind: int, value: bytes) -> bytes:
    """An item with its head.

    Raises
    ------
    ProtocolError
        If the value is longer than an item can say.
    """
    if len(value) > 0xFFFF:
        raise ProtocolError(f"item {kind:02X}H of {len(value)} bytes; 65535 is the most")
    return ITEM_HEAD.pack(kind, len(value)) + value


def decode_items(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each item.

    Raises
    ------
    ProtocolError
        If an item reaches beyond the end.
    """
    position = 0
    while position < len(body):
        if position + ITEM_HEAD.size > len(body):
            raise ProtocolError("the head of an item is cut short", reason=INVALID_PARAMETER)
        kind, length = ITEM_HEAD.unpack_from(body, position)
        start, position = position + ITEM_HEAD.size, position + ITEM_HEAD.size + length
        if position > len(body):
            raise ProtocolError(f"item {kind:02X}H reaches beyond the end", reason=INVALID_PARAMETER)
        yield kind, body[start:position]


def decode_uid(value: bytes) -> str:
    """A UID as the peer wrote it, without the padding some send; whether it is a good one is for the caller to say."""
    text = value.rstrip(b" \0")
    if len(text) > LONGEST_UID or not text.isascii():
        raise ProtocolError("a UID of at most 64 ASCII characters was expected", reason=INVALID_PARAMETER)
    return text.decode("ascii")


def _context_head(body: bytes) -> tuple[int, int]:
    if len(body) < CONTEXT_HEAD.size:
        raise ProtocolError("a Presentation Context is cut short", reason=INVALID_PARAMETER)
    context_id, result = CONTEXT_HEAD.unpack_from(body)
    if context_id % 2 == 0:  # PS3.8 9.3.2.2
        raise ProtocolError(f"Presentation Context ID {context_id} is not odd", reason=INVALID_PARAMETER)
    return context_id, result


def _decode_role(value: bytes) -> RoleSelection:
    uid, position = _take_counted(value, 0)
    if len(value) != position + 2:
        raise ProtocolError("a role selection has one SOP class and two roles", reason=INVALID_PARAMETER)
    return RoleSelection(decode_uid(uid), bool(value[position]), bool(value[position + 1]))


def _encode_common(item: CommonExtended) -> bytes:
    related = b"".join(map(_counted, item.related_sop_class_uids))
    return _counted(item.sop_class_uid) + _counted(item.service_class_uid) + LENGTH.pack(len(related)) + related


def _decode_common(value: bytes) -> CommonExtended:
    sop_class, position = _take_counted(value, 0)
    service_class, position = _take_counted(value, position)
    related, _ = _take_counted(value, position)
    uids = []
    position = 0
    while position < len(related):
        uid, position = _take_counted(related, position)
        uids.append(decode_uid(uid))
    return CommonExtended(decode_uid(sop_class), decode_uid(service_class), tuple(uids))


def _counted(uid: str) -> bytes:
    return LENGTH.pack(len(uid)) + uid.encode("ascii")


def _take_counted(value: bytes, position: int) -> tuple[bytes, int]:
    """The bytes after a 16 bit length at `position`, and the position after them."""
    start = position + LENGTH.size
    if start > len(value):
        raise ProtocolError("a length is cut short", reason=INVALID_PARAMETER)
    end = start + int(LENGTH.unpack_from(value, position)[0])
    if end > len(value):
        raise ProtocolError("a counted value reaches beyond the end", reason=INVALID_PARAMETER)
    return value[start:end], end


def _fixed(form: struct.Struct, value: bytes) -> tuple[int, ...]:
    if len(value) != form.size:
        raise ProtocolError(f"an item of {form.size} bytes has {len(value)}", reason=INVALID_PARAMETER)
    return form.unpack(value)
