"""Every write, fsync, rename, link and unlink on an object's way to the disk fails once, and is the last once.

First a receiver is watched while it takes a few objects. Then, for each system call that it made on its
store, another receiver takes the same objects and this one call fails or kills it. A store that is nearly
full of journal is used, so that a checkpoint of the database is on the way too.
"""

import itertools
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from node.store.volume import bad_reason, clear_bad
from tests.invariants import check_store
from tests.soak.objects import SentObject, chance_of, make_object
from tests.soak.receiver import ReceiverProcess, restarted
from tests.soak.sender import Sender
from tests.soak.tracing import Call, Tracer, calls_below, traced

__all__ = ["Cut", "soak_cuts"]

KILL = "signal=KILL"
SYNCS = ("fsync", "fdatasync", "sync_file_range")
FIRST = 1000  # numbers below are in the store before
JOURNAL_BYTES = 4_010_000  # SQLite writes it back at 1000 pages, which is 4.12 MB
FEWEST_CALLS = 40
DATABASE = "wetread.db"


@dataclass(frozen=True, slots=True)
class Cut:
    """One system call and what becomes of it."""

    call: Call
    fault: str
    is_writing_back: bool = False

    @property
    def options(self) -> tuple[str, str]:
        return "-e", f"inject={self.call.name}:{self.fault}:when={self.call.number}"

    @property
    def is_failed_sync(self) -> bool:
        """Whether something that would be acknowledged next may have been lost without a further word.

        Not so when the journal is written back: it is durable and stays until that has succeeded.
        """
        return self.call.name in SYNCS and self.fault != KILL and not self.is_writing_back


@dataclass(slots=True)
class _Scene:
    """What is sent to each receiver, and what it acknowledged."""

    seed: str
    acknowledged: dict[str, str]
    refused_after_failed_sync: int = 0
    hit_at: int | None = None
    steps: list[SentObject] = field(init=False)

    def __post_init__(self) -> None:
        first = make_object(self.seed, FIRST, rows=64)
        other = make_object(self.seed, FIRST + 1, rows=16)
        self.steps = [
            first,
            make_object(self.seed, FIRST + 2, rows=128),
            first,  # again, the same bytes
            make_object(self.seed, FIRST + 3, rows=16, dataset_uid="2.25.99"),  # put aside: disagrees with its command
            SentObject(first.sop_instance_uid, other.study_instance_uid, other.dataset),  # put aside: other bytes
            make_object(self.seed, FIRST + 4, rows=16),
        ]

    @property
    def honest(self) -> list[SentObject]:
        return [self.steps[0], self.steps[1], self.steps[5]]

    def play(self, receiver: ReceiverProcess, tracer: Tracer) -> None:
        """Send every step once, over one Association as long as it lasts."""
        left = list(enumerate(self.steps))
        while left and receiver.is_running:
            try:
                with Sender(receiver.port, timeout_s=10) as sender:
                    while left:
                        number, sent = left.pop(0)
                        self._note(number, sent, sender, tracer)
            except OSError:
                if self.hit_at is None and tracer.has_hit:
                    self.hit_at = len(self.steps) - len(left) - 1
                continue

    def _note(self, number: int, sent: SentObject, sender: Sender, tracer: Tracer) -> None:
        status = sender.store(sent)
        if self.hit_at is None and tracer.has_hit:
            self.hit_at = number
        if status != 0x0000:
            return
        # The bytes of the first one with a UID are those that count.
        self.acknowledged.setdefault(sent.sop_instance_uid, sent.sha256)
        assert self.acknowledged[sent.sop_instance_uid] == sent.sha256, "I1: two contents of one UID were acknowledged"
        self.refused_after_failed_sync -= self.hit_at is not None


