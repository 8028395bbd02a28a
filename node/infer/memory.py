"""When memory runs out: half the batch, down to one row, then the processor, and only then a failed reading."""

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from node.errors import ModelError
from node.infer.loaded import LoadedModel, Run, Tensors

__all__ = ["WithinMemory", "raise_ours", "within_memory"]

# What the libraries that run models say of memory that is not there; they have no error of their own for it.
OUT_OF_MEMORY = (
    "bad_alloc",
    "allocate memory",
    "bad allocation",
    "out of memory",
    "failed to allocate",
    "alloc_failed",
)


def within_memory(model: LoadedModel, kind: str, open_on_processor: Callable[[], Run]) -> LoadedModel:
    """The same model, which makes do with the memory there is and says so in its `device`.

    Parameters
    ----------
    kind
        What it runs on: ``CPU``, from where nothing can move, or a kind of GPU.
    """
    within = WithinMemory(
        model.run_raw, takes_batches=model.takes_batches, other=None if kind == "CPU" else open_on_processor
    )
    return LoadedModel(model.card, within, lambda: f"{kind}, CPU" if within.has_moved else kind)


def raise_ours(error: Exception, library: str, name: str) -> NoReturn:
    """Turn a library's error into ours. Its text is about the network, but may quote values: only its type is kept.

    Raises
    ------
    MemoryError
        If it is about memory.
    ModelError
        Else.
    """
    said = str(error).lower()
    if any(words in said for words in OUT_OF_MEMORY):
        raise MemoryError(f"{name}: {library} could not allocate memory") from error
    raise ModelError(f"{name}: {library} refused the model or its input: {type(error).__name__}") from error


class WithinMemory:
    """A model's `Run` that makes do with the memory there is.

    Parameters
    ----------
    run
        Raises `MemoryError` when there is no room.
    takes_batches
        True if rows of a batch may be run apart.
    other
        Gives the way to run on the processor, opened when it is first needed; None if `run` is that already.
    """

    def __init__(self, run: Run, *, takes_batches: bool, other: Callable[[], Run] | None = None) -> None:
        self._run = run
        self._takes_batches = takes_batches
        self._open_other = other
        self._other: Run | None = None
        self._most_rows = 0  # 0: whatever is given

    @property
    def has_moved(self) -> bool:
        """True if a run had to go to the processor."""
        return self._other is not None

    def __call__(self, inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        """Run a batch, in as many parts as needed; the parts that fit are kept to from then on."""
        count = len(next(iter(inputs.values())))
        if not self._takes_batches or count <= 1:
            return self._run_one(inputs, names)
        parts: list[Sequence[object]] = []
        start = 0
        while start < count:
            size = min(self._most_rows or count, count - start)
            if size == 1:
                parts.append(self._run_one(_rows(inputs, start, 1), names))
            elif (found := self._try(_rows(inputs, start, size), names)) is not None:
                parts.append(found)
            else:
                self._most_rows = size // 2
                continue
            start += size
        return parts[0] if len(parts) == 1 else [_joined(outputs) for outputs in zip(*parts, strict=True)]

    def _try(self, inputs: Tensors, names: Sequence[str]) -> Sequence[object] | None:
        try:
            return self._run(inputs, names)
        except MemoryError:
            return None

    def _run_one(self, inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        if self._open_other is None:
            return self._run(inputs, names)
        if (found := self._try(inputs, names)) is not None:
            return found
        if self._other is None:
            self._other = self._open_other()
        return self._other(inputs, names)


def _rows(inputs: Tensors, start: int, count: int) -> Tensors:
    return {name: tensor[start : start + count] for name, tensor in inputs.items()}


def _joined(outputs: Sequence[object]) -> object:
    return np.concatenate([np.asarray(output) for output in outputs])
