"""Many senders at once: nothing lost, nothing doubled, and the door stays open to everybody else."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from node.store.backup import back_up
from node.store.database import Store, open_store
from node.store.restore import choose_backup, restore
from node.store.schema import INSTANCES, METADATA, QUARANTINE
from tests.invariants import check_canaries, check_footprint, check_store
from tests.soak.objects import NAME_CANARY, PATIENT_CANARY, make_object
from tests.soak.receiver import ReceiverProcess, receiver_process
from tests.soak.sender import Sender, echo_time_s

__all__ = ["read_ledger", "soak_senders"]

SLOWEST_ECHO_S = 1.0  # of 99 in 100
WARM_UP = 32
WATCH_EVERY_S = 0.2


def soak_senders(folder: Path, *, senders: int, objects: int, seed: str, limit_s: float) -> dict[str, str]:
    """Let `senders` processes send `objects` together while another asks for C-ECHO; the figures.

    Fails with the promise that was broken.
    """
    folder.mkdir(parents=True)
    with receiver_process(folder) as receiver:
        _warm_up(receiver, f"{seed}/warm-up")
        before = receiver.footprint()
        start = time.monotonic()
        with _backed_up(receiver, folder, when=objects // 3) as saved:
            again, probe = _send_all(
                receiver.port, folder, senders=senders, objects=objects, seed=seed, limit_s=limit_s
            )
        seconds = time.monotonic() - start
        after = receiver.footprint()
        check_footprint(before, after)
        assert receiver.stop() == 0
    acknowledged = read_ledger(folder)
    assert len(acknowledged) == objects
    store = receiver.open_store()
    try:
        check_store(store, acknowledged)
        _check_nothing_is_doubled(store, objects + WARM_UP)
    finally:
        store.close()
    check_canaries(store.root, (NAME_CANARY, PATIENT_CANARY), folder / "stderr.log")
    _check_the_restored(folder, saved)
    times = sorted(probe["times_s"])
    p99 = times[int(len(times) * 0.99)]
    assert not probe["failures"], f"{probe['failures']} C-ECHO failed"
    assert p99 < SLOWEST_ECHO_S, f"C-ECHO p99 is {p99:.3f} s"
    return {
        "senders": str(senders),
        "objects": f"{objects} in {seconds:.0f} s, {objects / seconds:.0f}/s",
        "lost, doubled, sent again": f"0, 0, {again}",
        "C-ECHO median, p99, worst": f"{statistics.median(times):.3f}, {p99:.3f}, {times[-1]:.3f} s of {len(times)}",
        "acknowledged before a backup, there after restore": f"{len(saved)}, all",
        "memory drift": f"{(after.memory_bytes - before.memory_bytes) / (1 << 20):+.1f} MB",
        "threads, descriptors drift": f"{after.threads - before.threads:+d}, "
        f"{after.descriptors - before.descriptors:+d}",
    }


def read_ledger(folder: Path) -> dict[str, str]:
    """What all senders noted as acknowledged: SHA-256 of the dataset by SOP Instance UID."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.ledger")):
        lines = path.read_text(encoding="ascii").splitlines(keepends=True)
        # A sender that was ended while it wrote has not noted its last line.
        for line in lines:
            if line.endswith("\n"):
                uid, sha256 = line.split()
                found[uid] = sha256
    return found


@contextmanager
def _backed_up(receiver: ReceiverProcess, folder: Path, *, when: int) -> Iterator[dict[str, str]]:
    """Make a backup while objects come in; gives what was acknowledged before it, once the block has ended."""
    saved: dict[str, str] = {}
    over = threading.Event()

    def make() -> None:
        while len(saved) < when and not over.wait(WATCH_EVERY_S):
            saved.update(read_ledger(folder))
        store = receiver.open_store()
        try:
            back_up(store, folder / "backups", version="soak", settings_file=receiver.site / "config.toml")
        finally:
            store.close()

    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(make)
        try:
            yield saved
        finally:
            over.set()
        made.result()


def _check_the_restored(folder: Path, acknowledged: dict[str, str]) -> None:
    """I10: a restored store keeps the promise for everything acknowledged before its backup."""
    restore(choose_backup(folder / "backups"), folder / "restored", clock=time.time)
    store = open_store(folder / "restored")
    try:
        check_store(store, acknowledged)
    finally:
        store.close()


def _warm_up(receiver: ReceiverProcess, seed: str) -> None:
    """What is loaded and kept at the first objects is not drift."""
    with Sender(receiver.port) as sender:
        for number in range(WARM_UP):
            assert sender.store(make_object(seed, number)) == 0x0000
    echo_time_s(receiver.port)


def _send_all(
    port: int, folder: Path, *, senders: int, objects: int, seed: str, limit_s: float
) -> tuple[int, dict[str, list[float]]]:
    command = [sys.executable, "-m", "tests.soak.sender"]
    limits = ["--port", str(port), "--limit-s", str(limit_s)]
    out = folder / "probe.json"
    prober = subprocess.Popen([*command, "echo", *limits, "--out", str(out)], stdin=subprocess.PIPE)
    share = -(-objects // senders)
    running = [
        subprocess.Popen(
            [
                *(*command, "store", *limits, "--out", str(folder / f"{first}.ledger"), "--seed", seed),
                *("--first", str(first), "--count", str(min(share, objects - first))),
            ],
            stdout=subprocess.PIPE,
        )
        for first in range(0, objects, share)
    ]
    try:
        again = sum(int(process.communicate(timeout=limit_s + 60)[0]) for process in running)
        prober.communicate(timeout=60)
    finally:
        for process in (*running, prober):
            if process.poll() is None:
                process.kill()
            process.communicate()
    return again, json.loads(out.read_text(encoding="ascii"))


def _check_nothing_is_doubled(store: Store, expected: int) -> None:
    audit = METADATA.tables["audit"]
    with store.reading() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(INSTANCES)).scalar_one()
        aside = connection.execute(sa.select(sa.func.count()).select_from(QUARANTINE)).scalar_one()
        opened = connection.execute(sa.select(audit.c.subject).where(audit.c.action == "study opened")).scalars().all()
    files = sum(1 for _ in (store.root / "instances").rglob("*.dcm"))
    assert (rows, files, aside) == (expected, expected, 0), "an object is there twice, or aside"
    assert len(opened) == len(set(opened)), "a study was opened twice"
