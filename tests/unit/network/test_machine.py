"""The state machine: events do not depend on how bytes are cut, and no peer can bring it down or make it grow."""

import itertools
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.errors import ProtocolError
from node.network.dimse import Command, Kind
from node.network.events import (
    Aborted,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    CommandReceived,
    DataFragment,
    Event,
    OperationComplete,
    ProtocolViolation,
    Released,
    ReleaseRequested,
)
from node.network.items import ContextAnswer, RoleSelection, UserInformation
from node.network.machine import Machine, State
from node.network.negotiation import (
    CALLING_AE_NOT_RECOGNISED,
    LIMIT_EXCEEDED,
    answer_request,
    check_request,
)
from node.network.pdu import (
    Abort,
    AssociateAccept,
    AssociateRequest,
    ReleaseReply,
    data_head,
    decode_pdu,
    encode_pdu,
)
from tests.unit.network.conversations import (
    ECHO,
    LONGEST,
    OPEN,
    RELEASE,
    STORE,
    VERIFICATION,
    drive,
    message,
    request,
    store,
)

CONVERSATION = OPEN + ECHO + STORE + store(9, b"\0" * 40_000, fragment=1000) + store(10, b"ab") + RELEASE
ABORT_BYTES = b"\x07\0\0\0\0\x04\0\0"


def acceptor() -> Machine:
    return Machine(max_pdu_bytes=LONGEST)


def violation(*sent: bytes, is_answering: bool = True) -> ProtocolViolation:
    """The end of an Association by a peer that broke the rules."""
    machine = acceptor()
    last = drive(machine, sent, is_answering=is_answering)[-1]
    assert isinstance(last, ProtocolViolation)
    assert last.abort.startswith(ABORT_BYTES)
    assert machine.is_closed
    assert drive(machine, [OPEN]) == []
    return last


def kinds(events: list[Event | bytes]) -> list[type]:
    return [type(event) for event in events]


def test_a_whole_conversation_is_understood() -> None:
    events = drive(acceptor(), [CONVERSATION])
    object_events = [CommandReceived, bytes, OperationComplete]
    assert kinds(events) == [
        AssociationRequested,
        CommandReceived,
        OperationComplete,
        *object_events * 3,
        ReleaseRequested,
    ]
    assert events[0] == AssociationRequested(request())
    assert events[4] == bytes(range(256)) * 200


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=60), st.booleans())
def test_events_do_not_depend_on_how_the_bytes_are_cut(places: list[int], is_answering: bool) -> None:
    cuts = [0, *sorted(places), len(CONVERSATION)]
    chunks = [CONVERSATION[start:end] for start, end in itertools.pairwise(cuts)]
    expected = drive(acceptor(), [CONVERSATION], is_answering=is_answering)
    assert drive(acceptor(), chunks, is_answering=is_answering) == expected


def test_events_are_the_same_byte_by_byte() -> None:
    short = OPEN + ECHO + store(3, b"0123456789", fragment=4) + RELEASE
    assert drive(acceptor(), [short[i : i + 1] for i in range(len(short))]) == drive(acceptor(), [short])


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(CONVERSATION) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_end_in_events_and_never_in_an_error(changes: list[tuple[int, int]]) -> None:
    changed = bytearray(CONVERSATION)
    for place, value in changes:
        changed[place] = value
    whole = drive(acceptor(), [bytes(changed)])
    cut = drive(acceptor(), [bytes(changed[i : i + 999]) for i in range(0, len(changed), 999)])
    assert cut == whole


@given(st.binary(max_size=400))
def test_noise_on_an_open_association_ends_in_events(noise: bytes) -> None:
    drive(acceptor(), [OPEN, noise])
    drive(acceptor(), [noise])


def test_a_dataset_passes_without_a_copy() -> None:
    machine = acceptor()
    drive(machine, [OPEN])
    sent = store(1, b"x" * 10_000)
    fragments = [event.data for event in machine.receive(memoryview(sent)) if isinstance(event, DataFragment)]
    assert [len(fragment) for fragment in fragments] == [10_000]
    assert all(fragment.obj is sent for fragment in fragments)


