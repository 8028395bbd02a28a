"""Verification with Orthanc: it commits on an Association of its own; C-FIND, QIDO-RS and its look-up find objects."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from node.deliver.connections import Connection, connection_to
from node.deliver.outbox import visit
from node.deliver.rounds import Checked
from node.deliver.verify import check
from node.demo.pacs import OrthancPacs
from node.receive import Answer, EventReport
from node.settings import DeliverSettings, DicomDestination, OrthancDestination, StowDestination, Verify
from node.store.commitment import take_report
from node.store.database import Store, open_store
from node.store.schema import DELIVERIES
from tests.peers import orthanc as orthanc_peer
from tests.unit.rows import Clock, assign, image, report
from tests.wire.front_door import opened

pytestmark = pytest.mark.peer
PATIENCE = DeliverSettings(first_retry_s=5, max_retry_s=60, verify_for_h=1, commitment_wait_s=30)
LIMIT_S = 30.0
CONNECTIONS: list[Connection] = []  # closed after each test


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancPacs]:
    with orthanc_peer.orthanc_with_dicomweb(tmp_path_factory.mktemp("orthanc")) as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    while CONNECTIONS:
        CONNECTIONS.pop().close()
    found.close()


def _root(pacs: OrthancPacs) -> str:
    return f"http://127.0.0.1:{pacs.http_port}"


def _sent(store: Store, to: Checked, uid: str) -> Callable[[], tuple[str, str, str]]:
    """Send an object; what is given asks about it once and tells its state, its proof and the note."""
    item = assign(store, destinations=[to.name])
    report(store, item, [(image(store, uid), to.name)])
    connection = connection_to(to, calling_ae="WETREAD")
    CONNECTIONS.append(connection)
    assert visit(
        store, item.assignment_id, to.name, destinations={to.name: to}, connections={to.name: connection},
        settings=PATIENCE,
    ) is None  # fmt: skip

    def ask() -> tuple[str, str, str]:
        check(store, to, connection, calling_ae="WETREAD", settings=PATIENCE)
        with store.reading() as rows:
            row = rows.execute(sa.select(DELIVERIES).where(DELIVERIES.c.output_id == uid)).one()
        return row.state, row.verified_by, row.note

    return ask


def _dicom(pacs: OrthancPacs, verify: Verify) -> DicomDestination:
    return DicomDestination("pacs", "127.0.0.1", pacs.port, pacs.ae_title, timeout_s=1.0, verify=verify)


def test_orthanc_reports_its_commitment_to_our_own_front_door(tmp_path: Path, store: Store, pacs: OrthancPacs) -> None:
    heard = threading.Event()

    def note(event: EventReport) -> Answer:
        answer = Answer(take_report(store, event.dataset, event.transfer_syntax_uid))
        heard.set()
        return answer

    (tmp_path / "door").mkdir()
    with opened(tmp_path / "door", reported=note) as node:
        orthanc_peer.knows(pacs, "node", "WETREAD", node.port)
        ask = _sent(store, _dicom(pacs, Verify.COMMITMENT), "2.25.7001")
        ask()
        assert heard.wait(LIMIT_S)
    assert ask()[:2] == ("verified", "commitment")


def test_orthanc_that_cannot_call_us_back_is_queried(store: Store, pacs: OrthancPacs, clock: Clock) -> None:
    orthanc_peer.knows(pacs, "node", "WETREAD", 9)
    ask = _sent(store, _dicom(pacs, Verify.AUTO), "2.25.7002")
    assert ask()[:2] == ("accepted", "")
    clock.now += 31
    assert ask()[:2] == ("verified", "find")


def _delete(pacs: OrthancPacs, uid: str) -> None:
    found = requests.post(f"{_root(pacs)}/tools/lookup", data=uid, timeout=LIMIT_S).json()
    for one in found:
        if one["Type"] == "Instance":
            requests.delete(f"{_root(pacs)}/instances/{one['ID']}", timeout=LIMIT_S).raise_for_status()


def test_what_orthanc_has_lost_is_sent_again_and_found(store: Store, pacs: OrthancPacs, clock: Clock) -> None:
    ask = _sent(store, _dicom(pacs, Verify.FIND), "2.25.7003")
    _delete(pacs, "2.25.7003")
    said = []
    for _ in range(6):
        said.append(ask())
        clock.now += 100
    assert said[0] == ("accepted", "", "C-FIND does not find it")
    assert said[-1][:2] == ("verified", "find")
    assert pacs.instances().count("2.25.7003") == 1


@pytest.mark.parametrize("kind", ["stow", "orthanc"])
def test_a_web_archive_is_asked_by_its_own_search(store: Store, pacs: OrthancPacs, clock: Clock, kind: str) -> None:
    to: Checked = (
        StowDestination("web", f"{_root(pacs)}/dicom-web")
        if kind == "stow"
        else OrthancDestination("web", f"{_root(pacs)}/")
    )
    uid = "2.25.7004" if kind == "stow" else "2.25.7005"
    ask = _sent(store, to, uid)
    _delete(pacs, uid)
    assert ask() == ("accepted", "", "a search does not find it")
    for _ in range(4):
        clock.now += 100
        ask()
    clock.now += 100
    assert ask()[:2] == ("verified", "find")


def test_a_web_archive_that_is_not_to_be_asked_stays_accepted(store: Store, pacs: OrthancPacs) -> None:
    ask = _sent(store, OrthancDestination("web", _root(pacs), verify=Verify.NONE), "2.25.7006")
    assert ask() == ("accepted", "", 'not verifiable: verify is "none"')
