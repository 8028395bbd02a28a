"""The inside of a phantom's skull, its mirror plane, and grids of averaged blocks."""

from pathlib import Path

import numpy as np
import pytest

from node.dicom.stack import stack
from node.domain.volume import Volume, voxel_volume_ml
from node.imaging.blocks import average_blocks, distance_in_slices_mm, repeat_blocks, smooth_within
from node.imaging.midline import find_midline
from node.imaging.skull import BONE_HU, find_skull
from tests.phantoms_head import FLOOR_MM, SKULL_MM, TABLE_MM, ct_head
from tests.phantoms_mr import as_series


def head(folder: Path, **options: float) -> Volume:
    return stack(as_series(ct_head(folder, **options)))  # type: ignore[arg-type]


def inside_ml() -> float:
    """The ellipsoid of the inner table above the floor."""
    a, b, c = (half - TABLE_MM for half in SKULL_MM)
    reach = (c - FLOOR_MM) / c
    return float(np.pi * a * b * c * (reach**2 - reach**3 / 3.0)) / 1000.0


def test_the_inside_of_a_skull_with_a_hole_in_its_floor_has_the_volume_of_the_phantom(tmp_path: Path) -> None:
    volume = head(tmp_path)
    skull = find_skull(volume)
    assert skull is not None
    assert (skull.closed_share, skull.is_open_at_top) == (1.0, False)
    found_ml = float((skull.inside(volume) & (volume.array < BONE_HU)).sum()) * voxel_volume_ml(volume.affine)
    assert found_ml == pytest.approx(inside_ml(), rel=0.07)  # the corner between wall and floor is rounded off


@pytest.mark.parametrize("turn_deg", [0.0, 14.0])
def test_the_mirror_plane_turns_with_the_head_and_not_with_its_midline(turn_deg: float, tmp_path: Path) -> None:
    skull = find_skull(head(tmp_path, turn_deg=turn_deg, shift_mm=10.0))
    assert skull is not None
    plane = skull.mirror_plane()
    assert np.degrees(np.arctan2(plane.normal[1], plane.normal[0])) == pytest.approx(turn_deg, abs=1.0)
    assert plane.place_mm == pytest.approx(0.0, abs=1.0)
    assert plane.residual_mm < 0.5
    assert plane.left_of_mm(np.array([60.0, 0.0, 0.0])) > 0


def test_the_midline_lies_where_the_phantom_has_it_and_its_outline_on_the_slice(tmp_path: Path) -> None:
    volume = head(tmp_path, shift_mm=-9.0)
    skull = find_skull(volume)
    assert skull is not None
    soft = skull.inside(volume) & (volume.array < BONE_HU)
    midline = find_midline(volume, skull, skull.mirror_plane(), smooth_within(volume, soft, 1.2), soft)
    assert midline is not None
    assert midline.shift_mm == pytest.approx(-9.0, abs=1.0)
    index, corners = midline.outline_on(volume)
    assert 0 <= index < len(volume.array)
    assert corners.min() >= -0.5
    assert np.ptp(corners[:, 1]) * volume.spacing_mm[2] == pytest.approx(10.0, abs=1.5)


def test_a_stack_without_bone_has_no_skull(tmp_path: Path) -> None:
    volume = head(tmp_path)
    assert (
        find_skull(Volume(np.minimum(volume.array, 100.0), volume.affine, "HU", volume.sop_instance_uids, "")) is None
    )


def test_averaged_blocks_stay_in_their_place_and_go_back_exactly() -> None:
    array = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    affine = np.array([[0, 0, 0.5, 1], [0, 0.7, 0, 2], [1.5, 0, 0, 3], [0, 0, 0, 1.0]])
    volume = Volume(array, affine, "HU", tuple("abcde"), "1")
    small = average_blocks(volume, (2, 3, 2))
    assert small.array.shape == (2, 2, 3)
    assert small.array[0, 0, 0] == pytest.approx(array[:2, :3, :2].mean())
    assert small.affine @ (0, 0, 0, 1) == pytest.approx(affine @ (0.5, 1.0, 0.5, 1))
    assert small.sop_instance_uids == ("a", "c")
    large = repeat_blocks(small.array, (2, 3, 2), array.shape)
    assert large.shape == array.shape
    assert (large[2:4, 3:6, 4:6] == small.array[1, 1, 2]).all()
    assert (large[4] == 0).all()  # cut


def test_smoothing_within_a_mask_lets_nothing_shine_in_and_distances_stay_in_their_slice() -> None:
    array = np.full((3, 20, 20), 1000.0, np.float32)
    array[:, 5:15, 5:15] = 40.0
    volume = Volume(array, np.eye(4), "HU", ("a", "b", "c"), "1")
    assert smooth_within(volume, array < 100, 2.0)[:, 5:15, 5:15] == pytest.approx(40.0, abs=1e-3)
    mask = np.zeros((3, 20, 20), np.bool_)
    mask[1, 4, 4] = True
    distance = distance_in_slices_mm(mask, (5.0, 0.5, 2.0))
    assert distance[1, 6, 4] == pytest.approx(1.0)
    assert distance[1, 4, 6] == pytest.approx(4.0)
    assert distance[0].min() > 100
