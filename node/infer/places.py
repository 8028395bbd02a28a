"""Places for readings: so many at once, and the most urgent study gets the next free one."""

import contextlib
import heapq
import threading
from collections.abc import Iterator

__all__ = ["Places"]


class Places:
    """A number of places that many threads want."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int]] = []
        self._count = 0
        self._condition = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        with self._condition:
            return len(self._waiting)

    @contextlib.contextmanager
    def taken(self, priority: int) -> Iterator[None]:
        """Hold a place; the lower the number, the sooner, and of the same who came first."""
        with self._condition:
            self._count += 1
            mine = (priority, self._count)
            heapq.heappush(self._waiting, mine)
            try:
                self._condition.wait_for(lambda: self._free > 0 and self._waiting[0] == mine)
            finally:
                self._waiting.remove(mine)
                heapq.heapify(self._waiting)
            self._free -= 1
            self._condition.notify_all()  # there may be another place for the next
        try:
            yield
        finally:
            with self._condition:
                self._free += 1
                self._condition.notify_all()
