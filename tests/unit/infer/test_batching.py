"""Requests are put together as the card likes, start in time, the most urgent first, and each gets its own rows."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.models import ModelCard
from node.domain.work import Priority
from node.infer.batching import Batcher, Request, choose
from node.infer.loaded import LoadedModel, Tensors
from node.infer.models import load_manifest
from tests.unit.infer.sites import doubling_model, write_model

PREFERRED = (1, 4, 8)
ROUTINE, STAT = int(Priority.ROUTINE), int(Priority.STAT)


def request(number: int, rows: int = 1, *, priority: int = ROUTINE, latest_s: float = 10.0, kind: str = "a") -> Request:
    return Request({}, ("y",), (kind,), rows, (priority, number), latest_s)


def numbers(requests: Sequence[Request]) -> list[int]:
    return [one.order[1] for one in requests]


def test_few_requests_wait_for_others_until_the_first_is_due() -> None:
    waiting = [request(1), request(2, latest_s=12.0), request(3, latest_s=13.0)]
    assert choose(waiting, 9.9, PREFERRED) == []
    assert numbers(choose(waiting, 10.0, PREFERRED)) == [1]  # three are no size that it likes
    assert numbers(choose([*waiting, request(4)], 10.0, PREFERRED)) == [1, 4, 2, 3]


def test_a_full_batch_waits_for_nothing() -> None:
    waiting = [request(number) for number in range(1, 10)]
    assert numbers(choose(waiting, 0.0, PREFERRED)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_stat_goes_into_the_next_batch() -> None:
    waiting = [*(request(number) for number in range(1, 9)), request(9, priority=STAT)]
    assert numbers(choose(waiting, 0.0, PREFERRED))[0] == 9


def test_fewer_rows_than_any_size_that_it_likes_go_together_when_one_is_due() -> None:
    assert numbers(choose([request(1), request(2, latest_s=20.0)], 10.0, (4, 8))) == [1, 2]


def test_requests_of_different_sizes_are_never_put_together() -> None:
    waiting = [request(number, kind="ab"[number % 2]) for number in range(1, 9)]
    assert numbers(choose(waiting, 0.0, (4,))) == [1, 3, 5, 7]


def test_a_request_larger_than_every_size_is_run_alone_and_whole() -> None:
    assert numbers(choose([request(1, 20), request(2)], 0.0, PREFERRED)) == [1]


REQUESTS = st.builds(
    request,
    st.integers(1, 1000),
    st.integers(1, 12),
    priority=st.sampled_from([1, 10, 100]),
    latest_s=st.floats(0.0, 20.0),
    kind=st.sampled_from("ab"),
)


@given(st.lists(REQUESTS, max_size=12), st.floats(0.0, 20.0))
def test_no_request_that_is_due_waits_and_no_batch_is_larger_than_the_model_likes(
    waiting: list[Request], now_s: float
) -> None:
    left = list(waiting)
    while chosen := choose(left, now_s, PREFERRED):
        assert len({one.kind for one in chosen}) == 1
        assert len(chosen) == 1 or sum(one.rows for one in chosen) <= max(PREFERRED)
        left = [one for one in left if one not in chosen]
    assert all(one.latest_s > now_s for one in left)


class Rows:
    """Doubles, and notes how many rows came at once; refuses negative numbers."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        self.rows.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise MemoryError
        return [inputs["x"] * 2]


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    card = load_manifest(write_model(tmp_path, "tiny", doubling_model())).card
    return replace(card, preferred_batches=(1, 4), latest_start_ms=3_600_000.0)


def read_at_once(batcher: Batcher, values: Sequence[float], priority: int = ROUTINE) -> dict[float, float | str]:
    found: dict[float, float | str] = {}

    def read(value: float) -> None:
        try:
            found[value] = float(batcher.model_for(priority).run(np.full((1, 2), value, np.float32))[0, 0])
        except MemoryError:
            found[value] = "no memory"

    threads = [threading.Thread(target=read, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_studies_at_once_are_one_batch_and_each_has_its_own_rows(card: ModelCard) -> None:
    run = Rows()
    batcher = Batcher(LoadedModel(card, run), clock=lambda: 0.0)  # nothing is ever due
    assert read_at_once(batcher, [1.0, 2.0, 3.0, 4.0]) == {1.0: 2.0, 2.0: 4.0, 3.0: 6.0, 4.0: 8.0}
    assert run.rows == [4]


def test_one_request_that_fails_does_not_fail_its_neighbours(card: ModelCard) -> None:
    run = Rows()
    found = read_at_once(Batcher(LoadedModel(card, run), clock=lambda: 0.0), [1.0, 2.0, -1.0, 4.0])
    assert found == {1.0: 2.0, 2.0: 4.0, -1.0: "no memory", 4.0: 8.0}
    assert run.rows == [4, 1, 1, 1, 1]


def test_a_stat_study_waits_for_nobody(card: ModelCard) -> None:
    run = Rows()
    assert read_at_once(Batcher(LoadedModel(card, run), clock=lambda: 0.0), [1.0], STAT) == {1.0: 2.0}
    assert run.rows == [1]


def test_a_request_that_is_due_starts_alone(card: ModelCard) -> None:
    run = Rows()
    batcher = Batcher(LoadedModel(replace(card, latest_start_ms=0.0), run), clock=lambda: 0.0)
    assert read_at_once(batcher, [1.0]) == {1.0: 2.0}


def test_requests_are_put_together_on_a_gpu_only(card: ModelCard) -> None:
    def helps(card: ModelCard, device: str) -> bool:
        return Batcher.helps(LoadedModel(card, Rows(), lambda: device))

    assert helps(card, "CUDA")
    assert not helps(card, "CPU")
    assert not helps(replace(card, preferred_batches=()), "CUDA")
    fixed = (replace(card.inputs[0], shape=(1, 2)),)
    assert not helps(replace(card, inputs=fixed), "CUDA")
