"""Command sets: read back as written, the same bytes as pynetdicom's and pydicom's, nonsense refused."""

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pynetdicom import dimse_messages, dimse_primitives

from node.errors import ProtocolError
from node.network.dimse import Command, Kind, decode_command, encode_command, response_to

UIDS = st.lists(st.integers(0, 99999), min_size=2, max_size=9).map(lambda parts: ".".join(map(str, parts)))
NUMBERS = st.integers(0, 65535)
TEXTS = st.text("ABC xyz0", max_size=40).map(str.strip)
STORES = st.builds(
    Command,
    kind=st.just(Kind.STORE_REQUEST),
    message_id=NUMBERS,
    has_dataset=st.just(True),
    sop_class_uid=UIDS,
    sop_instance_uid=UIDS,
    priority=st.integers(0, 2),
    move_originator_ae=st.sampled_from(["", "PACS"]),
    move_originator_id=st.none() | NUMBERS,
)
ECHOES = st.builds(Command, kind=st.just(Kind.ECHO_REQUEST), message_id=NUMBERS, sop_class_uid=UIDS)
EVENTS = st.builds(
    Command,
    kind=st.sampled_from([Kind.EVENT_REPORT_REQUEST, Kind.ACTION_REQUEST]),
    message_id=NUMBERS,
    has_dataset=st.booleans(),
    sop_class_uid=UIDS,
    sop_instance_uid=UIDS,
    type_id=NUMBERS,
)
REQUESTS = st.one_of(STORES, ECHOES, EVENTS)
RESPONSES = st.builds(response_to, REQUESTS, NUMBERS, TEXTS)
COMMANDS = st.one_of(REQUESTS, RESPONSES)


def by_pydicom(data: bytes) -> Dataset:
    return read_dataset(BytesIO(data), is_implicit_VR=True, is_little_endian=True)


