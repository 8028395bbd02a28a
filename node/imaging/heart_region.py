"""Where the heart lies on a CT without contrast, by rule: soft tissue between the lungs, in front of the spine.

The coronary arteries are inside it, and so are the aortic root, parts of the aorta, the valves and the pericardium.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from node.domain.volume import Mask, Pixels, Volume
from node.imaging.components import largest_component

__all__ = ["HeartRegion", "find_heart_region"]

LUNG_HU = (-980.0, -500.0)
TISSUE_HU = -250.0  # above lung and its border; fat around the heart belongs to it
BONE_HU = 130.0
LEAST_BONE_MM3 = 4000.0  # connected; the calcium of all coronary arteries together is rarely above 2000
BONE_MARGIN_MM = 5.0
SPINE_BEHIND = 0.5  # of the field from front to back: the spine lies in the rear half
LEAST_LUNG_ML = 20.0  # of one part; smaller ones are air elsewhere
LEAST_AREA_MM2 = 4500.0  # on a slice; great vessels above the heart have 2500 to 4000, the heart 6000 to 14000
PADDING_SHARE = 0.98  # of one value: air has noise
CORE_MM = 12.0  # depth at which neither fat nor lung is averaged in


@dataclass(frozen=True, slots=True, eq=False)
class HeartRegion:
    """The region on the grid of its Volume.

    Parameters
    ----------
    mask
        The region, bone and its margin left out.
    core
        What lies deep inside: blood and muscle.
    height_mm
        Of the slices that have it.
    """

    mask: Mask
    core: Mask
    height_mm: float


def find_heart_region(volume: Volume) -> HeartRegion | None:
    """Find the region; None if no slice has lung on both sides of enough soft tissue.

    Parameters
    ----------
    volume
        ``float32[slice, row, column]`` in HU, axial. The field of view may be cut to the heart.
    """
    lung = _lung(volume)
    between = _between(lung, axis=2) & (volume.array > TISSUE_HU)
    bone = _bone(volume)
    region = between & ~_behind_spine(volume, bone)
    pixel_mm2 = volume.spacing_mm[1] * volume.spacing_mm[2]
    areas = region.sum(axis=(1, 2)) * pixel_mm2
    region[areas < LEAST_AREA_MM2] = False
    region = largest_component(region)
    slices = np.flatnonzero(region.any(axis=(1, 2)))
    if not len(slices):
        return None
    sampling = volume.spacing_mm
    core = np.zeros_like(region)
    for index in slices:
        core[index] = ndimage.distance_transform_edt(region[index], sampling=sampling[1:]) > CORE_MM
    if bone.any():
        steps = round(BONE_MARGIN_MM / min(sampling[1:]))
        disc = ndimage.generate_binary_structure(2, 1)[None]
        region &= ~ndimage.binary_dilation(bone, disc, iterations=steps)
    return HeartRegion(region, core, float(np.ptp(slices) + 1) * sampling[0])


def _lung(volume: Volume) -> Mask:
    """Air as in lung, in large parts that nothing but air parts from the outside: foam and blankets are none."""
    clipped = np.clip(volume.array, -1024.0, 0.0)
    smooth = ndimage.uniform_filter(clipped, (1, 5, 5))
    lung = (smooth > LUNG_HU[0]) & (smooth < LUNG_HU[1])
    labels, count = ndimage.label(lung)
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000.0
    is_kept = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml >= LEAST_LUNG_ML
    is_kept[0] = False
    is_kept[np.unique(labels[_beside_outside(clipped, smooth)])] = False
    thick = ndimage.binary_opening(is_kept[labels], ndimage.generate_binary_structure(2, 1)[None], iterations=3)
    return np.asarray(thick, np.bool_)


def _beside_outside(clipped: Pixels, smooth: Pixels) -> Mask:
    """What touches the air around the body. Padding outside a round field of view is even, and no air."""
    labels, count = ndimage.label(smooth <= LUNG_HU[0])
    frame = np.ones(labels.shape[1:], np.bool_)
    frame[1:-1, 1:-1] = False
    at_border = np.zeros(count + 1, np.bool_)
    at_border[np.unique(labels[:, frame])] = True
    at_border[0] = False
    outside = at_border[labels]
    if not outside.any() or float((clipped[outside] == clipped.min()).mean()) > PADDING_SHARE:
        return np.zeros_like(outside)
    return np.asarray(ndimage.binary_dilation(outside, np.ones((1, 3, 3)), iterations=2), np.bool_)


def _between(mask: Mask, axis: int) -> Mask:
    """Voxels that have the mask on both sides along an axis."""
    before = np.logical_or.accumulate(mask, axis=axis)
    after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
    return np.asarray(before & after & ~mask, np.bool_)


def _bone(volume: Volume) -> Mask:
    """Large connected parts as dense as calcium: ribs, spine, breast bone."""
    smooth: Pixels = ndimage.uniform_filter(volume.array, (1, 3, 3))
    labels, _ = ndimage.label(smooth >= BONE_HU)
    is_large = np.bincount(labels.ravel()) * float(np.prod(volume.spacing_mm)) >= LEAST_BONE_MM3
    is_large[0] = False
    return np.asarray(is_large[labels], np.bool_)


def _behind_spine(volume: Volume, bone: Mask) -> Mask:
    """Everything behind the front of the spine, the same on all slices: a vertebra is missing on none of them."""
    behind = np.zeros(bone.shape, np.bool_)
    rows = bone.shape[1]
    is_back_last = volume.affine[1, 1] > 0
    flipped = bone if is_back_last else bone[:, ::-1]
    middle = flipped[:, int(SPINE_BEHIND * rows) :, bone.shape[2] // 3 : -(bone.shape[2] // 3)]
    counts = middle.sum(axis=(0, 2))
    if counts.any():
        front = int(np.argmax(counts >= 0.2 * counts.max())) + int(SPINE_BEHIND * rows)
        behind[:, front:] = True
    return behind if is_back_last else behind[:, ::-1]
