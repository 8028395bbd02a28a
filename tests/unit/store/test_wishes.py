"""What a person asks of a study is done by the worker, noted in the audit trail, and never takes back what was said."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.errors import StoreError
from node.explain import story
from node.store.database import Store, open_store
from node.store.schema import GENERATIONS, METADATA
from node.store.studies import (
    end_waits,
    frozen,
    hold,
    instances_of,
    is_let_go,
    keep_held,
    unfinished_generations,
)
from node.store.wishes import discard, force, release
from node.store.work import mark_analysed, state_of, unfinished_assignments
from node.store.worklist import study_states
from tests.unit.rows import STUDY, Clock, analyse, arrive, assign, freeze_whole

AUDIT = METADATA.tables["audit"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _settle(store: Store) -> list[tuple[str, int]]:
    return freeze_whole(store, quiet_s=60, after_release_s=5)


def _states(store: Store) -> list[tuple[str, str]]:
    with store.reading() as connection:
        rows = connection.execute(sa.select(GENERATIONS).order_by(GENERATIONS.c.generation))
        return [(row.signal, row.state) for row in rows]


def _audited(store: Store) -> list[tuple[str, str]]:
    with store.reading() as connection:
        rows = connection.execute(sa.select(AUDIT).order_by(AUDIT.c.seq))
        return [(row.action, row.details) for row in rows if row.action in ("study forced", "study discarded")]


def _list_state(store: Store) -> str:
    return study_states(store, limit=10)[0].state


def test_a_forced_study_is_frozen_at_the_next_look(store: Store) -> None:
    arrive(store, 1)
    assert force(store, STUDY, by="anna") == "generation 1 will be read now"
    assert _settle(store) == [(STUDY, 1)]
    assert _states(store) == [("forced", "frozen")]
    assert not frozen(store, STUDY, 1).may_wait
    assert _audited(store) == [("study forced", '{"by": "anna"}')]


def test_images_after_a_forced_study_are_settled_as_ever(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    force(store, STUDY, by="anna")
    _settle(store)
    arrive(store, 2)
    assert _settle(store) == []
    clock.now += 60
    assert _settle(store) == [(STUDY, 2)]


def test_a_study_that_is_whole_cannot_be_forced(store: Store) -> None:
    assign(store)
    with pytest.raises(StoreError, match="is whole already: generation 1"):
        force(store, STUDY, by="anna")
    with pytest.raises(StoreError, match="there is no study"):
        force(store, "2.25.404", by="anna")
    assert _audited(store) == []


def test_forcing_ends_the_wait_for_a_required_series(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    _settle(store)
    hold(store, STUDY, 1, [], reason="waits", wait_until=clock.now + 600)
    assert _list_state(store) == "waiting"
    force(store, STUDY, by="anna")
    assert end_waits(store) == [(STUDY, 1)]
    assert (frozen(store, STUDY, 1).may_wait, frozen(store, STUDY, 1).signal) == (False, "forced")


def test_a_discarded_open_study_is_not_read_whatever_comes_later_and_its_images_stay(
    store: Store, clock: Clock
) -> None:
    arrive(store, 1)
    discard(store, STUDY, by="anna")
    for number in (2, 3):
        clock.now += 60
        assert _settle(store) == []
        arrive(store, number)
    clock.now += 60
    assert _settle(store) == []
    assert _states(store) == [("quiet", "discarded")] * 3
    assert len(instances_of(store, STUDY, 3)) == 3
    assert unfinished_generations(store) == []
    text = "\n".join(event.text for event in story(store, STUDY))
    assert "a person discarded the study" in text
    assert "no algorithm ran on generation 3: discarded by a person" in text


def test_a_discarded_study_is_read_after_all_when_a_person_says_so(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    discard(store, STUDY, by="anna")
    clock.now += 60
    _settle(store)
    assert _list_state(store) == "discarded"
    assert force(store, STUDY, by="bo") == "generation 2 will be read now"
    assert _settle(store) == [(STUDY, 2)]
    assert len(instances_of(store, STUDY, 2)) == 1
    assert [action for action, _ in _audited(store)] == ["study discarded", "study forced"]


def test_a_frozen_study_that_was_not_routed_can_be_discarded(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    _settle(store)
    discard(store, STUDY, by="anna")
    assert _states(store) == [("quiet", "discarded")]
    with pytest.raises(StoreError, match="was discarded already"):
        discard(store, STUDY, by="anna")


def test_a_reading_that_waits_for_its_turn_can_be_discarded_and_one_that_runs_is_let_go(store: Store) -> None:
    item = assign(store)
    discard(store, STUDY, by="anna")
    assert (state_of(store, item.assignment_id), unfinished_assignments(store)) == ("discarded", [])
    mark_analysed(store, item, status="findings", reason="", folder="analyses/x", workflow="w")
    assert state_of(store, item.assignment_id) == "discarded"
    assert _list_state(store) == "discarded"


def test_what_was_read_cannot_be_discarded(store: Store) -> None:
    analyse(store, assign(store))
    with pytest.raises(StoreError, match="was read already: generation 1"):
        discard(store, STUDY, by="anna")
    assert _list_state(store) == "being read"


def test_each_wish_has_its_own_record(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    for _ in range(2):
        clock.now += 1
        discard(store, STUDY, by="anna")
        force(store, STUDY, by="anna")
    assert len(_audited(store)) == 4


def test_the_list_shows_the_newest_first_and_how_far_each_is(store: Store, clock: Clock) -> None:
    assign(store, study="2.25.1")
    clock.now += 10
    arrive(store, 77, study="2.25.2")
    first, second = study_states(store, limit=10)
    assert (first.study_uid, first.state, first.generation, first.instances) == ("2.25.2", "open", 1, 1)
    assert (second.study_uid, second.state, second.accession_number) == ("2.25.1", "being read", "A-2.25.1")
    assert study_states(store, limit=1) == [first]


def _held(store: Store) -> None:
    arrive(store, 1)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    keep_held(store, STUDY, 1, "held as 'QA': PatientName has the word 'phantom'")


@pytest.mark.parametrize("wish", [release, force])
def test_a_held_study_is_read_when_a_person_says_so(store: Store, wish: Callable[..., str]) -> None:
    _held(store)
    assert (_list_state(store), unfinished_generations(store), end_waits(store)) == ("held", [], [])
    assert wish(store, STUDY, by="anna") == "generation 1 is held no longer and will be read now"
    assert end_waits(store) == [(STUDY, 1)]
    assert is_let_go(store, STUDY)
    assert [one.generation for one in unfinished_generations(store)] == [1]
    with pytest.raises(StoreError, match="not held"):
        release(store, STUDY, by="anna")


def test_a_study_that_is_let_go_before_it_is_whole_is_not_held(store: Store) -> None:
    arrive(store, 1)
    release(store, STUDY, by="anna")
    assert is_let_go(store, STUDY)


def test_a_held_study_can_be_discarded_and_tells_why_it_was_held(store: Store) -> None:
    _held(store)
    assert any("held as 'QA'" in event.text for event in story(store, STUDY))
    discard(store, STUDY, by="anna")
    assert _list_state(store) == "discarded"
