"""Parts of a mask have their volume in ml, their place in mm and the axes a radiologist would draw."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.imaging.components import find_components, largest_component, measure_axes

Mask = npt.NDArray[np.bool_]
AFFINE = np.array([[0, 0, 0.7, -40], [0, 0.7, 0, 25.5], [2.0, 0, 0, 100], [0, 0, 0, 1]], np.float64)


def ellipse(centre: tuple[float, float], long: float, short: float, angle: float) -> Mask:
    rows, columns = np.ogrid[:64, :64]
    down, right = rows - centre[0], columns - centre[1]
    along, across = down * np.cos(angle) + right * np.sin(angle), right * np.cos(angle) - down * np.sin(angle)
    return np.asarray((2 * along / long) ** 2 + (2 * across / short) ** 2 <= 1, np.bool_)


@settings(deadline=None, max_examples=150)
@given(st.tuples(st.floats(31, 32), st.floats(31, 32)), st.floats(5, 45), st.floats(0.6, 1), st.floats(0, np.pi))
def test_axes_of_an_ellipse_are_right_to_a_pixel_and_a_half(
    centre: tuple[float, float], long: float, ratio: float, angle: float
) -> None:
    axes = measure_axes(ellipse(centre, long, ratio * long, angle), (1.0, 1.0))
    assert axes.long_mm == pytest.approx(long, abs=1.5)
    assert axes.short_mm == pytest.approx(ratio * long, abs=1.5)
    assert axes.short_mm <= axes.long_mm + 1e-6


@pytest.mark.parametrize(("long", "within"), [(4.0, 0.5), (6.0, 0.35), (10.0, 0.35), (20.0, 0.35), (40.0, 0.35)])
def test_axes_of_ellipses_are_right_to_a_third_of_a_pixel_on_average(long: float, within: float) -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(60):
        centre, ratio = rng.uniform(31, 32, 2), rng.uniform(0.6, 1)
        axes = measure_axes(ellipse((centre[0], centre[1]), long, ratio * long, rng.uniform(0, np.pi)), (1.0, 1.0))
        errors.append((axes.long_mm - long, axes.short_mm - ratio * long))
    assert np.abs(np.mean(errors, axis=0)).max() < within


def test_axes_know_that_rows_and_columns_have_their_own_spacing() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[10:30, 18:22] = True  # 20 rows of 2 mm, 4 columns of 0.5 mm
    axes = measure_axes(mask, (2.0, 0.5))
    assert axes.long_mm == pytest.approx(40, abs=1.0)
    assert axes.short_mm == pytest.approx(2, abs=0.5)


def test_ends_of_axes_lie_on_the_outline_in_scoord_coordinates() -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[5, 10:20] = True
    axes = measure_axes(mask, (1.0, 1.0))
    (left, right), (top, bottom) = sorted(axes.long_ends), sorted(axes.short_ends)
    assert left == pytest.approx((10.2, 5.5))
    assert right == pytest.approx((19.8, 5.5))
    assert top[0] == pytest.approx(bottom[0])
    assert abs(top[1] - bottom[1]) == pytest.approx(0.6)


def test_long_and_short_axis_are_at_right_angles() -> None:
    axes = measure_axes(ellipse((31.4, 31.7), 30, 17, 0.6), (1.0, 1.0))
    (a, b), (c, d) = (np.array(ends) for ends in (axes.long_ends, axes.short_ends))
    assert abs((b - a) @ (d - c)) < 1e-6 * 500
    assert axes.mean_mm == pytest.approx(23.5, abs=0.5)


def test_a_component_has_the_volume_and_place_of_its_ball() -> None:
    mask = np.zeros((40, 60, 60), np.bool_)
    z, y, x = np.ogrid[:40, :60, :60]
    mask |= ((z - 20) * 2.0) ** 2 + ((y - 30) * 0.7) ** 2 + ((x - 25) * 0.7) ** 2 <= 10**2
    mask[2, 3, 4] = True
    ball, dot = find_components(mask, AFFINE)
    assert ball.volume_ml == pytest.approx(4 / 3 * np.pi, rel=0.02)
    assert ball.equivalent_diameter_mm == pytest.approx(20, rel=0.01)
    assert ball.centre == pytest.approx((20, 30, 25), abs=0.01)
    assert ball.centre_mm == pytest.approx((-40 + 25 * 0.7, 25.5 + 30 * 0.7, 140), abs=0.02)
    assert (ball.slice_index, ball.axes.long_mm) == (20, pytest.approx(20, abs=0.7))
    middle = np.mean(ball.axes.long_ends, axis=0)
    assert middle == pytest.approx((25.5, 30.5), abs=0.6)
    np.testing.assert_array_equal(ball.mask(mask.shape) | dot.mask(mask.shape), mask)
    assert dot.voxel_count == 1
    assert dot.volume_ml == pytest.approx(0.7 * 0.7 * 2 / 1000)


def test_components_come_largest_first_without_those_too_small_and_no_more_than_asked() -> None:
    mask = np.zeros((4, 30, 30), np.bool_)
    for number, side in enumerate((1, 4, 2, 3)):
        mask[1, 1 : 1 + side, 7 * number : 7 * number + side] = True
    assert [part.voxel_count for part in find_components(mask, AFFINE)] == [16, 9, 4, 1]
    assert [part.voxel_count for part in find_components(mask, AFFINE, least_ml=0.003)] == [16, 9, 4]
    assert [part.voxel_count for part in find_components(mask, AFFINE, most=1)] == [16]
    assert find_components(np.zeros_like(mask), AFFINE) == ()


def test_corners_connect_only_when_they_may() -> None:
    mask = np.zeros((2, 2, 2), np.bool_)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert len(find_components(mask, AFFINE)) == 1
    assert len(find_components(mask, AFFINE, is_corner_connected=False)) == 2


def test_the_largest_part_is_kept_alone_and_nothing_stays_nothing() -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[1:3, 1:3] = mask[5:9, 5:9] = True
    assert largest_component(mask).sum() == 16
    assert not largest_component(np.zeros((3, 4, 5), np.bool_)).any()


def test_axes_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        measure_axes(np.zeros((5, 5), np.bool_), (1.0, 1.0))
