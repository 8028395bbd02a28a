"""The process that settles, reads, reports and delivers, with its timers."""

import os
import threading
from functools import partial
from pathlib import Path

import structlog

from node.app import open_site, start_worker
from node.process import say_ready
from node.schedule import Calendar, Timer
from node.settings import Settings

__all__ = ["run_worker"]

log = structlog.get_logger(__name__)

DRAIN_S = 25.0  # the supervisor gives 30 s
SETTLE_EVERY_S = 0.5
ASK_EVERY_S = 1.0
TIDY_EVERY_S = 600.0
ASKED_LIMIT_S = 3.0


def run_worker(folder: Path, settings: Settings, stop: threading.Event) -> None:
    """Settle, read, report and deliver until asked to stop."""
    site = open_site(folder, settings)
    worker = start_worker(site)
    timers = (
        Timer("settle", worker.settle, every_s=SETTLE_EVERY_S),
        Timer("ask", worker.ask, every_s=ASK_EVERY_S),
        Timer("sweep", worker.sweep, every_s=settings.engine.sweep_every_s),
        Timer("tidy", worker.tidy, every_s=TIDY_EVERY_S),
    )
    askers = [
        Timer(f"verify {name}", partial(worker.verify, name), every_s=ASK_EVERY_S) for name in worker.verifiable()
    ]
    calendar = Calendar()
    if settings.store.check_at:
        calendar.add("nightly check", worker.check_share, at=settings.store.check_at)
    log.info("worker started", pid=os.getpid(), count=len(settings.rules))
    if not stop.is_set():
        say_ready(site.store.root / "run", "worker")
    stop.wait()
    for asker in askers:
        asker.ask_to_stop()
    for timer in (*timers, calendar):
        timer.stop()
    for asker in askers:
        asker.stop(limit_s=ASKED_LIMIT_S)  # what a destination has not said by then is asked at the next start
    worker.stop(drain_s=DRAIN_S)
    site.store.close()
    log.info("worker stopped", pid=os.getpid())
