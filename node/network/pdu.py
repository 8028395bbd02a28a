"""The messages two DICOM programs exchange to open, use and close an Association.

Each Protocol Data Unit but P-DATA-TF is a record here, with one function to encode and one to decode;
what a P-DATA-TF carries is never collected, so it has only a head (see `node.network.stream`).

References
----------
PS3.8 9.3.
"""

import struct
from dataclasses import dataclass, field

from node.errors import ProtocolError
from node.network.items import (
    INVALID_PARAMETER,
    NO_REASON,
    ContextAnswer,
    PresentationContext,
    UserInformation,
    decode_answer,
    decode_items,
    decode_proposal,
    decode_uid,
    encode_answer,
    encode_item,
    encode_proposal,
)

__all__ = [
    "ABORT",
    "APPLICATION_CONTEXT",
    "ASSOCIATE_AC",
    "ASSOCIATE_RJ",
    "ASSOCIATE_RQ",
    "COMMAND_BIT",
    "LAST_BIT",
    "LONGEST_ASSOCIATE_BYTES",
    "PDU_HEAD",
    "P_DATA",
    "RELEASE_RP",
    "RELEASE_RQ",
    "VALUE_HEAD",
    "Abort",
    "AssociateAccept",
    "AssociateReject",
    "AssociateRequest",
    "ControlPdu",
    "ReleaseReply",
    "ReleaseRequest",
    "data_head",
    "decode_pdu",
    "encode_pdu",
]

# PS3.8 9.3.1: PDU types
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
PDU_HEAD = struct.Struct(">BxI")  # type, reserved, length of what follows
VALUE_HEAD = struct.Struct(">IBB")  # of a Presentation Data Value: length, Presentation Context ID, control header
DATA_HEAD = struct.Struct(">BxIIBB")  # one after the other
COMMAND_BIT, LAST_BIT = 1, 2  # PS3.8 E.2
FIXED = struct.Struct(">H2x16s16s32x")  # protocol version, called and calling AE title
FOUR = struct.Struct(">xBBB")  # reserved, then result, source and reason as the PDU has them
PROTOCOL_VERSION = 1  # PS3.8 9.3.2, bit 0
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 Annex A.2.1; pydicom has no name for it
# 128 contexts (PS3.8 9.3.2.2) with every transfer syntax there is come to about 300 kB in theory, to 40 kB in practice.
LONGEST_ASSOCIATE_BYTES = 1 << 17
LONGEST_AE_TITLE = 16  # PS3.5 6.2, VR AE
CONTEXT_ITEM, PROPOSED, ANSWERED, USER = 0x10, 0x20, 0x21, 0x50


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ: somebody wants to send."""

    called_ae: str
    calling_ae: str
    contexts: tuple[PresentationContext, ...]
    user: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC: come in, with these contexts. The AE titles are those of the request."""

    called_ae: str
    calling_ae: str
    answers: tuple[ContextAnswer, ...]
    user: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """A-ASSOCIATE-RJ; the three numbers are those of PS3.8 Table 9-21."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A-RELEASE-RQ: the sender has finished."""


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    """A-RELEASE-RP: so have we."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT; `source` 0 is the peer's program, 2 its protocol layer (PS3.8 Table 9-26)."""

    source: int
    reason: int = NO_REASON


ControlPdu = AssociateRequest | AssociateAccept | AssociateReject | ReleaseRequest | ReleaseReply | Abort


def encode_pdu(pdu: ControlPdu) -> bytes:
    """The bytes of a PDU.

    Raises
    ------
    ProtocolError
        If an AE title, a UID or the number of contexts cannot be said in it.
    """
    if isinstance(pdu, AssociateRequest):
        proposed = [encode_item(PROPOSED, encode_proposal(context)) for context in pdu.contexts]
        return _frame(ASSOCIATE_RQ, _encode_association(pdu, proposed))
    if isinstance(pdu, AssociateAccept):
        answered = [encode_item(ANSWERED, encode_answer(answer)) for answer in pdu.answers]
        return _frame(ASSOCIATE_AC, _encode_association(pdu, answered))
    if isinstance(pdu, AssociateReject):
        return _frame(ASSOCIATE_RJ, FOUR.pack(pdu.result, pdu.source, pdu.reason))
    if isinstance(pdu, Abort):
        return _frame(ABORT, FOUR.pack(0, pdu.source, pdu.reason))
    return _frame(RELEASE_RQ if isinstance(pdu, ReleaseRequest) else RELEASE_RP, FOUR.pack(0, 0, 0))


