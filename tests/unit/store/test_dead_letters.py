"""A dead letter goes again with the same bytes and ids, or is left for good; both are in the audit trail."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.audit import verify
from node.errors import StoreError
from node.store.database import Store, open_store
from node.store.dead_letters import dead_letters, drop, retry
from node.store.outbox import mark_accepted, mark_dead, open_batches, pending_deliveries
from node.store.schema import DELIVERIES, METADATA
from tests.unit.rows import Clock, assign, image, message, report

AUDIT = METADATA.tables["audit"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _dead(store: Store, output_id: str = "M1", *, generation: int = 1) -> str:
    item = assign(store, generation=generation)
    made = message(store, output_id) if output_id.startswith("M") else image(store, output_id)
    destination = "ris" if output_id.startswith("M") else "pacs"
    report(store, item, [(made, destination)])
    (delivery,) = pending_deliveries(store, item.assignment_id, destination)
    mark_dead(store, delivery, "answered AE")
    return item.assignment_id


def _audited(store: Store, subject: str) -> list[str]:
    with store.reading() as connection:
        rows = connection.execute(sa.select(AUDIT).where(AUDIT.c.subject == subject).order_by(AUDIT.c.seq))
        return [row.action for row in rows]


def test_a_dead_letter_says_what_for_whom_why_and_since_when(store: Store, clock: Clock) -> None:
    assert dead_letters(store) == []
    _dead(store)
    clock.now += 3600
    (letter,) = dead_letters(store)
    assert (letter.output_id, letter.kind, letter.destination, letter.reason) == ("M1", "oru", "ris", "answered AE")
    assert (clock.now - letter.since, letter.study_uid, letter.accession_number) == (3600, "2.25.1", "A-2.25.1")
    assert dead_letters(store, destination="pacs") == []
    assert dead_letters(store, names=["M1@ris"]) == [letter]
    with pytest.raises(StoreError, match="M9"):
        dead_letters(store, names=["M9"])


def test_it_goes_again_under_the_same_ids_with_the_same_bytes_and_new_patience(store: Store, clock: Clock) -> None:
    item = _dead(store)
    before = (store.root / "results" / "M1.hl7").read_bytes()
    clock.now += 1e6
    assert retry(store, dead_letters(store)[0], by="anna") == ""
    (delivery,) = pending_deliveries(store, item, "ris")
    assert (delivery.output.output_id, delivery.output.path.read_bytes()) == ("M1", before)
    assert (delivery.attempts, delivery.queued_at, delivery.rounds) == (0, clock.now, 1)
    assert [batch.destination for batch in open_batches(store)] == ["ris"]
    mark_accepted(store, delivery, "AA", verified_by="answer")
    assert dead_letters(store) == []
    assert _audited(store, "M1") == [
        "output became a dead letter", "dead letter sent again", "output accepted", "output verified",
    ]  # fmt: skip


def test_every_round_has_its_own_audit_record(store: Store) -> None:
    item = _dead(store)
    for _ in range(2):
        retry(store, dead_letters(store)[0], by="anna")
        (delivery,) = pending_deliveries(store, item, "ris")
        mark_dead(store, delivery, "answered AE")
    assert _audited(store, "M1").count("output became a dead letter") == 3
    assert _audited(store, "M1").count("dead letter sent again") == 2
    with store.reading() as connection:
        verify(connection, store.key, store.root / "audit.anchor")


def test_what_is_no_dead_letter_any_more_is_left_alone(store: Store) -> None:
    _dead(store)
    (letter,) = dead_letters(store)
    assert retry(store, letter, by="anna") == ""
    assert "no dead letter" in retry(store, letter, by="anna")
    assert "no dead letter" in drop(store, letter, "late", by="anna")


def test_an_older_message_is_not_sent_after_a_later_one(store: Store) -> None:
    _dead(store)
    second = assign(store, generation=2)
    report(store, second, [(message(store, "M2"), "ris")])
    (delivery,) = pending_deliveries(store, second.assignment_id, "ris")
    mark_accepted(store, delivery, "AA", verified_by="answer")
    assert "later message" in retry(store, dead_letters(store)[0], by="anna")


def test_an_older_object_may_be_sent_after_a_later_one(store: Store) -> None:
    _dead(store, "2.25.70")
    second = assign(store, generation=2)
    report(store, second, [(image(store, "2.25.71"), "pacs")])
    (delivery,) = pending_deliveries(store, second.assignment_id, "pacs")
    mark_accepted(store, delivery, "0x0000")
    assert retry(store, dead_letters(store)[0], by="anna") == ""


def test_bytes_that_were_removed_are_not_sent_again(store: Store) -> None:
    _dead(store)
    (store.root / "results" / "M1.hl7").unlink()
    assert "removed" in retry(store, dead_letters(store)[0], by="anna")


def test_a_dropped_one_keeps_its_reason_and_that_of_the_person(store: Store) -> None:
    _dead(store)
    (letter,) = dead_letters(store)
    for reason in ("", "  ", "x" * 501):
        with pytest.raises(StoreError, match="reason"):
            drop(store, letter, reason, by="anna")
    assert drop(store, letter, "the RIS got it by hand", by="anna") == ""
    with store.reading() as connection:
        row = connection.execute(sa.select(DELIVERIES)).one()
    assert (row.state, row.error, row.note) == ("dropped", "answered AE", "the RIS got it by hand")
    assert _audited(store, "M1")[-1] == "dead letter dropped"
    assert dead_letters(store) == []
    assert open_batches(store) == []
