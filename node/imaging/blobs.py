"""Round bright or dark spots, by the scale-normalised Laplacian of Gaussian, in 2D and 3D, sizes in mm.

Smoothing is Lindeberg's discrete Gaussian and the Laplacian a difference of neighbours. So an even or
evenly sloping region answers exactly nothing however large its values are (air is -1000 HU), and slices
further apart than rows are no special case.

Lindeberg, Int J Comput Vis 1998;30:79 (scale selection); IEEE PAMI 1990;12:234 (discrete scale space).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from node.domain.volume import Mask, Pixels

__all__ = ["Blob", "blob_map", "find_blobs"]

Sizes = Sequence[float] | npt.NDArray[np.float64]

KERNEL_SIGMAS = 4.0  # the kernel ends where it holds less than 1e-4 of the weight
COARSEN_FROM = 3.0  # sigma in pixels from which every second pixel says all there is to say (aliasing below 1e-4)
LEAST_SIDE = 12  # pixels that an axis keeps


@dataclass(frozen=True, slots=True)
class Blob:
    """A round spot.

    Parameters
    ----------
    response
        The contrast, in the array's unit, of an even ball (3D) or disc (2D) that would answer as much. Always positive.
    index
        (row, column) or (slice, row, column) of its centre, to a fraction of a pixel; pixel centres are whole numbers.
    diameter_mm
        Of the even ball or disc that answers most at this scale; limited to the diameters that were tried. Within
        10 % on even balls 4 pixels or more across; not a measurement of an irregular opacity.
    roundness
        Weakest by strongest curvature, 0 to 1: near 0 on a vessel, rib or fissure, 1 on a ball.
    """

    response: float
    index: tuple[float, ...]
    diameter_mm: float
    roundness: float


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """The answer at one scale, on every `strides`-th pixel of each axis."""

    diameter_mm: float
    smooth: Pixels
    response: Pixels
    strides: tuple[int, ...]
    spacing_mm: tuple[float, ...]

    def nearest(self, index: Sequence[float]) -> tuple[int, ...]:
        """The place on this level that is nearest to one of the array."""
        places = zip(index, self.strides, self.response.shape, strict=True)
        return tuple(min(round(place / stride), side - 1) for place, stride, side in places)

    def around(self, place: Sequence[int]) -> tuple[slice, ...]:
        """The place and its neighbours."""
        return tuple(slice(max(at - 1, 0), at + 2) for at in place)


def find_blobs(
    array: Pixels,
    spacing_mm: Sequence[float],
    diameters_mm: Sizes,
    *,
    least_response: float,
    mask: Mask | None = None,
    is_bright: bool = True,
    least_roundness: float = 0.0,
    apart: float = 0.8,
    most: int = 200,
) -> tuple[Blob, ...]:
    """Find round spots, best first.

    Parameters
    ----------
    array
        ``float32[row, column]`` or ``float32[slice, row, column]``, finite.
    spacing_mm
        Distance of neighbours along each axis of `array`; give 1 for each to work in pixels.
    diameters_mm
        Sizes that are tried, rising; steps of 1.2 to 1.4 are fine enough.
    least_response
        Contrast below which a spot is none, in the unit of `array`.
    mask
        Centres lie inside it; what surrounds them is used all the same.
    is_bright
        False for spots darker than what is around them.
    apart
        Of two spots whose centres are nearer than this share of the sum of their radii the better is kept.
    most
        Bound of what is returned.
    """
    levels = _levels(array, spacing_mm, diameters_mm, mask, is_bright=is_bright)
    candidates = sorted(
        (
            (-float(level.response[place]), number, place)
            for number, level in enumerate(levels)
            for place in _peaks(level, mask, least_response)
        ),
    )
    kept: list[Blob] = []
    centres_mm, radii_mm = np.empty((most, array.ndim)), np.empty(most)
    for _, number, place in candidates:
        level = levels[number]
        centre = np.array(place) * level.strides * spacing_mm
        distances = np.linalg.norm(centres_mm[: len(kept)] - centre, axis=1)
        if (distances < apart * (radii_mm[: len(kept)] + level.diameter_mm / 2.0)).any():
            continue
        blob = _refined(levels, number, place)
        if blob.roundness < least_roundness:
            continue
        centres_mm[len(kept)], radii_mm[len(kept)] = centre, blob.diameter_mm / 2.0
        kept.append(blob)
        if len(kept) == most:
            break
    return tuple(kept)


def blob_map(
    array: Pixels,
    spacing_mm: Sequence[float],
    diameters_mm: Sizes,
    *,
    mask: Mask | None = None,
    is_bright: bool = True,
) -> tuple[Pixels, npt.NDArray[np.intp]]:
    """How much like a round spot every place is, at whatever size answers most: the base of a heat map.

    Parameters are those of `find_blobs`.

    Returns
    -------
    The response, 0 or more, 0 outside the mask, and the index in `diameters_mm` of the size that gave it.
    """
    best = np.zeros(array.shape, np.float32)
    which = np.zeros(array.shape, np.intp)
    for number, level in enumerate(_levels(array, spacing_mm, diameters_mm, mask, is_bright=is_bright)):
        response = _on_full_grid(level, array.shape)
        which[response > best] = number
        np.maximum(best, response, out=best)
    if mask is not None:
        best[~mask] = 0.0
    return best, which


def _levels(
    array: Pixels, spacing_mm: Sequence[float], diameters_mm: Sizes, mask: Mask | None, *, is_bright: bool
) -> list[_Level]:
    """Answer at every scale; each is smoothed from the one before (the discrete Gaussian is a semigroup)."""
    sizes_mm = [float(diameter_mm) for diameter_mm in diameters_mm]
    if sizes_mm != sorted(set(sizes_mm)) or not sizes_mm or sizes_mm[0] <= 0:
        raise ValueError("diameters_mm must be above 0 and rise")
    if array.ndim != len(spacing_mm) or min(spacing_mm) <= 0 or (mask is not None and mask.shape != array.shape):
        raise ValueError("expected a spacing above 0 for each axis of the array and a mask of its shape")
    spacing = np.array(spacing_mm, np.float64)
    strides = np.ones(array.ndim, int)
    smooth, variance_mm2 = np.array(array, np.float32), 0.0
    levels: list[_Level] = []
    for diameter_mm in sizes_mm:
        sigma_mm = diameter_mm / 2.0 / np.sqrt(array.ndim)  # where an even ball answers most: R / sqrt(dimensions)
        added = (sigma_mm**2 - variance_mm2) / (spacing * strides) ** 2
        for axis, variance in enumerate(added):
            smooth = ndimage.correlate1d(smooth, _discrete_gaussian(float(variance)), axis, mode="nearest")
        variance_mm2 = sigma_mm**2
        steps = spacing * strides
        response = (_laplacian(smooth, steps) * np.float32(-(sigma_mm**2) / _ball_answer(array.ndim))).astype(
            np.float32
        )
        np.maximum(response if is_bright else -response, 0.0, out=response)
        levels.append(_Level(diameter_mm, smooth, response, tuple(map(int, strides)), tuple(map(float, steps))))
        coarser = (sigma_mm / steps >= COARSEN_FROM) & (np.array(smooth.shape) >= 2 * LEAST_SIDE)
        if coarser.any():
            smooth = smooth[tuple(slice(None, None, 2 if is_coarser else 1) for is_coarser in coarser)].copy()
            strides = np.where(coarser, 2 * strides, strides)
    return levels


def _discrete_gaussian(variance: float) -> npt.NDArray[np.float64]:
    """Lindeberg's discrete Gaussian: its variance in pixels is exact and kernels add up, however small they are."""
    reach = int(np.ceil(KERNEL_SIGMAS * np.sqrt(variance))) + 1
    kernel = special.ive(np.abs(np.arange(-reach, reach + 1)), variance)
    return np.asarray(kernel / kernel.sum(), np.float64)


