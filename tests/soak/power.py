"""Power cuts: the store is on a file system in a file, and what the disk holds at one moment is what there is after.

The receiver's store lies on an ext4 image that is mounted through a loop device. While objects are
acknowledged, every process of the receiver is stopped, the image's bytes are copied, and the copy is mounted
as after a power cut: its journal is replayed, and whatever was still in the page cache is gone. The image is
without a write cache, as a disk that obeys flushes; that nothing was written to it while it was copied
is checked by the device's own counters. With a journal commit every five minutes, only what was asked to be durable is.
"""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.invariants import check_store
from tests.soak.objects import chance_of
from tests.soak.receiver import ReceiverProcess, restarted
from tests.soak.sender import echo_time_s, send_until_taken
from tests.soak.senders import read_ledger

__all__ = ["copy_as_cut", "formatted", "mounted", "need_mount", "soak_power"]

IMAGE_MB = 96
SENDERS = 2
MOST_OBJECTS = 2000  # more than can be sent until the power is cut
COPY_TRIES = 20
LIMIT_S = 60.0
OPTIONS = "commit=300"


def need_mount(folder: Path) -> None:
    """Skip the test, with the reason, where an image cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting an image needs root")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    try:
        with mounted(formatted(folder / "probe.img"), folder / "probe"):
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"loop mounts do not work here: {error.stderr.strip()[:200]}")
    finally:
        (folder / "probe.img").unlink(missing_ok=True)


def formatted(image: Path) -> Path:
    """An empty file system in a file."""
    with image.open("wb") as file:
        file.truncate(IMAGE_MB << 20)
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    return image


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """The file system in an image, mounted as long as the ``with`` block lasts."""
    folder.mkdir(exist_ok=True)
    _run("mount", "-o", f"loop,{OPTIONS}", str(image), str(folder))
    try:
        yield folder
    finally:
        _run("umount", str(folder))


def copy_as_cut(image: Path, copy: Path) -> None:
    """What the disk holds now, without what the page cache would still have written."""
    writes = _writes_of(image)
    for _ in range(COPY_TRIES):
        shutil.copyfile(image, copy)
        before, writes = writes, _writes_of(image)
        if before == writes:
            return
    raise AssertionError("the disk was never still while it was copied")


def soak_power(folder: Path, *, cuts: int, seed: str, until: float) -> dict[str, str]:
    """Cut the power `cuts` times at moments by chance; the figures."""
    folder.mkdir(parents=True)
    chance = chance_of(seed, "power")
    acknowledged = orphans = made = 0
    while made < cuts and time.monotonic() < until:
        place = folder / f"cut-{made}"
        taken, unnoted = _cut(place, f"{seed}/{made}", after_s=chance.uniform(0.05, 1.5))
        acknowledged, orphans, made = acknowledged + taken, orphans + unnoted, made + 1
        shutil.rmtree(place)
    assert acknowledged, "nothing was ever acknowledged before a cut"
    return {
        "power cuts": str(made),
        "acknowledged before them": str(acknowledged),
        "lost": "0",
        "files without a row after them": str(orphans),
    }


def _cut(place: Path, seed: str, *, after_s: float) -> tuple[int, int]:
    place.mkdir()
    image = formatted(place / "disk.img")
    with mounted(image, place / "disk") as disk:
        receiver = ReceiverProcess(place / "before", store=disk / "store")
        receiver.start()
        try:
            senders = _start_senders(receiver.port, place, seed, after_s)
            time.sleep(after_s)
            receiver.pause()
            copy_as_cut(image, place / "after.img")
        finally:
            receiver.kill()
    for sender in senders:
        sender.join(LIMIT_S)
        assert not sender.is_alive()
    acknowledged = read_ledger(place)
    with mounted(place / "after.img", place / "after") as disk:
        receiver = ReceiverProcess(place / "site", store=disk / "store")
        with restarted(receiver) as (port, store):
            check_store(store, acknowledged)
            rows = sum(1 for _ in (store.root / "instances").rglob("*.dcm"))
            echo_time_s(port)
    return len(acknowledged), rows - len(acknowledged)


def _start_senders(port: int, place: Path, seed: str, after_s: float) -> list[threading.Thread]:
    """Senders that give up soon after the cut."""
    until = time.monotonic() + after_s

    def send(number: int) -> None:
        numbers = range(number * MOST_OBJECTS, (number + 1) * MOST_OBJECTS)
        with suppress(TimeoutError):  # the power was cut
            send_until_taken(seed, numbers, port, place / f"{number}.ledger", until=until)

    senders = [threading.Thread(target=send, args=(number,), daemon=True) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    return senders


def _writes_of(image: Path) -> str:
    """How often and how much was written to the loop device of an image, and what is on its way."""
    found = subprocess.run(
        ["losetup", "-n", "-O", "NAME", "-j", str(image)], capture_output=True, text=True, check=True
    )
    fields = Path(f"/sys/block/{Path(found.stdout.strip()).name}/stat").read_text(encoding="ascii").split()
    return " ".join((*fields[4:7], fields[8]))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
