"""A point in mm stays where it is, whatever grid an image is put on, and masks come back to where they were."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from node.domain.volume import Volume, voxel_volume_ml
from node.imaging.crops import Crop, crop_around, crop_or_pad, crop_to
from node.imaging.grids import Grid, grid_of, mask_on, resample, resample_to, spaced, to_index, to_mm, values_on

Array = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SPACINGS = st.tuples(*[st.floats(0.5, 4)] * 3)
SHAPES = st.tuples(*[st.integers(5, 16)] * 3)
DIRECTION = np.array([0.3, -0.7, 0.5])


def affine_of(angles: Triple, spacing_mm: Triple, origin_mm: Triple = (-40.0, 25.5, 100.0)) -> Array:
    matrix = np.eye(4)
    axes = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) * spacing_mm
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes
    matrix[:3, 3] = origin_mm
    return matrix


def places_mm(grid: Grid) -> Array:
    return to_mm(grid.affine, np.indices(grid.shape).transpose(1, 2, 3, 0))


def slope(grid: Grid) -> npt.NDArray[np.float32]:
    """Values that say where a voxel lies: linear in mm, so that linear interpolation is exact."""
    return (places_mm(grid) @ DIRECTION).astype(np.float32)


def numbered(shape: tuple[int, int, int], affine: Array) -> Volume:
    array = slope(Grid(shape, affine))
    return Volume(array, affine, "HU", tuple(f"1.{n}" for n in range(shape[0])), "2.1", (None,) * shape[0])


@settings(deadline=None, max_examples=60)
@given(ANGLES, SPACINGS, SHAPES, SPACINGS)
def test_resampling_leaves_every_point_in_mm_where_it_was(
    angles: Triple, spacing_mm: Triple, shape: tuple[int, int, int], wanted_mm: Triple
) -> None:
    volume = numbered(shape, affine_of(angles, spacing_mm))
    found = resample(volume, wanted_mm)
    assert found.spacing_mm == pytest.approx(wanted_mm)
    own, other = grid_of(volume), grid_of(found)
    inside = to_index(own.affine, places_mm(other))
    # Away from the border, where smoothing sees what is beyond it, a linear image stays what it is.
    margin = 1.0 + 2.0 * np.maximum(np.array(wanted_mm) / spacing_mm, 1.0)
    is_inner = ((inside >= margin) & (inside <= np.array(shape) - 1 - margin)).all(axis=-1)
    np.testing.assert_allclose(found.array[is_inner], slope(other)[is_inner], atol=0.02 * max(*spacing_mm, *wanted_mm))
    centres = [to_mm(grid.affine, (np.array(grid.shape) - 1) / 2) for grid in (own, other)]
    np.testing.assert_allclose(centres[0], centres[1], atol=1e-6)
    field = [np.array(grid.shape) * grid.spacing_mm for grid in (own, other)]
    assert (np.abs(field[0] - field[1]) <= np.array(wanted_mm) * 0.5 + 1e-6).all() or min(other.shape) == 1


@settings(deadline=None, max_examples=60)
@given(ANGLES, st.tuples(*[st.floats(-0.5, 15.5)] * 3))
def test_index_and_mm_are_inverse(angles: Triple, index: Triple) -> None:
    affine = affine_of(angles, (3.0, 0.7, 1.1))
    np.testing.assert_allclose(to_index(affine, to_mm(affine, index)), index, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(SPACINGS, st.integers(0, 1000))
def test_a_smooth_volume_comes_back_from_a_finer_grid(spacing_mm: Triple, seed: int) -> None:
    affine = affine_of((10.0, 20.0, 30.0), spacing_mm)
    rng = np.random.default_rng(seed)
    phase, turns = rng.uniform(0, 6, 3), rng.uniform(0.2, 0.6, 3)
    i, j, k = np.indices((12, 12, 12))
    values = np.sin(turns[0] * i + phase[0]) + np.sin(turns[1] * j + phase[1]) + np.sin(turns[2] * k + phase[2])
    volume = Volume(values.astype(np.float32), affine, "HU", ("1",) * 12, "2")
    fine = resample(volume, [step / 2.5 for step in spacing_mm])
    back = values_on(fine.array, grid_of(fine), grid_of(volume))
    np.testing.assert_allclose(back[2:-2, 2:-2, 2:-2], volume.array[2:-2, 2:-2, 2:-2], atol=0.2)


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.floats(0.3, 1.0)] * 3), st.tuples(*[st.floats(10, 14)] * 3), st.floats(5, 9))
def test_a_mask_comes_back_from_a_finer_grid_and_keeps_its_volume(finer: Triple, centre: Triple, radius: float) -> None:
    affine = affine_of((0, 0, 0), (2.0, 1.0, 1.0))
    grid = Grid((24, 24, 24), affine)
    away = np.indices(grid.shape).transpose(1, 2, 3, 0) - np.array(centre)
    mask = np.asarray((away**2).sum(axis=-1) <= radius**2, np.bool_)
    fine = spaced(grid, [step * part for step, part in zip(grid.spacing_mm, finer, strict=True)])
    there = mask_on(mask, grid, fine)
    volumes = [part.sum() * voxel_volume_ml(where.affine) for part, where in ((mask, grid), (there, fine))]
    assert volumes[0] == pytest.approx(volumes[1], rel=max(0.06, 0.5 / radius))  # half a voxel of its surface, at most
    back = mask_on(there, fine, grid)
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.97


@pytest.mark.parametrize("factor", [1.0, 1 / 3, 1 / 5])
def test_a_mask_comes_back_exactly_from_a_grid_finer_by_an_odd_number(factor: float) -> None:
    grid = Grid((7, 8, 9), affine_of((5.0, 0.0, 70.0), (2.0, 1.0, 1.5)))
    mask = np.asarray(np.random.default_rng(2).random(grid.shape) > 0.6, np.bool_)
    fine = spaced(grid, [step * factor for step in grid.spacing_mm])
    np.testing.assert_array_equal(
        mask_on(mask, grid, fine)[tuple([slice(round(0.5 / factor - 0.5), None, round(1 / factor))] * 3)], mask
    )


def test_shrinking_averages_and_does_not_flicker() -> None:
    board = np.indices((4, 64, 64)).sum(axis=0) % 2
    volume = Volume(board.astype(np.float32), affine_of((0, 0, 0), (1, 1, 1)), "HU", ("1",) * 4, "2")
    small = resample(volume, (None, 5.0, 5.0))
    assert np.ptp(small.array[:, 1:-1, 1:-1]) < 0.02
    assert small.array.mean() == pytest.approx(0.5, abs=0.02)


def test_what_the_source_does_not_cover_is_filled() -> None:
    volume = numbered((6, 6, 6), affine_of((0, 0, 0), (1, 1, 1)))
    moved = volume.affine.copy()
    moved[:3, 3] += moved[:3, 1] * 3
    found = resample_to(volume, Grid((6, 6, 6), moved), fill=-1234.0)
    assert (found.array[:, 3:] == -1234).all()
    assert (found.array[:, :3] > -1000).all()
    assert resample_to(volume, Grid((6, 6, 6), moved)).array[0, 5, 0] == volume.array.min()


def test_slices_name_the_nearest_source_and_oblique_ones_name_none() -> None:
    volume = numbered((6, 5, 5), affine_of((0, 0, 0), (3, 1, 1)))
    fine = resample(volume, (1.0, None, None))
    assert fine.sop_instance_uids[0] == "1.0"
    assert [fine.sop_instance_uids[index] for index in (1, 4, 7)] == ["1.0", "1.1", "1.2"]
    assert len(fine.sop_instance_uids) == len(fine.frame_numbers) == len(fine.array) == 18
    assert resample_to(volume, Grid((5, 5, 5), affine_of((90, 0, 0), (1, 1, 1)))).sop_instance_uids == ()


def test_the_same_grid_gives_the_same_values_to_the_bit() -> None:
    volume = numbered((6, 5, 4), affine_of((11, 22, 33), (3, 0.7, 1.1)))
    np.testing.assert_array_equal(resample(volume, (None, None, None)).array, volume.array)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0), (1e-5, 1e-5, 1e-5)])
def test_an_impossible_spacing_is_refused(spacing: Triple) -> None:
    with pytest.raises(ValueError, match="expected"):
        resample(numbered((6, 5, 4), affine_of((0, 0, 0), (1, 1, 1))), spacing)


@settings(deadline=None, max_examples=100)
@given(SHAPES, st.tuples(*[st.integers(1, 25)] * 3), st.tuples(*[st.floats(-5, 20)] * 3))
def test_cropping_leaves_every_point_in_mm_where_it_was_and_is_undone(
    shape: tuple[int, int, int], size: tuple[int, int, int], centre: Triple
) -> None:
    volume = numbered(shape, affine_of((13.0, -40.0, 77.0), (3.0, 0.7, 1.1)))
    found, crop = crop_or_pad(volume, size, centre=centre, fill=np.nan)
    assert found.array.shape == size
    is_kept = ~np.isnan(found.array)
    np.testing.assert_allclose(found.array[is_kept], slope(grid_of(found))[is_kept], atol=1e-3)
    assert len(found.sop_instance_uids) == size[0]
    back = crop.undo(found.array, np.nan)
    is_back = ~np.isnan(back)
    assert is_back.sum() == is_kept.sum()
    np.testing.assert_array_equal(back[is_back], volume.array[is_back])


@given(SHAPES, st.tuples(*[st.integers(0, 9)] * 3))
def test_padding_and_cropping_back_is_the_identity(shape: tuple[int, int, int], more: tuple[int, int, int]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    crop = crop_to(shape, [side + extra for side, extra in zip(shape, more, strict=True)])
    np.testing.assert_array_equal(crop.undo(crop.apply(array, -1)), array)


def test_the_box_around_a_mask_has_its_margin_and_ends_at_the_border() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[1:4, 8:12] = True
    assert crop_around(mask, 3) == Crop((10, 20), (0, 5), (7, 10))
    assert crop_around(mask, (0, 1)).apply(mask).sum() == mask.sum()
    with pytest.raises(ValueError, match="at least one"):
        crop_around(np.zeros((3, 3), np.bool_))


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        crop_to((4, 4), (2, 2)).apply(np.zeros((5, 4)))
    grid = Grid((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match="shape"):
        values_on(np.zeros((3, 2, 2), np.float32), grid, grid)
