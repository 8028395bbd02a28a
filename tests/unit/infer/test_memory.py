"""Out of memory: half the batch, then the processor, then an error; and never another answer."""

from collections.abc import Sequence

import numpy as np
import pytest

from node.infer.loaded import Run, Tensors
from node.infer.memory import WithinMemory


class Small:
    """A device that has room for some rows and doubles them."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.rows: list[int] = []

    def __call__(self, inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        (tensor,) = inputs.values()
        self.rows.append(len(tensor))
        if len(tensor) > self.room:
            raise MemoryError
        return [tensor * 2 for _ in names]


def batch(rows: int) -> Tensors:
    return {"x": np.arange(rows, dtype=np.float32)[:, None]}


def answer(run: Run, rows: int) -> list[float]:
    (output,) = run(batch(rows), ["y"])
    assert isinstance(output, np.ndarray)
    return [float(value) for value in output[:, 0]]


def doubled(rows: int) -> list[float]:
    return [2.0 * row for row in range(rows)]


def test_what_fits_is_run_as_it_came() -> None:
    device = Small(8)
    assert answer(WithinMemory(device, takes_batches=True), 8) == doubled(8)
    assert device.rows == [8]


@pytest.mark.parametrize("room", [1, 2, 3, 4, 5])
def test_half_the_batch_is_tried_until_it_fits_and_no_row_is_lost_or_moved(room: int) -> None:
    device = Small(room)
    within = WithinMemory(device, takes_batches=True)
    assert answer(within, 11) == doubled(11)
    tried = len(device.rows)
    assert answer(within, 11) == doubled(11)
    assert all(rows <= room for rows in device.rows[tried:])  # the size that fits is remembered


def test_one_row_that_does_not_fit_goes_to_the_processor() -> None:
    opened: list[Small] = []

    def open_other() -> Run:
        opened.append(Small(1))
        return opened[-1]

    within = WithinMemory(Small(0), takes_batches=True, other=open_other)
    assert not within.has_moved
    assert answer(within, 3) == doubled(3)
    assert within.has_moved
    assert [one.rows for one in opened] == [[1, 1, 1]]


def test_what_fits_nowhere_is_an_error() -> None:
    with pytest.raises(MemoryError):
        answer(WithinMemory(Small(0), takes_batches=True, other=lambda: Small(0)), 2)
    with pytest.raises(MemoryError):
        answer(WithinMemory(Small(0), takes_batches=True), 2)


def test_a_model_that_takes_no_batches_is_never_cut() -> None:
    device, processor = Small(2), Small(4)
    assert answer(WithinMemory(device, takes_batches=False, other=lambda: processor), 4) == doubled(4)
    assert (device.rows, processor.rows) == ([4], [4])