def _laplacian(smooth: Pixels, steps_mm: npt.NDArray[np.float64]) -> Pixels:
    total = np.zeros_like(smooth)
    for axis, step_mm in enumerate(steps_mm):
        total += ndimage.correlate1d(smooth, np.array([1.0, -2.0, 1.0]) / step_mm**2, axis, mode="nearest")
    return total


def _ball_answer(dimensions: int) -> float:
    """What an even ball of contrast 1 answers at its centre at its best scale, by Gauss's theorem on its surface."""
    surface = 2.0 * np.pi ** (dimensions / 2.0) / float(special.gamma(dimensions / 2.0))
    return float(surface * (dimensions / (2.0 * np.pi)) ** (dimensions / 2.0) * np.exp(-dimensions / 2.0))


def _peaks(level: _Level, mask: Mask | None, least_response: float) -> list[tuple[int, ...]]:
    """Places that answer more than all their neighbours."""
    response = level.response
    is_peak = (
        (response > 0.0)
        & (response >= least_response)
        & (response == ndimage.maximum_filter(response, size=3, mode="nearest"))
    )
    if mask is not None:
        is_peak &= mask[tuple(slice(None, None, stride) for stride in level.strides)]
    return [tuple(map(int, place)) for place in np.argwhere(is_peak)]


