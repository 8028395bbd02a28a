"""The conformance statement, line by line, on a running node: it keeps what it says, and refuses what it does not."""

import shutil
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.conformance import Statement, describe
from node.conformance.describe import NEWER_CLASSES
from node.dicom.uid import is_valid_uid
from node.network import Command, Kind
from node.network.items import CommonExtended, PresentationContext, RoleSelection, UserInformation
from node.network.negotiation import STORAGE_SERVICE
from node.network.pdu import AssociateAccept, AssociateReject, AssociateRequest
from node.receive import accept, serve
from node.settings import DicomSettings, Peer, Settings
from node.store.database import open_store
from tests.peers.front import FrontDoor, front_door
from tests.peers.requestor import MOST_CONTEXTS, OWN_PDU_BYTES, Requestor, ask, contexts

DOORS = ("own", "pynetdicom")
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"  # Siemens CSA Non-Image Storage
FUTURE_CLASS = "1.2.840.10008.5.1.4.1.1.999.1"  # nobody knows it yet
FIND_CLASS = "1.2.840.10008.5.1.4.1.2.2.1"
COMMITMENT = "1.2.840.10008.1.20.1"
ACCEPTED, NO_ABSTRACT_SYNTAX = 0, 3  # PS3.8 Table 9-18


def settings(receiver: str = "own", **dicom: object) -> Settings:
    return Settings(dicom=replace(DicomSettings(receiver=receiver, port=0, network_timeout_s=20), **dicom))  # type: ignore[arg-type]


@pytest.fixture(params=DOORS)
def open_door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Statement, FrontDoor]]:
    """A node of each receiver, and what it says of itself."""
    decided = settings(request.param)
    with front_door(tmp_path, decided.dicom) as door:
        yield describe(decided), door


# What it takes.


def test_every_class_is_taken_in_every_syntax_that_is_stated(open_door: tuple[Statement, FrontDoor]) -> None:
    stated, door = open_door
    pairs = [(one.uid, (syntax.uid,)) for one in stated.storage for syntax in stated.storage_syntaxes]
    pairs += [(stated.verification.uid, (syntax.uid,)) for syntax in stated.verification_syntaxes]
    assert len(pairs) > 40 * MOST_CONTEXTS
    answers = ask(door.port, pairs)
    refused = [pair for pair, answer in zip(pairs, answers, strict=True) if answer != (ACCEPTED, pair[1][0])]
    assert refused == []


def test_the_requestors_order_of_syntaxes_decides(open_door: tuple[Statement, FrontDoor]) -> None:
    stated, door = open_door
    uids = [syntax.uid for syntax in stated.storage_syntaxes]
    for order in (uids, uids[::-1]):
        assert ask(door.port, [(CTImageStorage, ("1.2.840.10008.1.2.1.99", *order))]) == [(ACCEPTED, order[0])]


def test_nothing_is_taken_that_is_not_stated(open_door: tuple[Statement, FrontDoor]) -> None:
    stated, door = open_door
    named = {one.uid for one in (*stated.storage, stated.verification)} | set(NEWER_CLASSES)
    others = [uid for uid, entry in UID_dictionary.items() if entry[1] != "Transfer Syntax" and uid not in named]
    assert {FIND_CLASS, COMMITMENT} <= set(others)
    answers = ask(door.port, [(uid, (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))) for uid in others])
    assert {result for result, _ in answers} == {NO_ABSTRACT_SYNTAX}
    known = {syntax.uid for syntax in stated.storage_syntaxes}
    syntaxes = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax" and uid not in known]
    answers = ask(door.port, [(str(CTImageStorage), (uid,)) for uid in syntaxes])
    assert {result for result, _ in answers} == {stated.unknown_syntax_result}
    plain = {syntax.uid for syntax in stated.verification_syntaxes}
    answers = ask(door.port, [(stated.verification.uid, (uid,)) for uid in known - plain])
    assert {result for result, _ in answers} == {4}


def test_no_role_is_given_to_who_wants_to_commit(open_door: tuple[Statement, FrontDoor]) -> None:
    _, door = open_door
    user = UserInformation(0, "1.2.3", "X", roles=(RoleSelection(COMMITMENT, is_scu=False, is_scp=True),))
    ((result, _),) = ask(door.port, [(COMMITMENT, (str(ImplicitVRLittleEndian),))], user=user)
    assert result == NO_ABSTRACT_SYNTAX


