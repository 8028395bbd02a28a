"""The quiet time is what a sender's own studies showed to be enough, within bounds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from node.complete import patience, settle
from node.complete.learn import LEAST_STUDIES, MARGIN, Patience
from node.settings import CompleteSettings
from node.store.database import Store, open_store
from node.store.intake import mark_released
from node.store.schema import GENERATIONS, INSTANCES, STUDIES
from tests.unit.rows import STUDY, Clock, arrive

SETTINGS = CompleteSettings(quiet_s=60, after_release_s=5, least_quiet_s=2, most_quiet_s=300)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _history(store: Store, pauses_s: Sequence[float], late_s: Sequence[float] = (), *, modality: str = "CT") -> None:
    """Studies that were settled, with the longest pause of each; as rows, because there are many."""
    with store.writing() as connection:
        for number, pause_s in enumerate(pauses_s):
            uid = f"2.25.7.{modality}.{number}"
            at = 1000.0 + number
            connection.execute(
                sa.insert(STUDIES).values(
                    study_uid=uid, first_at=at, last_instance_at=at, is_open=False, generation=1, calling_ae="CT1"
                )
            )
            late = late_s[number] if number < len(late_s) else 0.0
            connection.execute(
                sa.insert(GENERATIONS).values(
                    study_uid=uid, generation=1, frozen_at=at, last_instance_at=at, signal="quiet", instance_count=2,
                    state="routed", calling_ae="CT1", modality=modality, longest_pause_s=pause_s, late_pause_s=late,
                )
            )  # fmt: skip


def test_nothing_is_believed_before_twenty_studies(store: Store) -> None:
    _history(store, [4.0] * (LEAST_STUDIES - 1))
    assert patience(store, SETTINGS, "CT1", "CT") == Patience(60, 5)


def test_the_quiet_time_is_the_usual_longest_pause_and_a_half(store: Store) -> None:
    _history(store, [4.0] * 57)
    found = patience(store, SETTINGS, "CT1", "CT")
    assert (found.quiet_s, found.quiet_basis) == (4.0 * MARGIN, "learned from 57 studies of CT1 / CT")
    assert (found.release_s, found.release_basis) == (5, "as configured")


def test_each_sender_and_modality_learns_for_itself(store: Store) -> None:
    _history(store, [4.0] * 30)
    _history(store, [40.0] * 30, modality="MR")
    assert [patience(store, SETTINGS, "CT1", one).quiet_s for one in ("CT", "MR", "US")] == [6, 60, 60]
    assert patience(store, SETTINGS, "CT2", "CT").quiet_s == 60


def test_one_retake_does_not_make_every_later_study_wait(store: Store) -> None:
    _history(store, [4.0] * 39 + [280.0])
    assert patience(store, SETTINGS, "CT1", "CT").quiet_s == 6


def test_a_sender_that_often_pauses_is_waited_for(store: Store) -> None:
    _history(store, [4.0] * 30 + [40.0] * 10)
    assert patience(store, SETTINGS, "CT1", "CT").quiet_s == 60


def test_what_came_the_next_day_was_no_pause(store: Store) -> None:
    _history(store, [4.0] * 20 + [86400.0] * 10)
    assert patience(store, SETTINGS, "CT1", "CT").quiet_s == 6


def test_only_the_last_hundred_studies_count(store: Store) -> None:
    _history(store, [100.0] * 50 + [4.0] * 100)
    found = patience(store, SETTINGS, "CT1", "CT")
    assert (found.quiet_s, found.quiet_basis) == (6, "learned from 100 studies of CT1 / CT")


def test_images_that_came_after_a_release_teach_to_wait_longer_after_it(store: Store) -> None:
    _history(store, [20.0] * 40, [20.0] * 10)
    found = patience(store, SETTINGS, "CT1", "CT")
    assert (found.release_s, found.release_basis) == (30, "learned from 40 studies of CT1 / CT")


def test_learning_can_be_turned_off(store: Store) -> None:
    _history(store, [4.0] * 30)
    assert patience(store, replace(SETTINGS, learn=False), "CT1", "CT") == Patience(60, 5)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0, 1e6), max_size=40))
def test_whatever_was_seen_the_bounds_hold(tmp_path_factory: pytest.TempPathFactory, pauses_s: list[float]) -> None:
    store = open_store(tmp_path_factory.mktemp("store"), clock=Clock())
    _history(store, pauses_s, pauses_s)
    found = patience(store, SETTINGS, "CT1", "CT")
    store.close()
    assert found.quiet_s == 60 or 2 <= found.quiet_s <= 300
    assert 5 <= found.release_s <= 300


def test_pauses_are_taken_from_the_images_of_a_study_when_it_is_frozen(store: Store, clock: Clock) -> None:
    for number, pause_s in enumerate((0, 1, 7, 2)):
        clock.now += pause_s
        arrive(store, number)
    mark_released(store, [STUDY])
    clock.now += 5
    settle(store, SETTINGS)
    clock.now += 15
    arrive(store, 9)
    clock.now += 60
    settle(store, SETTINGS)
    with store.reading() as connection:
        rows = connection.execute(sa.select(GENERATIONS).order_by(GENERATIONS.c.generation)).all()
    assert [(row.longest_pause_s, row.late_pause_s) for row in rows] == [(7, 0), (20, 20)]


def test_a_study_settles_by_the_learned_time_and_says_so(store: Store, clock: Clock) -> None:
    _history(store, [4.0] * 57)
    arrive(store, 1)
    with store.writing() as connection:
        connection.execute(sa.update(INSTANCES).values(modality="CT"))
    clock.now += 5.9
    assert settle(store, SETTINGS) == []
    clock.now += 0.1
    assert settle(store, SETTINGS) == [(STUDY, 1)]
    with store.reading() as connection:
        row = connection.execute(sa.select(GENERATIONS).where(GENERATIONS.c.study_uid == STUDY)).one()
    assert (row.modality, row.basis) == ("CT", "6 s, learned from 57 studies of CT1 / CT")
