"""The most urgent study gets the next place, however many were there before it."""

import os
import threading

from node.domain.work import Priority
from node.infer.places import Places


def wait_for(places: Places, count: int) -> None:
    while places.waiting < count:
        os.sched_yield()


def test_stat_goes_first_and_then_who_came_first() -> None:
    places, order = Places(1), []

    def read(name: str, priority: Priority) -> None:
        with places.taken(priority):
            order.append(name)

    coming = [
        ("routine 1", Priority.ROUTINE), ("urgent", Priority.URGENT), ("routine 2", Priority.ROUTINE),
        ("stat 1", Priority.STAT), ("stat 2", Priority.STAT),
    ]  # fmt: skip
    threads = [threading.Thread(target=read, args=one) for one in coming]
    with places.taken(Priority.ROUTINE):
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_for(places, count)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == ["stat 1", "stat 2", "urgent", "routine 1", "routine 2"]


def test_as_many_hold_a_place_as_there_are() -> None:
    places, meeting = Places(3), threading.Barrier(3)

    def read() -> None:
        with places.taken(Priority.ROUTINE):
            meeting.wait(60)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not meeting.broken


def test_a_reading_that_fails_gives_its_place_back() -> None:
    places = Places(1)
    for _ in range(2):
        try:
            with places.taken(Priority.ROUTINE):
                raise KeyError
        except KeyError:
            pass
    with places.taken(Priority.ROUTINE):
        assert places.waiting == 0
