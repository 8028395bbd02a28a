"""A timer goes on whatever its ticks do and whatever the clock on the wall says."""

import queue
import threading
import time

import pytest
import structlog

from node.schedule import Calendar, Timer

LIMIT_S = 10.0


def test_a_timer_ticks_until_it_is_stopped() -> None:
    ticks: queue.Queue[int] = queue.Queue()
    timer = Timer("count", lambda: ticks.put(1), every_s=0.001)
    for _ in range(5):
        ticks.get(timeout=LIMIT_S)
    timer.stop()
    left = ticks.qsize()
    assert not any(thread.name == "timer-count" for thread in threading.enumerate())
    assert ticks.qsize() == left


def test_a_tick_that_fails_is_told_without_its_words_and_the_next_one_comes() -> None:
    ticks: queue.Queue[int] = queue.Queue()

    def fail() -> None:
        ticks.put(1)
        raise ValueError("Wet^Canary")

    with structlog.testing.capture_logs() as events:
        timer = Timer("fail", fail, every_s=0.001)
        for _ in range(3):
            ticks.get(timeout=LIMIT_S)
        timer.stop()
    assert {(event["event"], event["step"], event["error"]) for event in events} == {
        ("timer failed", "fail", "ValueError")
    }
    assert "Canary" not in repr(events)


def test_a_stop_waits_for_the_tick_that_has_begun() -> None:
    has_begun, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def tick() -> None:
        has_begun.set()
        assert may_end.wait(LIMIT_S)
        has_ended.set()

    timer = Timer("slow", tick, every_s=0.001)
    assert has_begun.wait(LIMIT_S)
    threading.Timer(0.01, may_end.set).start()
    timer.stop()
    assert has_ended.is_set()


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_a_timer_does_not_read_the_time_of_day(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    ticks: queue.Queue[int] = queue.Queue()
    timer = Timer("jump", lambda: ticks.put(1), every_s=0.001)
    ticks.get(timeout=LIMIT_S)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump_s)
    for _ in range(3):
        ticks.get(timeout=LIMIT_S)
    timer.stop()


def test_what_is_planned_for_an_hour_comes_next_at_that_hour() -> None:
    calendar = Calendar()
    calendar.add("check", lambda: None, at="02:30")
    calendar.add("other", lambda: None, at="23:05")
    planned = calendar.planned
    calendar.stop()
    assert {name: (at.hour, at.minute) for name, at in planned.items()} == {"check": (2, 30), "other": (23, 5)}
    assert all(at.tzinfo is not None for at in planned.values())
    assert not any("APScheduler" in thread.name for thread in threading.enumerate())


def test_a_stop_with_a_limit_leaves_a_tick_behind_that_takes_longer() -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    ticks: queue.Queue[int] = queue.Queue()

    def tick() -> None:
        ticks.put(1)
        has_begun.set()
        may_end.wait(LIMIT_S)

    timer = Timer("slow", tick, every_s=0.001)
    assert has_begun.wait(LIMIT_S)
    timer.ask_to_stop()
    timer.stop(limit_s=0.01)
    may_end.set()
    timer.stop()
    assert ticks.qsize() == 1
