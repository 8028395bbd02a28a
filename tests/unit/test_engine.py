"""Durable work: urgent first, a blocked partition alone, each id once, and nothing lost by a kill."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from node.domain.work import Priority
from node.engine import FAILED, Engine, Queue
from node.errors import AlreadyRunningError
from node.lock import lock_executor

LIMIT_S = 30.0


@dataclass
class Bench:
    """An engine whose work says its name when it runs, and waits at the gate of that name if there is one."""

    engine: Engine = field(init=False)
    ran: "queue.Queue[str]" = field(default_factory=queue.Queue)
    gates: dict[str, threading.Event] = field(default_factory=dict)

    def say(self, name: str) -> None:
        self.engine.step("say", self._say, name)

    def fail(self, name: str) -> None:
        self.engine.step("fail", self._fail, name)

    def _say(self, name: str) -> None:
        self.ran.put(name)
        if name in self.gates:
            assert self.gates[name].wait(LIMIT_S)

    def _fail(self, name: str) -> None:
        self.ran.put(name)
        raise ValueError("Wet^Canary")

    def enqueue(self, name: str, priority: Priority = Priority.ROUTINE, *, partition: str | None = None) -> None:
        self.engine.enqueue("parts" if partition else "serial", self.say, name, name, priority=priority, partition=partition)  # fmt: skip  # noqa: E501

    def next(self) -> str:
        return self.ran.get(timeout=LIMIT_S)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("engine")
    found = Bench()
    found.engine = Engine(
        url=f"sqlite:///{folder / 'engine.db'}",
        executor_id="bench",
        lock_folder=folder,
        queues=(Queue("serial", concurrency=1), Queue("parts", concurrency=3, is_partitioned=True)),
        workflows=(found.say, found.fail),
    )
    found.engine.launch()
    with pytest.raises(AlreadyRunningError, match="bench"):
        lock_executor(folder, "bench")
    yield found
    for gate in found.gates.values():
        gate.set()
    found.engine.stop(drain_s=10)
    os.close(lock_executor(folder, "bench"))


def test_stat_runs_before_routine_that_came_first(bench: Bench) -> None:
    bench.gates["occupied"] = threading.Event()
    bench.enqueue("occupied")
    assert bench.next() == "occupied"
    bench.enqueue("routine")
    bench.enqueue("urgent", Priority.URGENT)
    bench.enqueue("stat", Priority.STAT)
    bench.gates["occupied"].set()
    assert [bench.next() for _ in range(3)] == ["stat", "urgent", "routine"]


def test_work_that_waits_is_moved_forward_and_work_that_runs_is_left(bench: Bench) -> None:
    bench.gates["busy"] = threading.Event()
    bench.enqueue("busy")
    assert bench.next() == "busy"
    for name in ("waits first", "waits second"):
        bench.enqueue(name)
    assert bench.engine.hasten("waits second", Priority.STAT)
    assert not bench.engine.hasten("waits second", Priority.URGENT)  # never back
    assert not bench.engine.hasten("busy", Priority.STAT)
    assert not bench.engine.hasten("never", Priority.STAT)
    bench.gates["busy"].set()
    assert [bench.next() for _ in range(2)] == ["waits second", "waits first"]


def test_a_blocked_partition_delays_its_own_work_only(bench: Bench) -> None:
    bench.gates["pacs down"] = threading.Event()
    bench.enqueue("pacs down", partition="pacs")
    assert bench.next() == "pacs down"
    bench.enqueue("pacs later", partition="pacs")
    bench.enqueue("ris", partition="ris")
    assert bench.next() == "ris"
    assert bench.engine.status_of("pacs later") == "ENQUEUED"
    bench.gates["pacs down"].set()
    assert bench.next() == "pacs later"


def test_delayed_work_waits_and_holds_up_nothing(bench: Bench) -> None:
    arguments = ("parts", bench.say)
    bench.engine.enqueue(*arguments, "in an hour", "in an hour", priority=Priority.STAT, partition="slow", delay_s=3600)
    bench.engine.enqueue(*arguments, "soon", "soon", priority=Priority.ROUTINE, partition="slow", delay_s=0.2)
    assert bench.next() == "soon"
    assert bench.engine.status_of("in an hour") == "DELAYED"


def test_the_same_id_runs_once(bench: Bench) -> None:
    for _ in range(3):
        bench.enqueue("once")
    bench.enqueue("after it")
    assert [bench.next(), bench.next()] == ["once", "after it"]
    bench.enqueue("once")
    bench.enqueue("after that")
    assert bench.next() == "after that"


def test_work_that_was_never_handed_over_has_no_status(bench: Bench) -> None:
    assert bench.engine.status_of("never") is None


def test_failed_work_ends_as_failed_and_the_log_says_which_without_its_words(bench: Bench) -> None:
    with structlog.testing.capture_logs() as events:
        bench.engine.enqueue("serial", bench.fail, "broken", "broken", priority=Priority.ROUTINE)
        bench.enqueue("behind it")
        assert [bench.next(), bench.next()] == ["broken", "behind it"]
    assert bench.engine.status_of("broken") in FAILED
    (event,) = events
    assert (event["workflow"], event["error"]) == ("fail", "ValueError")
    assert "Canary" not in repr(events)


def test_a_chain_of_work_is_counted_to_its_end(bench: Bench) -> None:
    assert bench.engine.chain("chain:") == (0, False)
    for number in range(1, 12):
        bench.enqueue(f"chain:{number}")
        assert bench.next() == f"chain:{number}"
    bench.enqueue("chain:1:7")  # another chain whose name starts the same
    assert bench.next() == "chain:1:7"
    bench.enqueue("the end")
    assert bench.next() == "the end"
    assert bench.engine.chain("chain:") == (11, False)
    bench.gates["chain:12"] = threading.Event()
    bench.enqueue("chain:12")
    assert bench.next() == "chain:12"
    assert bench.engine.chain("chain:") == (12, True)
    bench.gates["chain:12"].set()


def _run(folder: Path, mode: str) -> int:
    command = [sys.executable, "-m", "tests.unit.engine_process", str(folder), mode]
    done = subprocess.run(command, timeout=60, check=False, capture_output=True, cwd=Path(__file__).parents[2])
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize("end", ["die", "stop"])
def test_work_that_was_cut_off_in_a_step_is_finished_by_the_next_process(tmp_path: Path, end: str) -> None:
    assert _run(tmp_path, end) == (-signal.SIGKILL if end == "die" else 0)
    assert _run(tmp_path, "finish") == 0
    steps = (tmp_path / "steps.txt").read_text(encoding="ascii").split()
    assert steps.count("first") == 1
    assert steps.count("second") >= 1
    assert steps.count("third") == 1
    assert steps[-1] == "third"
