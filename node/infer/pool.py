"""Child processes that stay: models are loaded once, and a child that failed or grew is replaced.

A child belongs to one handler in one state of its files. It is ended when a reading reaches a limit or fails, when the
handler left something running, when its memory has grown, after so many studies, when it was not needed for long, and
with this process. Studies share a child only on a GPU; if it ends, each of them is read again in one of its own.
"""

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from node.errors import InferenceLimitError, WetreadError
from node.infer.job import OPENED, Answer, Job, Opening, encode
from node.infer.known import KnownHandlers
from node.infer.limits import TimeLimits
from node.infer.places import Places
from node.infer.warm import REST_LIMIT_S, Child, ChildEndedError, start_process
from node.settings import InferSettings

__all__ = ["Kind", "Pool"]

LEAST_OPENING_S = 120.0  # loading code and weights from a slow disk is not the handler's fault
STOPPING = "the node is stopping; the study is read at its next start"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a child has open: a handler, and the state of the files it was loaded from."""

    opening: Opening
    state: str

    def is_older_than(self, other: "Kind") -> bool:
        """True if the other is the same handler from other files."""
        mine, theirs = self.opening, other.opening
        return (mine.site, mine.handler) == (theirs.site, theirs.handler) and self.state != other.state


@dataclass(eq=False, slots=True)
class _Kept:
    """A child and its book; `child` is None while it is being opened."""

    kind: Kind
    child: Child | None = None
    running: int = 0
    studies: int = 0
    first_mb: int | None = None
    used_at: float = 0.0
    is_spent: bool = False

    @property
    def is_idle(self) -> bool:
        return self.child is not None and not self.running and not self.child.is_resting


class Pool:
    """The children of a node; none is started before it is needed, and all end with `close` or with this process."""

    def __init__(self, settings: InferSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._places = Places(settings.children)
        self._condition = threading.Condition()
        self._kept: list[_Kept] = []
        self._count = OPENED
        self._is_closed = False
        self.handlers = KnownHandlers()
        self.times = TimeLimits(floor_s=settings.least_time_s)
        # A child ends with the thread that started it, so one thread lives as long as all of them.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="child-starter")
        self._end = weakref.finalize(self, _end_all, self._kept, self._starter)

    def read(self, kind: Kind, job: Job, *, assignment_id: str, ceiling_s: float) -> Answer:
        """Let a child of this kind do a Job, the most urgent first; its number is given here.

        Raises
        ------
        InferenceLimitError
            If the time limit was reached: what was learned of this handler, at most `ceiling_s`.
        ChildEndedError, InferenceError
            If the child ended, or no child could be opened in time.
        OSError
            If no process could be started.
        WetreadError
            If the pool was closed: nothing is wrong with the study, it is to be read at the next start.
        """
        with self._places.taken(job.priority):
            try:
                return self._read(kind, job, assignment_id, ceiling_s)
            except ChildEndedError as error:
                if self._is_closed:
                    raise WetreadError(STOPPING) from error
                if not error.was_shared:
                    raise
            alone = replace(kind, opening=replace(kind.opening, together=1))
            return self._read(alone, job, assignment_id, ceiling_s)

    def pids(self) -> list[int]:
        """Process ids of the children there are."""
        with self._condition:
            return [one.child.pid for one in self._kept if one.child is not None]

    @property
    def waiting(self) -> int:
        """How many readings wait for a place."""
        return self._places.waiting

    def close(self) -> None:
        """End all children, whatever they do."""
        with self._condition:
            self._is_closed = True
            for one in self._kept:
                one.is_spent = True
                if one.child is not None:
                    one.child.kill()
            self._condition.wait_for(lambda: not self._kept, timeout=REST_LIMIT_S)
        self._end()

    def _read(self, kind: Kind, job: Job, assignment_id: str, ceiling_s: float) -> Answer:
        kept, child = self._take(kind)
        is_well = False
        try:
            answer = self._open(child, kind.opening) if not child.is_open else Answer(OPENED)
            if not answer.error:
                answer = self._ask(child, kind.opening.handler, job, assignment_id, ceiling_s)
            is_well = not answer.error
            return answer
        finally:
            self._give_back(kept, is_well=is_well)

    def _ask(self, child: Child, handler: str, job: Job, assignment_id: str, ceiling_s: float) -> Answer:
        limit_s = self.times.limit_s(handler, assignment_id, ceiling_s=ceiling_s)
        with self._condition:
            self._count += 1
            number = self._count
        started = time.monotonic()
        try:
            answer = child.ask(number, encode(replace(job, number=number)), limit_s=limit_s)
        except TimeoutError as error:
            child.kill()  # whoever shares it is read again
            self.times.ended(handler, assignment_id, limit_s, was_stopped=True)
            raise InferenceLimitError(f"stopped at its time limit of {limit_s:g} s") from error
        if answer.analysis_sha256:
            self.times.ended(handler, assignment_id, time.monotonic() - started, was_stopped=False)
        return answer

    def _take(self, kind: Kind) -> tuple[_Kept, Child]:
        """A child of this kind with room for one more study, or a new one."""
        with self._condition:
            for one in self._kept:
                if one.kind.is_older_than(kind):
                    self._spend(one)
            while (kept := self._with_room(kind)) is not None:
                if kept.child is not None and kept.child.is_open and not kept.child.is_resting:
                    kept.running += 1
                    return kept, kept.child
                self._condition.wait(REST_LIMIT_S)
            kept = _Kept(kind, running=1)
            self._kept.append(kept)
        try:
            process = self._starter.submit(start_process, kind.opening.threads).result()
        except OSError:
            self._remove(kept)
            raise
        except RuntimeError as error:  # no more threads are started: the pool was closed, or the process ends
            self._remove(kept)
            raise WetreadError(STOPPING) from error
        child = Child(process, _weak(self), tick_s=max(self._settings.warm_for_s, 1.0))
        with self._condition:
            kept.child = child
            if kept.is_spent:
                child.kill()
        return kept, child

    def _with_room(self, kind: Kind) -> _Kept | None:
        for one in self._kept:
            is_awaited = one.kind.opening.together > 1 or one.child is not None
            is_fit = not one.is_spent and (one.child is None or not one.child.is_gone)
            if one.kind == kind and is_fit and is_awaited and one.running < kind.opening.together:
                return one
        return None

    def _open(self, child: Child, opening: Opening) -> Answer:
        limit_s = max(LEAST_OPENING_S, self._settings.max_time_s)
        try:
            answer = child.ask(OPENED, encode(opening), limit_s=limit_s)
        except TimeoutError as error:
            child.kill()
            raise InferenceLimitError(f"its models were not loaded within {limit_s:g} s") from error
        with self._condition:
            self._condition.notify_all()
        return answer

    def _give_back(self, kept: _Kept, *, is_well: bool) -> None:
        with self._condition:
            kept.running -= 1
            kept.studies += 1
            kept.used_at = self._clock()
            if not is_well or not self._settings.warm_children:
                self._spend(kept)
            self._review(kept)

    def _changed(self, child: Child) -> None:
        """A child has rested or ended, or nothing has happened for long; called from the thread that listens to it."""
        with self._condition:
            kept = next((one for one in self._kept if one.child is child), None)
            if kept is not None and child.has_ended:
                self._kept.remove(kept)
                self._condition.notify_all()
            elif kept is not None:
                self._review(kept)

    def _review(self, kept: _Kept) -> None:
        if kept.is_idle and kept.child is not None and self._is_enough(kept, kept.child):
            self._spend(kept)
        for one in self._surplus():
            self._spend(one)
        self._condition.notify_all()

    def _is_enough(self, kept: _Kept, child: Child) -> bool:
        """True if a child that does nothing should end: it changed for the worse, or was not needed for long."""
        if child.rested is None:
            return False
        settings, now_mb = self._settings, child.rested.memory_mb
        if kept.first_mb is None:
            kept.first_mb = now_mb
        return (
            bool(child.rested.left)
            or now_mb - kept.first_mb > settings.max_growth_mb
            or now_mb > kept.kind.opening.memory_limit_mb
            or kept.studies >= settings.studies_per_child
            or self._clock() - kept.used_at >= settings.warm_for_s
        )

    def _surplus(self) -> list[_Kept]:
        """Idle children beyond the number that is kept, those unused for longest first."""
        idle = sorted((one for one in self._kept if one.is_idle and not one.is_spent), key=lambda one: one.used_at)
        return idle[: max(0, len(idle) - self._settings.warm_children)]

    def _spend(self, kept: _Kept) -> None:
        """Give it no more studies, and end it when it has none; its listener takes it off the list."""
        kept.is_spent = True
        if kept.child is not None and not kept.running:
            kept.child.kill()

    def _remove(self, kept: _Kept) -> None:
        with self._condition:
            self._kept.remove(kept)
            self._condition.notify_all()


def _weak(pool: Pool) -> Callable[[Child], None]:
    """Tell the pool, but do not keep it: a pool that nobody has any more ends its children."""
    changed = weakref.WeakMethod(pool._changed)

    def tell(child: Child) -> None:
        method = changed()
        if method is not None:
            method(child)

    return tell


def _end_all(kept: list[_Kept], starter: ThreadPoolExecutor) -> None:
    for one in kept:
        if one.child is not None:
            one.child.kill()
    starter.shutdown(wait=False)
