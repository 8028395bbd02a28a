"""The gate says what is wrong with an image and lets good ones through."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from node.domain.volume import Image, Volume
from node.errors import NotEvaluableError
from node.imaging.quality import Demands, border_shares, noise_per_contrast, quality, require_quality
from node.imaging.tissue import body_mask, tissue_mask

Array = npt.NDArray[np.float32]


def scene(noise: float = 0.01, shape: tuple[int, int] = (256, 200)) -> Array:
    """A bright body with organs of several sizes in it, contrast about 1."""
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = ((rows / 0.8) ** 2 + (columns / 0.7) ** 2 < 1).astype(float) * 0.5
    for _ in range(12):
        r, c, size = rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.4), rng.uniform(0.05, 0.2)
        body += (np.hypot(rows - r, columns - c) < size) * rng.uniform(-0.2, 0.4)
    blurred = ndimage.gaussian_filter(body, 1.0)
    return (blurred + rng.normal(0, noise, shape)).astype(np.float32)


def image(array: Array, spacing_mm: tuple[float, float] | None = None) -> Image:
    return Image(array, array, spacing_mm, "1.2")


def keys(shown: Image | Volume, demands: Demands | None = None) -> list[str]:
    return [reason.key for reason in quality(shown, demands)]


def test_a_good_image_passes() -> None:
    assert quality(image(scene())) == ()
    require_quality(image(scene()))


@pytest.mark.parametrize("value", [0.0, -1024.0, np.nan])
def test_a_blank_image_is_blank_and_nothing_else(value: float) -> None:
    assert keys(image(np.full((300, 300), value, np.float32))) == ["blank"]


def test_an_image_with_values_that_are_no_numbers_is_refused() -> None:
    broken = scene()
    broken[10, 10] = np.inf
    assert keys(image(broken)) == ["blank"]


def test_pure_noise_is_noise_at_any_scale() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (300, 300))
    for gain, offset in ((1, 0), (1000, -5000), (1e-3, 7)):
        assert "noise" in keys(image((noise * gain + offset).astype(np.float32)))


@settings(deadline=None, max_examples=15)
@given(st.floats(0.005, 0.3))
def test_the_noise_that_was_added_is_measured(noise: float) -> None:
    array = scene(noise)
    low, high = np.percentile(array, (1, 99))
    assert noise_per_contrast(array) == pytest.approx(noise / (high - low), rel=0.3, abs=0.01)


def test_a_picture_cut_off_at_white_is_saturated_and_black_air_is_not() -> None:
    array = scene()
    assert keys(image(np.minimum(array, np.float32(np.percentile(array, 60))))) == ["saturated"]
    assert quality(image(np.maximum(array, 0.1).astype(np.float32))) == ()


def test_too_few_grey_levels_are_named_with_their_number() -> None:
    (reason,) = quality(image(np.round(scene() * 8).astype(np.float32)), Demands(most_noise=None))
    assert reason.key == "few_grey_levels"
    assert "at least 32" in reason.sentence


def test_a_small_image_is_too_small() -> None:
    assert "too_small" in keys(image(scene()[:40]))


def test_the_field_of_view_is_judged_only_where_millimetres_are_real() -> None:
    demands = Demands(least_field_mm=(250.0, 200.0), most_field_mm=(500.0, 500.0))
    assert keys(image(scene(), (0.5, 0.5)), demands) == ["field_of_view"]
    assert keys(image(scene(), (3.0, 3.0)), demands) == ["field_of_view"]
    assert keys(image(scene(), (1.0, 1.0)), demands) == []
    assert keys(image(scene()), demands) == []


def test_tissue_on_the_border_is_cut_off_where_the_whole_organ_is_needed() -> None:
    demands = Demands(most_on_border=0.3)
    assert keys(image(scene()), demands) == []
    assert keys(image(scene()[:, 60:]), demands) == ["cut_off"]
    assert keys(image(scene()[:, 60:])) == []
    np.testing.assert_allclose(border_shares(np.eye(4, dtype=np.bool_)), 0.25)


def thorax(unit: str = "HU") -> Volume:
    values = np.full((6, 120, 120), -1000.0, np.float32)
    z, y, x = np.ogrid[:6, :120, :120]
    body = (y - 60) ** 2 / 45**2 + (x - 60) ** 2 / 55**2 + 0 * z < 1
    values[body] = 40
    for side in (38, 82):
        values[((y - 60) ** 2 / 28**2 + (x - side) ** 2 / 17**2 + 0 * z < 1)] = -860
    values[:, 112:114, 20:100] = 150  # the table
    values += np.random.default_rng(1).normal(0, 12, values.shape).astype(np.float32)
    affine = np.array([[0, 0, 3.0, 0], [0, 3.0, 0, 0], [5, 0, 0, 0], [0, 0, 0, 1]], np.float64)
    return Volume(values, affine, unit, tuple("123456"), "1")


def test_values_that_are_no_hu_are_refused() -> None:
    demands = Demands(is_hu=True)
    good = thorax()
    assert keys(good, demands) == []
    assert keys(thorax("arbitrary"), demands) == ["not_hu"]
    assert keys(replace(good, array=good.array + 1024), demands) == ["not_hu"]  # Rescale Intercept was lost
    assert keys(replace(good, array=good.array * 10 + 20000), demands) == ["not_hu"]
    assert keys(replace(good, array=np.where(good.array > -500, good.array + 900, good.array)), demands) == ["not_hu"]


def test_the_first_reason_is_the_key_and_all_are_said() -> None:
    with pytest.raises(NotEvaluableError, match=r"grey levels.*no HU") as refused:
        require_quality(
            replace(thorax(), array=np.round(thorax().array / 500).astype(np.float32) * 500 + 5000),
            Demands(is_hu=True, most_noise=None, most_saturated=None),
        )
    assert refused.value.key == "few_grey_levels"


def test_the_body_on_ct_holds_its_lungs_and_not_the_table() -> None:
    volume = thorax()
    mask = body_mask(volume)
    y, x = np.ogrid[:120, :120]
    truth = (y - 60) ** 2 / 45**2 + (x - 60) ** 2 / 55**2 < 1
    assert not mask[:, 112:114].any()
    for plane in mask:
        assert 2 * (plane & truth).sum() / (plane.sum() + truth.sum()) > 0.98
    assert not body_mask(replace(volume, array=np.full_like(volume.array, -1000))).any()


def test_tissue_is_where_it_is_and_an_even_image_has_none() -> None:
    array = scene()
    mask = tissue_mask(array)
    rows, columns = np.mgrid[-1:1:256j, -1:1:200j]
    truth = (rows / 0.8) ** 2 + (columns / 0.7) ** 2 < 1
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    assert not tissue_mask(np.ones((5, 5), np.float32)).any()
