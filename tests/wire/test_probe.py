"""A probe says of real peers what works, what not and what that means, and proposes what they accept."""

import contextlib
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage, ComprehensiveSRStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from node.deliver.probe import Probe
from node.deliver.probe_others import probe_folder, probe_ris, probe_web
from node.deliver.probe_pacs import probe_pacs
from node.domain.work import OutputKind
from node.settings import (
    Destination,
    DicomDestination,
    FolderDestination,
    Hl7Destination,
    HttpDestination,
    OrthancDestination,
    Secret,
    StowDestination,
    Verify,
    load_settings,
)
from tests.peers import orthanc as orthanc_peer
from tests.peers import ris as bad_ris
from tests.peers.committer import Committer
from tests.peers.modality import dcmtk_receiver, free_port, wait_until_open
from tests.peers.pacs import BadPacs, destination
from tests.peers.ris import Answer, BadRis, refused_port

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _works(probe: Probe) -> dict[str, bool | None]:
    return {one.what: one.works for one in probe.findings}


def _said(probe: Probe, what: str) -> str:
    return next(f"{one.found}; {one.meaning}" for one in probe.findings if one.what == what)


def _proposed(probe: Probe, folder: Path) -> Destination:
    """What the node makes of the proposed block."""
    tomllib.loads(probe.proposal)
    path = folder / "config.toml"
    path.write_text(probe.proposal, encoding="utf-8")
    return load_settings(path, {}).destinations[probe.destination]


@pytest.mark.peer
def test_orthanc_takes_everything_and_can_be_asked_both_ways(tmp_path: Path) -> None:
    with orthanc_peer.orthanc(tmp_path / "orthanc") as pacs:
        to = orthanc_peer.destination(pacs)
        probe = probe_pacs(to, calling_ae="WETREAD")
    works = _works(probe)
    assert probe.is_usable
    assert all(works[name] for name in ("reachable", "Association", "C-ECHO", "storage commitment", "C-FIND"))
    assert all(works[str(kind)] for kind in to.objects)
    assert _proposed(probe, tmp_path) == to


@pytest.mark.peer
def test_an_orthanc_that_does_not_know_us_lets_nobody_search(tmp_path: Path) -> None:
    with orthanc_peer.orthanc(tmp_path / "orthanc") as pacs:
        probe = probe_pacs(orthanc_peer.destination(pacs), calling_ae="STRANGER")
    assert _works(probe)["C-FIND"] is False
    assert "may not know us" in _said(probe, "C-FIND")


@pytest.mark.peer
def test_dcmtk_that_takes_implicit_vr_only_gets_results_encoded_anew(tmp_path: Path) -> None:
    with dcmtk_receiver(tmp_path / "storescp", "+xi") as port:
        probe = probe_pacs(destination(port), calling_ae="WETREAD")
    works = _works(probe)
    assert (works["C-ECHO"], works["storage commitment"], works["C-FIND"]) == (True, False, False)
    assert "encoded anew" in _said(probe, "text_sr")
    assert _proposed_pacs(probe, tmp_path).verify is Verify.NONE


def _proposed_pacs(probe: Probe, folder: Path) -> DicomDestination:
    made = _proposed(probe, folder)
    assert isinstance(made, DicomDestination)
    return made


@contextlib.contextmanager
def _running(*command: str, port: int | None = None) -> Iterator[int]:
    """Run a program of DCMTK that takes its port last."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"DCMTK's {command[0]} is not installed")
    port = port or free_port()
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_open(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


PROFILE = """
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = LocalEndianExplicit
TransferSyntax2 = LittleEndianImplicit

[[PresentationContexts]]
[Few]
PresentationContext1 = VerificationSOPClass\\Plain
PresentationContext2 = SecondaryCaptureImageStorage\\Plain
PresentationContext3 = BasicTextSRStorage\\Plain