def decode_pdu(kind: int, body: bytes) -> ControlPdu:
    """Read what follows the head of a PDU that is not a P-DATA-TF.

    Raises
    ------
    ProtocolError
        If it is not what the standard says.
    """
    if kind == ASSOCIATE_RQ:
        version, called, calling, found = _decode_association(body)
        contexts = tuple(decode_proposal(value) for item, value in found if item == PROPOSED)
        _check_unique([context.context_id for context in contexts])
        return AssociateRequest(called, calling, contexts, *_common(found), version)
    if kind == ASSOCIATE_AC:
        version, called, calling, found = _decode_association(body)
        answers = tuple(decode_answer(value) for item, value in found if item == ANSWERED)
        _check_unique([answer.context_id for answer in answers])
        return AssociateAccept(called, calling, answers, *_common(found), version)
    if len(body) != FOUR.size:
        raise ProtocolError(f"a PDU of type {kind} has {len(body)} bytes, not 4", reason=INVALID_PARAMETER)
    first, second, third = FOUR.unpack(body)
    if kind == ASSOCIATE_RJ:
        return AssociateReject(first, second, third)
    if kind == ABORT:
        return Abort(second, third)
    return ReleaseRequest() if kind == RELEASE_RQ else ReleaseReply()


def data_head(context_id: int, length: int, *, is_command: bool, is_last: bool) -> bytes:
    """The head of a P-DATA-TF that carries one fragment of `length` bytes."""
    control = (COMMAND_BIT if is_command else 0) | (LAST_BIT if is_last else 0)
    return DATA_HEAD.pack(P_DATA, length + 6, length + 2, context_id, control)


def _frame(kind: int, body: bytes) -> bytes:
    return PDU_HEAD.pack(kind, len(body)) + body


def _encode_association(pdu: AssociateRequest | AssociateAccept, contexts: list[bytes]) -> bytes:
    fixed = FIXED.pack(pdu.protocol_version, _ae_title(pdu.called_ae), _ae_title(pdu.calling_ae))
    name = encode_item(CONTEXT_ITEM, pdu.application_context.encode("ascii"))
    return b"".join((fixed, name, *contexts, encode_item(USER, pdu.user.encode())))


def _decode_association(body: bytes) -> tuple[int, str, str, list[tuple[int, bytes]]]:
    if len(body) < FIXED.size:
        raise ProtocolError(f"an A-ASSOCIATE PDU of {len(body)} bytes is too short", reason=INVALID_PARAMETER)
    version, called, calling = FIXED.unpack_from(body)
    # Letters beyond ASCII are not allowed and are sent all the same; what is read here is written back unchanged.
    titles = [title.decode("latin-1").strip(" \0") for title in (called, calling)]
    return version, titles[0], titles[1], list(decode_items(body[FIXED.size :]))


def _common(found: list[tuple[int, bytes]]) -> tuple[UserInformation, str]:
    users = [value for item, value in found if item == USER]
    names = [value for item, value in found if item == CONTEXT_ITEM]
    if len(users) > 1 or len(names) > 1:
        raise ProtocolError("user information or application context comes twice", reason=INVALID_PARAMETER)
    user = UserInformation.decode(users[0]) if users else UserInformation()
    return user, decode_uid(names[0]) if names else ""


def _check_unique(context_ids: list[int]) -> None:
    if len(set(context_ids)) != len(context_ids):
        raise ProtocolError("a Presentation Context ID comes twice", reason=INVALID_PARAMETER)


def _ae_title(text: str) -> bytes:
    try:
        title = text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ProtocolError("an AE title has letters, digits and signs of ASCII only") from error
    if len(title) > LONGEST_AE_TITLE:
        raise ProtocolError(f"an AE title has at most {LONGEST_AE_TITLE} characters, not {len(title)}")
    return title.ljust(LONGEST_AE_TITLE)
