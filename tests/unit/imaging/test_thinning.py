"""Outlines lose points and keep their place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.filters import threshold_otsu
from skimage.measure import approximate_polygon

from node.imaging.thinning import thinned
from node.imaging.tissue import _otsu_threshold

POINT = st.tuples(st.integers(-50, 50), st.integers(-50, 50))


@given(line=st.lists(POINT, min_size=2, max_size=60), tolerance=st.floats(0.05, 20))
def test_no_point_that_is_left_out_was_farther_than_the_tolerance(
    line: list[tuple[int, int]], tolerance: float
) -> None:
    whole = np.array(line, np.float64)
    kept = thinned(whole, tolerance)
    assert (kept[0] == whole[0]).all()
    assert (kept[-1] == whole[-1]).all()
    for point in whole:
        starts, along = kept[:-1], np.diff(kept, axis=0)
        length = np.maximum((along**2).sum(axis=1), 1e-12)
        share = np.clip(((point - starts) * along).sum(axis=1) / length, 0, 1)
        assert np.linalg.norm(starts + share[:, None] * along - point, axis=1).min() <= tolerance + 1e-9


@pytest.mark.parametrize("tolerance", [0.1, 0.5, 2.0])
def test_a_blob_is_thinned_as_by_scikit_image(tolerance: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 400)
    radius = 40 + 6 * np.sin(5 * angle) + 2 * np.cos(17 * angle)
    line = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    assert np.array_equal(thinned(line, tolerance), approximate_polygon(line, tolerance))


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_between_dark_and_bright_is_that_of_scikit_image(seed: int) -> None:
    noise = np.random.default_rng(seed)
    values = np.concatenate([noise.normal(100, 20, 5000), noise.normal(400, 60, 3000)]).astype(np.float32)
    assert _otsu_threshold(values) == pytest.approx(float(threshold_otsu(values)))
