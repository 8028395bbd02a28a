"""A study is whole after quiet or release; what comes later makes the next generation."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.complete import settle, unsettled
from node.complete.settle import due_studies
from node.explain import story
from node.settings import CompleteSettings, Sender
from node.store.database import Store, open_store
from node.store.gathering import freeze, note_expected, open_studies
from node.store.intake import mark_released
from node.store.schema import GENERATIONS
from node.store.studies import Try, Unfinished, add_assignments, end_waits, frozen, hold, instances_of
from tests.unit.rows import STUDY, Clock, arrive

SETTINGS = CompleteSettings(quiet_s=60, after_release_s=5)
WITH_SENDER = replace(SETTINGS, senders=(Sender("CT1", "127.0.0.1", 1),))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _last(store: Store) -> "sa.Row[tuple[object, ...]]":
    with store.reading() as connection:
        return connection.execute(sa.select(GENERATIONS).order_by(GENERATIONS.c.generation.desc())).first()  # type: ignore[return-value]


def test_a_study_is_whole_after_the_quiet_time_and_not_before(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 59
    arrive(store, 2)
    clock.now += 59
    assert settle(store, SETTINGS) == []
    clock.now += 1
    assert settle(store, SETTINGS) == [(STUDY, 1)]
    assert settle(store, SETTINGS) == []
    assert len(instances_of(store, STUDY, 1)) == 2


def test_release_settles_sooner_and_a_new_image_takes_it_back(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    mark_released(store, [STUDY])
    clock.now += 4
    arrive(store, 2)
    clock.now += 6
    assert settle(store, SETTINGS) == []
    mark_released(store, [STUDY])
    clock.now += 5
    assert settle(store, SETTINGS) == [(STUDY, 1)]


def test_late_images_make_the_next_generation_with_all_images(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 100
    settle(store, SETTINGS)
    arrive(store, 2)
    clock.now += 100
    assert settle(store, SETTINGS) == [(STUDY, 2)]
    assert [len(instances_of(store, STUDY, generation)) for generation in (1, 2)] == [1, 2]


def test_studies_settle_independently(store: Store, clock: Clock) -> None:
    arrive(store, 1, study="2.25.1")
    clock.now += 50
    arrive(store, 2, study="2.25.2")
    clock.now += 10
    assert settle(store, SETTINGS) == [("2.25.1", 1)]
    clock.now += 50
    assert settle(store, SETTINGS) == [("2.25.2", 1)]


def test_a_frozen_study_that_was_not_routed_is_found_again(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 100
    settle(store, SETTINGS)
    assert unsettled(store) == [Unfinished(STUDY, 1)]
    add_assignments(store, STUDY, 1, [], [Try("r", is_match=False, reason="Modality is not MR")])
    assert unsettled(store) == []


def test_an_image_that_comes_while_a_study_is_judged_keeps_it_open(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    verdicts = due_studies(store, SETTINGS)
    arrive(store, 2)
    assert freeze(store, verdicts) == []
    assert [one.study_uid for one in open_studies(store, quiet_s=0, after_release_s=0)] == [STUDY]


def test_what_was_waited_for_stands_in_the_story(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    mark_released(store, [STUDY])
    clock.now += 5
    settle(store, SETTINGS)
    arrive(store, 2)
    clock.now += 60
    settle(store, SETTINGS)
    told = [event.text for event in story(store, STUDY) if event.stage == "complete"]
    assert told == [
        "generation 1 is whole with 1 images: the sender released its Association (5 s, as configured)",
        "generation 2 is whole with 2 images: no image came for the quiet time (60 s, as configured)",
    ]


# What the sender says it holds


def _asked(store: Store, clock: Clock, count: int | None) -> None:
    note_expected(store, STUDY, count, asked_at=clock.now)


def test_a_study_that_is_due_waits_for_the_senders_count_and_settles_when_it_has_all(
    store: Store, clock: Clock
) -> None:
    arrive(store, 1)
    mark_released(store, [STUDY])
    clock.now += 5
    assert settle(store, WITH_SENDER) == []
    _asked(store, clock, 1)
    assert settle(store, WITH_SENDER) == [(STUDY, 1)]
    assert (_last(store).signal, _last(store).basis) == ("count", "the sender holds 1")


def test_a_sender_that_holds_more_makes_the_study_wait_until_they_come(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    _asked(store, clock, 2)
    assert settle(store, WITH_SENDER) == []
    clock.now += 1000
    assert settle(store, WITH_SENDER) == []
    arrive(store, 2)
    mark_released(store, [STUDY])
    clock.now += 5
    assert settle(store, WITH_SENDER) == []  # it may hold still more by now: it is asked again
    _asked(store, clock, 2)
    assert settle(store, WITH_SENDER) == [(STUDY, 1)]


def test_what_the_sender_holds_and_never_sends_is_not_waited_for_for_ever(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    _asked(store, clock, 2)
    clock.now += SETTINGS.most_wait_s - 61
    assert settle(store, WITH_SENDER) == []
    clock.now += 1
    assert settle(store, WITH_SENDER) == [(STUDY, 1)]
    assert _last(store).basis.endswith("the sender holds 2, which did not come within 1800 s")


def test_a_sender_that_does_not_answer_leaves_it_to_the_quiet_time(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    assert settle(store, WITH_SENDER) == []
    _asked(store, clock, None)
    assert settle(store, WITH_SENDER) == [(STUDY, 1)]
    assert "did not say how many images it holds" in _last(store).basis


def test_a_study_is_settled_though_nobody_asks_its_sender(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    assert settle(store, WITH_SENDER) == []
    clock.now += 60
    assert settle(store, WITH_SENDER) == [(STUDY, 1)]


def test_other_senders_studies_are_not_held_up(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    other = replace(SETTINGS, senders=(Sender("MR7", "127.0.0.1", 1),))
    assert settle(store, other) == [(STUDY, 1)]


# Waiting for a required series


def _hold(store: Store, clock: Clock) -> None:
    arrive(store, 1)
    clock.now += 60
    settle(store, SETTINGS)
    hold(store, STUDY, 1, [], reason="rule 'r' waits for a required series", wait_until=clock.now + 540)


def test_a_held_generation_is_taken_up_once_when_its_time_is_over(store: Store, clock: Clock) -> None:
    _hold(store, clock)
    assert (_last(store).state, unsettled(store)) == ("waiting", [])
    clock.now += 539
    assert end_waits(store) == []
    clock.now += 1
    assert end_waits(store) == [(STUDY, 1)]
    assert end_waits(store) == []
    assert unsettled(store) == [Unfinished(STUDY, 1, 1)]
    settled = frozen(store, STUDY, 1)
    assert (settled.may_wait, settled.waited_s) == (False, 600)


def test_images_that_come_meanwhile_take_the_place_of_the_held_generation(store: Store, clock: Clock) -> None:
    _hold(store, clock)
    arrive(store, 2)
    clock.now += 60
    assert settle(store, SETTINGS) == [(STUDY, 2)]
    clock.now += 3600
    assert end_waits(store) == []
    assert frozen(store, STUDY, 2).may_wait
    text = "\n".join(event.text for event in story(store, STUDY))
    assert "no algorithm ran on generation 1: generation 2 holds its images and more" in text


def test_a_generation_that_wants_to_wait_when_a_newer_one_is_there_has_ended(store: Store, clock: Clock) -> None:
    for number in (1, 2):
        arrive(store, number)
        clock.now += 60
        settle(store, SETTINGS)
    hold(store, STUDY, 1, [], reason="rule 'r' waits", wait_until=clock.now + 600)
    assert unsettled(store) == [Unfinished(STUDY, 2)]
    clock.now += 600
    assert end_waits(store) == []


def test_a_clock_that_was_set_back_ends_the_wait(store: Store, clock: Clock) -> None:
    _hold(store, clock)
    clock.now -= 86400
    assert end_waits(store) == [(STUDY, 1)]


def test_the_story_says_what_a_held_study_waits_for(store: Store, clock: Clock) -> None:
    _hold(store, clock)
    text = "\n".join(event.text for event in story(store, STUDY))
    assert "waits until 13:56:40 UTC: rule 'r' waits for a required series" in text
