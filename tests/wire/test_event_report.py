"""A PACS that calls back to say what it has committed: pynetdicom is the PACS."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role
from pynetdicom.association import Association

from node.errors import ConfigError
from node.network.dimse import Command, Kind
from node.network.items import PresentationContext, RoleSelection, UserInformation
from node.network.pdu import AssociateRequest, encode_pdu
from node.receive import door
from node.receive.event_report import COMMITMENT, COMMITMENT_INSTANCE, LONGEST_REPORT_BYTES, EventReport
from node.receive.spool import Answer
from tests.unit.network.conversations import VERIFICATION, message
from tests.wire.front_door import ACCEPT_HEAD, LIMIT_S, PATIENT, Bad, Node, opened, serves

REQUEST = encode_pdu(
    AssociateRequest(
        "WETREAD",
        "PACS",
        (PresentationContext(1, COMMITMENT, (str(ImplicitVRLittleEndian),)),),
        UserInformation(16384, "1.2.3", "PACS", roles=(RoleSelection(COMMITMENT, is_scu=False, is_scp=True),)),
    )
)


def committed() -> Dataset:
    """PS3.4 Table J.3-2: what a PACS says when it has everything."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "2.25.1"
    ds = Dataset()
    ds.TransactionUID, ds.ReferencedSOPSequence = "2.25.77", [item]
    return ds


def calls(node: Node, *, scu: bool = False, scp: bool = True, has_roles: bool = True) -> Association:
    ae = AE("PACS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = LIMIT_S
    contexts = [
        build_context(COMMITMENT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
        build_context(VERIFICATION),
    ]
    roles = [build_role(COMMITMENT, scu_role=scu, scp_role=scp)] if has_roles else []
    return ae.associate("127.0.0.1", node.port, contexts=contexts, ext_neg=roles)


def reports(assoc: Association, event_type: int = 1, instance: str = COMMITMENT_INSTANCE) -> int:
    status, _ = assoc.send_n_event_report(committed(), event_type, COMMITMENT, instance)
    return int(status.Status)


@pytest.fixture
def heard() -> list[EventReport]:
    return []


@pytest.fixture
def reported(heard: list[EventReport]) -> Callable[[EventReport], Answer]:
    def note(report: EventReport) -> Answer:
        heard.append(report)
        return Answer(0x0000)

    return note


@pytest.mark.parametrize("scu", [False, True])
def test_a_pacs_that_commits_is_heard_and_answered(
    tmp_path: Path, heard: list[EventReport], reported: Callable[[EventReport], Answer], scu: bool
) -> None:
    with opened(tmp_path, reported=reported) as node:
        assoc = calls(node, scu=scu)
        (context,) = [one for one in assoc.accepted_contexts if one.abstract_syntax == COMMITMENT]
        assert (context.as_scp, context.as_scu) == (True, False)
        assert reports(assoc) == 0x0000
        assert reports(assoc, 2) == 0x0000
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()
    assert [(one.event_type, one.calling_ae) for one in heard] == [(1, "PACS"), (2, "PACS")]
    encoded = DicomBytesIO(heard[0].dataset)
    is_implicit = heard[0].transfer_syntax_uid == ImplicitVRLittleEndian
    assert read_dataset(encoded, is_implicit, is_little_endian=True) == committed()
    assert node.released == []


@pytest.mark.parametrize("has_roles", [False, True])
def test_without_the_role_of_the_one_who_commits_no_context_is_offered(
    tmp_path: Path, reported: Callable[[EventReport], Answer], has_roles: bool
) -> None:
    with opened(tmp_path, reported=reported) as node:
        assoc = calls(node, scu=True, scp=False, has_roles=has_roles)
        assert {str(one.abstract_syntax): one.result for one in assoc.rejected_contexts} == {COMMITMENT: 3}
        assoc.release()


def test_a_node_that_waits_for_no_report_offers_no_context(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node:
        assoc = calls(node)
        assert {str(one.abstract_syntax): one.result for one in assoc.rejected_contexts} == {COMMITMENT: 3}
        assoc.release()
        serves(node, ct_folder)


def test_an_event_or_an_instance_that_does_not_exist_gets_its_status(
    tmp_path: Path, heard: list[EventReport], reported: Callable[[EventReport], Answer]
) -> None:
    with opened(tmp_path, reported=reported) as node:
        assoc = calls(node)
        assert reports(assoc, event_type=3) == 0x0113
        assert reports(assoc, instance="1.2.3") == 0x0112
        assoc.release()
    assert heard == []


def test_the_answer_of_whoever_takes_the_report_is_the_answer_of_the_pacs(tmp_path: Path) -> None:
    with opened(tmp_path, reported=lambda _: Answer(0x0110, "the database is locked")) as node:
        assoc = calls(node)
        status, _ = assoc.send_n_event_report(committed(), 1, COMMITMENT, COMMITMENT_INSTANCE)
        assoc.release()
    assert (status.Status, status.ErrorComment) == (0x0110, "the database is locked")


def _report(length: int) -> bytes:
    command = Command(
        Kind.EVENT_REPORT_REQUEST,
        1,
        has_dataset=bool(length),
        sop_class_uid=COMMITMENT,
        sop_instance_uid=COMMITMENT_INSTANCE,
        type_id=1,
    )
    return message(1, command, bytes(length))


@pytest.mark.parametrize(
    ("length", "status"), [(0, 0x0115), (LONGEST_REPORT_BYTES, 0x0000), (LONGEST_REPORT_BYTES + 2, 0x0213)]
)
def test_a_report_is_bounded_and_an_empty_one_is_refused(
    tmp_path: Path, ct_folder: Path, reported: Callable[[EventReport], Answer], length: int, status: int
) -> None:
    with opened(tmp_path, reported=reported) as node, Bad(node, REQUEST) as pacs:
        assert pacs.hears().startswith(ACCEPT_HEAD)
        pacs.socket.sendall(_report(length))
        answer = pacs.hears()
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00" + status.to_bytes(2, "little") in answer
        serves(node, ct_folder)


def test_an_object_on_the_context_for_reports_is_not_stored(
    tmp_path: Path, ct_folder: Path, reported: Callable[[EventReport], Answer]
) -> None:
    command = Command(Kind.STORE_REQUEST, 1, has_dataset=True, sop_class_uid=COMMITMENT, sop_instance_uid="1.2")
    with opened(tmp_path, reported=reported) as node, Bad(node, REQUEST) as pacs:
        assert pacs.hears().startswith(ACCEPT_HEAD)
        pacs.socket.sendall(message(1, command, bytes(100)))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x22\x01" in pacs.hears()
        serves(node, ct_folder)
    assert len(node.taken) == 1


def test_the_fall_back_receiver_takes_no_reports(tmp_path: Path, reported: Callable[[EventReport], Answer]) -> None:
    with pytest.raises(ConfigError, match="no storage commitment"):
        door.serve(
            replace(PATIENT, receiver="pynetdicom"),
            tmp_path,
            accept=lambda _: Answer(0),
            released=lambda _: None,
            has_room=lambda: True,
            reported=reported,
        )