@pytest.mark.parametrize("receiver", DOORS)
@pytest.mark.parametrize("takes_private", [True, False])
def test_the_rules_for_other_classes_are_as_stated(tmp_path: Path, receiver: str, takes_private: bool) -> None:
    decided = settings(receiver, accept_private_sop_classes=takes_private)
    rules = " ".join(describe(decided).storage_rules)
    syntaxes = (str(ExplicitVRLittleEndian),)
    declared = CommonExtended("2.25.99", STORAGE_SERVICE)
    with front_door(tmp_path, decided.dicom) as door:
        (private, _), (future, _) = ask(door.port, [(PRIVATE_CLASS, syntaxes), (FUTURE_CLASS, syntaxes)])
        user = UserInformation(0, "1.2.3", "X", common_extended=(declared,))
        ((said, _),) = ask(door.port, [("2.25.99", syntaxes)], user=user)
    assert (private == ACCEPTED) is takes_private is ("private" in rules)
    assert (future == ACCEPTED) is ("newer" in rules)
    assert (said == ACCEPTED) is ("declares" in rules or takes_private)


def test_identity_limits_and_window_are_as_stated(open_door: tuple[Statement, FrontDoor]) -> None:
    stated, door = open_door
    user = UserInformation(OWN_PDU_BYTES, "1.2.3", "X", async_window=(8, 8))
    request = AssociateRequest("ANYTHING", "X", contexts([(stated.verification.uid, ("1.2.840.10008.1.2",))]), user)
    with Requestor(door.port, request) as requestor:
        assert isinstance(requestor.answer, AssociateAccept)
        said = requestor.answer.user
        assert requestor.invoke(1, Command(Kind.ECHO_REQUEST, 1, sop_class_uid=stated.verification.uid)).status == 0
    assert said.implementation_class_uid == stated.implementation_class_uid
    assert said.implementation_version == stated.implementation_version
    assert said.max_pdu_bytes == stated.limits.max_pdu_bytes
    assert said.async_window in (None, stated.limits.async_window)
    assert requestor.answer.application_context == stated.application_context


# Whom it rejects.