def _refined(levels: Sequence[_Level], number: int, place: tuple[int, ...]) -> Blob:
    """Centre and size between the grid's points and scales, each by a parabola through three answers."""
    level = levels[number]
    index = [float(at * stride) for at, stride in zip(place, level.strides, strict=True)]
    for axis, at in enumerate(place):
        if 0 < at < level.response.shape[axis] - 1:
            before, here, after = (
                float(level.response[(*place[:axis], at + step, *place[axis + 1 :])]) for step in (-1, 0, 1)
            )
            index[axis] += level.strides[axis] * _vertex(before, here, after)
    response, log_diameter = float(level.response[place]), np.log(level.diameter_mm)
    if 0 < number < len(levels) - 1:
        before, after = (
            float(other.response[other.around(other.nearest(index))].max())
            for other in (levels[number - 1], levels[number + 1])
        )
        shift = _vertex(before, response, after)
        beside = levels[number + (1 if shift > 0 else -1)].diameter_mm
        log_diameter += abs(shift) * (np.log(beside) - log_diameter)
    return Blob(response, tuple(index), float(np.exp(log_diameter)), _roundness(level, place))


def _vertex(before: float, here: float, after: float) -> float:
    """Place of a parabola's top, -0.5 to 0.5; 0 where the three points have none."""
    bend = before - 2.0 * here + after
    return 0.0 if bend >= 0 else min(max(0.5 * (before - after) / bend, -0.5), 0.5)


def _roundness(level: _Level, place: tuple[int, ...]) -> float:
    """Weakest by strongest curvature of the smoothed array; 0 at a saddle or on the border."""
    dimensions = len(place)
    if any(not 0 < at < side - 1 for at, side in zip(place, level.smooth.shape, strict=True)):
        return 0.0
    cube = level.smooth[level.around(place)].astype(np.float64)
    centre = np.ones(dimensions, int)
    unit = np.eye(dimensions, dtype=int)
    hessian = np.empty((dimensions, dimensions))
    for one in range(dimensions):
        for other in range(one, dimensions):
            a, b = unit[one], unit[other]
            if one == other:
                bend = cube[tuple(centre + a)] - 2.0 * cube[tuple(centre)] + cube[tuple(centre - a)]
            else:
                same = cube[tuple(centre + a + b)] + cube[tuple(centre - a - b)]
                bend = (same - cube[tuple(centre + a - b)] - cube[tuple(centre - a + b)]) / 4.0
            hessian[one, other] = hessian[other, one] = bend / (level.spacing_mm[one] * level.spacing_mm[other])
    curvatures = np.linalg.eigvalsh(hessian)
    strongest = float(curvatures[np.argmax(np.abs(curvatures))])
    return max(float((curvatures / strongest).min()), 0.0) if strongest else 0.0


def _on_full_grid(level: _Level, shape: tuple[int, ...]) -> Pixels:
    """Linear interpolation between the level's places, one axis after the other."""
    values = level.response
    for axis, (stride, side) in enumerate(zip(level.strides, shape, strict=True)):
        if stride > 1:
            at = np.arange(side) / stride
            low = np.minimum(at.astype(np.intp), values.shape[axis] - 1)
            high = np.minimum(low + 1, values.shape[axis] - 1)
            share = (at - low).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(len(shape))])
            values = values.take(low, axis) * (1 - np.minimum(share, 1)) + values.take(high, axis) * np.minimum(
                share, 1
            )
    return values
