"""How far the midline of the brain is pushed aside, in mm from the plane about which the skull is symmetric.

On every section the line is sought about which the brain close to it is most nearly its own mirror image: the falx,
the wall between the ventricles, the third ventricle and the two frontal horns decide. It is held at both ends, where
the falx is fixed to the skull. Where the ventricles are too small, too unlike or not there, there is no answer.

Liao et al., Comput Med Imaging Graph 2010;34:700 (midline shift by symmetry along a deformed midline).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Mask, Pixels, Volume
from node.imaging.skull import MirrorPlane, Skull

__all__ = ["MIDLINE_BASIS", "Midline", "find_midline"]

Array = npt.NDArray[np.float64]

MIDLINE_BASIS = "greatest distance of the brain's line of mirror symmetry, at the ventricles, from that of the skull"

ACROSS_MM, ALONG_MM, UP_MM = 0.5, 2.0, 2.5
MOST_SHIFT_MM, ARM_MM = 22.0, 26.0  # how far the line may move, and how far the brain beside it is compared
ARM_WEIGHT_MM = 14.0  # what is nearer to the line counts more
LEVELS_MM = np.arange(-15.0, 40.1, UP_MM)  # from the middle of the skull: third ventricle to the cella media
CSF_HU, FULL_HU = 18.0, 34.0  # ventricles are below; whatever is as dense as brain or denser counts the same
MIN_CSF_WIDTH_MM = 2.0  # on each side, where it is measured
MIN_CSF_MM2 = 150.0  # on a section, within reach of the line
MIN_DEPTH_MM = 25.0  # from the inner table: fluid that is nearer lies around the brain, not in its ventricles
MIN_CSF_RATIO = 0.4  # of the lesser to the greater side: one blocked or emptied ventricle misleads
MIN_LIKENESS = 0.75  # correlation of both sides: phantoms 0.84 and more, a real head with one ventricle 0.70
STIFFNESS = 0.25
MOST_TABLE_RESIDUAL_MM = 2.5  # a skull that is less symmetric has no plane to measure from


@dataclass(frozen=True, slots=True, eq=False)
class Midline:
    """The midline of the brain on the section where it is furthest from its place.

    Parameters
    ----------
    shift_mm
        To the patient's left; negative to the right.
    likeness
        Correlation of the two sides about it, at most 1.
    line_mm, ideal_mm
        Points of it and of the skull's plane on that section, front to back, LPS mm.
    """

    shift_mm: float
    likeness: float
    line_mm: Array
    ideal_mm: Array

    def outline_on(self, volume: Volume) -> tuple[int, Array]:
        """The slice nearest to it, and the area between both lines as (row, column) corners, pixel centres whole.

        A straight midline gets an outline 1 mm wide.
        """
        to_index = np.linalg.inv(volume.affine)[:3]
        away = self.line_mm - self.ideal_mm
        widest = away[int(np.argmax(np.linalg.norm(away, axis=1)))]
        length = float(np.linalg.norm(widest))
        edge = 0.5 * widest / length if length > 0.0 else np.array([0.5, 0.0, 0.0])
        corners = np.concatenate([self.ideal_mm - edge, (self.line_mm + edge)[::-1]])
        index = corners @ to_index[:, :3].T + to_index[:, 3]
        nearest = int(np.clip(round(float(index[:, 0].mean())), 0, len(volume.array) - 1))
        return nearest, np.clip(index[:, 1:], -0.5, np.array(volume.array.shape[1:]) - 0.5)


def find_midline(volume: Volume, skull: Skull, plane: MirrorPlane, smooth: Pixels, brain: Mask) -> Midline | None:
    """Measure the shift of the midline.

    Parameters
    ----------
    smooth
        ``float32[slice, row, column]`` in HU, smoothed to about 1 mm.
    brain
        Inside of the skull without bone.

    Returns
    -------
    None where it cannot be measured: the skull is too asymmetric, the ventricles are not seen, or the two sides
    are too unlike each other.
    """
    if plane.residual_mm > MOST_TABLE_RESIDUAL_MM:
        return None
    axes = _axes(plane)
    reach = skull.radius_mm(np.stack([-axes[1], axes[1]]))
    along = np.arange(-reach[0] + 4.0, reach[1] - 4.0, ALONG_MM)
    across = np.arange(-MOST_SHIFT_MM - ARM_MM, MOST_SHIFT_MM + ARM_MM + 0.1, ACROSS_MM)
    origin = skull.middle - (skull.middle @ plane.normal - plane.place_mm) * plane.normal
    points = (
        origin
        + LEVELS_MM[:, None, None, None] * axes[2]
        + along[None, :, None, None] * axes[1]
        + across[None, None, :, None] * axes[0]
    )
    density, inside = _sample(volume, smooth, brain, points)
    cost, likeness = _asymmetry(density, inside)
    away = points - skull.middle
    is_deep = skull.radius_mm(away) - np.linalg.norm(away, axis=-1) >= MIN_DEPTH_MM
    fluid = (density < CSF_HU / FULL_HU) & (inside > 0.5) & is_deep
    best: tuple[float, int, int, npt.NDArray[np.intp]] | None = None
    shifts, quarter = _shifts(), len(along) // 4
    for level in range(len(LEVELS_MM)):
        line = _line(cost[level])
        # Measured only where fluid lies on both sides: between, the line is a guess, and the falx alone moves little.
        is_between = _between_ventricles(fluid[level], shifts[line], across)
        is_between[:quarter] = is_between[-quarter:] = False
        if not is_between.any():
            continue
        away_mm = np.where(is_between, np.abs(shifts[line]), -1.0)
        like = np.where(away_mm >= away_mm.max() - ACROSS_MM, likeness[level, np.arange(len(along)), line], -1.0)
        at = int(np.argmax(like))
        if like[at] >= MIN_LIKENESS and (best is None or away_mm[at] > best[0]):
            best = float(away_mm[at]), level, at, line
    if best is None:
        return None
    _, level, at, line = best
    # Where nothing holds the line it wavers; to the other side of the plane it is not drawn.
    side = 1.0 if shifts[line[at]] >= 0.0 else -1.0
    drawn = side * np.maximum(side * ndimage.gaussian_filter1d(shifts[line], 2.0), 0.0)
    base = origin + LEVELS_MM[level] * axes[2] + along[:, None] * axes[1]
    return Midline(
        float(shifts[line[at]]),
        float(likeness[level, at, line[at]]),
        base + drawn[:, None] * axes[0],
        base,
    )


def _axes(plane: MirrorPlane) -> Array:
    """Left, back and up as the skull lies, unit vectors in LPS."""
    up = np.array([0.0, 0.0, 1.0])
    up = up - (up @ plane.normal) * plane.normal
    up /= np.linalg.norm(up)
    return np.stack([plane.normal, np.cross(up, plane.normal), up])


def _sample(volume: Volume, smooth: Pixels, brain: Mask, points: Array) -> tuple[Array, Array]:
    """Density 0 to 1 (water to brain) and whether a point is inside, ``[level, along, across]``."""
    to_index = np.linalg.inv(volume.affine)[:3]
    index = np.moveaxis(points @ to_index[:, :3].T + to_index[:, 3], -1, 0)
    density = np.clip(ndimage.map_coordinates(smooth, index, order=1, cval=FULL_HU) / FULL_HU, 0.0, 1.0)
    inside = ndimage.map_coordinates(brain.astype(np.float32), index, order=1)
    return np.asarray(density, np.float64), np.asarray(inside, np.float64)


def _shifts() -> Array:
    return np.arange(-MOST_SHIFT_MM, MOST_SHIFT_MM + 0.1, ACROSS_MM)


def _between_ventricles(fluid: npt.NDArray[np.bool_], shifts: Array, across: Array) -> npt.NDArray[np.bool_]:
    """Where along the line fluid lies on both sides; nowhere if one side has much less than the other."""
    away = across[None] - shifts[:, None]
    left, right = (
        (fluid & (side * away > 0) & (np.abs(away) <= ARM_MM)).sum(axis=1) * ACROSS_MM for side in (1.0, -1.0)
    )
    lesser, greater = sorted((float(left.sum()) * ALONG_MM, float(right.sum()) * ALONG_MM))
    if lesser < max(MIN_CSF_MM2 / 2.0, MIN_CSF_RATIO * greater):
        return np.zeros(len(shifts), np.bool_)
    return np.asarray(np.minimum(left, right) >= MIN_CSF_WIDTH_MM, np.bool_)


def _asymmetry(density: Array, inside: Array) -> tuple[Array, Array]:
    """How unlike both sides are about each line, and their correlation, ``[level, along, shift]``.

    Both over a neighbourhood of 12 mm along and 5 mm up, so that one pixel decides nothing.
    """
    arm, count = round(ARM_MM / ACROSS_MM), len(_shifts())
    weights = np.exp(-((np.arange(1, arm + 1) * ACROSS_MM / ARM_WEIGHT_MM) ** 2))
    unlike, together, spread = (np.zeros((*density.shape[:2], count)) for _ in range(3))
    for shift in range(count):
        centre = arm + shift
        left, right = density[..., centre + 1 : centre + arm + 1], density[..., centre - arm : centre][..., ::-1]
        weight = weights * np.minimum(
            inside[..., centre + 1 : centre + arm + 1], inside[..., centre - arm : centre][..., ::-1]
        )
        total = np.maximum(weight.sum(axis=-1), 1e-6)
        mean = (weight * (left + right)).sum(axis=-1) / (2.0 * total)
        unlike[..., shift] = (weight * (left - right) ** 2).sum(axis=-1) / total
        together[..., shift] = (weight * (left - mean[..., None]) * (right - mean[..., None])).sum(axis=-1) / total
        square = (left - mean[..., None]) ** 2 + (right - mean[..., None]) ** 2
        spread[..., shift] = (weight * square).sum(axis=-1) / (2.0 * total)
    unlike, together, spread = (
        ndimage.gaussian_filter(values, (1.0, 3.0, 0.0), mode="nearest") for values in (unlike, together, spread)
    )
    return unlike, np.asarray(together / np.maximum(spread, 1e-4), np.float64)


def _line(cost: Array) -> npt.NDArray[np.intp]:
    """The stiff line of least cost through ``[along, shift]`` that begins and ends in its place (Viterbi)."""
    rows, count = cost.shape
    place = np.arange(count)
    middle = count // 2
    scaled = cost / max(float(np.median(cost.max(axis=1) - cost.min(axis=1))), 1e-6)
    step = STIFFNESS * ((place[:, None] - place[None]) * ACROSS_MM / ALONG_MM) ** 2
    total = np.where(place == middle, scaled[0], np.inf)
    came = np.zeros((rows, count), np.intp)
    for row in range(1, rows):
        through = total[None] + step
        came[row] = through.argmin(axis=1)
        total = through.min(axis=1) + scaled[row]
    line = np.empty(rows, np.intp)
    line[-1] = middle
    for row in range(rows - 1, 0, -1):
        line[row - 1] = came[row, line[row]]
    return line
