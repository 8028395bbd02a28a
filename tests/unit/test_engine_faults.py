"""What a worker finds at its start and in its queue on a bad day: another name, another time, another file."""

import os
import queue
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbos import DBOS

from node.domain.work import Priority
from node.engine import Engine, Queue
from node.errors import StoreError
from node.lock import lock_executor

LIMIT_S = 30.0


def _run(folder: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "tests.unit.engine_process", str(folder), *arguments]
    done = subprocess.run(command, timeout=90, check=False, capture_output=True, cwd=Path(__file__).parents[2])
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode


def test_work_of_a_dead_worker_is_finished_by_one_that_was_given_another_name(tmp_path: Path) -> None:
    assert _run(tmp_path, "die", "worker-1") == -signal.SIGKILL
    assert _run(tmp_path, "finish", "worker-2") == 0
    steps = (tmp_path / "steps.txt").read_text(encoding="ascii").split()
    assert (steps.count("first"), steps.count("third"), steps[-1]) == (1, 1, "third")


def _engine(folder: Path, ran: "queue.Queue[str]") -> Engine:
    def say(name: str) -> None:
        ran.put(name)

    found = Engine(
        url=f"sqlite:///{folder / 'engine.db'}",
        executor_id="worker-2",
        lock_folder=folder,
        queues=(Queue("work", concurrency=2),),
        workflows=(say,),
    )
    found.say = say  # type: ignore[attr-defined]
    return found


@pytest.fixture
def ran() -> "queue.Queue[str]":
    return queue.Queue()


@pytest.fixture
def engine(tmp_path: Path, ran: "queue.Queue[str]") -> Iterator[Engine]:
    found = _engine(tmp_path, ran)
    found.launch()
    yield found
    found.stop(drain_s=10)


def test_work_of_a_living_worker_is_left_to_it(tmp_path: Path, ran: "queue.Queue[str]") -> None:
    assert _run(tmp_path, "die", "worker-1") == -signal.SIGKILL
    alive = lock_executor(tmp_path, "worker-1")
    engine = _engine(tmp_path, ran)
    engine.launch()
    begun = DBOS.list_workflows(status="PENDING")
    engine.stop(drain_s=10)
    os.close(alive)
    assert [(one.workflow_id, one.executor_id) for one in begun] == [("the-work", "worker-1")]


def test_a_clock_that_was_set_back_by_a_day_delays_nothing_by_a_day(engine: Engine, ran: "queue.Queue[str]") -> None:
    say = engine.say  # type: ignore[attr-defined]
    for name, delay_s in (("tomorrow", 86400.0), ("in ten minutes", 600.0)):
        engine.enqueue("work", say, name, name, priority=Priority.ROUTINE, delay_s=delay_s)
    assert engine.shorten_delays(longest_s=900.0) == 1
    assert engine.shorten_delays(longest_s=900.0) == 0
    assert ran.empty()
    assert engine.shorten_delays(longest_s=0.0) == 2
    assert {ran.get(timeout=LIMIT_S) for _ in range(2)} == {"tomorrow", "in ten minutes"}


@pytest.mark.parametrize("damage", ["no database", "torn pages"])
def test_a_damaged_queue_refuses_to_start_and_says_what_to_do(
    tmp_path: Path, damage: str, ran: "queue.Queue[str]"
) -> None:
    path = tmp_path / "engine.db"
    if damage == "no database":
        path.write_bytes(b"this is no database " * 100)
    else:
        assert _run(tmp_path, "die") == -signal.SIGKILL
        _checkpoint(path)
        content = bytearray(path.read_bytes())
        content[4096:20480] = b"\xff" * 16384
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"engine\.db is damaged: move it") as caught:
        _engine(tmp_path, ran)
    assert "recover" in str(caught.value)
    os.close(lock_executor(tmp_path, "worker-2"))  # given back


def _checkpoint(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
