"""How well one mask covers another: Dice, Hausdorff distance at 95 %, volume."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Affine, Mask, voxel_volume_ml
from node.evaluate.records import Overlap

__all__ = ["compare_masks", "dice", "hd95_mm"]


def compare_masks(segment: str, measured: Mask, reference: Mask, affine: Affine) -> Overlap:
    """Compare a mask with the reference on the same grid.

    Parameters
    ----------
    measured, reference
        ``bool[slice, row, column]``.
    affine
        (slice, row, column, 1) of a voxel centre to LPS mm.
    """
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    voxel_ml = voxel_volume_ml(affine)
    return Overlap(
        segment=segment,
        dice=dice(measured, reference),
        hd95_mm=hd95_mm(measured, reference, spacing_mm),
        measured_ml=float(measured.sum()) * voxel_ml,
        reference_ml=float(reference.sum()) * voxel_ml,
    )


def dice(measured: Mask, reference: Mask) -> float | None:
    """Twice the common part over both; None if both masks are empty.

    References
    ----------
    Dice, Ecology 1945;26:297.
    """
    total = int(measured.sum()) + int(reference.sum())
    return 2.0 * int((measured & reference).sum()) / total if total else None


def hd95_mm(measured: Mask, reference: Mask, spacing_mm: npt.NDArray[np.float64]) -> float | None:
    """How far the surfaces are apart, but for the farthest 5 %; None if a mask is empty.

    The larger of the two directed 95th percentiles of the distances between surface voxel centres.

    References
    ----------
    Maier-Hein et al., Nat Methods 2024;21:195 (Metrics reloaded), supplement on HD95.
    """
    if not measured.any() or not reference.any():
        return None
    box = ndimage.find_objects((measured | reference).astype(np.uint8))[0]
    surfaces = [_surface(mask[box]) for mask in (measured, reference)]
    directed = []
    for one, other in (surfaces, surfaces[::-1]):
        distance_mm = ndimage.distance_transform_edt(~other, sampling=spacing_mm)
        directed.append(float(np.percentile(distance_mm[one], 95)))
    return max(directed)


def _surface(mask: Mask) -> Mask:
    """Voxels with a neighbour outside the mask; along an axis of one voxel there are no neighbours."""
    structure = ndimage.generate_binary_structure(mask.ndim, 1)
    for axis, size in enumerate(mask.shape):
        if size == 1:
            structure = np.take(structure, [1], axis=axis)
    padding = [(0, 0) if size == 1 else (1, 1) for size in mask.shape]
    inner = ndimage.binary_erosion(np.pad(mask, padding), structure)
    cut = tuple(slice(None) if size == 1 else slice(1, -1) for size in mask.shape)
    return np.asarray(mask & ~inner[cut], np.bool_)
