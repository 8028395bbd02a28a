"""A finding that its model is not sure of raises the flag of its study in the list that people read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store.database import Store, open_store
from node.store.work import mark_reported
from node.store.worklist import study_states
from tests.unit.rows import Clock, analyse, assign


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=Clock())
    yield found
    found.close()


def _report(store: Store, *certainties: dict[str, object] | None, generation: int = 1) -> None:
    item = assign(store, generation=generation)
    analyse(store, item)
    summary = [{"finding": "Nodule", "certainty": certainty} for certainty in certainties]
    mark_reported(store, item, [], [], patient_key="p", summary=summary, workflow=item.assignment_id)


def test_one_finding_of_the_tier_review_raises_the_flag(store: Store) -> None:
    _report(store, {"probability": 0.95, "tier": "high"}, {"probability": 0.3, "tier": "review"})
    assert study_states(store, limit=1)[0].needs_review


def test_sure_findings_and_those_without_certainty_raise_none(store: Store) -> None:
    _report(store, {"probability": 0.95, "tier": "high"}, {"probability": 0.6, "tier": "medium"}, None)
    assert not study_states(store, limit=1)[0].needs_review


def test_a_later_generation_takes_the_flag_down(store: Store) -> None:
    _report(store, {"probability": 0.3, "tier": "review"})
    _report(store, generation=2)
    assert not study_states(store, limit=1)[0].needs_review


def test_a_study_that_is_not_read_yet_has_none(store: Store) -> None:
    assign(store)
    assert not study_states(store, limit=1)[0].needs_review
