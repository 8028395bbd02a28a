"""The sweep hands over what fell between rows and queue, tries again what failed, and ends what fails every time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa

from node.app import TRIES, Worker
from node.domain.work import Priority
from node.engine import Engine
from node.front import may_hear_reports, note_report
from node.receive import EventReport
from node.settings import DicomDestination, DicomSettings, ReportSettings, Settings, StoreSettings, Verify
from node.steps import Site
from node.store.database import Store, open_store
from node.store.holding import keeping_files
from node.store.removal import ERASE, begin_removal, unfinished_removals
from node.store.schema import ASSIGNMENTS, GENERATIONS
from node.store.studies import hold
from tests.unit.ordered import ORDER, bundled, keep, reported, routed
from tests.unit.rows import STUDY, Clock, arrive, assign, freeze_whole, message, report


@dataclass
class InMemoryEngine:
    """What was handed over, by id; the test says how it ended."""

    statuses: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    hastened: dict[str, Priority] = field(default_factory=dict)

    def hasten(self, name: str, priority: Priority) -> bool:
        self.hastened[name] = priority
        return True

    def enqueue(self, _queue: str, _workflow: Callable[..., None], name: str, *arguments: str | int, **_options: object) -> None:  # fmt: skip  # noqa: E501
        self.statuses.setdefault(name, "ENQUEUED")
        self.arguments.setdefault(name, arguments)

    def chain(self, prefix: str) -> tuple[int, bool]:
        count = 0
        while f"{prefix}{count + 1}" in self.statuses:
            count += 1
        return count, count > 0 and self.statuses[f"{prefix}{count}"] == "ENQUEUED"

    def shorten_delays(self, *, longest_s: float) -> int:
        return 0

    def forget(self, prefixes: Sequence[str]) -> None:
        self.statuses = {name: status for name, status in self.statuses.items() if not name.startswith(tuple(prefixes))}

    def forget_finished(self, *, before: datetime, keep: Sequence[str]) -> int:
        ended = [name for name, status in self.statuses.items() if status != "ENQUEUED"]
        gone = [name for name in ended if not name.startswith(tuple(keep))]
        self.statuses = {name: status for name, status in self.statuses.items() if name not in gone}
        return len(gone)

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


def test_tidying_ends_a_removal_that_was_cut_short_and_forgets_the_work_on_it(worker: Worker, store: Store) -> None:
    item = assign(store)
    worker.sweep()
    _engine(worker).end_all("SUCCESS")
    _engine(worker).statuses["study:2.25.77:1:1"] = "ENQUEUED"
    with store.writing() as connection:
        begin_removal(store, connection, STUDY, kind=ERASE, reason="")
    worker.tidy()
    assert list(_engine(worker).statuses) == ["study:2.25.77:1:1"]
    with store.reading() as connection:
        rows = connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.assignment_id == item.assignment_id))
        assert rows.all() == []


def test_tidying_keeps_the_memory_of_work_that_is_not_done(worker: Worker, store: Store) -> None:
    item = assign(store)
    worker.sweep()
    _engine(worker).end_all("ERROR")
    _engine(worker).statuses["study:2.25.77:1:1"] = "SUCCESS"
    worker.tidy()
    assert list(_engine(worker).statuses) == [f"reading:{item.assignment_id}:1"]


def test_tidying_waits_while_a_backup_is_made(worker: Worker, store: Store) -> None:
    assign(store)
    with store.writing() as connection:
        begin_removal(store, connection, STUDY, kind=ERASE, reason="")
    with keeping_files(store.root):
        worker.tidy()
    assert len(unfinished_removals(store)) == 1
    worker.tidy()
    assert unfinished_removals(store) == []


def test_a_study_whose_wait_is_over_is_handed_over_again_and_the_wait_is_no_failed_try(
    worker: Worker, store: Store
) -> None:
    clock = store.clock
    assert isinstance(clock, Clock)
    arrive(store, 1)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    worker.sweep()
    hold(store, STUDY, 1, [], reason="rule 'r' waits for a required series", wait_until=clock.now + 60)
    _engine(worker).end_all("SUCCESS")
    worker.sweep()
    worker.settle()
    assert list(_engine(worker).statuses) == [f"study:{STUDY}:1:1"]
    clock.now += 60
    worker.settle()
    worker.sweep()
    assert list(_engine(worker).statuses) == [f"study:{STUDY}:1:{number}" for number in (1, 2)]
    for _ in range(TRIES):
        _engine(worker).end_all("ERROR")
        worker.sweep()
    assert len(_engine(worker).statuses) == 1 + TRIES
    row = _one(store, GENERATIONS)
    assert (row.state, row.reason) == ("failed", f"routing failed {TRIES} times")


def test_the_sweep_hastens_the_reading_that_waits_and_sends_a_late_order_on(tmp_path: Path) -> None:
    found = bundled(tmp_path / "bundled")
    wanted = replace(found.settings, report=ReportSettings(resend_after_late_order=True))
    worker = Worker(replace(found, settings=wanted), {})
    worker.engine = cast(Engine, InMemoryEngine())
    item = routed(found)
    worker.sweep()
    keep(found, ORDER)
    worker.sweep()
    assert _engine(worker).hastened == {f"reading:{item}:1": Priority.STAT}
    reported(found, item)
    worker.sweep()
    _engine(worker).end_all("SUCCESS")
    keep(found, replace(ORDER, control="XO", reason="Fever"), control_id="2")
    worker.sweep()
    assert _engine(worker).statuses[f"visit:{item}:ris:2"] == "ENQUEUED"
    found.store.close()


def test_the_front_door_hears_reports_only_if_a_pacs_may_be_asked_to_commit() -> None:
    for verify, receiver, hears in (
        (Verify.AUTO, "own", True), (Verify.COMMITMENT, "own", True), (Verify.FIND, "own", False),
        (Verify.NONE, "own", False), (Verify.AUTO, "pynetdicom", False),
    ):  # fmt: skip
        settings = Settings(
            dicom=DicomSettings(receiver=receiver),
            destinations={"pacs": DicomDestination("pacs", "127.0.0.1", 104, "PACS", verify=verify)},
        )
        assert may_hear_reports(settings) is hears


def test_a_report_nobody_asked_for_is_answered_with_invalid_argument(store: Store) -> None:
    report = EventReport(1, b"noise", "1.2.840.10008.1.2", "PACS")
    assert note_report(store, report).status == 0x0115
