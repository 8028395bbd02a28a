"""A study is whole after quiet or release; what comes later makes the next generation."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from node.complete import settle, unsettled
from node.settings import CompleteSettings
from node.store.database import Store, open_store
from node.store.files import sync_file
from node.store.intake import Arrival, add_instance, mark_released
from node.store.studies import Try, add_assignments, instances_of

SETTINGS = CompleteSettings(quiet_s=60, after_release_s=5)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return open_store(tmp_path / "store", clock=clock)


def _arrive(store: Store, number: int, study: str = "2.25.1") -> None:
    path = store.root / "incoming" / f"{number}"
    path.write_bytes(b"bytes")
    sync_file(path)
    add_instance(store, Arrival(f"2.25.9{number}", "1.2", "1.2", study, "2.25.5", path, 5, "0" * 64, "CT1"))


def test_a_study_is_whole_after_the_quiet_time_and_not_before(store: Store, clock: Clock) -> None:
    _arrive(store, 1)
    clock.now += 59
    _arrive(store, 2)
    clock.now += 59
    assert settle(store, SETTINGS) == []
    clock.now += 1
    assert settle(store, SETTINGS) == [("2.25.1", 1)]
    assert settle(store, SETTINGS) == []
    assert len(instances_of(store, "2.25.1", 1)) == 2


def test_release_settles_sooner_and_a_new_image_takes_it_back(store: Store, clock: Clock) -> None:
    _arrive(store, 1)
    mark_released(store, ["2.25.1"])
    clock.now += 4
    _arrive(store, 2)
    clock.now += 6
    assert settle(store, SETTINGS) == []
    mark_released(store, ["2.25.1"])
    clock.now += 5
    assert settle(store, SETTINGS) == [("2.25.1", 1)]


def test_late_images_make_the_next_generation_with_all_images(store: Store, clock: Clock) -> None:
    _arrive(store, 1)
    clock.now += 100
    settle(store, SETTINGS)
    _arrive(store, 2)
    clock.now += 100
    assert settle(store, SETTINGS) == [("2.25.1", 2)]
    assert [len(instances_of(store, "2.25.1", generation)) for generation in (1, 2)] == [1, 2]


def test_studies_settle_independently(store: Store, clock: Clock) -> None:
    _arrive(store, 1, "2.25.1")
    clock.now += 50
    _arrive(store, 2, "2.25.2")
    clock.now += 10
    assert settle(store, SETTINGS) == [("2.25.1", 1)]
    clock.now += 50
    assert settle(store, SETTINGS) == [("2.25.2", 1)]


def test_a_frozen_study_that_was_not_routed_is_found_again(store: Store, clock: Clock) -> None:
    _arrive(store, 1)
    clock.now += 100
    settle(store, SETTINGS)
    assert unsettled(store) == [("2.25.1", 1)]
    add_assignments(store, "2.25.1", 1, [], [Try("r", is_match=False, reason="Modality is not MR")])
    assert unsettled(store) == []
