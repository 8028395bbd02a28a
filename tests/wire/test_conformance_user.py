"""The statement of what is asked of others, line by line: what the node proposes, and what it makes of answers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.complete.ask import SenderError, count_at
from node.conformance import describe
from node.conformance.describe import SENT_CLASSES
from node.deliver import DicomConnection
from node.deliver.outbox import visit
from node.deliver.stow import StowConnection
from node.deliver.verify import check
from node.domain.work import Output, OutputKind
from node.errors import DeliveryError
from node.network.pdu import AssociateRequest, decode_pdu
from node.settings import CompleteSettings, DeliverSettings, DicomSettings, Sender, Settings, StowDestination, Verify
from node.store.database import open_store
from tests.peers.committer import Committer
from tests.peers.front import Tap
from tests.peers.pacs import BadPacs, destination
from tests.peers.web import Reply, WebService
from tests.unit.report.studies import ALL_KINDS, make, mr_study, whole_brain_analysis
from tests.unit.rows import assign, image, report

FIND_CLASS = "1.2.840.10008.5.1.4.1.2.2.1"
COMMITMENT = "1.2.840.10008.1.20.1"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[OutputKind, Output]:
    """A real result object of every kind."""
    folder = tmp_path_factory.mktemp("results")
    study = mr_study(folder)
    made = make(whole_brain_analysis(study), study, folder / "out", kinds=ALL_KINDS)
    return {output.kind: output for output in made.outputs}


def proposed(tap: Tap) -> list[tuple[str, str]]:
    """Every pair of SOP class and transfer syntax of the last request, in its order."""
    request = decode_pdu(1, tap.requests()[-1])
    assert isinstance(request, AssociateRequest)
    return [(one.abstract_syntax, syntax) for one in request.contexts for syntax in one.transfer_syntaxes]


@pytest.mark.parametrize("kind", SENT_CLASSES)
def test_what_is_proposed_for_a_result_is_what_is_stated(results: dict[OutputKind, Output], kind: OutputKind) -> None:
    with BadPacs() as pacs, Tap(pacs.port) as tap:
        to = replace(destination(tap.port), objects=(kind,))
        with DicomConnection(to, calling_ae="WETREAD") as connection:
            assert connection.send(results[kind].path, results[kind]) == "0x0000"
        request = decode_pdu(1, tap.requests()[0])
        found = proposed(tap)
    stated = describe(replace(Settings(), destinations={"pacs": to}))
    (where,) = stated.destinations
    assert found == [(one.sop_class.uid, syntax.uid) for one in where.proposals for syntax in one.transfer_syntaxes]
    assert isinstance(request, AssociateRequest)
    assert (request.calling_ae, request.called_ae) == (stated.ae_title, where.ae_title)
    assert request.user.max_pdu_bytes == stated.own_max_pdu_bytes
    assert (request.user.roles, request.user.extended, request.user.common_extended) == ((), (), ())
    assert request.user.implementation_class_uid == stated.implementation_class_uid
    assert request.user.implementation_version == stated.implementation_version


def test_every_kind_of_result_object_is_stated() -> None:
    assert set(SENT_CLASSES) == {kind for kind in OutputKind if kind.is_dicom}


@pytest.mark.parametrize("verify", [Verify.AUTO, Verify.COMMITMENT, Verify.FIND])
def test_a_pacs_is_asked_about_what_it_took_in_the_contexts_that_are_stated(tmp_path: Path, verify: Verify) -> None:
    store = open_store(tmp_path / "store")
    with Committer() as pacs, Tap(pacs.port) as tap:
        to = replace(pacs.destination(verify), port=tap.port)
        item = assign(store, destinations=["pacs"])
        report(store, item, [(image(store, "2.25.70"), "pacs")])
        with DicomConnection(to, calling_ae="WETREAD") as connection:
            how: dict[str, Any] = {"destinations": {"pacs": to}, "connections": {"pacs": connection}}
            assert visit(store, item.assignment_id, "pacs", settings=DeliverSettings(), **how) is None
            assert check(store, to, connection, calling_ae="WETREAD", settings=DeliverSettings()) == 1
        found = proposed(tap)
    store.close()
    (where,) = describe(replace(Settings(), destinations={"pacs": to})).destinations
    assert found == [(one.sop_class.uid, syntax.uid) for one in where.asked for syntax in one.transfer_syntaxes]


@pytest.mark.parametrize("verify", Verify)
def test_what_is_never_asked_is_not_stated(verify: Verify) -> None:
    to = replace(destination(1), verify=verify)
    stated = describe(replace(Settings(), destinations={"pacs": to}))
    asked = {one.sop_class.uid for where in stated.destinations for one in where.asked}
    assert (COMMITMENT in asked, FIND_CLASS in asked) == {
        Verify.AUTO: (True, True), Verify.COMMITMENT: (True, False), Verify.FIND: (False, True),
        Verify.NONE: (False, False),
    }[verify]  # fmt: skip
    assert stated.hears_reports == (COMMITMENT in asked)
    of_library = describe(replace(Settings(dicom=DicomSettings(receiver="pynetdicom")), destinations={"pacs": to}))
    assert not of_library.hears_reports


def test_a_web_archive_is_asked_by_the_requests_that_are_stated(tmp_path: Path) -> None:
    uid, store = "2.25.70", open_store(tmp_path / "store")
    stored = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}}]}}
    there = [{"00080018": {"vr": "UI", "Value": [uid]}}]
    replies = [
        Reply(200, {"Content-Type": "application/dicom+json"}, json.dumps(one).encode()) for one in (stored, there)
    ]
    with WebService(*replies) as archive:
        to = StowDestination("web", archive.url)
        item = assign(store, destinations=["web"])
        report(store, item, [(image(store, uid), "web")])
        connection = StowConnection(to)
        how: dict[str, Any] = {"destinations": {"web": to}, "connections": {"web": connection}}
        assert visit(store, item.assignment_id, "web", settings=DeliverSettings(), **how) is None
        assert check(store, to, connection, calling_ae="WETREAD", settings=DeliverSettings()) == 1
        connection.close()
    store.close()
    (where,) = describe(replace(Settings(), destinations={"web": to})).web_destinations
    names = {"study": "2.25.1", "instance": uid}
    expected = [one.request.split(" ")[1].format(**names) for one in where.transactions]
    assert [request.path.removeprefix("/results") for request in archive.requests] == expected
    for request, one in zip(archive.requests, where.transactions, strict=True):
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["accept"] == one.accepted
        assert headers.get("content-type", "").split("; boundary")[0] == one.sent.split(",")[0]


def test_the_status_of_a_pacs_is_judged_as_stated(results: dict[OutputKind, Output]) -> None:
    judgements = describe(Settings()).judgements
    expected = {status: (one.is_taken, one.is_final) for one in judgements for status in (one.low, one.high)}
    others = (0x0110, 0x0112, 0x0213, 0xFE00)
    assert not any(one.low <= other <= one.high for one in judgements for other in others)
    expected |= dict.fromkeys(others, (False, False))
    output = results[OutputKind.TEXT_SR]
    with BadPacs(*expected) as pacs, DicomConnection(destination(pacs.port), calling_ae="WETREAD") as connection:
        for status, wanted in expected.items():
            try:
                connection.send(output.path, output)
                found = (True, True)
            except DeliveryError as error:
                found = (False, error.is_permanent)
            assert found == wanted, f"0x{status:04X}"


def test_a_sender_is_asked_in_the_contexts_that_are_stated() -> None:
    with BadPacs() as pacs, Tap(pacs.port) as tap:
        sender = Sender("CT1", "127.0.0.1", tap.port, called_ae="PACS", timeout_s=5)
        with pytest.raises(SenderError):
            count_at(sender, "2.25.1", calling_ae="WETREAD")
        found = proposed(tap)
    (query,) = describe(replace(Settings(), complete=CompleteSettings(senders=(sender,)))).queries
    assert found == [(query.sop_class.uid, syntax.uid) for syntax in query.transfer_syntaxes]
    assert query.ae_title == "PACS"
