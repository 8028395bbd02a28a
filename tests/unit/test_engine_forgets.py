"""The engine forgets what has ended, and what belonged to an erased study; never what is still to be done."""

import itertools
import queue
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node.domain.work import Priority
from node.engine import Engine, Queue, forget_work

LIMIT_S = 30.0


class Bench:
    """An engine whose work says its name when it runs."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'engine.db'}"
        self.ran: queue.Queue[str] = queue.Queue()
        self.numbers = itertools.count()
        self.engine = Engine(
            url=self.url,
            executor_id="bench",
            lock_folder=folder,
            queues=(Queue("work", concurrency=1),),
            workflows=(self.work,),
        )
        self.engine.launch()

    def work(self, name: str) -> None:
        self.engine.step("say", self._say, name)

    def _say(self, name: str) -> None:
        self.ran.put(name)

    def enqueue(self, *names: str, delay_s: float | None = None) -> None:
        for name in names:
            self.engine.enqueue("work", self.work, name, name, priority=Priority.ROUTINE, delay_s=delay_s)

    def finish(self, *names: str) -> None:
        """Hand over work and wait until all of it has ended: one runs at a time, so the last is behind the others."""
        self.enqueue(*names, f"the end {next(self.numbers)}")
        for _ in range(len(names) + 1):
            self.ran.get(timeout=LIMIT_S)
        self.enqueue(f"behind the end {next(self.numbers)}")
        self.ran.get(timeout=LIMIT_S)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    found = Bench(tmp_path_factory.mktemp("engine"))
    yield found
    found.engine.stop(drain_s=10)


def test_work_that_ended_before_a_moment_is_forgotten_but_no_chain_that_goes_on(bench: Bench) -> None:
    bench.finish("done:1", "kept:1", "kept:2")
    bench.enqueue("later:1", delay_s=3600.0)
    now = datetime.now(UTC)
    assert bench.engine.forget_finished(before=now - timedelta(hours=1), keep=[]) == 0
    assert bench.engine.status_of("done:1") == "SUCCESS"
    assert bench.engine.forget_finished(before=now + timedelta(hours=1), keep=["kept:"]) >= 2
    assert bench.engine.status_of("done:1") is None
    assert bench.engine.chain("kept:") == (2, False)
    assert bench.engine.status_of("later:1") == "DELAYED"


def test_more_than_one_page_is_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.engine.PAGE", 2)
    bench.finish(*(f"page:{number}" for number in range(1, 6)), "stays:1")
    bench.engine.forget_finished(before=datetime.now(UTC) + timedelta(hours=1), keep=["stays:"])
    assert [bench.engine.status_of(name) for name in ("page:1", "page:5", "stays:1")] == [None, None, "SUCCESS"]


def test_work_on_an_erased_study_is_forgotten_whatever_its_state(bench: Bench) -> None:
    bench.finish("study:2.25.1:1:1", "study:2.25.11:1:1")
    bench.enqueue("visit:7:pacs:2", delay_s=3600.0)
    bench.engine.forget(["study:2.25.1:", "visit:7:"])
    assert bench.engine.status_of("study:2.25.1:1:1") is None
    assert bench.engine.status_of("visit:7:pacs:2") is None
    assert bench.engine.status_of("study:2.25.11:1:1") == "SUCCESS"
    bench.finish("study:2.25.1:1:1")  # a study that comes again is read again


def test_a_command_beside_the_node_can_make_it_forget(bench: Bench) -> None:
    bench.finish("reading:5:1", "reading:55:1")
    forget_work(bench.url, ["reading:5:"])
    assert bench.engine.status_of("reading:5:1") is None
    assert bench.engine.status_of("reading:55:1") == "SUCCESS"