[[Profiles]]
[Default]
PresentationContexts = Few
"""


@pytest.mark.peer
def test_what_dcmtk_does_not_take_is_not_proposed(tmp_path: Path) -> None:
    profile = tmp_path / "few.cfg"
    profile.write_text(PROFILE, encoding="ascii")
    with _running("storescp", "-xf", str(profile), "Default", "-od", str(tmp_path)) as port:
        probe = probe_pacs(destination(port), calling_ae="WETREAD")
    works = _works(probe)
    assert (works["heat_map"], works["text_sr"], works["segmentation"]) == (True, True, False)
    assert "take it out of objects" in _said(probe, "segmentation")
    assert "only as Basic Text SR" in _said(probe, "measurement_sr")
    assert _proposed_pacs(probe, tmp_path).objects == (
        OutputKind.MEASUREMENT_SR,
        OutputKind.TEXT_SR,
        OutputKind.HEAT_MAP,
    )


ARCHIVE = """
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 4

HostTable BEGIN
HostTable END

VendorTable BEGIN
VendorTable END

AETable BEGIN
ARCHIVE {folder} RW (200, 1024mb) ANY
AETable END
"""


@pytest.mark.peer
def test_dcmqrscp_can_be_queried_and_does_not_commit(tmp_path: Path) -> None:
    port, database, config = free_port(), tmp_path / "database", tmp_path / "dcmqrscp.cfg"
    database.mkdir()
    config.write_text(ARCHIVE.format(port=port, folder=database), encoding="ascii")
    with _running("dcmqrscp", "-c", str(config), port=port):
        probe = probe_pacs(destination(port, ae_title="ARCHIVE"), calling_ae="WETREAD")
    works = _works(probe)
    assert (works["C-ECHO"], works["storage commitment"], works["C-FIND"]) == (True, False, True)
    assert _proposed_pacs(probe, tmp_path).verify is Verify.AUTO


def test_a_pacs_of_few_classes_is_proposed_what_it_takes(tmp_path: Path) -> None:
    classes = (str(ComprehensiveSRStorage), str(BasicTextSRStorage), str(SecondaryCaptureImageStorage))
    with BadPacs(sop_classes=classes, transfer_syntaxes=(str(ExplicitVRLittleEndian),)) as pacs:
        probe = probe_pacs(destination(pacs.port), calling_ae="WETREAD")
        assert pacs.datasets == []
    assert "only as Comprehensive SR" in _said(probe, "measurement_sr")
    assert (_works(probe)["C-ECHO"], probe.is_usable) == (False, True)


@pytest.mark.parametrize(
    ("commits", "finds", "verify"), [(True, False, "auto"), (False, True, "auto"), (False, False, "none")]
)
def test_how_it_can_be_verified_is_proposed(tmp_path: Path, commits: bool, finds: bool, verify: str) -> None:
    with Committer(commits=commits, finds=finds) as pacs:
        probe = probe_pacs(pacs.destination(), calling_ae="WETREAD")
        assert pacs.transactions == []
        assert pacs.stores == 0
    assert str(_proposed_pacs(probe, tmp_path).verify) == verify


def test_a_query_that_is_not_answered_is_no_way_to_verify() -> None:
    with Committer(commits=False, find_status=0x0124) as pacs:
        probe = probe_pacs(pacs.destination(), calling_ae="WETREAD")
    assert (_works(probe)["C-FIND"], _works(probe)["verification"]) == (False, None)


def test_a_port_that_nobody_listens_on_and_one_that_is_silent_end_in_time() -> None:
    with refused_port() as port:
        probe = probe_pacs(destination(port), calling_ae="WETREAD")
        assert "cannot be reached" in _said(probe, "reachable")
        assert not probe_ris(bad_ris.destination(port), is_test_sent=False, now=NOW).is_usable
        assert not probe_web(OrthancDestination("web", f"http://127.0.0.1:{port}")).is_usable
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = int(silent.getsockname()[1])
        probe = probe_pacs(destination(port, timeout_s=0.3), calling_ae="WETREAD")
        assert (_works(probe)["reachable"], _works(probe)["Association"]) == (True, False)
        assert "out of time" in _said(probe, "Association")
        web = StowDestination("web", f"http://127.0.0.1:{port}", timeout_s=0.3)
        assert not probe_web(web).is_usable


def test_a_ris_gets_no_message_unless_a_person_asks_for_one(tmp_path: Path) -> None:
    with BadRis(Answer.ACCEPT) as ris:
        probe = probe_ris(bad_ris.destination(ris.port), is_test_sent=False, now=NOW)
        assert (probe.is_usable, ris.messages) == (True, [])
    assert _works(probe)["acknowledgement"] is None
    assert isinstance(_proposed(probe, tmp_path), Hl7Destination)


@pytest.mark.parametrize(
    ("answer", "works", "meaning"),
    [
        (Answer.ACCEPT, True, "verified"),
        (Answer.COMMIT, True, "accepted"),
        (Answer.ERROR, False, "AE, error 207"),
        (Answer.REJECT, False, "AR, error 202"),
        (Answer.CLOSE_WITHOUT_ANSWER, False, "no message"),
    ],
)
def test_a_test_message_is_marked_as_one_and_its_answer_is_told(answer: Answer, works: bool, meaning: str) -> None:
    with BadRis(answer) as ris:
        to = replace(bad_ris.destination(ris.port), sending_facility="A|B")
        probe = probe_ris(to, is_test_sent=True, now=NOW)
        (message,) = ris.messages
    fields = message.split(b"\r")[0].split(b"|")
    assert (fields[8], fields[10], fields[3]) == (b"ORU^R01^ORU_R01", b"T", b"A\\F\\B")
    assert (_works(probe)["acknowledgement"], meaning in _said(probe, "acknowledgement")) == (works, True)


@pytest.mark.peer
def test_orthanc_is_probed_over_the_web_with_and_without_its_password(tmp_path: Path) -> None:
    with orthanc_peer.orthanc_with_dicomweb(tmp_path / "plain") as pacs:
        root = f"http://127.0.0.1:{pacs.http_port}"
        rest = probe_web(OrthancDestination("rest", root))
        stow = probe_web(StowDestination("stow", f"{root}/dicom-web"))
        wrong = probe_web(StowDestination("stow", f"{root}/dicomweb"))
        assert pacs.instances() == []
    assert (rest.is_usable, stow.is_usable, wrong.is_usable) == (True, True, False)
    assert _works(stow)["search"]
    assert isinstance(_proposed(stow, tmp_path), StowDestination)
    assert _works(rest)["Orthanc"]


@pytest.mark.peer
def test_a_service_that_wants_a_password_says_so_and_it_is_not_in_the_proposal(tmp_path: Path) -> None:
    more = {"AuthenticationEnabled": True, "RegisteredUsers": {"node": "secret-word"}}
    with orthanc_peer.orthanc_with_dicomweb(tmp_path / "locked", **more) as pacs:
        root = f"http://127.0.0.1:{pacs.http_port}"
        closed = probe_web(OrthancDestination("rest", root))
        known = {"user": "node", "secret_variable": "RIS_WORD"}
        opened = probe_web(OrthancDestination("rest", root, **known, secret=Secret("secret-word")))
    assert (_works(closed)["credentials"], closed.is_usable, opened.is_usable) == (False, False, True)
    assert "secret-word" not in str(opened)
    assert 'secret_variable = "RIS_WORD"' in opened.proposal


def test_a_web_service_that_is_not_there_and_a_folder_that_is_no_folder(tmp_path: Path) -> None:
    with refused_port() as port:
        assert not probe_web(HttpDestination("web", f"http://127.0.0.1:{port}/results")).is_usable
    assert probe_folder(FolderDestination("share", str(tmp_path))).is_usable
    assert not probe_folder(FolderDestination("share", str(tmp_path / "missing"))).is_usable
    assert list(tmp_path.iterdir()) == []
