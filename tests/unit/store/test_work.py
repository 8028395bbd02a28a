"""Assignments move forward only, and an older word never follows a newer one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.domain.work import Priority
from node.errors import StoreError
from node.store.database import Store, open_store
from node.store.outbox import open_batches
from node.store.schema import ASSIGNMENTS, METADATA
from node.store.work import (
    analysed_at,
    assignment,
    corrected_outputs,
    mark_analysed,
    mark_assignment_failed,
    mark_reported,
    outputs_of,
    state_of,
    unfinished_assignments,
)
from tests.unit.rows import Clock, analyse, assign, image, message, report

AUDIT = METADATA.tables["audit"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _records(store: Store, action: str) -> int:
    with store.reading() as connection:
        return len(connection.execute(sa.select(AUDIT.c.seq).where(AUDIT.c.action == action)).all())


def test_an_assignment_comes_back_as_it_was_given(store: Store) -> None:
    item = assign(store, priority=Priority.STAT, destinations=("肺科", "ris"))
    assert assignment(store, item.assignment_id) == item
    assert unfinished_assignments(store) == [item]
    with pytest.raises(StoreError, match=r"no assignment 2\.25\.7"):
        assignment(store, "2.25.7")


def test_the_time_of_an_analysis_stays_however_often_it_is_noted(store: Store, clock: Clock) -> None:
    item = assign(store)
    with pytest.raises(StoreError, match="not analysed yet"):
        analysed_at(store, item.assignment_id)
    analyse(store, item)
    first = clock.now
    clock.now += 100
    at = mark_analysed(store, item, status="failed", reason="again", folder="x", workflow=item.assignment_id)
    assert at == first == analysed_at(store, item.assignment_id)
    with store.reading() as connection:
        assert connection.execute(sa.select(ASSIGNMENTS.c.status)).scalar_one() == "findings"
    assert _records(store, "study analysed") == 1


def test_a_report_is_committed_once_with_its_outputs_and_deliveries(store: Store) -> None:
    item = assign(store)
    outputs = [(image(store, "2.25.70"), "pacs"), (message(store, "M1"), "ris")]
    report(store, item, outputs)
    report(store, item, [(message(store, "M2"), "ris")])
    assert outputs_of(store, item.assignment_id) == [output for output, _ in outputs]
    assert len(open_batches(store)) == 2
    assert (state_of(store, item.assignment_id), unfinished_assignments(store)) == ("reported", [])
    assert _records(store, "study reported") == 1


def test_a_failed_assignment_stays_failed_and_a_reported_one_reported(store: Store) -> None:
    failed, reported = assign(store), assign(store, study="2.25.2")
    mark_assignment_failed(store, failed, "why", workflow="w")
    mark_reported(
        store, failed, [message(store, "M1")], [("M1", "ris")], patient_key="p", summary=[], workflow="w"
    )  # fmt: skip
    assert (state_of(store, failed.assignment_id), outputs_of(store, failed.assignment_id)) == ("failed", [])
    report(store, reported, [(message(store, "M2"), "ris")])
    mark_assignment_failed(store, reported, "too late", workflow="w")
    assert state_of(store, reported.assignment_id) == "reported"
    assert _records(store, "assignment failed") == 1


def test_a_report_corrects_the_last_report_of_the_same_handler(store: Store) -> None:
    first, second, third = (assign(store, generation=number) for number in (1, 2, 3))
    other = assign(store, generation=4, handler="lung")
    report(store, first, [(image(store, "2.25.70"), "pacs")])
    assert corrected_outputs(store, first) == []
    assert [output.output_id for output in corrected_outputs(store, second)] == ["2.25.70"]
    report(store, second, [(image(store, "2.25.71"), "pacs")])
    assert [output.output_id for output in corrected_outputs(store, third)] == ["2.25.71"]
    assert corrected_outputs(store, other) == []


def test_the_report_of_an_older_generation_never_follows_that_of_a_newer(store: Store) -> None:
    slow, fast = assign(store, generation=1), assign(store, generation=2)
    report(store, fast, [(message(store, "M2"), "ris")])
    with pytest.raises(StoreError, match="later generation"):
        report(store, slow, [(message(store, "M1"), "ris")])
    assert [batch.assignment_id for batch in open_batches(store)] == [fast.assignment_id]
    assert outputs_of(store, slow.assignment_id) == []


def test_two_handlers_of_one_study_have_an_audit_record_each(store: Store) -> None:
    first = assign(store)
    second = assign(store, generation=2, handler="lung")
    for item in (first, second):
        analyse(store, item)
        mark_assignment_failed(store, item, "why", workflow=item.assignment_id)
    assert (_records(store, "study analysed"), _records(store, "assignment failed")) == (2, 2)
