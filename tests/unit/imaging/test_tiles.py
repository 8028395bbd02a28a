"""A sliding window covers everything, and what it puts together is what was there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.imaging.tiles import gaussian_weights, slide, tile_places

sides = st.tuples(st.integers(1, 40), st.integers(0, 60), st.floats(0, 0.9))


@given(sides, sides)
def test_tiles_cover_every_place_and_overlap_at_least_as_asked(
    first: tuple[int, int, float], second: tuple[int, int, float]
) -> None:
    size, overlap = (first[0], second[0]), min(first[2], second[2])
    shape = (first[0] + first[1], second[0] + second[1])
    seen = np.zeros(shape, int)
    places = list(tile_places(shape, size, overlap))
    for place in places:
        assert tuple(part.stop - part.start for part in place) == size
        seen[place] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        starts = sorted({place[axis].start for place in places})
        strides = np.diff(starts)
        assert (strides <= max(1, round(size[axis] * (1 - overlap))) + 1).all()


@pytest.mark.parametrize("shape", [(10, 10, 10), (11, 25, 17)])
def test_a_network_that_repeats_its_input_gives_the_input_back(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    found = slide(values, (10, 10, 10), 0.5, lambda tile: np.stack([tile, 1 - tile]))
    np.testing.assert_allclose(found[0], values, atol=1e-6)
    np.testing.assert_allclose(found[1], 1 - values, atol=1e-6)


def test_where_tiles_disagree_the_middle_counts_more_than_the_border() -> None:
    def border_is_wrong(
        tile: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        answer = np.zeros((1, *tile.shape), np.float32)
        answer[0, [0, -1]] = 1.0
        return answer

    found = slide(np.zeros(48, np.float32), (16,), 0.5, border_is_wrong)[0]
    assert found[8:-8].max() < 0.05


def test_weights_are_1_in_the_middle_and_never_0() -> None:
    weights = gaussian_weights((9, 65))
    assert weights.max() == weights[4, 32] == 1.0
    assert weights.min() > 0


@pytest.mark.parametrize(("shape", "overlap"), [((9, 20), 0.5), ((20, 20), 1.0), ((20, 20), -0.1), ((20,), 0.5)])
def test_an_array_smaller_than_a_tile_or_a_wrong_overlap_is_refused(shape: tuple[int, ...], overlap: float) -> None:
    with pytest.raises(ValueError, match="at least"):
        list(tile_places(shape, (10, 10), overlap))