def plain_request(**changes: object) -> AssociateRequest:
    offered = (PresentationContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),)
    return replace(AssociateRequest("WETREAD", "ASKER", offered, UserInformation(0, "1.2.3", "X")), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("receiver", DOORS)
def test_every_rejection_is_as_stated_and_there_is_no_other(tmp_path: Path, receiver: str) -> None:
    decided = settings(receiver, allowed_peers=(Peer("ASKER", "127.0.0.1"),), max_associations_per_address=2)
    stated = {(one.result, one.source, one.reason) for one in describe(decided).rejections}
    heard = set()
    with front_door(tmp_path, decided.dicom) as door:
        requests = [plain_request(calling_ae="STRANGER")]
        if receiver == "own":
            requests += [plain_request(application_context="1.2.3"), plain_request(protocol_version=2)]
        for request in requests:
            with Requestor(door.port, request) as requestor:
                heard.add(requestor.answer)
        with ExitStack() as held:  # who was turned away still has its place for a moment
            several = [held.enter_context(Requestor(door.port, plain_request())) for _ in range(3)]
            heard |= {one.answer for one in several}
    assert {(one.result, one.source, one.reason) for one in heard if isinstance(one, AssociateReject)} == stated


# What it answers.


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element in explicit VR little endian with a short length."""
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def nested(depth: int) -> bytes:
    """Sequences of one item in one another, of undefined length, and not closed."""
    sequence = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    return (sequence + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth


def dataset(*more: bytes, study: bytes = b"2.25.1", series: bytes = b"2.25.2", uid: bytes = b"2.25.3") -> bytes:
    head = element(0x00080016, b"UI", str(CTImageStorage).encode()) + element(0x00080018, b"UI", uid)
    return head + element(0x0020000D, b"UI", study) + element(0x0020000E, b"UI", series) + b"".join(more)


WHOLE = dataset(element(0x00280010, b"US", b"\1\0"))
BARE_ITEM = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + element(0x00280010, b"US", b"\1\0")
Said = tuple[str, str, bytes | None]  # SOP Class and Instance UID of the command set, and the dataset
CT = str(CTImageStorage)
# For each sentence of the statement about C-STORE: objects that must get its status, after WHOLE was stored.
CASES: dict[str, list[Said]] = {
    "the object is durable on disk, file and index; its dataset is byte for byte what was sent": [
        (CT, "2.25.4", dataset(uid=b"2.25.4"))
    ],
    "the same object, byte for byte, was stored before; nothing is changed": [(CT, "2.25.3", WHOLE)],
    "command set and dataset name different SOP Class or SOP Instance UIDs": [
        (CT, "2.25.99", WHOLE),
        ("1.2.840.10008.5.1.4.1.1.4", "2.25.3", WHOLE),
    ],
    "the SOP Class or SOP Instance UID of the command set is no valid UID": [
        (CT, "../../etc/passwd", WHOLE),
        ("1.2.840.x", "2.25.3", WHOLE),
        (CT, "", WHOLE),
    ],
    "the dataset lacks a valid Study or Series Instance UID": [
        (CT, "2.25.3", dataset(study=b"")),
        (CT, "2.25.3", dataset(series=b"2.25.x")),
    ],
    "the dataset is cut short": [
        (CT, "2.25.3", WHOLE[:-1]),
        (CT, "2.25.3", b""),
        (CT, "2.25.3", WHOLE + nested(3)),
    ],
    "an element of the dataset has no VR, is out of order, or is where an item must be": [
        (CT, "2.25.3", WHOLE + struct.pack("<HH2sH", 0x0040, 0x0001, b"\1\2", 0)),
        (CT, "2.25.3", WHOLE + element(0x00280002, b"US", b"\1\0")),
        (CT, "2.25.3", WHOLE + BARE_ITEM),
    ],
    "sequences are nested more than 64 deep": [(CT, "2.25.3", WHOLE + nested(240))],
    "an identifier is longer than 1024 bytes": [(CT, "2.25.3", dataset(series=b"1" * 1026))],
    "the request says that it has no dataset (then there is nothing to put aside)": [(CT, "2.25.3", None)],
    "the SOP Instance UID is stored already with other content; the first object stays": [
        (CT, "2.25.3", dataset(element(0x00280010, b"US", b"\2\0")))
    ],
}
OF_THE_DISK = ("the disk is nearly full, or has failed", "the object could not be written or entered in the index")
OF_THE_SERVICE = ("a C-STORE came on the context of Verification", "the request is neither C-ECHO nor C-STORE")
OFFERED = contexts([(CT, (str(ExplicitVRLittleEndian),)), ("1.2.840.10008.1.1", ("1.2.840.10008.1.2",))])


def ct_request() -> AssociateRequest:
    return AssociateRequest("WETREAD", "ASKER", OFFERED, UserInformation(OWN_PDU_BYTES, "1.2.3", "X"))


def test_every_sentence_about_a_status_has_its_case() -> None:
    sentences = [sentence for status in describe(Settings()).statuses for sentence in status.when]
    assert sorted(sentences) == sorted((*CASES, *OF_THE_DISK, *OF_THE_SERVICE))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # pynetdicom, of a UID that is none
@pytest.mark.parametrize("receiver", DOORS)
@pytest.mark.parametrize("sentence", CASES)
def test_what_is_stored_badly_gets_its_status_and_is_put_aside_with_the_reason(
    tmp_path: Path, sentence: str, receiver: str
) -> None:
    stated = next(status for status in describe(settings(receiver)).statuses if sentence in status.when)
    cases = CASES[sentence]
    if receiver == "pynetdicom":
        # The library itself ends the Association of those whose command set lacks something.
        cases = [case for case in cases if is_valid_uid(case[0]) and case[1] and case[2]]
    has_dataset = [case for case in cases if case[2] is not None]
    with front_door(tmp_path, settings(receiver).dicom) as door:
        with Requestor(door.port, ct_request()) as requestor:
            assert requestor.store(CT, "2.25.3", WHOLE).status == 0x0000
            for number, (sop_class, instance, data) in enumerate(cases, 2):
                answer = requestor.store(sop_class, instance, data, message_id=number)
                assert (answer.status, bool(answer.comment)) == (stated.code, stated.is_put_aside and data is not None)
        aside = door.quarantine()
        assert [row.status for row in aside] == [stated.code] * (len(has_dataset) if stated.is_put_aside else 0)
        assert all(row.reason and (door.store.root / row.path).is_file() for row in aside)
        assert door.datasets()["2.25.3"] == WHOLE
        assert len(door.instances()) == (2 if sentence.startswith("the object is durable") else 1)
        assert [path for path in (door.store.root / "incoming").rglob("*") if path.is_file()] == []


def test_a_disk_that_is_full_or_broken_gets_its_status_and_nothing_is_kept(tmp_path: Path) -> None:
    stated = next(status for status in describe(Settings()).statuses if OF_THE_DISK[0] in status.when)
    assert set(OF_THE_DISK) == set(stated.when)
    store = open_store(tmp_path / "store")
    (tmp_path / "incoming").mkdir()
    kept = partial(accept, store, refuse_below_free_mb=10**9)
    door = serve(
        settings().dicom, tmp_path / "incoming", accept=kept, released=lambda _: None, has_room=lambda: True
    )  # fmt: skip
    try:
        with Requestor(door.port, ct_request()) as requestor:
            assert requestor.store(CT, "2.25.3", WHOLE).status == stated.code
            shutil.rmtree(tmp_path / "incoming")
            assert requestor.store(CT, "2.25.3", WHOLE, message_id=2).status == stated.code
    finally:
        door.stop(drain_s=5)
        store.close()


def test_another_service_gets_its_status(tmp_path: Path) -> None:
    stated = {sentence: status.code for status in describe(Settings()).statuses for sentence in status.when}
    with front_door(tmp_path) as door, Requestor(door.port, ct_request()) as requestor:
        assert requestor.store(CT, "2.25.3", WHOLE, context_id=3).status == stated[OF_THE_SERVICE[0]]
        find = Command(0x0020, 2, has_dataset=True, sop_class_uid=FIND_CLASS)
        assert requestor.invoke(1, find, WHOLE).status == stated[OF_THE_SERVICE[1]]
        assert door.instances() == []