def soak_cuts(
    folder: Path, *, seed: str, most: int | None, until: float, chosen: Callable[[Cut], bool] = lambda _cut: True
) -> dict[str, str]:
    """Make the chosen cuts in an order by chance until all, or `most`, are made or it is late; the figures."""
    folder.mkdir(parents=True)
    prepared = _prepare(folder, seed)
    calls = _watch(folder / "watched", prepared, seed)
    assert len(calls) >= FEWEST_CALLS, f"only {len(calls)} calls were seen"
    assert any(call.file == DATABASE for call in calls), "the journal was not written back"
    plan = [cut for cut in _plan(calls, seed) if chosen(cut)]
    made = hit = syncs = 0
    breaches: list[str] = []
    for cut in plan[:most]:
        if time.monotonic() > until:
            break
        site = folder / f"cut-{made}"
        try:
            was_hit = _cut(site, prepared, cut, seed)
        except AssertionError as error:
            breaches.append(f"{site.name}: {error}")  # its folder stays; one broken promise must not hide another
            was_hit = True
        made, hit, syncs = made + 1, hit + was_hit, syncs + (was_hit and cut.is_failed_sync)
    assert not breaches, f"{len(breaches)} of {made} cuts broke a promise:\n" + "\n".join(breaches)
    assert hit, "no cut was ever made"
    return {
        "disk calls on the way of 6 objects": str(len(calls)),
        "of them to write the journal back": str(sum(call.file == DATABASE for call in calls)),
        "cuts planned, made, hit": f"{len(plan)}, {made}, {hit}",
        "failed fsyncs that closed the volume": str(syncs),
        "acknowledged objects lost": "0",
    }


def _plan(calls: list[Call], seed: str) -> list[Cut]:
    chance = chance_of(seed, "cuts")
    plan = []
    for call, following in itertools.pairwise([*calls, calls[-1]]):
        is_writing_back = DATABASE in (call.file, following.file)
        error = "EIO" if call.name in (*SYNCS, "rename", "unlink") else chance.choice(["ENOSPC", "EIO"])
        plan += [Cut(call, KILL, is_writing_back), Cut(call, f"error={error}", is_writing_back)]
    # Each kind of call is met early, however few are asked for.
    chance.shuffle(plan)
    seen: dict[tuple[str, str], int] = {}
    rank = {}
    for cut in plan:
        kind = (cut.call.name, cut.fault)
        rank[cut] = seen[kind] = seen.get(kind, 0) + 1
    return sorted(plan, key=rank.__getitem__)


def _prepare(folder: Path, seed: str) -> dict[str, str]:
    """A store with objects in it, whose journal is about to be written back; what it has acknowledged."""
    receiver = ReceiverProcess(folder / "prepared")
    receiver.start()
    acknowledged = {}
    journal = receiver.root / "wetread.db-wal"
    try:
        with Sender(receiver.port) as sender:
            for number in range(FIRST):
                sent = make_object(seed, number, rows=16)
                assert sender.store(sent) == 0x0000
                acknowledged[sent.sop_instance_uid] = sent.sha256
                if journal.stat().st_size > JOURNAL_BYTES:
                    break
    finally:
        receiver.kill()  # a clean end would write the journal back
    return acknowledged


def _watch(site: Path, acknowledged: dict[str, str], seed: str) -> list[Call]:
    receiver = _copied(site)
    receiver.start()
    log = site / "calls.log"
    try:
        with traced(receiver.pid, log) as tracer:
            _Scene(seed, dict(acknowledged)).play(receiver, tracer)
    finally:
        receiver.kill()
    return calls_below(log, receiver.root)


def _cut(site: Path, acknowledged: dict[str, str], cut: Cut, seed: str) -> bool:
    """Make one cut and see that the promise held; whether the call was reached."""
    receiver = _copied(site)
    scene = _Scene(seed, dict(acknowledged))
    receiver.start()
    try:
        with traced(receiver.pid, site / "calls.log", *cut.options) as tracer:
            scene.play(receiver, tracer)
            was_hit = tracer.has_hit
        if was_hit and cut.is_failed_sync:
            assert scene.refused_after_failed_sync == 0, f"{cut}: acknowledged after a failed fsync"
            assert bad_reason(receiver.root), f"{cut}: the volume is not marked bad"
    finally:
        if receiver.is_running:
            receiver.kill()
    clear_bad(receiver.root)
    try:
        with restarted(receiver) as (port, store):
            check_store(store, scene.acknowledged)
            with Sender(port) as sender:  # whatever was cut off heals when its sender comes again
                for sent in scene.honest:
                    status = sender.store(sent)
                    assert status == 0x0000, f"answered {status:#06x} when sent again"
                    scene.acknowledged[sent.sop_instance_uid] = sent.sha256
            check_store(store, scene.acknowledged)
    except AssertionError as error:
        raise AssertionError(f"{cut}: {error}\n{receiver.log()}") from error
    shutil.rmtree(site)
    return was_hit


def _copied(site: Path) -> ReceiverProcess:
    receiver = ReceiverProcess(site)
    shutil.copytree(site.parent / "prepared" / "store", receiver.root)
    return receiver
