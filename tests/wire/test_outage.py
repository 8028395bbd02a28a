"""Ten minutes without a PACS: before it has the result, and before it says that it keeps it. The clock is ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.deliver import MllpConnection
from node.deliver.connections import Connection
from node.deliver.outbox import visit
from node.deliver.scu import DicomConnection
from node.deliver.verify import check
from node.domain.work import Assignment
from node.settings import DeliverSettings, Destination, DicomDestination
from node.store.database import Store, open_store
from node.store.schema import DELIVERIES
from tests.peers.committer import Committer
from tests.peers.ris import Answer, BadRis
from tests.peers.ris import destination as ris_destination
from tests.unit.rows import Clock, assign, image, message, report

PATIENCE = DeliverSettings(first_retry_s=5, max_retry_s=120, give_up_after_h=72, verify_for_h=24, commitment_wait_s=30)
UID, OUTAGE_S = "2.25.70", 600.0


@dataclass
class Hospital:
    """A store with one object for the PACS and one message for the RIS, and the time they live in."""

    store: Store
    clock: Clock
    item: Assignment
    destinations: dict[str, Destination]
    connections: dict[str, Connection]

    def visit(self, name: str) -> float | None:
        return visit(
            self.store, self.item.assignment_id, name, destinations=self.destinations, connections=self.connections,
            settings=PATIENCE,
        )  # fmt: skip

    def ask(self) -> int:
        pacs = self.destinations["pacs"]
        assert isinstance(pacs, DicomDestination)
        asked = check(self.store, pacs, self.connections["pacs"], calling_ae="WETREAD", settings=PATIENCE)
        self.connections["pacs"].close()
        return asked

    def row(self, name: str) -> "sa.Row[tuple[object, ...]]":
        with self.store.reading() as connection:
            return connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.destination == name)).one()


@pytest.fixture
def pacs() -> Committer:
    """A PACS that has been switched on once, so that its port is known, and is off."""
    found = Committer()
    with found:
        pass
    return found


@pytest.fixture
def ris() -> Iterator[BadRis]:
    with BadRis(Answer.ACCEPT) as found:
        yield found


@pytest.fixture
def hospital(tmp_path: Path, pacs: Committer, ris: BadRis) -> Iterator[Hospital]:
    clock = Clock()
    store = open_store(tmp_path / "store", clock=clock)
    item = assign(store)
    report(store, item, [(image(store, UID), "pacs"), (message(store, "M-1"), "ris")])
    to_pacs, to_ris = pacs.destination(timeout_s=5.0), ris_destination(ris.port)
    connections: dict[str, Connection] = {
        "pacs": DicomConnection(to_pacs, calling_ae="WETREAD"), "ris": MllpConnection(to_ris)
    }  # fmt: skip
    yield Hospital(store, clock, item, {"pacs": to_pacs, "ris": to_ris}, connections)
    for connection in connections.values():
        connection.close()
    store.close()


def _wait_while_off(hospital: Hospital) -> int:
    """Visit as the engine would, until the PACS has been off for ten minutes; how often it was tried."""
    back_at, tries = hospital.clock.now + OUTAGE_S, 0
    while hospital.clock.now < back_at:
        wait_s = hospital.visit("pacs")
        assert wait_s is not None
        hospital.clock.now += wait_s
        tries += 1
        assert hospital.visit("ris") is None
    return tries


def test_a_pacs_that_is_off_for_ten_minutes_has_one_object_and_the_ris_one_message(
    hospital: Hospital, pacs: Committer, ris: BadRis
) -> None:
    tries = _wait_while_off(hospital)
    assert 5 <= tries <= 15
    assert (hospital.row("pacs").state, hospital.row("ris").state) == ("pending", "verified")
    assert "pacs" in str(hospital.row("pacs").error)
    with pacs:
        assert hospital.visit("pacs") is None
        assert hospital.visit("pacs") is None
        assert hospital.row("pacs").state == "accepted"
        assert hospital.ask() == 1
    found = hospital.row("pacs")
    assert (found.state, found.verified_by, found.attempts, found.resends) == ("verified", "commitment", tries + 1, 0)
    assert (pacs.held, pacs.stores, len(pacs.transactions)) == ([UID], 1, 1)
    assert len(ris.messages) == 1


def test_a_pacs_that_goes_off_before_it_commits_is_asked_when_it_is_back_and_gets_nothing_twice(
    hospital: Hospital, pacs: Committer, ris: BadRis
) -> None:
    with pacs:
        assert (hospital.visit("pacs"), hospital.visit("ris")) == (None, None)
        hospital.connections["pacs"].close()
    back_at = hospital.clock.now + OUTAGE_S
    while hospital.clock.now < back_at:
        hospital.ask()
        row = hospital.row("pacs")
        assert (row.state, row.resends) == ("accepted", 0)
        assert row.check_at > hospital.clock.now
        hospital.clock.now = float(row.check_at)
    with pacs:
        assert hospital.ask() == 1
    assert (hospital.row("pacs").state, hospital.row("pacs").verified_by) == ("verified", "commitment")
    assert (pacs.held, pacs.stores, len(ris.messages)) == ([UID], 1, 1)
