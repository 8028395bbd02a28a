"""Stacks whose slices are not at right angles to the way they are stacked: CT of the head with a tilted gantry.

The affine of such a Volume is true, but its voxels are slanted, so that distances between slices, cross-sections
and anything that counts voxels as boxes go wrong. Volumes in ml do not: a slanted voxel holds as much.
"""

import numpy as np

from node.domain.volume import Volume
from node.errors import GeometryError
from node.imaging.grids import Grid, resample_to, to_index, to_mm

__all__ = ["slice_distance_mm", "straightened", "tilt_degrees"]

MOST_DEGREES = 45.0  # no gantry tilts further than 30
STRAIGHT_DEGREES = 0.05


def tilt_degrees(volume: Volume) -> float:
    """Angle between the way slices are stacked and the normal of their plane; PS3.3 C.8.2.1 Gantry/Detector Tilt."""
    step, normal = volume.affine[:3, 0], _normal(volume)
    return float(np.degrees(np.arccos(np.clip(abs(step @ normal) / np.linalg.norm(step), 0.0, 1.0))))


def slice_distance_mm(volume: Volume) -> float:
    """Distance between the planes of neighbouring slices; `spacing_mm` says more where they are tilted."""
    return float(abs(volume.affine[:3, 0] @ _normal(volume)))


def straightened(volume: Volume) -> Volume:
    """Resample a tilted stack to voxels with right angles; one that is straight is returned as it is.

    Slices stay in their planes and keep their pixel spacing; each is moved within its plane, and the field of view is
    widened so that all of every slice is in it. What no slice covered has the lowest value of the Volume. Slices still
    name their source images, but a pixel of a result on this grid is not that pixel of the image: go back by
    ``mask_on(mask, grid_of(straight), grid_of(tilted))`` before an outline is drawn.

    Raises
    ------
    GeometryError
        If the tilt is 45 degrees or more: those are no slices of one stack.
    """
    degrees = tilt_degrees(volume)
    if degrees <= STRAIGHT_DEGREES:
        return volume
    if degrees >= MOST_DEGREES:
        raise GeometryError(f"expected a tilt below {MOST_DEGREES:.0f} degrees, found {degrees:.1f}")
    normal = _normal(volume)
    upright = volume.affine.copy()
    upright[:3, 0] = normal * float(volume.affine[:3, 0] @ normal)
    slices, rows, columns = volume.array.shape
    corners = np.array(
        [(s, r, c) for s in (0, slices - 1) for r in (0, rows - 1) for c in (0, columns - 1)], np.float64
    )
    reach = to_index(upright, to_mm(volume.affine, corners))
    first = np.floor(reach.min(axis=0) + 1e-6)
    last = np.ceil(reach.max(axis=0) - 1e-6)
    upright[:3, 3] = to_mm(upright, first)
    shape = tuple(int(length) for length in last - first + 1)
    return resample_to(volume, Grid((shape[0], shape[1], shape[2]), upright))


def _normal(volume: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    normal = np.cross(volume.affine[:3, 2], volume.affine[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal), np.float64)
