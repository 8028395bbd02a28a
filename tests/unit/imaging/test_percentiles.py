"""MR grey levels come out the same however the scanner scaled them; windows show what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.imaging.percentiles import LANDMARKS, learn_scale, mr_percentiles, normalised_mr
from node.imaging.windows import CT_WINDOWS, window

TISSUE = np.random.default_rng(5).gamma(4.0, 100.0, (20, 30, 30)).astype(np.float32)
INSIDE = np.zeros(TISSUE.shape, np.bool_)
INSIDE[4:16, 5:25, 5:25] = True
HEAD = np.where(INSIDE, TISSUE, 0).astype(np.float32)


def test_landmarks_are_the_percentiles_of_the_tissue() -> None:
    np.testing.assert_allclose(mr_percentiles(HEAD, INSIDE), np.percentile(TISSUE[INSIDE], LANDMARKS), rtol=1e-6)


def test_without_a_mask_the_air_is_left_out() -> None:
    assert mr_percentiles(HEAD)[0] > 0
    assert mr_percentiles(HEAD)[-1] == pytest.approx(mr_percentiles(HEAD, INSIDE)[-1], rel=0.05)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 50), st.floats(-500, 500))
def test_gain_and_offset_of_the_scanner_make_no_difference(gain: float, offset: float) -> None:
    expected = normalised_mr(HEAD, INSIDE)
    found = normalised_mr((HEAD * gain + offset).astype(np.float32), INSIDE)
    np.testing.assert_allclose(found, expected, atol=2e-3 * (1 + 500 / gain / 400))


def test_the_first_landmark_becomes_0_the_last_1_and_nothing_is_cut() -> None:
    found = normalised_mr(HEAD, INSIDE)
    low, high = np.percentile(found[INSIDE], (1, 99))
    assert (low, high) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
    assert found.max() > 1
    assert found.min() < 0


def test_a_learnt_scale_puts_other_contrasts_on_one_histogram() -> None:
    others = [HEAD, (HEAD**0.7 * 9).astype(np.float32), (HEAD**1.3 / 7).astype(np.float32)]
    scale = learn_scale([mr_percentiles(image, INSIDE) for image in others])
    assert scale[0] == 0
    assert scale[-1] == 1
    found = [normalised_mr(image, INSIDE, scale=scale) for image in others]
    for image in found:
        np.testing.assert_allclose(np.percentile(image[INSIDE], LANDMARKS), scale, atol=2e-3)
        assert (np.argsort(image[INSIDE], kind="stable") == np.argsort(HEAD[INSIDE], kind="stable")).mean() > 0.9
    assert np.ptp([np.median(image[INSIDE]) for image in found]) < 2e-3


def test_few_grey_levels_and_even_images_give_finite_values() -> None:
    assert np.isfinite(normalised_mr(np.full((4, 4), 7, np.float32))).all()
    two = np.where(INSIDE, 100, 0).astype(np.float32)
    scale = np.linspace(0, 1, len(LANDMARKS))
    assert np.isfinite(normalised_mr(two, INSIDE, scale=scale)).all()


def test_wrong_scales_and_empty_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        normalised_mr(HEAD, INSIDE, scale=[0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="rising"):
        normalised_mr(HEAD, INSIDE, scale=np.linspace(1, 0, len(LANDMARKS)))
    with pytest.raises(ValueError, match="mask"):
        mr_percentiles(HEAD, np.zeros(HEAD.shape, np.bool_))
    with pytest.raises(ValueError, match="landmarks"):
        learn_scale([])


def test_a_window_is_black_at_its_lower_and_white_at_its_upper_end() -> None:
    centre, width = CT_WINDOWS["lung"]
    values = np.array([-3000, -1350, -975, -600, 150, 3000], np.float32)
    np.testing.assert_allclose(window(values, centre, width), [0, 0, 0.25, 0.5, 1, 1], atol=1e-6)
    assert window(values, centre, width).dtype == np.float32


def test_a_window_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        window(HEAD, 0.0, 0.0)
