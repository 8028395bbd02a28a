"""Coarser grids by averaging whole blocks of voxels, and slice-wise smoothing and distances in mm on them.

An average over a block is what a thicker slice or a larger pixel would have measured, and it takes noise away by the
root of the voxels in it; going back is exact.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Mask, Pixels, Volume

__all__ = ["Blocks", "average_blocks", "distance_in_slices_mm", "repeat_blocks", "smooth_within"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

Blocks = tuple[int, int, int]
"""How many slices, rows and columns are averaged into one."""
FAR_MM = 1e3  # where a slice has nothing to be distant from
LEAST_WEIGHT = 1e-3


def average_blocks(volume: Volume, blocks: Blocks) -> Volume:
    """Average blocks of voxels; what is left over at the far border is cut, a slice names the first of its images."""
    a, b, c = (side // block for side, block in zip(volume.array.shape, blocks, strict=True))
    array = volume.array[: a * blocks[0], : b * blocks[1], : c * blocks[2]]
    array = array.reshape(a, blocks[0], b, blocks[1], c, blocks[2]).mean(axis=(1, 3, 5), dtype=np.float32)
    affine = volume.affine @ np.diag([*blocks, 1.0])
    affine[:3, 3] += volume.affine[:3, :3] @ ((np.array(blocks) - 1) / 2.0)
    uids, frames = volume.sop_instance_uids, volume.frame_numbers
    firsts = slice(0, a * blocks[0], blocks[0])
    return Volume(array, affine, volume.unit, uids[firsts], volume.frame_of_reference_uid, frames[firsts])


def repeat_blocks(array: npt.NDArray[_Scalar], blocks: Blocks, shape: tuple[int, ...]) -> npt.NDArray[_Scalar]:
    """Bring an array from the coarser grid to the source's `shape`; zero in what was cut at the border."""
    whole = np.zeros(shape, array.dtype)
    for axis, block in enumerate(blocks):
        array = array.repeat(block, axis)
    whole[tuple(slice(side) for side in array.shape)] = array
    return whole


def smooth_within(volume: Volume, mask: Mask, sigma_mm: float) -> Pixels:
    """Smooth slice by slice what the mask marks, so that nothing outside shines into it.

    Returns
    -------
    ``float32[slice, row, column]``; far from the mask the values as they are.
    """
    sigma = (0.0, *(sigma_mm / step for step in volume.spacing_mm[1:]))
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    values = ndimage.gaussian_filter(np.where(mask, volume.array, 0.0).astype(np.float32), sigma)
    return np.where(weight > LEAST_WEIGHT, values / np.maximum(weight, LEAST_WEIGHT), volume.array).astype(np.float32)


def distance_in_slices_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> Pixels:
    """Distance of each voxel from the nearest marked one of its own slice; far where the slice has none."""
    found = np.full(mask.shape, FAR_MM, np.float32)
    for plane, marked in zip(found, mask, strict=True):
        if marked.any():
            plane[:] = ndimage.distance_transform_edt(~marked, sampling=spacing_mm[1:])
    return found
