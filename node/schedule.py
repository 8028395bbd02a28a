"""What a process does again and again: by the monotonic clock, or at an hour that people chose.

A timer that reads the time of day stands still for a day when that clock is set back by a day, so whatever a study
waits for is a `Timer`. What people plan for a quiet hour is in the `Calendar`.
"""

import threading
from collections.abc import Callable
from datetime import datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

__all__ = ["Calendar", "Timer"]

log = structlog.get_logger(__name__)

LATE_S = 6 * 3600


class Timer:
    """Calls a function in a thread of its own, so many seconds after its start and after each end, until stopped."""

    def __init__(self, name: str, tick: Callable[[], None], *, every_s: float) -> None:
        """Begin; a tick that fails is in the log, and the next one comes all the same."""
        self._name, self._tick, self._every_s = name, tick, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"timer-{name}", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin no other tick; does not wait for one that has begun."""
        self._stop.set()

    def stop(self, *, limit_s: float | None = None) -> None:
        """Let a tick that has begun end, and begin no other; with a limit, one that takes longer is left behind."""
        self._stop.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            _try(self._name, self._tick)


class Calendar:
    """Calls functions once a day at their hour, local time, in threads of their own, until stopped.

    A day whose hour was missed, because the node or the machine was off, is made up for within six hours.
    """

    def __init__(self) -> None:
        """Begin, with nothing planned."""
        self._scheduler = BackgroundScheduler(
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": LATE_S}
        )
        self._scheduler.start()

    def add(self, name: str, tick: Callable[[], None], *, at: str) -> None:
        """Plan a call for every day at ``HH:MM``."""
        hour, _, minute = at.partition(":")
        self._scheduler.add_job(_try, CronTrigger(hour=int(hour), minute=int(minute)), args=(name, tick), name=name)

    @property
    def planned(self) -> dict[str, datetime]:
        """When each function is called next."""
        return {job.name: job.next_run_time for job in self._scheduler.get_jobs()}

    def stop(self) -> None:
        """Let a call that has begun end, and begin no other."""
        self._scheduler.shutdown(wait=True)


def _try(name: str, tick: Callable[[], None]) -> None:
    try:
        tick()
    except Exception as error:  # noqa: BLE001  a timer's edge: the next tick tries again, the log says why
        log.error("timer failed", step=name, error=type(error).__name__)