@given(COMMANDS)
def test_what_is_written_is_read_back(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@given(COMMANDS)
def test_pydicom_reads_the_same_and_writes_the_same_bytes(command: Command) -> None:
    data = encode_command(command)
    ds = by_pydicom(data)
    assert ds.CommandField == command.kind
    assert ds.CommandGroupLength == len(data) - 12
    assert ds.get("MessageID", ds.get("MessageIDBeingRespondedTo")) == command.message_id
    assert (ds.CommandDataSetType != 0x0101) is command.has_dataset
    assert ds.get("Status") == command.status
    again = DicomBytesIO()
    again.is_little_endian, again.is_implicit_VR = True, True
    write_dataset(again, ds)
    assert again.getvalue() == data


def encoded_by_pynetdicom(message: dimse_messages.DIMSEMessage, primitive: object) -> bytes:
    message.primitive_to_message(primitive)  # type: ignore[arg-type]
    pieces = [
        item[1][1:]
        for one in message.encode_msg(1, 65536)
        for item in one.presentation_data_value_list
        if item[1][0] & 1
    ]
    return b"".join(pieces)


@given(STORES)
def test_pynetdicom_writes_the_same_store_request(command: Command) -> None:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID, primitive.Priority = command.message_id, command.priority
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = command.sop_class_uid, command.sop_instance_uid
    primitive.MoveOriginatorApplicationEntityTitle = command.move_originator_ae or None
    primitive.MoveOriginatorMessageID = command.move_originator_id
    primitive.DataSet = BytesIO(b"\x08\0\x05\0\0\0\0\0")
    assert encoded_by_pynetdicom(dimse_messages.C_STORE_RQ(), primitive) == encode_command(command)


@given(STORES, NUMBERS)
def test_pynetdicom_writes_the_same_store_response(command: Command, status: int) -> None:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageIDBeingRespondedTo = command.message_id
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = command.sop_class_uid, command.sop_instance_uid
    primitive.Status = status
    ours = encode_command(response_to(command, status))
    assert encoded_by_pynetdicom(dimse_messages.C_STORE_RSP(), primitive) == ours


@given(ECHOES)
def test_pynetdicom_writes_the_same_echo(command: Command) -> None:
    primitive = dimse_primitives.C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = command.message_id, command.sop_class_uid
    assert encoded_by_pynetdicom(dimse_messages.C_ECHO_RQ(), primitive) == encode_command(command)


@given(EVENTS.filter(lambda one: one.has_dataset), st.integers(0, 0xFF))
def test_pynetdicom_writes_the_same_event_reports_and_actions(command: Command, status: int) -> None:
    request: dimse_messages.DIMSEMessage
    response: dimse_messages.DIMSEMessage
    if command.kind == Kind.EVENT_REPORT_REQUEST:
        event = dimse_primitives.N_EVENT_REPORT()
        event.MessageID, event.EventTypeID = command.message_id, command.type_id
        event.AffectedSOPClassUID, event.AffectedSOPInstanceUID = command.sop_class_uid, command.sop_instance_uid
        event.EventInformation = BytesIO(b"\x08\0\x05\0\0\0\0\0")
        request, response = dimse_messages.N_EVENT_REPORT_RQ(), dimse_messages.N_EVENT_REPORT_RSP()
        primitive: object = event
        answer: object = dimse_primitives.N_EVENT_REPORT()
    else:
        action = dimse_primitives.N_ACTION()
        action.MessageID, action.ActionTypeID = command.message_id, command.type_id
        action.RequestedSOPClassUID, action.RequestedSOPInstanceUID = command.sop_class_uid, command.sop_instance_uid
        action.ActionInformation = BytesIO(b"\x08\0\x05\0\0\0\0\0")
        request, response = dimse_messages.N_ACTION_RQ(), dimse_messages.N_ACTION_RSP()
        primitive, answer = action, dimse_primitives.N_ACTION()
    assert encoded_by_pynetdicom(request, primitive) == encode_command(command)
    for name, value in (
        ("MessageIDBeingRespondedTo", command.message_id),
        ("AffectedSOPClassUID", command.sop_class_uid),
        ("AffectedSOPInstanceUID", command.sop_instance_uid),
        ("EventTypeID" if command.kind == Kind.EVENT_REPORT_REQUEST else "ActionTypeID", command.type_id),
        ("Status", status),
    ):
        setattr(answer, name, value)
    assert encoded_by_pynetdicom(response, answer) == encode_command(response_to(command, status))


@given(COMMANDS, st.data())
def test_changed_bytes_are_read_or_refused_and_nothing_else(command: Command, data: st.DataObject) -> None:
    body = bytearray(encode_command(command))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    for changed in (bytes(body), bytes(body[: data.draw(st.integers(0, len(body)))])):
        try:
            encode_command(response_to(decode_command(changed), 0xC000, "not understood"))
        except ProtocolError:
            continue


@given(st.binary(max_size=200))
def test_noise_is_read_or_refused(noise: bytes) -> None:
    try:
        decode_command(noise)
    except ProtocolError:
        return


def test_a_path_for_a_uid_is_handed_on_as_the_text_it_is() -> None:
    request = Command(Kind.STORE_REQUEST, 1, has_dataset=True, sop_class_uid="1.2", sop_instance_uid="../../etc/é")
    assert decode_command(encode_command(request)).sop_instance_uid == "../../etc/é"


def test_a_comment_is_cut_at_64_characters() -> None:
    request = Command(Kind.ECHO_REQUEST, 1, sop_class_uid="1.2")
    assert len(by_pydicom(encode_command(response_to(request, 0xC000, "x" * 100))).ErrorComment) == 64


def test_a_request_of_a_service_we_do_not_know_can_still_be_answered() -> None:
    find = decode_command(encode_command(Command(0x0020, 7, has_dataset=True, sop_class_uid="1.2.3")))
    answer = by_pydicom(encode_command(response_to(find, 0x0211)))
    assert (answer.CommandField, answer.MessageIDBeingRespondedTo, answer.Status) == (0x8020, 7, 0x0211)
