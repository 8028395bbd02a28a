"""One nodule in the lung on CT: its border, its size and how dense it is, from a place where a round spot was found.

The border lies half way between the lung around and the nodule itself, where a scanner's blur leaves the volume of a
ball unchanged. Vessels that enter the nodule are cut off by opening with a ball of half the nodule's own radius.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Mask, Volume

__all__ = ["Nodule", "outline_nodule"]

SOFT_TISSUE_HU = 30.0
LUNG_HU = (-1000.0, -650.0)  # what lung around a nodule can be
FAINTEST_HU = 110.0  # above the lung around: from here on ground glass is looked for
NOISE_MM = 0.7  # smoothing before anything is looked for
BLUR_MM = 1.6  # how deep the scanner's blur makes soft tissue look like ground glass
LEAST_PART_MM3 = 12.0
LEAST_HALO_SHARE = 0.12  # of what lies deeper than the blur
LEAST_CORE_MM = 1.2  # depth of a solid part; thinner are vessels
OPENING_SHARE = 0.5
LEAST_VOXELS = 8
CENTRAL_MM = 1.0  # a voxel deeper than this counts for the mean HU

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Nodule:
    """What was outlined.

    Parameters
    ----------
    box, inside
        Where it lies on the Volume, and which voxels in the box are its own.
    density
        ``solid``, ``part_solid`` or ``ground_glass``.
    mean_hu
        Of the voxels more than 1 mm inside the border; of all, if fewer than 8 are.
    solid_mm3
        Volume of its parts as dense as soft tissue (half way to it or more).
    contact_share
        Share of its surface that borders on what is not lung: 0 in the middle of the lung, near 1 in the hilum.
    kept_share
        What the opening left of all that was joined to it: low on a bend of a vessel.
    elongation
        Longest by shortest of its three principal axes, 1 for a ball.
    """

    box: tuple[slice, slice, slice]
    inside: Mask
    density: str
    mean_hu: float
    solid_mm3: float
    contact_share: float
    kept_share: float
    elongation: float


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A mask around the seed with its vessels cut off, and the depth of each voxel below its surface."""

    mask: Mask
    depth_mm: Array
    kept_share: float


def outline_nodule(volume: Volume, lungs: Mask, centre: tuple[float, ...], diameter_mm: float) -> Nodule | None:
    """Outline the nodule at a place.

    Parameters
    ----------
    volume
        ``float32[slice, row, column]`` in HU.
    lungs
        The lung with what lies in it, on the same grid.
    centre, diameter_mm
        Where a round spot was found, as an array index, and how large.

    Returns
    -------
    None if nothing there has a border of its own: it runs out of a box of about twice its size.
    """
    box = _box(volume, centre, diameter_mm)
    values, inside, spacing = volume.array[box], lungs[box], np.array(volume.spacing_mm)
    smooth = ndimage.gaussian_filter(np.clip(values, -1024.0, 200.0), NOISE_MM / spacing / 2.0)
    air = values[inside & (values < LUNG_HU[1])]
    if not len(air):
        return None
    lung_hu = float(np.clip(np.median(air), *LUNG_HU))
    seed = np.array(centre) - [part.start for part in box]
    solid_hu = (lung_hu + SOFT_TISSUE_HU) / 2.0
    wide = _part(inside & (smooth >= lung_hu + FAINTEST_HU), seed, diameter_mm, spacing)
    if wide is None:
        return None
    solid = wide.mask & (smooth >= solid_hu)
    density, halo = _density(wide, solid, spacing)
    if density == "solid":
        centre_values = values[wide.mask & (wide.depth_mm >= 0.6 * wide.depth_mm.max())]
        level = (lung_hu + min(float(np.median(centre_values)), SOFT_TISSUE_HU)) / 2.0
    else:
        level = (lung_hu + float(np.median(values[halo]))) / 2.0
    part = _part(inside & (smooth >= level), seed, diameter_mm, spacing)
    if part is None or part.mask.sum() < LEAST_VOXELS or _touches_side(part.mask, box, volume.array.shape):
        return None
    return _measured(volume, lungs, box, part, density=density, solid_hu=solid_hu)


