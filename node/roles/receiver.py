"""The process that hears modalities and the RIS; it loads nothing of what reads and delivers, to be back soon."""

import os
import threading

import structlog

from node.front import start_listener, start_receiver
from node.lock import lock_executor
from node.process import receiver_role, say_ready
from node.receive import leave_folder
from node.settings import Settings
from node.store.check import open_sound_store

__all__ = ["run_receiver"]

log = structlog.get_logger(__name__)

DRAIN_S = 25.0  # the supervisor gives 30 s
HL7_DRAIN_S = 2.0


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
