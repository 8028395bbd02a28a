"""A tilted stack is straightened without moving a point of the patient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.domain.volume import Volume, voxel_volume_ml
from node.errors import GeometryError
from node.imaging.grids import grid_of, mask_on, to_mm
from node.imaging.tilt import slice_distance_mm, straightened, tilt_degrees

SHAPE = (16, 40, 40)
BALL_MM = np.array([20.0, 24.0, 24.0])  # centre in x, y, z


def tilted(degrees: float) -> Volume:
    """A ball of 18 mm in a stack of 3 mm slices whose gantry was tilted."""
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]], np.float64)
    affine[1, 0] = 3.0 * np.tan(np.radians(degrees))
    places = to_mm(affine, np.indices(SHAPE).transpose(1, 2, 3, 0))
    centre = BALL_MM + np.array([0, affine[1, 0] * 8, 0])
    inside = np.clip(9.5 - np.linalg.norm(places - centre, axis=-1), 0, 1)
    array = (inside * 1100 - 1000).astype(np.float32)
    return Volume(array, affine, "HU", tuple(f"1.{n}" for n in range(16)), "2")


@settings(deadline=None, max_examples=20)
@given(st.floats(-30, 30))
def test_a_ball_in_a_tilted_stack_keeps_its_place_and_volume(degrees: float) -> None:
    volume = tilted(degrees)
    found = straightened(volume)
    assert tilt_degrees(volume) == pytest.approx(abs(degrees), abs=1e-3)
    assert slice_distance_mm(volume) == pytest.approx(3)
    assert tilt_degrees(found) < 0.06
    if abs(degrees) > 0.06:
        assert found.spacing_mm == pytest.approx((3, 1, 1))
    assert found.array.min() == -1000
    centres, volumes_ml = [], []
    for each in (volume, found):
        weights = (each.array + 1000) / 1100  # a ball is where its mass is
        places = to_mm(each.affine, np.indices(each.array.shape).transpose(1, 2, 3, 0))
        centres.append((weights[..., None] * places).sum(axis=(0, 1, 2)) / weights.sum())
        volumes_ml.append(weights.sum() * voxel_volume_ml(each.affine))
    np.testing.assert_allclose(centres[0], centres[1], atol=0.05)
    assert volumes_ml[0] == pytest.approx(volumes_ml[1], rel=0.01)
    assert len(found.sop_instance_uids) == 16


def test_nothing_is_cut_off_and_a_mask_finds_its_way_back() -> None:
    volume = tilted(20.0)
    found = straightened(volume)
    assert found.array.shape[1] > volume.array.shape[1]
    mask = found.array > -450
    back = mask_on(mask, grid_of(found), grid_of(volume))
    truth = volume.array > -450
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.97


def test_a_straight_stack_is_left_as_it_is() -> None:
    volume = tilted(0.0)
    assert straightened(volume) is volume


def test_slices_at_half_a_right_angle_are_no_tilted_stack() -> None:
    with pytest.raises(GeometryError, match="tilt below 45"):
        straightened(tilted(50.0))
