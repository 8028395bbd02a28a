"""Mirrored images: what does not depend on the side has no spread, what does has half its range."""

import numpy as np

from node.imaging.flips import over_flips


def test_a_map_comes_back_where_it_was() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    mean, spread = over_flips(lambda shown: 2 * shown, image, axes=[(-1,), (-2, -1)], is_map=True)
    np.testing.assert_array_equal(mean, 2 * image)
    np.testing.assert_array_equal(spread, 0)


def test_a_score_that_depends_on_the_side_spreads() -> None:
    image = np.array([[[0.2, 0.8]]], np.float32)
    mean, spread = over_flips(lambda shown: shown[..., 0], image, axes=[(-1,)], is_map=False)
    np.testing.assert_allclose((mean, spread), [[[0.5]], [[0.3]]], atol=1e-6)
