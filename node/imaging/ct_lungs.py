"""The lungs on a CT of the chest by rule: air inside the body, right and left, closed over nodules at the pleura.

Everything but the border is found on a grid of about 2 mm; the border itself follows the volume's own voxels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Mask, Pixels, Volume
from node.imaging.components import largest_component

__all__ = ["AIR_HU", "Lungs", "find_lungs"]

AIR_HU = -400.0  # half way from lung to soft tissue
LUMEN_HU = -900.0  # a large airway; lung of every density but emphysema is above it
WORK_MM = 2.0
CLOSING_MM = 15.0  # a ball of this radius enters the dent of a nodule 12 mm wide by 1.3 mm only
RIM_MM = 3.0  # of the border, on which only air counts unless something was closed over
LEAST_FILL_MM3 = 50.0  # of what was closed over: a nodule, not the steps of a border
GROWN_MM = 4.0
ENTERED_MM = 2.0  # how far the closing ball enters a dent 15 mm wide
LEAST_LUNG_ML = 100.0
MOST_LUMEN_MM2 = 800.0  # trachea and the carina
LEAST_LUMEN_MM2 = 40.0
OFF_MIDDLE_MM = 40.0
PARTING_MM = (0.0, 2.0, 4.0, 6.0)  # what is eaten away from lungs that touch until they come apart

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Lungs:
    """Right and left lung on the grid of their Volume.

    Parameters
    ----------
    right, left
        With their vessels and with nodules at the pleura; without trachea and main bronchi.
    airways
        Lumen of trachea and main bronchi with a rim of 2 mm, as far down as they can be followed.
    work_labels, work_spacing_mm
        1 right, 2 left on the grid of about 2 mm, and its spacing: to measure distances fast.
    blocks
        How many voxels of the Volume make one of that grid, along each axis.
    """

    right: Mask
    left: Mask
    airways: Mask
    work_labels: Labels
    work_spacing_mm: tuple[float, float, float]
    blocks: tuple[int, int, int]

    @property
    def mask(self) -> Mask:
        """Both."""
        return self.right | self.left


def find_lungs(volume: Volume) -> Lungs | None:
    """Find both lungs.

    Parameters
    ----------
    volume
        ``float32[slice, row, column]`` in HU, axial (head or feet first, supine or prone).

    Returns
    -------
    None if the air inside the body does not form two lungs side by side. Whether they are whole and of a plausible
    size and density is for the caller to judge.
    """
    blocks = tuple(max(1, round(WORK_MM / mm)) for mm in volume.spacing_mm)
    work = _shrunk(volume.array, blocks)
    spacing = tuple(mm * block for mm, block in zip(volume.spacing_mm, blocks, strict=True))
    tissue = work > AIR_HU
    inside = _body(tissue) & ~tissue
    airways = _airways(work, inside, spacing, is_head_last=volume.affine[2, 0] > 0)
    parted = _two_lungs(inside & ~airways, spacing, -volume.affine[0, 2])
    if parted is None:
        return None
    right, left = (_closed(lung, spacing) for lung in parted)
    labels = np.zeros(work.shape, np.uint8)
    labels[right & ~parted[1] & ~airways] = 1
    labels[left & ~right & ~airways | parted[1]] = 2
    masks = [_on_volume(volume, labels == side, parted[side - 1], blocks, spacing) for side in (1, 2)]
    grown = np.asarray(ndimage.binary_dilation(airways), np.bool_)
    lumen = _enlarged(grown, blocks, volume.array.shape)
    return Lungs(
        masks[0] & ~lumen, masks[1] & ~lumen & ~masks[0], lumen, labels,
        (spacing[0], spacing[1], spacing[2]), (blocks[0], blocks[1], blocks[2]),
    )  # fmt: skip


def _shrunk(array: Pixels, blocks: tuple[int, ...]) -> Pixels:
    """Means over blocks; what is left over at the end of an axis is dropped."""
    sides = [side // block for side, block in zip(array.shape, blocks, strict=True)]
    rows, columns = sides[1] * blocks[1], sides[2] * blocks[2]
    shrunk = np.empty(sides, np.float32)
    for index in range(sides[0]):
        slab = array[index * blocks[0] : (index + 1) * blocks[0], :rows, :columns]
        parts = slab.reshape(blocks[0], sides[1], blocks[1], sides[2], blocks[2])
        shrunk[index] = np.clip(parts, -1024.0, 1024.0).mean(axis=(0, 2, 4))
    return shrunk


def _body(tissue: Mask) -> Mask:
    """The body with its hollows filled on each slice; the table falls away because it is thin."""
    thick = ndimage.binary_opening(tissue, ndimage.generate_binary_structure(2, 1)[None], iterations=1)
    body = largest_component(np.asarray(thick, np.bool_))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])


def _airways(work: Pixels, inside: Mask, spacing: tuple[float, ...], *, is_head_last: bool) -> Mask:
    """Follow the trachea from the top down, and the main bronchi as long as they stay narrow."""
    airways = np.zeros(work.shape, np.bool_)
    columns = np.flatnonzero(inside.any(axis=(0, 1)))
    if not len(columns):
        return airways
    middle, pixel_mm2 = columns.mean(), spacing[1] * spacing[2]
    followed = np.zeros(work.shape[1:], np.bool_)
    for index in range(len(work))[:: -1 if is_head_last else 1]:
        labels, count = ndimage.label(inside[index] & (work[index] < LUMEN_HU))
        if not count:
            followed = np.zeros_like(followed)
            continue
        numbers = np.arange(1, count + 1)
        areas = np.bincount(labels.ravel())[1:] * pixel_mm2
        fits = (areas >= LEAST_LUMEN_MM2 * (0.3 if followed.any() else 1.0)) & (areas <= MOST_LUMEN_MM2)
        if followed.any():
            fits &= np.isin(numbers, labels[followed])
        else:
            places = np.array([place[1] for place in ndimage.center_of_mass(labels > 0, labels, numbers)])
            fits &= (np.abs(places - middle) * spacing[2] < OFF_MIDDLE_MM) & ~airways.any()
        found = np.isin(labels, numbers[fits])
        airways[index], followed = found, found
    return np.asarray(ndimage.binary_dilation(airways) & inside, np.bool_)


def _two_lungs(air: Mask, spacing: tuple[float, ...], towards_right: float) -> tuple[Mask, Mask] | None:
    """Part the air into right and left lung, eating away what joins them until they come apart."""
    voxel_ml = float(np.prod(spacing)) / 1000.0
    depth_mm = np.zeros(air.shape)
    for parting_mm in PARTING_MM:
        if parting_mm == PARTING_MM[1]:
            depth_mm = ndimage.distance_transform_edt(air, sampling=spacing)
        labels, _ = ndimage.label((depth_mm > parting_mm) if parting_mm else air)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        order = np.argsort(-sizes, kind="stable")[:2]
        if len(order) < 2 or sizes[order[1]] * voxel_ml < LEAST_LUNG_ML:
            continue
        if sizes[order[1]] < 0.2 * sizes[order[0]]:  # joined: the other lung is in the first part
            continue
        lungs = [labels == number for number in order]
        if parting_mm:
            nearest = [ndimage.distance_transform_edt(~seed, sampling=spacing) for seed in lungs]
            joined, _ = ndimage.label(air)
            kept = air & np.isin(joined, np.unique(joined[lungs[0] | lungs[1]]))
            lungs = [kept & (nearest[0] <= nearest[1]), kept & (nearest[0] > nearest[1])]
        places = [float(np.argwhere(lung.any(axis=(0, 1))).mean()) for lung in lungs]
        lungs.sort(key=lambda lung: -towards_right * float(np.flatnonzero(lung.any(axis=(0, 1))).mean()))
        return (lungs[0], lungs[1]) if abs(places[0] - places[1]) * spacing[2] > OFF_MIDDLE_MM else None
    return None


def _closed(lung: Mask, spacing: tuple[float, ...]) -> Mask:
    """Close dents and fill hollows, in a box around the lung with room for the ball."""
    margin = [int(np.ceil(CLOSING_MM / mm)) + 1 for mm in spacing]
    box = ndimage.find_objects(lung.astype(np.uint8))[0]
    padded = np.pad(lung[box], [(side, side) for side in margin])
    near = ndimage.distance_transform_edt(~padded, sampling=spacing) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(near, sampling=spacing) > CLOSING_MM
    filled = ndimage.binary_fill_holes(closed | padded)
    inner = tuple(slice(side, length - side) for side, length in zip(margin, padded.shape, strict=True))
    whole = np.zeros_like(lung)
    whole[box] = filled[inner]
    return whole


def _on_volume(volume: Volume, closed: Mask, air: Mask, blocks: tuple[int, ...], spacing: tuple[float, ...]) -> Mask:
    """The closed lung on the volume's grid: along its border only air, but all of what was closed over."""
    box = _grown_box(closed, 3)
    within = tuple(slice(part.start * block, part.stop * block) for part, block in zip(box, blocks, strict=True))
    closed, air, values = closed[box], air[box], volume.array[within]
    rim = _steps(RIM_MM, spacing)
    parts, _ = ndimage.label(closed & ~air)
    is_large = np.bincount(parts.ravel()) * float(np.prod(spacing)) >= LEAST_FILL_MM3
    is_large[0] = False
    large = is_large[parts]
    grown = ndimage.binary_dilation(large, _steps(GROWN_MM, spacing))
    closed = closed | ndimage.binary_dilation(large, _steps(ENTERED_MM, spacing))
    inner = _enlarged(closed & (ndimage.binary_erosion(closed, rim) | grown), blocks, values.shape)
    outer = _enlarged(np.asarray(ndimage.binary_dilation(closed), np.bool_), blocks, values.shape)
    whole = np.zeros(volume.array.shape, np.bool_)
    whole[within] = inner | (outer & (values < AIR_HU))
    return whole


