"""The two processes of a node: the receiver, and the worker with its timers.

``python -m node.roles receiver|worker --site DIR``; started and restarted by the supervisor.
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from node.app import open_site, start_receiver, start_worker
from node.engine import lock_executor
from node.errors import WetreadError
from node.log import configure_logging, keep_values_out
from node.process import die_with_parent, say_ready, stop_requested
from node.settings import Settings, load_settings
from node.store.database import open_store

__all__ = ["main", "run_receiver", "run_worker"]

log = structlog.get_logger(__name__)

DRAIN_S = 25.0  # the supervisor gives 30 s
SETTLE_EVERY_S = 0.5


def run_receiver(settings: Settings, stop: threading.Event) -> None:
    """Receive until asked to stop, then let open Associations finish."""
    store = open_store(settings.store.path)
    lock = lock_executor(store.root / "run", "receiver")
    receiver = start_receiver(settings, store)
    log.info("receiver started", port=receiver.port, called_ae=settings.dicom.ae_title, pid=os.getpid())
    if not stop.is_set():
        say_ready(store.root / "run", "receiver", port=receiver.port)
    stop.wait()
    receiver.stop(drain_s=DRAIN_S)
    store.close()
    os.close(lock)
    log.info("receiver stopped", pid=os.getpid())


def run_worker(folder: Path, settings: Settings, stop: threading.Event) -> None:
    """Settle, read, report and deliver until asked to stop."""
    site = open_site(folder, settings)
    worker = start_worker(site)
    timers = BackgroundScheduler(timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1})
    timers.add_job(_guarded("settle", worker.settle), "interval", seconds=SETTLE_EVERY_S)
    timers.add_job(_guarded("sweep", worker.sweep), "interval", seconds=settings.engine.sweep_every_s)
    timers.start()
    log.info("worker started", pid=os.getpid(), count=len(settings.rules))
    if not stop.is_set():
        say_ready(site.store.root / "run", "worker")
    stop.wait()
    timers.shutdown(wait=True)
    worker.stop(drain_s=DRAIN_S)
    site.store.close()
    log.info("worker stopped", pid=os.getpid())


def _guarded(name: str, tick: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            tick()
        except Exception as error:  # noqa: BLE001  a timer's edge: the next tick tries again, the log says why
            log.error("timer failed", step=name, error=type(error).__name__)

    return run


def main(arguments: list[str]) -> int:
    """Run one role until SIGTERM; the exit code is 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="node.roles")
    parser.add_argument("role", choices=("receiver", "worker"))
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    asked = parser.parse_args(arguments)
    die_with_parent(asked.parent)  # before SIGTERM is ours: without its supervisor a role must not even begin
    stop = stop_requested()
    try:
        settings = load_settings(asked.site / "config.toml", os.environ)
        configure_logging(settings.log.level, settings.log.format)
        keep_values_out()
        if asked.role == "receiver":
            run_receiver(settings, stop)
        else:
            run_worker(asked.site, settings, stop)
    except (WetreadError, OSError) as error:
        sys.stderr.write(f"{asked.role}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