def test_memory_does_not_grow_with_what_is_sent() -> None:
    machine = acceptor()
    drive(machine, [OPEN])
    whole = store(1, b"x" * 20_000)
    first = whole[: -(20_000 - (LONGEST - 6) + 12)]  # the command and the first fragment
    more = (data_head(3, LONGEST - 6, is_command=False, is_last=False) + bytes(LONGEST - 6)) * 16
    drive(machine, [first])
    tracemalloc.start()
    try:
        for _ in range(400):
            for event in machine.receive(memoryview(more)):
                assert isinstance(event, DataFragment)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_command_set_is_collected_up_to_64_kib() -> None:
    part = data_head(3, 10_000, is_command=True, is_last=False) + bytes(10_000)
    assert "longer than 65536" in violation(OPEN, *[part] * 7).reason


@pytest.mark.parametrize("length", [131_073, 2**32 - 1])
def test_a_request_of_any_length_is_refused_by_its_head(length: int) -> None:
    assert "were expected" in violation(struct.pack(">BxI", 1, length)).reason


@pytest.mark.parametrize("length", [LONGEST + 1, 2**32 - 1])
def test_data_beyond_the_negotiated_length_is_refused_by_its_head(length: int) -> None:
    assert "were expected" in violation(OPEN, struct.pack(">BxI", 4, length)).reason


@pytest.mark.parametrize("length", [0, 1, LONGEST - 3, 2**32 - 1])
def test_a_fragment_that_does_not_fit_its_pdu_is_refused(length: int) -> None:
    assert "does not fit" in violation(OPEN, struct.pack(">BxIIBB", 4, LONGEST, length, 3, 0)).reason


def test_a_remainder_too_small_for_another_fragment_is_refused() -> None:
    assert "does not fit" in violation(OPEN, struct.pack(">BxIIBB", 4, 20, 12, 3, 0)).reason


def test_a_second_request_before_the_answer_is_a_violation() -> None:
    assert "before the answer" in violation(OPEN, store(1, b"ab") + store(2, b"cd"), is_answering=False).reason
    assert "before the answer" in violation(OPEN, ECHO, ECHO, is_answering=False).reason


def test_a_dataset_before_its_command_is_a_violation() -> None:
    data = data_head(3, 2, is_command=False, is_last=True) + b"ab"
    assert "without its command" in violation(OPEN, data).reason
    assert "without its command" in violation(OPEN, STORE, data).reason


def test_a_command_inside_a_dataset_is_a_violation() -> None:
    assert "before the end of the dataset" in violation(OPEN, store(1, b"ab" * 9, fragment=8)[:-14] + STORE).reason


def test_mixed_contexts_are_a_violation() -> None:
    half = data_head(3, 4, is_command=True, is_last=False) + b"\0\0\0\0"
    assert "mixed" in violation(OPEN, half, ECHO).reason


def test_a_refused_context_cannot_be_used() -> None:
    assert "was not accepted" in violation(OPEN, message(5, Command(Kind.ECHO_REQUEST, 1))).reason


def test_several_fragments_in_one_pdu_are_read() -> None:
    body = b"".join(
        struct.pack(">IBB", len(part) + 2, 3, control) + part
        for part, control in ((b"ab", 0), (b"", 0), (b"cd", 0), (b"", 2))
    )
    start = store(4, b"xy")[:-14]
    events = drive(acceptor(), [OPEN, start + struct.pack(">BxI", 4, len(body)) + body])
    assert kinds(events)[1:] == [CommandReceived, bytes, OperationComplete]
    assert events[2] == b"abcd"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (ECHO, "not expected"),
        (RELEASE, "not expected"),
        (encode_pdu(ReleaseReply()), "not expected"),
        (b"GET / HTTP/1.1\r\n\r\n", "no PDU of type 71"),
        (b"\x16\x03\x01\x02\0\x01", "no PDU of type 22"),
    ],
)
def test_anything_but_a_request_is_refused_at_first(sent: bytes, reason: str) -> None:
    assert reason in violation(sent).reason


def test_a_second_request_on_an_open_association_is_a_violation() -> None:
    assert "not expected" in violation(OPEN, OPEN).reason


def test_a_release_in_the_middle_of_an_object_is_a_violation() -> None:
    assert "before the end of an operation" in violation(OPEN, store(1, b"ab" * 9, fragment=8)[:-14] + RELEASE).reason
    assert "before the end of an operation" in violation(OPEN, ECHO + RELEASE, is_answering=False).reason


def test_data_after_a_release_is_a_violation() -> None:
    assert "not expected" in violation(OPEN, RELEASE, ECHO).reason