def _grown_box(mask: Mask, margin: int) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))
    box = found[0] if found else tuple(slice(0, 0) for _ in mask.shape)
    return tuple(
        slice(max(part.start - margin, 0), min(part.stop + margin, side))
        for part, side in zip(box, mask.shape, strict=True)
    )


def _steps(radius_mm: float, spacing: tuple[float, ...]) -> Mask:
    """A small ball as a structuring element, at least one voxel wide along each axis."""
    reach = [max(1, round(radius_mm / mm)) for mm in spacing]
    z, y, x = np.ogrid[tuple(slice(-side, side + 1) for side in reach)]
    return np.asarray((z / reach[0]) ** 2 + (y / reach[1]) ** 2 + (x / reach[2]) ** 2 <= 1.0 + 1e-6, np.bool_)


def _enlarged(mask: Mask, blocks: tuple[int, ...], shape: tuple[int, ...]) -> Mask:
    """A mask of the coarse grid on the volume's, its border between the coarse voxels."""
    enlarged = np.zeros(shape, np.bool_)
    if not mask.any():
        return enlarged
    rows, columns = mask.shape[1] * blocks[1], mask.shape[2] * blocks[2]
    for index in range(min(shape[0], mask.shape[0] * blocks[0])):
        place = (index + 0.5) / blocks[0] - 0.5
        low = int(np.clip(np.floor(place), 0, len(mask) - 1))
        high, share = min(low + 1, len(mask) - 1), float(np.clip(place - low, 0.0, 1.0))
        if mask[low].any() or mask[high].any():
            plane = (1.0 - share) * mask[low].astype(np.float32) + share * mask[high]
            zoomed = ndimage.zoom(plane, blocks[1:], order=1, grid_mode=True, mode="nearest")
            enlarged[index, :rows, :columns] = zoomed >= 0.5
    return enlarged
