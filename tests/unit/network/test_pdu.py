"""PDUs: what is written is read back, pynetdicom writes and reads the same, and nonsense is refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as oracle
from pynetdicom import pdu_items as oracle_items

from node.errors import ProtocolError
from node.network.items import (
    CommonExtended,
    ContextAnswer,
    Extended,
    PresentationContext,
    RoleSelection,
    UserInformation,
)
from node.network.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    PDU_HEAD,
    RELEASE_RP,
    RELEASE_RQ,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ControlPdu,
    ReleaseReply,
    ReleaseRequest,
    decode_pdu,
    encode_pdu,
)

UIDS = st.lists(st.integers(0, 99999), min_size=2, max_size=9).map(lambda parts: ".".join(map(str, parts)))
TITLES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=16)
BYTE = st.integers(0, 255)
CONTEXT_IDS = st.integers(0, 127).map(lambda number: 2 * number + 1)
USERS = st.builds(
    UserInformation,
    max_pdu_bytes=st.integers(0, 2**32 - 1),
    implementation_class_uid=UIDS,
    implementation_version=st.text("ABC123_.", min_size=1, max_size=16),
    async_window=st.none() | st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
    roles=st.lists(st.builds(RoleSelection, UIDS, st.booleans(), st.booleans()), max_size=4).map(tuple),
    extended=st.lists(st.builds(Extended, UIDS, st.binary(min_size=1, max_size=9)), max_size=3).map(tuple),
    common_extended=st.lists(
        st.builds(CommonExtended, UIDS, UIDS, st.lists(UIDS, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
)
CONTEXTS = st.lists(
    st.builds(PresentationContext, CONTEXT_IDS, UIDS, st.lists(UIDS, min_size=1, max_size=4).map(tuple)),
    unique_by=lambda context: context.context_id,
    max_size=8,
).map(tuple)
ANSWERS = st.lists(
    st.builds(ContextAnswer, CONTEXT_IDS, st.integers(0, 4), UIDS),
    unique_by=lambda answer: answer.context_id,
    max_size=8,
).map(tuple)
REQUESTS = st.builds(AssociateRequest, TITLES, TITLES, CONTEXTS, USERS)
ACCEPTS = st.builds(AssociateAccept, TITLES, TITLES, ANSWERS, USERS)
PDUS = st.one_of(
    REQUESTS,
    ACCEPTS,
    st.builds(AssociateReject, BYTE, BYTE, BYTE),
    st.just(ReleaseRequest()),
    st.just(ReleaseReply()),
    st.builds(Abort, BYTE, BYTE),
)
SHORTEST = {ASSOCIATE_RQ: 68, ASSOCIATE_AC: 68, ASSOCIATE_RJ: 4, RELEASE_RQ: 4, RELEASE_RP: 4, ABORT: 4}


def decoded(data: bytes) -> ControlPdu:
    kind, length = PDU_HEAD.unpack_from(data)
    assert length == len(data) - PDU_HEAD.size
    return decode_pdu(kind, data[PDU_HEAD.size :])


@given(PDUS)
def test_what_is_written_is_read_back(pdu: ControlPdu) -> None:
    assert decoded(encode_pdu(pdu)) == pdu


@given(REQUESTS)
def test_pynetdicom_reads_and_writes_the_same_request(request: AssociateRequest) -> None:
    ours = encode_pdu(request)
    theirs = oracle.A_ASSOCIATE_RQ()
    theirs.decode(ours)
    assert theirs.called_ae_title == request.called_ae
    assert theirs.calling_ae_title == request.calling_ae
    assert theirs.protocol_version == 1
    assert theirs.application_context_name == "1.2.840.10008.3.1.1.1"
    assert [
        PresentationContext(one.context_id, str(one.abstract_syntax), tuple(map(str, one.transfer_syntax)))
        for one in theirs.presentation_context
    ] == list(request.contexts)
    assert theirs.user_information is not None
    assert theirs.user_information.maximum_length == request.user.max_pdu_bytes
    assert decoded(theirs.encode()) == request


@given(ACCEPTS)
def test_pynetdicom_reads_and_writes_the_same_accept(accept: AssociateAccept) -> None:
    theirs = oracle.A_ASSOCIATE_AC()
    theirs.decode(encode_pdu(accept))
    assert [(one.context_id, one.result) for one in theirs.presentation_context] == [
        (one.context_id, one.result) for one in accept.answers
    ]
    assert theirs.encode() == encode_pdu(accept)


@given(BYTE, BYTE, BYTE)
def test_pynetdicom_reads_and_writes_the_same_refusals(first: int, second: int, third: int) -> None:
    reject = oracle.A_ASSOCIATE_RJ()
    reject.decode(encode_pdu(AssociateReject(first, second, third)))
    assert (reject.result, reject.source, reject.reason_diagnostic) == (first, second, third)
    assert reject.encode() == encode_pdu(AssociateReject(first, second, third))
    abort = oracle.A_ABORT_RQ()
    abort.decode(encode_pdu(Abort(second, third)))
    assert (abort.source, abort.reason_diagnostic) == (second, third)
    assert oracle.A_RELEASE_RQ().encode() == encode_pdu(ReleaseRequest())
    assert oracle.A_RELEASE_RP().encode() == encode_pdu(ReleaseReply())


def test_a_user_identity_is_passed_over() -> None:
    theirs = oracle.A_ASSOCIATE_RQ()
    theirs.decode(encode_pdu(AssociateRequest("A", "B", (PresentationContext(1, "1.2", ("1.2.3",)),))))
    identity = oracle_items.UserIdentitySubItemRQ()
    identity.user_identity_type = 2
    identity.positive_response_requested = 0
    identity.primary_field = b"somebody"
    identity.secondary_field = b"a secret"
    assert theirs.user_information is not None
    theirs.user_information.user_data.append(identity)
    found = decoded(theirs.encode())
    assert isinstance(found, AssociateRequest)
    assert found.user == UserInformation()


@given(PDUS, st.data())
def test_changed_bytes_are_read_or_refused_and_nothing_else(pdu: ControlPdu, data: st.DataObject) -> None:
    body = bytearray(encode_pdu(pdu)[PDU_HEAD.size :])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(BYTE)
    cut = data.draw(st.integers(0, len(body)))
    for kind in SHORTEST:
        for changed in (bytes(body), bytes(body[:cut])):
            try:
                decode_pdu(kind, changed)
            except ProtocolError:
                continue


@given(st.binary(max_size=300))
def test_noise_is_read_or_refused(noise: bytes) -> None:
    for kind, shortest in SHORTEST.items():
        try:
            decode_pdu(kind, bytes(shortest) + noise)
        except ProtocolError:
            continue


def test_a_full_house_of_items_is_read_in_linear_time() -> None:
    empty = struct.pack(">BxH", 0x77, 0) * 32_000
    uid = struct.pack(">H", 1) + b"1"
    role = struct.pack(">BxH", 0x54, len(uid) + 2) + uid + b"\1\1"
    user = struct.pack(">BxH", 0x50, 65_000 // len(role) * len(role)) + role * (65_000 // len(role))
    found = decode_pdu(ASSOCIATE_RQ, struct.pack(">H66x", 1) + empty + user)
    assert isinstance(found, AssociateRequest)
    assert len(found.user.roles) == 65_000 // len(role)


@pytest.mark.parametrize(
    "contexts",
    [
        (PresentationContext(1, "1.2", ("1.2.3",)), PresentationContext(1, "1.2", ("1.2.4",))),
        (PresentationContext(2, "1.2", ("1.2.3",)),),
        (PresentationContext(1, "1.2", ()),),
        (PresentationContext(1, "", ("1.2.3",)),),
    ],
)
def test_contexts_that_cannot_be_told_apart_or_say_nothing_are_refused(
    contexts: tuple[PresentationContext, ...],
) -> None:
    with pytest.raises(ProtocolError):
        decoded(encode_pdu(AssociateRequest("A", "B", contexts)))


def test_an_ae_title_of_17_characters_cannot_be_written() -> None:
    with pytest.raises(ProtocolError, match="16"):
        encode_pdu(AssociateRequest("A" * 17, "B", ()))
    with pytest.raises(ProtocolError, match="ASCII"):
        encode_pdu(AssociateRequest("胸片", "B", ()))


def test_padding_around_titles_and_uids_is_taken_off() -> None:
    request = AssociateRequest("WETREAD", "CT1", (PresentationContext(1, "1.2.3", ("1.2.840.10008.1.2",)),))
    data = encode_pdu(request).replace(b"CT1             ", b" CT1\0\0\0\0\0\0\0\0\0\0\0\0")
    data = data.replace(b"\x30\0\0\x051.2.3", b"\x30\0\0\x051.2\0\0")
    found = decoded(data)
    assert isinstance(found, AssociateRequest)
    assert found.calling_ae == "CT1"
    assert found.contexts[0].abstract_syntax == "1.2"