def test_an_abort_is_heard_at_any_time() -> None:
    abort = encode_pdu(Abort(0, 0))
    for before in (b"", OPEN, OPEN + ECHO, OPEN + store(1, b"ab" * 9, fragment=8)[:-14], OPEN + RELEASE):
        assert drive(acceptor(), [before, abort])[-1] == Aborted(0, 0)


def test_an_unanswered_peer_that_goes_on_is_a_violation() -> None:
    machine = acceptor()
    events = list(machine.receive(memoryview(OPEN + ECHO)))
    assert [type(event) for event in events] == [AssociationRequested, ProtocolViolation]


def test_a_refusal_ends_the_association() -> None:
    machine = acceptor()
    next(machine.receive(memoryview(OPEN)))
    assert machine.reject(LIMIT_EXCEEDED) == encode_pdu(LIMIT_EXCEEDED)
    assert machine.is_closed


def test_a_machine_is_idle_between_messages_only() -> None:
    machine = acceptor()
    assert not machine.is_idle
    drive(machine, [OPEN])
    assert machine.is_idle
    for sent, is_idle in ((ECHO[:1], False), (ECHO[1:], True), (STORE[:-1], False), (STORE[-1:], True)):
        drive(machine, [sent])
        assert machine.is_idle is is_idle


def test_what_cannot_be_said_now_is_an_error_of_ours() -> None:
    machine = acceptor()
    for say in (machine.release, machine.reply_release, machine.open):
        with pytest.raises(ProtocolError):
            say()
    drive(machine, [OPEN])
    with pytest.raises(ProtocolError, match="no request"):
        machine.respond(0)
    with pytest.raises(ProtocolError, match="still something"):
        machine.release()


# Both sides together.


def connected(*, max_pdu_bytes: int = LONGEST) -> tuple[Machine, Machine]:
    caller, called = Machine(request(max_pdu_bytes=max_pdu_bytes), max_pdu_bytes=max_pdu_bytes), acceptor()
    (event,) = called.receive(memoryview(caller.open()))
    assert isinstance(event, AssociationRequested)
    taken = {str(CTImageStorage): (str(ExplicitVRLittleEndian),), VERIFICATION: (str(ImplicitVRLittleEndian),)}
    accept = answer_request(event.request, lambda uid: taken.get(uid, ()), max_pdu_bytes=LONGEST)
    (event,) = caller.receive(memoryview(called.accept(accept)))
    assert event == AssociationAccepted(accept)
    return caller, called


def test_two_machines_echo_store_and_release() -> None:
    caller, called = connected()
    echo = Command(Kind.ECHO_REQUEST, 1, sop_class_uid=VERIFICATION)
    events = list(called.receive(memoryview(caller.invoke(1, echo))))
    assert events == [CommandReceived(1, echo), OperationComplete(1, echo)]
    events = list(caller.receive(memoryview(called.respond(0))))
    assert [event.command.status for event in events if isinstance(event, OperationComplete)] == [0]

    put = Command(Kind.STORE_REQUEST, 2, has_dataset=True, sop_class_uid="1.2", sop_instance_uid="1.3")
    assert kinds([*called.receive(memoryview(caller.invoke(3, put)))]) == [CommandReceived]
    data = memoryview(b"0123456789" * 5000)
    arrived = b""
    for start in range(0, len(data), 20_000):
        is_last = start + 20_000 >= len(data)
        for part in caller.send_data(3, data[start : start + 20_000], is_last=is_last):
            arrived += b"".join(
                bytes(event.data) for event in called.receive(memoryview(part)) if isinstance(event, DataFragment)
            )
    assert arrived == bytes(data)
    events = list(caller.receive(memoryview(called.respond(0xA700, "disk nearly full"))))
    assert isinstance(events[1], OperationComplete)
    assert (events[1].command.status, events[1].command.comment) == (0xA700, "disk nearly full")

    assert list(called.receive(memoryview(caller.release()))) == [ReleaseRequested()]
    assert list(caller.receive(memoryview(called.reply_release()))) == [Released()]
    assert caller.is_closed
    assert called.is_closed


def test_an_answer_fits_into_the_smallest_pdu_the_peer_takes() -> None:
    caller, called = connected(max_pdu_bytes=20)
    list(called.receive(memoryview(caller.invoke(1, Command(Kind.ECHO_REQUEST, 1, sop_class_uid=VERIFICATION)))))
    events = list(caller.receive(memoryview(called.respond(0))))
    assert kinds([*events]) == [CommandReceived, OperationComplete]


