"""Grids in the patient and how values and masks go from one to another, so that a point in mm stays where it is.

The affine of every result is that of its grid: a voxel centre (slice, row, column, 1) to LPS mm (PS3.3 C.7.6.2.1.1).
Values are interpolated linearly. Before a grid gets coarser values are smoothed by what the larger voxel is wider
than the smaller (the variance of a box of width w is w2/12), so that thin things fade and do not flicker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Affine, Mask, Pixels, Volume

__all__ = [
    "Grid",
    "grid_of",
    "mask_on",
    "names_of_nearest",
    "resample",
    "resample_to",
    "spaced",
    "to_index",
    "to_mm",
    "values_on",
]

SAME = 1e-6  # of a voxel: rounding of affines
FIELD_EDGE = 0.5 + 1e-3  # voxels from the outermost centres; what lies further out was not imaged
MOST_VOXELS = 1 << 30  # as node/dicom/stack.py


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of an array lie.

    `shape` is (slices, rows, columns); `affine` maps (slice, row, column, 1) of a voxel centre to LPS mm.
    """

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring slices, rows and columns."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])


def grid_of(volume: Volume) -> Grid:
    """The grid of a Volume."""
    slices, rows, columns = volume.array.shape
    return Grid((slices, rows, columns), volume.affine)


def to_mm(affine: Affine, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Places in the patient, LPS mm, of (slice, row, column); the last axis of `index` holds the three."""
    return np.asarray(np.asarray(index, np.float64) @ affine[:3, :3].T + affine[:3, 3], np.float64)


def to_index(affine: Affine, place_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The inverse of `to_mm`."""
    return np.asarray((np.asarray(place_mm, np.float64) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T, np.float64)


def spaced(grid: Grid, spacing_mm: Sequence[float | None]) -> Grid:
    """The same field of view in the same directions with another spacing.

    Parameters
    ----------
    spacing_mm
        Of slices, rows and columns; None keeps one as it is.

    Returns
    -------
    A grid with exactly this spacing and the centre of `grid`; its field is that of `grid` to half a voxel.
    """
    own = np.array(grid.spacing_mm)
    wanted = np.array([have if want is None else want for have, want in zip(own, spacing_mm, strict=True)], np.float64)
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError("expected spacings above 0")
    shape = np.maximum(np.rint(np.array(grid.shape) * own / wanted), 1).astype(int)
    if float(np.prod(shape.astype(np.float64))) > MOST_VOXELS:
        raise ValueError(f"expected at most {MOST_VOXELS} voxels, a spacing of {tuple(wanted)} mm gives {tuple(shape)}")
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * (wanted / own)
    centre = to_mm(grid.affine, (np.array(grid.shape) - 1) / 2.0)
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2.0)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def resample(volume: Volume, spacing_mm: Sequence[float | None]) -> Volume:
    """Give a Volume another spacing; see `spaced` for the parameters and `values_on` for the interpolation.

    The way back for a mask or a score map is ``mask_on(mask, grid_of(resampled), grid_of(volume))`` and
    ``values_on(...)``. Each slice names the source slice that is nearest to it.
    """
    return resample_to(volume, spaced(grid_of(volume), spacing_mm))


def resample_to(volume: Volume, grid: Grid, *, fill: float | None = None) -> Volume:
    """Put a Volume on another grid in the same patient.

    Parameters
    ----------
    fill
        Value of what the Volume does not cover; None for its lowest value.

    Returns
    -------
    Volume on `grid`. Where the slices of both are parallel each names the source slice nearest to it, else none is
    named: such a Volume is for computing, and results go back to the source before they are shown.
    """
    low = float(volume.array.min()) if fill is None else fill
    array = values_on(volume.array, grid_of(volume), grid, fill=low)
    across = np.linalg.inv(volume.affine) @ grid.affine
    if np.abs(across[0, 1:3]).max() * max(grid.shape) > FIELD_EDGE:
        return replace(volume, array=array, affine=grid.affine, sop_instance_uids=(), frame_numbers=())
    middle = np.array(grid.shape[1:]) // 2
    places = [across[0, :3] @ (index, *middle) + across[0, 3] for index in range(grid.shape[0])]
    uids, frames = names_of_nearest(volume, places)
    return replace(volume, array=array, affine=grid.affine, sop_instance_uids=uids, frame_numbers=frames)


def names_of_nearest(volume: Volume, places: npt.ArrayLike) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """UIDs and frame numbers of the slices nearest to places along the first axis; none if the Volume names none."""
    nearest = np.clip(np.rint(np.asarray(places)), 0, len(volume.array) - 1).astype(int)
    uids, frames = volume.sop_instance_uids, volume.frame_numbers
    return (
        tuple(uids[index] for index in nearest) if uids else (),
        tuple(frames[index] for index in nearest) if frames else (),
    )


def values_on(values: Pixels, own: Grid, other: Grid, *, fill: float = 0.0) -> Pixels:
    """Values of one grid at the places of another.

    Parameters
    ----------
    values
        ``float32[slice, row, column]`` on `own`.
    fill
        Value of what lies outside the field of view of `own`.

    Returns
    -------
    ``float32`` on `other`, interpolated linearly; the values themselves where both grids are the same.
    """
    if values.shape != own.shape:
        raise ValueError(f"expected values of shape {own.shape}, found {values.shape}")
    across = np.linalg.inv(own.affine) @ other.affine
    if own.shape == other.shape and np.abs(across - np.eye(4)).max() * max(own.shape) < SAME:
        return values.copy()
    smooth = _smoothed(values, across)
    matrix, offset = across[:3, :3], across[:3, 3]
    is_parallel = np.abs(matrix - np.diag(np.diag(matrix))).max() * max(other.shape) < SAME
    found = ndimage.affine_transform(
        smooth,
        np.diag(matrix).copy() if is_parallel else matrix,
        offset,
        output_shape=other.shape,
        output=np.float32,
        order=1,
        mode="nearest",
    )
    _fill_outside(found, across, own.shape, fill)
    return np.asarray(found, np.float32)


def mask_on(mask: Mask, own: Grid, other: Grid) -> Mask:
    """A mask of one grid on another: True where at least half of the interpolated mask is.

    Its volume in ml stays as the grids allow; a part thinner than a voxel of `other` may vanish.
    """
    return np.asarray(values_on(mask.astype(np.float32), own, other) >= 0.5, np.bool_)


def _smoothed(values: Pixels, across: npt.NDArray[np.float64]) -> Pixels:
    """Smooth along each axis along which the other grid's voxels are wider."""
    ratios = np.abs(across[:3, :3]).max(axis=1)
    sigmas = np.sqrt(np.maximum(ratios**2 - 1.0, 0.0) / 12.0)
    if sigmas.max() < 0.05:
        return values
    return np.asarray(ndimage.gaussian_filter(values, sigmas, mode="nearest"), np.float32)


def _fill_outside(found: Pixels, across: npt.NDArray[np.float64], shape: Sequence[int], fill: float) -> None:
    """Fill, in place and slice by slice, what lies outside the field of view of the source."""
    rows = np.arange(found.shape[1])[:, None]
    columns = np.arange(found.shape[2])[None, :]
    for index, plane in enumerate(found):
        outside = np.zeros(plane.shape, np.bool_)
        for axis, side in enumerate(shape):
            step = across[axis]
            place = step[0] * index + step[1] * rows + step[2] * columns + step[3]
            outside |= (place < -FIELD_EDGE) | (place > side - 1 + FIELD_EDGE)
        plane[outside] = fill
