"""Requests of several studies to one model, put together on a GPU: bigger batches, a little later.

The card says which sizes the model likes and how long the first request may wait for others. The most urgent study goes
into the next batch, and a STAT study waits for nobody. On the processor nothing is put together: batches gain less than
5 % there, and cost memory.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from node.domain.work import Priority
from node.infer.loaded import LoadedModel, Run, Tensors

__all__ = ["Batcher", "Request", "choose"]


@dataclass(eq=False, slots=True)
class Request:
    """One study's input to the model, until its outputs are there.

    Parameters
    ----------
    kind
        Requests of one kind can go into one batch: same outputs wanted, same sizes but for the rows.
    order
        Priority, then the order of coming.
    latest_s
        On the clock, when it is to start at the latest.
    """

    inputs: Tensors
    names: tuple[str, ...]
    kind: tuple[object, ...]
    rows: int
    order: tuple[int, int]
    latest_s: float
    outputs: Sequence[object] = ()
    error: Exception | None = None
    is_done: bool = False


def choose(waiting: Sequence[Request], now_s: float, preferred: Sequence[int]) -> list[Request]:
    """The requests that are to start now as one batch, most urgent first; none if there is still time for more.

    A batch starts when there are as many rows as the largest preferred size, or when a request may wait no longer.
    It is filled up to the largest preferred size that is there; a request is never cut.
    """
    ordered = sorted(waiting, key=lambda one: one.order)
    for kind in dict.fromkeys(one.kind for one in ordered):
        alike = [one for one in ordered if one.kind == kind]
        rows = sum(one.rows for one in alike)
        due = [one for one in alike if one.latest_s <= now_s]
        if due or rows >= max(preferred):
            room = max((size for size in preferred if size <= rows), default=rows)
            return _fill([*due, *(one for one in alike if one not in due)], room)
    return []


def _fill(requests: Sequence[Request], room: int) -> list[Request]:
    """The first request, and those after it for which there is room."""
    chosen, rows = [requests[0]], requests[0].rows
    for one in requests[1:]:
        if rows + one.rows <= room:
            chosen.append(one)
            rows += one.rows
    return chosen


class Batcher:
    """Puts together what several threads ask of one model, and runs it once for all of them.

    There is no thread of its own: whichever caller finds a batch due runs it, one at a time.
    """

    def __init__(self, model: LoadedModel, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._preferred = model.card.preferred_batches
        self._wait_s = model.card.latest_start_ms / 1000.0
        self._clock = clock
        self._condition = threading.Condition()
        self._waiting: list[Request] = []
        self._count = 0
        self._is_running = False

    @staticmethod
    def helps(model: LoadedModel) -> bool:
        """True if putting requests together is worth it: on a GPU, for a model whose card names the sizes it likes."""
        return model.device != "CPU" and bool(model.card.preferred_batches) and model.takes_batches

    def model_for(self, priority: int) -> LoadedModel:
        """The model as one study is given it."""
        return self._model.with_run(partial(self.run, priority=priority))

    def run(self, inputs: Tensors, names: Sequence[str], *, priority: int) -> Sequence[object]:
        """Run one study's request, alone or with those of others."""
        with self._condition:
            request = self._request(inputs, names, priority)
            self._waiting.append(request)
            self._condition.notify_all()
            while not request.is_done:
                chosen = [] if self._is_running else choose(self._waiting, self._clock(), self._preferred)
                if not chosen:
                    self._condition.wait(self._patience_s())
                    continue
                self._waiting = [one for one in self._waiting if one not in chosen]
                self._is_running = True
                self._condition.release()
                try:
                    _run_together(chosen, self._model.run_raw)
                finally:
                    self._condition.acquire()
                    self._is_running = False
                    self._condition.notify_all()
        if request.error is not None:
            raise request.error
        return request.outputs

    def _request(self, inputs: Tensors, names: Sequence[str], priority: int) -> Request:
        self._count += 1
        kind = (tuple(names), *((name, tensor.shape[1:]) for name, tensor in sorted(inputs.items())))
        waits_s = 0.0 if priority <= Priority.STAT else self._wait_s
        rows = len(next(iter(inputs.values())))
        return Request(inputs, tuple(names), kind, rows, (priority, self._count), self._clock() + waits_s)

    def _patience_s(self) -> float | None:
        """Until the next request has to start; None while a batch runs, whose end is told."""
        if self._is_running or not self._waiting:
            return None
        return max(0.0, min(one.latest_s for one in self._waiting) - self._clock())


def _run_together(requests: Sequence[Request], run: Run) -> None:
    """Run requests of one kind as one batch; if that fails, each alone, so that none suffers for another."""
    try:
        _share(requests, run)
    except Exception as error:  # noqa: BLE001  it is handed to the thread whose request it is
        for request in requests:
            if len(requests) == 1:
                request.error = error
            else:
                _run_together([request], run)
    for request in requests:
        request.is_done = True


def _share(requests: Sequence[Request], run: Run) -> None:
    first = requests[0]
    if len(requests) == 1:
        first.outputs = run(first.inputs, first.names)
        return
    together = {name: np.concatenate([one.inputs[name] for one in requests]) for name in first.inputs}
    outputs = [np.asarray(output) for output in run(together, first.names)]
    rows = sum(one.rows for one in requests)
    if any(output.ndim == 0 or len(output) != rows for output in outputs):
        raise ValueError("the model does not give one row for each row")
    start = 0
    for request in requests:
        request.outputs = [output[start : start + request.rows] for output in outputs]
        start += request.rows