def test_a_peer_whose_pdus_hold_nothing_is_refused() -> None:
    assert "no room" in violation(encode_pdu(request(max_pdu_bytes=6))).reason


def test_both_sides_may_end_at_once() -> None:
    caller, called = connected()
    caller.release()
    assert list(caller.receive(memoryview(RELEASE))) == [ReleaseRequested()]
    caller.reply_release()
    assert caller.state is State.AWAITING_LAST_RELEASE
    assert list(caller.receive(memoryview(encode_pdu(ReleaseReply())))) == [Released()]
    assert not called.is_closed


def test_a_report_may_come_while_we_wait_for_an_answer() -> None:
    caller, called = connected()
    caller.invoke(1, Command(Kind.ECHO_REQUEST, 1, sop_class_uid=VERIFICATION))
    report = Command(Kind.EVENT_REPORT_REQUEST, 1, sop_class_uid="1.2", sop_instance_uid="1.3", type_id=1)
    events = list(caller.receive(memoryview(message(3, report))))
    assert events == [CommandReceived(3, report), OperationComplete(3, report)]
    answer = called.receive(memoryview(caller.respond(0)))
    (last,) = answer
    assert isinstance(last, ProtocolViolation)  # the side that did not ask takes no answer


def test_an_answer_nobody_asked_for_is_a_violation() -> None:
    caller, _ = connected()
    caller.invoke(1, Command(Kind.ECHO_REQUEST, 1, sop_class_uid=VERIFICATION))
    wrong = Command(Kind.ECHO_RESPONSE, 2, status=0)
    (event,) = caller.receive(memoryview(message(1, wrong)))
    assert isinstance(event, ProtocolViolation)


@pytest.mark.parametrize("answer", [ContextAnswer(7, 0, "1.2.3"), ContextAnswer(3, 0, "1.2.840.10008.1.2.2")])
def test_a_context_that_was_not_proposed_cannot_be_accepted(answer: ContextAnswer) -> None:
    caller = Machine(request(), max_pdu_bytes=LONGEST)
    caller.open()
    (event,) = caller.receive(memoryview(encode_pdu(AssociateAccept("WETREAD", "CT1", (answer,)))))
    assert isinstance(event, ProtocolViolation)


def test_a_rejected_caller_is_told_why() -> None:
    caller = Machine(request(), max_pdu_bytes=LONGEST)
    caller.open()
    (event,) = caller.receive(memoryview(encode_pdu(CALLING_AE_NOT_RECOGNISED)))
    assert event == AssociationRejected(CALLING_AE_NOT_RECOGNISED)
    assert caller.is_closed


# Negotiation.


def test_each_context_gets_the_senders_first_syntax_that_is_kept() -> None:
    accept = answer_request(
        request(), lambda uid: (str(ImplicitVRLittleEndian),) if uid != "1.2.3.4" else (), max_pdu_bytes=LONGEST
    )
    assert [(one.context_id, one.result, one.transfer_syntax) for one in accept.answers] == [
        (1, 0, str(ImplicitVRLittleEndian)),
        (3, 0, str(ImplicitVRLittleEndian)),
        (5, 3, str(ImplicitVRLittleEndian)),
    ]
    accept = answer_request(request(), lambda _: ("1.2.3",), max_pdu_bytes=LONGEST)
    assert {one.result for one in accept.answers} == {4}


def test_more_than_one_operation_at_a_time_is_answered_with_one() -> None:
    role = RoleSelection("1.2.3.4", is_scu=False, is_scp=True)
    user = UserInformation(0, "1.2", "X", async_window=(0, 0), roles=(role,))
    asked = AssociateRequest("A", "B", request().contexts, user)
    accept = answer_request(asked, lambda _: (), max_pdu_bytes=LONGEST, roles={"1.2.3.4": role})
    assert accept.user.async_window == (1, 1)
    assert accept.user.roles == (role,)
    assert answer_request(request(), lambda _: (), max_pdu_bytes=LONGEST).user.async_window is None


def test_another_version_or_application_is_refused() -> None:
    assert check_request(request()) is None
    assert check_request(AssociateRequest("A", "B", (), protocol_version=2)) is not None
    assert check_request(AssociateRequest("A", "B", (), application_context="1.2.3")) is not None
    assert decode_pdu(3, b"\0\1\1\3") == CALLING_AE_NOT_RECOGNISED
