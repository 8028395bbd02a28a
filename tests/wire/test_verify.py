"""Accepted is not delivered: what a PACS took is verified by its commitment, else by a query, else it says why not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.uid import ImplicitVRLittleEndian

from node.deliver.outbox import visit
from node.deliver.scu import DicomConnection
from node.deliver.verify import check
from node.dicom.encoded import encode_dataset
from node.settings import DeliverSettings, DicomDestination, StoreSettings, Verify
from node.store.commitment import take_report
from node.store.database import Store, open_store
from node.store.retention import tidy
from node.store.schema import COMMITMENTS, DELIVERIES
from tests.peers.committer import Committer
from tests.peers.pacs import BadPacs, destination
from tests.peers.ris import refused_port
from tests.unit.rows import Clock, assign, image, report

PATIENCE = DeliverSettings(first_retry_s=5, max_retry_s=60, give_up_after_h=2, verify_for_h=1, commitment_wait_s=30)
UIDS = ("2.25.70", "2.25.71")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


class Sent:
    """Two objects that a PACS took, and a round of asking about them."""

    def __init__(self, store: Store, to: DicomDestination) -> None:
        item = assign(store, destinations=["pacs"])
        report(store, item, [(image(store, uid), "pacs") for uid in UIDS])
        self.store, self.to = store, to
        self.connection = DicomConnection(replace(to, timeout_s=10.0), calling_ae="WETREAD")
        assert visit(
            store, item.assignment_id, "pacs", destinations={"pacs": to}, connections={"pacs": self.connection},
            settings=PATIENCE,
        ) is None  # fmt: skip
        self.connection.close()

    def ask(self) -> int:
        asked = check(self.store, self.to, self.connection, calling_ae="WETREAD", settings=PATIENCE)
        self.connection.close()
        return asked

    def row(self, uid: str = UIDS[0]) -> "sa.Row[tuple[object, ...]]":
        with self.store.reading() as connection:
            return connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.output_id == uid)).one()

    def states(self) -> list[tuple[str, str]]:
        return [(row.state, row.verified_by) for row in map(self.row, UIDS)]


def test_a_commitment_reported_on_the_same_association_verifies(store: Store) -> None:
    with Committer() as pacs:
        sent = Sent(store, pacs.destination())
        assert sent.states() == [("accepted", "")] * 2
        assert sent.ask() == 2
        assert pacs.reported.wait(5)
    assert sent.states() == [("verified", "commitment")] * 2
    assert (pacs.answers, len(pacs.transactions), pacs.queries) == ([0x0000], 1, [])
    assert sent.ask() == 0
    assert [uid for _, uid in pacs.transactions[0][1]] == list(UIDS)


def test_the_transaction_is_on_disk_before_the_pacs_is_asked(store: Store) -> None:
    class Looking(Committer):
        def _action(self, event):  # type: ignore[no-untyped-def]
            answer = super()._action(event)
            with store.reading() as connection:
                known = connection.execute(sa.select(COMMITMENTS.c.transaction_uid)).scalars().all()
            assert set(known) == {self.transactions[-1][0]}
            return answer

    with Looking() as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
    assert sent.states() == [("verified", "commitment")] * 2


def test_a_report_that_comes_later_elsewhere_is_known_by_its_transaction(store: Store) -> None:
    with Committer(reports="never", finds=False) as pacs:
        sent = Sent(store, pacs.destination(timeout_s=2.0))
        sent.ask()
        assert sent.states() == [("accepted", "")] * 2
        encoded = encode_dataset(pacs.dataset(), ImplicitVRLittleEndian)
    assert take_report(store, encoded, ImplicitVRLittleEndian) == 0x0000
    assert sent.states() == [("verified", "commitment")] * 2
    assert take_report(store, encoded, ImplicitVRLittleEndian) == 0x0000  # said twice


def test_a_report_of_a_transaction_that_was_not_asked_for_is_refused(store: Store) -> None:
    with Committer(reports="never", finds=False) as pacs:
        sent = Sent(store, pacs.destination(timeout_s=2.0))
        sent.ask()
        ds = pacs.dataset()
        ds.TransactionUID = "2.25.1"
    assert take_report(store, encode_dataset(ds, ImplicitVRLittleEndian), ImplicitVRLittleEndian) == 0x0115
    assert take_report(store, b"\x08\x00noise", ImplicitVRLittleEndian) == 0x0115
    assert sent.states() == [("accepted", "")] * 2


def test_what_is_not_committed_is_sent_once_more_then_a_dead_letter_with_the_reason_in_words(store: Store) -> None:
    with Committer(fails={UIDS[1]: 0x0110}) as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
        assert sent.states() == [("verified", "commitment"), ("accepted", "")]
        assert pacs.stores == 2
        sent.ask()
        assert pacs.stores == 3
    row = sent.row(UIDS[1])
    assert (row.state, row.resends) == ("dead_letter", 1)
    assert "processing failure (0x0110)" in row.error
    assert sent.ask() == 0


def test_what_is_committed_after_it_was_sent_again_is_verified_and_there_once(store: Store) -> None:
    with Committer(fails={UIDS[1]: 0x0213}) as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
        pacs.fails.clear()
        sent.ask()
    assert sent.states() == [("verified", "commitment")] * 2
    assert pacs.stores == 3


def test_the_failure_of_an_older_transaction_does_not_count(store: Store, clock: Clock) -> None:
    with Committer(reports="never", finds=False) as pacs:
        sent = Sent(store, pacs.destination(timeout_s=2.0))
        sent.ask()
        pacs.fails = {UIDS[0]: 0x0110}
        old = encode_dataset(pacs.dataset(), ImplicitVRLittleEndian)
        clock.now += 31
        assert sent.ask() == 2
        assert len({uid for uid, _ in pacs.transactions}) == 2
        assert take_report(store, old, ImplicitVRLittleEndian) == 0x0000
    assert sent.states() == [("accepted", ""), ("verified", "commitment")]
    assert sent.row().check_step == "report"


def test_no_report_in_time_and_the_pacs_is_queried(store: Store, clock: Clock) -> None:
    with Committer(reports="never") as pacs:
        sent = Sent(store, pacs.destination(timeout_s=2.0))
        sent.ask()
        assert sent.ask() == 0
        clock.now += 31
        assert sent.ask() == 2
    assert sent.states() == [("verified", "find")] * 2
    query = pacs.queries[0]
    assert (query.QueryRetrieveLevel, query.StudyInstanceUID, query.SeriesInstanceUID) == ("IMAGE", "2.25.1", "2.25.5")


@pytest.mark.parametrize("verify", [Verify.AUTO, Verify.FIND])
def test_a_pacs_without_commitment_is_queried(store: Store, verify: Verify) -> None:
    with Committer(commits=False) as pacs:
        sent = Sent(store, pacs.destination(verify))
        sent.ask()
    assert sent.states() == [("verified", "find")] * 2


def test_a_pacs_that_refuses_to_commit_is_queried(store: Store) -> None:
    with Committer(action_status=0x0110) as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
    assert sent.states() == [("verified", "find")] * 2


def test_a_pacs_that_offers_neither_leaves_it_accepted_and_says_so(store: Store) -> None:
    with Committer(commits=False, finds=False) as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
        assert sent.ask() == 0
    assert sent.states() == [("accepted", "")] * 2
    assert "not verifiable" in sent.row().note
    assert sent.row().check_at is None


def test_verify_none_asks_nothing(store: Store) -> None:
    with Committer() as pacs:
        sent = Sent(store, pacs.destination(Verify.NONE))
        assert sent.ask() == 0
    assert (sent.states(), pacs.transactions) == ([("accepted", "")] * 2, [])
    assert "not verifiable" in sent.row().note


def test_what_a_query_does_not_find_again_and_again_is_sent_once_more(store: Store, clock: Clock) -> None:
    with Committer(commits=False, hides=True) as pacs:
        sent = Sent(store, pacs.destination())
        for _ in range(5):
            sent.ask()
            clock.now += 100
        assert (sent.row().check_step, pacs.stores) == ("resend", 2)
        pacs.hides = False
        sent.ask()
    assert pacs.stores == 4
    assert sent.states() == [("verified", "find")] * 2


def test_a_pacs_that_is_down_is_asked_later_each_time_and_in_the_end_it_is_a_dead_letter(
    store: Store, clock: Clock
) -> None:
    with BadPacs() as pacs:
        sent = Sent(store, destination(pacs.port))
    with refused_port() as port:
        sent.to = destination(port)
        waits = []
        for _ in range(30):
            assert sent.ask() == 2
            if sent.row().check_at is None:
                break
            waits.append(sent.row().check_at - clock.now)
            clock.now = sent.row().check_at + 300
    assert waits[:5] == [5, 10, 20, 40, 60]
    row = sent.row()
    assert row.state == "dead_letter"
    assert row.error.startswith("never verified in ")
    assert "cannot be reached" in row.error


def test_a_clock_that_was_set_back_does_not_stop_the_asking(store: Store, clock: Clock) -> None:
    with Committer(commits=False) as pacs:
        sent = Sent(store, pacs.destination())
        clock.now -= 86400
        assert sent.ask() == 2
    assert sent.states() == [("verified", "find")] * 2


@pytest.mark.parametrize("status", [0x0122, 0x0124])
def test_a_query_that_is_not_for_us_leaves_it_accepted(store: Store, status: int) -> None:
    with Committer(commits=False, find_status=status) as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
    assert f"C-FIND was answered 0x{status:04X}" in sent.row().note
    assert sent.row().check_at is None


def test_a_query_that_fails_for_now_is_made_again(store: Store) -> None:
    with Committer(commits=False, find_status=0xA700) as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
    assert "0xA700" in sent.row().note
    assert sent.row().check_at is not None


def test_a_study_whose_results_are_not_verified_yet_is_not_removed_for_its_age(store: Store, clock: Clock) -> None:
    keep = StoreSettings(keep_days=1, free_below_mb=0)
    with Committer(commits=False, hides=True) as pacs:
        sent = Sent(store, pacs.destination())
        sent.ask()
        clock.now += 3 * 86400
        assert tidy(store, keep).too_old == 0
        pacs.hides = False
        sent.ask()
    assert sent.states() == [("verified", "find")] * 2
    assert tidy(store, keep).too_old == 1
