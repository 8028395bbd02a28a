"""Studies are frozen once, routed once, and found again whatever process died in between."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.errors import StoreError
from node.store.database import Store, open_store
from node.store.intake import Kept, mark_released
from node.store.schema import GENERATIONS, METADATA
from node.store.studies import (
    Try,
    add_assignments,
    instances_of,
    mark_generation_failed,
    patient_count,
    unfinished_generations,
)
from node.store.work import assignments_of
from tests.unit.rows import STUDY, Clock, arrive, assign, freeze_whole

AUDIT = METADATA.tables["audit"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _freeze(store: Store) -> list[tuple[str, int]]:
    return freeze_whole(store, quiet_s=60, after_release_s=5)


def _generation(store: Store) -> "sa.Row[tuple[object, ...]]":
    with store.reading() as connection:
        return connection.execute(sa.select(GENERATIONS).order_by(GENERATIONS.c.generation.desc())).first()  # type: ignore[return-value]


def _actions(store: Store) -> list[str]:
    with store.reading() as connection:
        return [row.action for row in connection.execute(sa.select(AUDIT.c.action).order_by(AUDIT.c.seq))]


def test_a_study_received_before_the_clock_was_set_back_does_not_wait_for_that_time_to_come_again(
    store: Store, clock: Clock
) -> None:
    arrive(store, 1)
    clock.now -= 59
    assert _freeze(store) == []
    clock.now -= 86400
    assert _freeze(store) == [(STUDY, 1)]


def test_a_sender_that_begins_anew_with_images_we_have_is_waited_for(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    mark_released(store, [STUDY])
    clock.now += 4
    assert arrive(store, 1) is Kept.DUPLICATE
    clock.now += 10
    assert _freeze(store) == []
    mark_released(store, [STUDY])
    clock.now += 5
    assert _freeze(store) == [(STUDY, 1)]


def test_a_duplicate_does_not_open_a_frozen_study(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    assert _freeze(store) == [(STUDY, 1)]
    assert arrive(store, 1) is Kept.DUPLICATE
    clock.now += 600
    assert _freeze(store) == []


def test_what_settled_a_study_and_how_many_images_it_has_is_noted(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    arrive(store, 2)
    mark_released(store, [STUDY])
    clock.now += 5
    _freeze(store)
    assert (_generation(store).signal, _generation(store).instance_count) == ("release", 2)
    arrive(store, 3)
    clock.now += 60
    _freeze(store)
    assert (_generation(store).signal, _generation(store).instance_count) == ("quiet", 3)


def test_a_generation_that_is_not_there_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match="has no generation 1"):
        instances_of(store, STUDY, 1)


def test_two_patients_in_one_study_are_counted(store: Store) -> None:
    arrive(store, 1, patient="P1")
    arrive(store, 2, patient="P1")
    assert patient_count(store, STUDY) == 1
    arrive(store, 3, patient="P2")
    assert patient_count(store, STUDY) == 2


def test_a_study_is_routed_once_however_often_the_step_runs(store: Store) -> None:
    item = assign(store)
    add_assignments(store, STUDY, 1, [], [Try("r", is_match=False, reason="another word")])
    add_assignments(store, STUDY, 1, [item], [])
    assert assignments_of(store, STUDY, 1) == [item]
    assert _generation(store).state == "routed"
    assert _actions(store) == ["study opened", "study frozen", "study routed"]


def test_a_study_that_nobody_takes_says_why(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    _freeze(store)
    add_assignments(store, STUDY, 1, [], [Try("r", is_match=False, reason="Modality is not MR")])
    assert (_generation(store).state, _generation(store).reason) == ("unrouted", "no rule took the study")
    assert "Modality is not MR" in _generation(store).tries


def test_routing_that_failed_ends_with_a_reason_and_never_goes_back(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    _freeze(store)
    mark_generation_failed(store, STUDY, 1, "routing failed 3 times")
    mark_generation_failed(store, STUDY, 1, "again")
    add_assignments(store, STUDY, 1, [], [])
    assert (_generation(store).state, _generation(store).reason) == ("failed", "routing failed 3 times")
    assert unfinished_generations(store) == []
    assert _actions(store).count("study failed") == 1


def test_each_generation_has_its_own_audit_record(store: Store, clock: Clock) -> None:
    for number in (1, 2, 3):
        arrive(store, number)
        clock.now += 60
        _freeze(store)
    assert _actions(store).count("study frozen") == 3
