"""Spots are found where they are, as large as they are, and as contrasty; slopes and vessels are none."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.imaging.blobs import blob_map, find_blobs

Array = npt.NDArray[np.float32]
SIZES_MM = np.geomspace(4.0, 32.0, 9)


def distance_mm(shape: tuple[int, ...], spacing_mm: tuple[float, ...], centre: tuple[float, ...]) -> Array:
    axes = [(np.arange(side) - at) * step for side, at, step in zip(shape, centre, spacing_mm, strict=True)]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))).astype(np.float32)


def ball(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    centre: tuple[float, ...],
    diameter_mm: float,
    contrast: float,
) -> Array:
    edge = float(np.mean(spacing_mm))
    away = distance_mm(shape, spacing_mm, centre)
    return (contrast * np.clip((diameter_mm / 2 - away) / edge + 0.5, 0, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("spacing_mm", "diameter_mm"),
    [((1.0, 1.0, 1.0), 8.0), ((1.0, 1.0, 1.0), 25.0), ((2.5, 0.7, 0.7), 9.0), ((5.0, 0.6, 0.6), 14.0)],
)
def test_a_ball_is_found_at_its_place_with_its_size_and_contrast(
    spacing_mm: tuple[float, float, float], diameter_mm: float
) -> None:
    shape = tuple(int(70 / step) for step in spacing_mm)
    centre = tuple(side / 2 + 0.3 for side in shape)
    array = ball(shape, spacing_mm, centre, diameter_mm, 900.0) - np.float32(850)
    first = find_blobs(array, spacing_mm, SIZES_MM, least_response=400.0)[0]
    away_mm = (np.array(first.index) - centre) * spacing_mm
    assert np.linalg.norm(away_mm) < 0.15 * max(spacing_mm)
    assert first.diameter_mm == pytest.approx(diameter_mm, rel=0.1)
    assert first.response == pytest.approx(900, rel=0.2)
    assert first.roundness > 0.8


@pytest.mark.parametrize("diameter", [7.0, 12.5, 30.0])
def test_a_disc_in_two_dimensions_likewise(diameter: float) -> None:
    disc = ball((90, 90), (1.0, 1.0), (44.2, 45.6), diameter, 1.0)
    first = find_blobs(disc, (1.0, 1.0), np.geomspace(4, 40, 10), least_response=0.5)[0]
    assert first.index == pytest.approx((44.2, 45.6), abs=0.1)
    assert first.diameter_mm == pytest.approx(diameter, rel=0.1)
    assert first.response == pytest.approx(1, rel=0.08)


def test_the_same_ball_answers_alike_on_any_grid() -> None:
    found = [
        find_blobs(ball(shape, spacing, centre, 12.0, 100.0), spacing, SIZES_MM, least_response=30.0)[0]
        for shape, spacing, centre in (
            ((60, 60, 60), (1.0, 1.0, 1.0), (30.0, 30.0, 30.0)),
            ((30, 80, 60), (2.0, 0.75, 1.0), (15.0, 40.0, 30.0)),
        )
    ]
    assert found[0].response == pytest.approx(found[1].response, rel=0.05)
    assert found[0].diameter_mm == pytest.approx(found[1].diameter_mm, rel=0.05)


@settings(deadline=None, max_examples=20)
@given(st.floats(-1000, 3000), st.tuples(*[st.floats(-20, 20)] * 3), st.tuples(*[st.floats(0.4, 5)] * 3))
def test_an_even_or_evenly_sloping_region_answers_nothing(
    level: float, slope: tuple[float, ...], spacing_mm: tuple[float, ...]
) -> None:
    grid = np.indices((24, 24, 24)).transpose(1, 2, 3, 0) @ np.array(slope)
    answer, _ = blob_map((level + grid).astype(np.float32), spacing_mm, [3.0, 4.0])
    inner = answer[10:14, 10:14, 10:14]
    assert inner.max() < 1e-3 * (abs(level) + 20 * np.abs(slope).max() + 1)


def test_a_vessel_is_not_round_and_a_ball_beside_it_is() -> None:
    shape, spacing_mm = (50, 50, 50), (1.0, 1.0, 1.0)
    rows, columns = np.ogrid[:50, :50]
    tube = np.broadcast_to(np.hypot(rows - 12, columns - 25) <= 3, shape).astype(np.float32)
    array = np.maximum(tube, ball(shape, spacing_mm, (25, 36, 25), 8.0, 1.0))
    every = find_blobs(array, spacing_mm, [5.0, 7.0, 9.0], least_response=0.3)
    round_ones = find_blobs(array, spacing_mm, [5.0, 7.0, 9.0], least_response=0.3, least_roundness=0.5)
    assert len(every) > len(round_ones) == 1
    assert round_ones[0].index == pytest.approx((25, 36, 25), abs=0.3)


def test_dark_spots_are_found_only_when_asked_for() -> None:
    array = -ball((40, 40), (1.0, 1.0), (20, 20), 8.0, 1.0)
    assert not list(find_blobs(array, (1, 1), [6.0, 8.0], least_response=0.5))
    assert find_blobs(array, (1, 1), [6.0, 8.0], least_response=0.5, is_bright=False)[0].index == pytest.approx(
        (20, 20)
    )


def test_centres_outside_the_mask_are_left_out_and_what_lies_there_still_counts() -> None:
    array = ball((40, 80), (1.0, 1.0), (20, 20), 8.0, 1.0) + ball((40, 80), (1.0, 1.0), (20, 60), 8.0, 2.0)
    mask = np.zeros(array.shape, np.bool_)
    mask[:, :40] = True
    (only,) = find_blobs(array, (1.0, 1.0), [6.0, 8.0], least_response=0.5, mask=mask)
    assert only.index == pytest.approx((20, 20), abs=0.1)
    answer, _ = blob_map(array, (1.0, 1.0), [6.0, 8.0], mask=mask)
    assert answer[20, 60] == 0 < answer[20, 20]


def test_one_spot_is_reported_once_and_no_more_than_asked() -> None:
    rng = np.random.default_rng(3)
    array = sum(ball((100, 100), (1.0, 1.0), (20 * r + 10, 20 * c + 10), 8.0, 1.0) for r in range(5) for c in range(5))
    array = np.asarray(array, np.float32) + rng.normal(0, 0.02, (100, 100)).astype(np.float32)
    assert len(find_blobs(array, (1.0, 1.0), [5.0, 7.0, 9.0, 12.0], least_response=0.5)) == 25
    assert len(find_blobs(array, (1.0, 1.0), [5.0, 7.0, 9.0, 12.0], least_response=0.5, most=7)) == 7


def test_the_map_has_the_array_s_shape_and_names_the_size_that_answered() -> None:
    array = ball((41, 53, 47), (1.0, 1.0, 1.0), (20, 26, 23), 24.0, 1.0)
    answer, which = blob_map(array, (1.0, 1.0, 1.0), SIZES_MM)
    assert answer.shape == which.shape == array.shape
    assert np.unravel_index(int(answer.argmax()), answer.shape) == pytest.approx((20, 26, 23), abs=1)
    assert SIZES_MM[which[20, 26, 23]] == pytest.approx(24, rel=0.2)


@pytest.mark.parametrize("sizes", [[], [0.0, 3.0], [4.0, 3.0], [3.0, 3.0]])
def test_sizes_that_do_not_rise_are_refused(sizes: list[float]) -> None:
    with pytest.raises(ValueError, match="rise"):
        find_blobs(np.zeros((20, 20), np.float32), (1.0, 1.0), sizes, least_response=1.0)
