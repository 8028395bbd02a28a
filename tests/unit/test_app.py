"""The sweep hands over what fell between rows and queue, tries again what failed, and ends what fails every time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa

from node.app import TRIES, Worker
from node.engine import Engine
from node.settings import Settings, StoreSettings
from node.steps import Site
from node.store.database import Store, open_store
from node.store.schema import ASSIGNMENTS, GENERATIONS
from node.store.studies import freeze_whole
from tests.unit.rows import STUDY, Clock, arrive, assign, message, report


@dataclass
class InMemoryEngine:
    """What was handed over, by id; the test says how it ended."""

    statuses: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, tuple[str | int, ...]] = field(default_factory=dict)

    def enqueue(self, _queue: str, _workflow: Callable[..., None], name: str, *arguments: str | int, **_options: object) -> None:  # fmt: skip  # noqa: E501
        self.statuses.setdefault(name, "ENQUEUED")
        self.arguments.setdefault(name, arguments)

    def chain(self, prefix: str) -> tuple[int, bool]:
        count = 0
        while f"{prefix}{count + 1}" in self.statuses:
            count += 1
        return count, count > 0 and self.statuses[f"{prefix}{count}"] == "ENQUEUED"

    def end_all(self, status: str) -> None:
        self.statuses = {name: status if old == "ENQUEUED" else old for name, old in self.statuses.items()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=Clock())
    yield found
    found.close()


@pytest.fixture
def worker(store: Store) -> Worker:
    site = Site(store.root, Settings(store=StoreSettings(store.root)), store, {}, {}, "1")
    found = Worker(site, {})
    found.engine = cast(Engine, InMemoryEngine())  # its twin
    return found


def _engine(worker: Worker) -> InMemoryEngine:
    assert isinstance(worker.engine, InMemoryEngine)
    return worker.engine


def _one(store: Store, table: sa.Table) -> "sa.Row[tuple[object, ...]]":
    with store.reading() as connection:
        return connection.execute(sa.select(table)).one()


def test_a_frozen_study_that_nobody_routed_is_handed_over_once(worker: Worker, store: Store) -> None:
    arrive(store, 1)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    for _ in range(3):
        worker.sweep()
    assert list(_engine(worker).statuses) == [f"study:{STUDY}:1:1"]


def test_routing_that_failed_is_tried_again_and_ends_with_a_reason(worker: Worker, store: Store) -> None:
    arrive(store, 1)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    for _ in range(TRIES):
        assert _one(store, GENERATIONS).state == "frozen"
        worker.sweep()
        _engine(worker).end_all("ERROR")
    worker.sweep()
    assert len(_engine(worker).statuses) == TRIES
    row = _one(store, GENERATIONS)
    assert (row.state, row.reason) == ("failed", f"routing failed {TRIES} times")


def test_a_reading_that_failed_is_tried_again_and_ends_with_a_reason(worker: Worker, store: Store) -> None:
    assign(store)
    for _ in range(TRIES):
        worker.sweep()
        _engine(worker).end_all("ERROR")
        assert _one(store, ASSIGNMENTS).state == "assigned"
    worker.sweep()
    assert len(_engine(worker).statuses) == TRIES
    row = _one(store, ASSIGNMENTS)
    assert row.state == "failed"
    assert "failed 3 times" in row.reason


def test_how_often_a_reading_is_tried_is_recorded_with_it(worker: Worker, store: Store) -> None:
    item = assign(store)
    worker.sweep()
    assert _engine(worker).arguments[f"reading:{item.assignment_id}:1"] == (item.assignment_id, 3)


def test_a_visit_that_was_lost_is_made_again_and_a_waiting_one_is_not(worker: Worker, store: Store) -> None:
    item = assign(store)
    report(store, item, [(message(store, "M1"), "ris")])
    for _ in range(2):
        worker.sweep()
    prefix = f"visit:{item.assignment_id}:ris:"
    assert list(_engine(worker).statuses) == [f"{prefix}1"]
    _engine(worker).end_all("ERROR")
    worker.sweep()
    assert list(_engine(worker).statuses) == [f"{prefix}1", f"{prefix}2"]