def _box(volume: Volume, centre: tuple[float, ...], diameter_mm: float) -> tuple[slice, slice, slice]:
    reach_mm = max(1.1 * diameter_mm, diameter_mm / 2.0 + 6.0)
    first, second, third = (
        slice(max(int(at - reach_mm / mm), 0), min(int(at + reach_mm / mm) + 2, side))
        for at, mm, side in zip(centre, volume.spacing_mm, volume.array.shape, strict=True)
    )
    return first, second, third


def _part(mask: Mask, seed: Array, diameter_mm: float, spacing: Array) -> _Part | None:
    """The part at the seed, opened with a ball of half its inner radius."""
    depth = _depth(mask, spacing)
    grid = np.ogrid[tuple(slice(0, side) for side in mask.shape)]
    away = np.sqrt(sum(((line - at) * mm) ** 2 for line, at, mm in zip(grid, seed, spacing, strict=True)))
    near = np.where(away <= max(0.35 * diameter_mm, 1.5 * float(spacing.max())), depth, 0.0)
    if not near.any():
        return None
    peak = np.unravel_index(int(np.argmax(near)), near.shape)
    radius_mm = OPENING_SHARE * float(near[peak])
    cores, _ = ndimage.label(depth >= radius_mm)
    core = np.asarray(cores == cores[peak], np.bool_)
    reach_mm = radius_mm + float(spacing.max()) / 2.0  # a ball of voxels has corners
    opened = mask & (ndimage.distance_transform_edt(~core, sampling=spacing) <= reach_mm)
    joined, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    kept_share = float(opened.sum() / (joined == joined[peak]).sum())
    return _Part(np.asarray(opened, np.bool_), np.where(opened, depth, 0.0), kept_share)


def _depth(mask: Mask, spacing: Array) -> Array:
    """Distance of each voxel to the nearest outside, where what lies beyond the box is outside."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    return np.asarray(depth[1:-1, 1:-1, 1:-1], np.float64)


def _density(wide: _Part, solid: Mask, spacing: Array) -> tuple[str, Mask]:
    """Sort by what lies deeper than the scanner's blur: between lung and soft tissue, soft tissue, or both."""
    voxel_mm3 = float(np.prod(spacing))
    solid_depth = _depth(solid, spacing)
    has_core = solid.any() and float(solid_depth.max()) >= LEAST_CORE_MM
    if not has_core:
        return "ground_glass", np.asarray(wide.mask & (wide.depth_mm >= 0.6 * wide.depth_mm.max()), np.bool_)
    from_solid = ndimage.distance_transform_edt(~solid, sampling=spacing)
    deep = wide.depth_mm > BLUR_MM
    halo = np.asarray(deep & (from_solid > BLUR_MM), np.bool_)
    is_mixed = halo.sum() * voxel_mm3 >= LEAST_PART_MM3 and halo.sum() >= LEAST_HALO_SHARE * deep.sum()
    return ("part_solid" if is_mixed else "solid"), halo


def _touches_side(mask: Mask, box: tuple[slice, slice, slice], shape: tuple[int, ...]) -> bool:
    """True if it reaches a side of the box that is none of the volume."""
    for axis, (part, side) in enumerate(zip(box, shape, strict=True)):
        planes = np.asarray(mask.any(axis=tuple({0, 1, 2} - {axis})), np.bool_)
        if (planes[0] and part.start > 0) or (planes[-1] and part.stop < side):
            return True
    return False


def _measured(
    volume: Volume, lungs: Mask, box: tuple[slice, slice, slice], part: _Part, *, density: str, solid_hu: float
) -> Nodule:
    values, spacing = volume.array[box], np.array(volume.spacing_mm)
    mask = part.mask
    central = mask & (_depth(mask, spacing) > CENTRAL_MM + float(spacing.min()) / 2.0)
    if central.sum() < LEAST_VOXELS:
        central = mask
    shell = ndimage.binary_dilation(mask) & ~mask
    solid = mask & (values >= solid_hu)
    places = np.argwhere(mask) * spacing
    lengths = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(places.T) + np.diag(spacing**2) / 12.0), 1e-6))
    return Nodule(
        box, mask, density, float(values[central].mean()), float(solid.sum() * np.prod(spacing)),
        float((shell & ~lungs[box]).sum() / max(int(shell.sum()), 1)), part.kept_share, float(lengths[-1] / lengths[0]),
    )  # fmt: skip
