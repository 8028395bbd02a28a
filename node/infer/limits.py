"""How long a reading may take: learned from the last ones of its handler, between the bounds of the site.

A handler that needs 5 s should not hold a core for 10 minutes when it hangs. A study stopped at the learned limit may
just be larger than the others, so its next attempt has all the time that the site allows.
"""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

__all__ = ["TimeLimits", "learned_limit_s"]

REMEMBERED = 100
LEAST_REMEMBERED = 20  # of fewer, the 95th percentile is the greatest
PERCENTILE = 0.95
HEADROOM = 1.5
MOST_STOPPED = 1000


def learned_limit_s(durations_s: Sequence[float], *, floor_s: float, ceiling_s: float) -> float:
    """The time limit that the last readings suggest: 1.5 times their 95th percentile, between floor and ceiling.

    The ceiling holds as long as there are fewer than 20, and where it is below the floor.
    """
    if len(durations_s) < LEAST_REMEMBERED:
        return ceiling_s
    ordered = sorted(durations_s)
    percentile = ordered[math.ceil(PERCENTILE * len(ordered)) - 1]  # nearest rank
    return min(max(HEADROOM * percentile, floor_s), ceiling_s)


class TimeLimits:
    """What the readings of each handler have taken, from the start of the node on; for many threads."""

    def __init__(self, *, floor_s: float) -> None:
        self._floor_s = floor_s
        self._durations_s: dict[str, deque[float]] = {}
        self._stopped: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def limit_s(self, handler: str, assignment_id: str, *, ceiling_s: float) -> float:
        """How long an Assignment may take now."""
        with self._lock:
            if assignment_id in self._stopped:
                return ceiling_s
            durations_s = tuple(self._durations_s.get(handler, ()))
        return learned_limit_s(durations_s, floor_s=self._floor_s, ceiling_s=ceiling_s)

    def ended(self, handler: str, assignment_id: str, duration_s: float, *, was_stopped: bool) -> None:
        """Note how long an Assignment took, or after what time it was stopped."""
        with self._lock:
            self._durations_s.setdefault(handler, deque(maxlen=REMEMBERED)).append(duration_s)
            self._stopped.pop(assignment_id, None)
            if was_stopped:
                self._stopped[assignment_id] = None
                while len(self._stopped) > MOST_STOPPED:
                    self._stopped.popitem(last=False)
