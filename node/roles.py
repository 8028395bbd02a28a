"""The processes of a node: one receiver or more, and the worker with its timers.

``python -m node.roles receiver|receiver-2|worker --site DIR``; started and restarted by the supervisor.
"""

import argparse
import os
import sys
import threading
from functools import partial
from pathlib import Path

import structlog

from node.app import open_site, start_listener, start_receiver, start_worker
from node.engine import lock_executor
from node.errors import ConfigError, WetreadError
from node.log import configure_logging, keep_values_out
from node.process import die_with_parent, receiver_role, roles, say_ready, stop_requested
from node.receive import leave_folder
from node.schedule import Calendar, Timer
from node.settings import Settings, load_settings
from node.store.check import open_sound_store

__all__ = ["main", "run_receiver", "run_worker"]

log = structlog.get_logger(__name__)

DRAIN_S = 25.0  # the supervisor gives 30 s
HL7_DRAIN_S = 2.0
SETTLE_EVERY_S = 0.5
ASK_EVERY_S = 1.0
TIDY_EVERY_S = 600.0
ASKED_LIMIT_S = 3.0


def run_receiver(settings: Settings, stop: threading.Event, *, number: int = 1) -> None:
    """Receive until asked to stop, then let open Associations finish."""
    store = open_sound_store(settings.store.path, is_durable=settings.store.sync)
    run, role = store.root / "run", receiver_role(number)
    lock = lock_executor(run, role)
    receiver = start_receiver(settings, store, number=number)
    listener = start_listener(settings, store) if number == 1 else None  # one ear is enough
    log.info("receiver started", port=receiver.port, called_ae=settings.dicom.ae_title, pid=os.getpid(), process=role)
    if not stop.is_set():
        say_ready(run, role, port=receiver.port, tls_port=receiver.tls_port)
    stop.wait()
    if listener is not None:
        listener.stop(drain_s=HL7_DRAIN_S)
    receiver.stop(drain_s=DRAIN_S)
    leave_folder(store.root, number)
    store.close()
    os.close(lock)
    log.info("receiver stopped", pid=os.getpid())


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


def main(arguments: list[str]) -> int:
    """Run one role until SIGTERM; the exit code is 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="node.roles")
    parser.add_argument("role")
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    asked = parser.parse_args(arguments)
    die_with_parent(asked.parent)  # before SIGTERM is ours: without its supervisor a role must not even begin
    stop = stop_requested()
    try:
        settings = load_settings(asked.site / "config.toml", os.environ)
        configure_logging(settings.log.level, settings.log.format)
        keep_values_out()
        known = roles(settings.dicom.processes)
        if asked.role not in known:
            raise ConfigError(f"this node has no such process; it has {', '.join(known)}")
        if asked.role == "worker":
            run_worker(asked.site, settings, stop)
        else:
            run_receiver(settings, stop, number=known.index(asked.role) + 1)
    except (WetreadError, OSError) as error:
        sys.stderr.write(f"{asked.role}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
