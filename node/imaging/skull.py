"""The inside of the skull on a CT of the head, and the plane about which the skull is its own mirror image.

From a point in the middle of the head lines are drawn in all directions to the first bone. Where a line leaves
through a gap (the foramen magnum, an orbit, a suture), the lines around it say where the table would be. So a gap does
not let the inside run out, and how many lines found no bone says whether there is a whole skull at all.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from node.domain.volume import Mask, Volume

__all__ = ["BONE_HU", "MirrorPlane", "Skull", "find_skull"]

Array = npt.NDArray[np.float64]

BONE_HU = 300.0  # half way from brain to thin bone; dense blood ends at 100 HU
AZIMUTHS, ELEVATIONS = 120, 59  # lines every 3 degrees
NEAREST_MM, FURTHEST_MM, STEP_MM = 18.0, 130.0, 0.75
WINDOW = 11  # lines across: 33 degrees, wider than the foramen magnum is seen
MAX_BULGE = 1.10  # radius per that of the lines around it
VAULT_FROM = -0.15  # sine of the elevation: above it the skull has no natural gaps
MAX_TURN_DEG, MAX_ROLL_DEG, MAX_MOVE_MM = 30.0, 15.0, 15.0
MIN_INSIDE_MM2 = 5000.0  # largest section of the inside; adults 15000, newborns 7000
LARGE_SHARE = 0.85  # of the largest section: the sections among which the middle lies
CLOSING_MM = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class MirrorPlane:
    """The plane that mirrors the inner table onto itself.

    Parameters
    ----------
    normal
        LPS unit vector towards the patient's left.
    place_mm
        ``normal @ point`` of every point on it.
    residual_mm
        Mean distance of the inner table from its mirror image: how far the skull is from symmetric.
    """

    normal: Array
    place_mm: float
    residual_mm: float

    def left_of_mm(self, points: Array) -> Array:
        """How far LPS points ``[..., 3]`` lie to the patient's left of it."""
        return np.asarray(points @ self.normal - self.place_mm, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Skull:
    """The inner table as its distance from a middle in all directions.

    Parameters
    ----------
    middle
        LPS mm.
    radii_mm
        ``float64[elevation, azimuth]``, elevations from -88 to 88 degrees.
    closed_share
        Part of the lines into the vault that found bone; 1 in a whole skull.
    is_open_at_top
        True if lines left the images upwards before they found bone.
    """

    middle: Array
    radii_mm: Array
    closed_share: float
    is_open_at_top: bool

    def radius_mm(self, directions: Array) -> Array:
        """Distance of the inner table in directions ``[..., 3]`` of any length, LPS."""
        azimuth = np.arctan2(directions[..., 1], directions[..., 0])
        elevation = np.arctan2(directions[..., 2], np.hypot(directions[..., 0], directions[..., 1]))
        rows = np.clip((elevation / np.pi + 0.5) * (ELEVATIONS + 1) - 1.0, 0.0, ELEVATIONS - 1.0) + 1.0
        columns = (azimuth / (2.0 * np.pi) % 1.0) * AZIMUTHS + 1.0
        padded = np.pad(np.pad(self.radii_mm, ((1, 1), (0, 0)), mode="edge"), ((0, 0), (1, 1)), mode="wrap")
        return np.asarray(ndimage.map_coordinates(padded, [rows, columns], order=1), np.float64)

    def inside(self, volume: Volume) -> Mask:
        """Voxels of the inside, bone and whatever else lies within the inner table included."""
        mask = np.zeros(volume.array.shape, np.bool_)
        rows, columns = np.indices(volume.array.shape[1:])
        for index in range(len(mask)):  # slice by slice: a thin stack would take a gigabyte
            grid = np.stack([np.full_like(rows, index), rows, columns], axis=-1)
            away = grid @ volume.affine[:3, :3].T + volume.affine[:3, 3] - self.middle
            mask[index] = np.linalg.norm(away, axis=-1) <= self.radius_mm(away)
        return mask

    def mirror_plane(self) -> MirrorPlane:
        """Find the plane, by the least mean distance of the vault from its mirror image."""
        directions = _directions()
        directions = directions[directions[..., 2] > VAULT_FROM]
        table = directions * self.radius_mm(directions)[:, None]

        def residual_mm(parameters: Array) -> float:
            normal, place_mm = _plane(parameters)
            mirrored = table - 2.0 * np.outer(table @ normal - place_mm, normal)
            away = np.abs(np.linalg.norm(mirrored, axis=1) - self.radius_mm(mirrored))
            beyond = np.maximum(np.abs(parameters) - [MAX_TURN_DEG, MAX_ROLL_DEG, MAX_MOVE_MM], 0.0).sum()
            return float(np.minimum(away, 10.0).mean() + beyond)

        tries = [
            optimize.minimize(residual_mm, (turn, 0.0, 0.0), method="Nelder-Mead", options={"initial_simplex": simplex})
            for turn in (-18.0, -6.0, 6.0, 18.0)
            for simplex in [np.array([(turn, 0, 0), (turn + 5, 0, 0), (turn, 4, 0), (turn, 0, 4)], np.float64)]
        ]
        best = min(tries, key=lambda tried: float(tried.fun))
        normal, place_mm = _plane(best.x)
        return MirrorPlane(normal, place_mm + float(self.middle @ normal), float(best.fun))


def find_skull(volume: Volume) -> Skull | None:
    """Find the inner table of the skull.

    Parameters
    ----------
    volume
        ``float32[slice, row, column]`` in HU, its slices across the head; the gantry may be tilted.

    Returns
    -------
    None if no slice shows a closed ring of bone of the size of a head.
    """
    middle = _middle(volume)
    if middle is None:
        return None
    directions = _directions()
    steps = np.arange(NEAREST_MM, FURTHEST_MM, STEP_MM)
    to_index = np.linalg.inv(volume.affine)[:3]
    values = np.empty((*directions.shape[:2], len(steps)), np.float32)
    tops = np.zeros(directions.shape[:2], np.bool_)
    for row, of_row in enumerate(directions):
        points = middle + of_row[:, None] * steps[:, None]
        index = points @ to_index[:, :3].T + to_index[:, 3]
        values[row] = ndimage.map_coordinates(volume.array, np.moveaxis(index, -1, 0), order=1, cval=-2000.0)
        is_beyond = (index[..., 0] > len(volume.array) - 0.5) if to_index[0, 2] > 0 else (index[..., 0] < -0.5)
        tops[row] = is_beyond.any(axis=1)
    is_bone = values >= BONE_HU
    first = is_bone.argmax(axis=2)
    found = np.asarray(is_bone.any(axis=2), np.bool_)
    radii = np.where(found, steps[first], np.nan)
    before, after = (np.take_along_axis(values, at[..., None], 2)[..., 0] for at in (np.maximum(first - 1, 0), first))
    share = np.clip((BONE_HU - before) / np.maximum(after - before, 1e-3), 0.0, 1.0)
    radii -= np.where(first > 0, 1.0 - share, 0.0) * STEP_MM
    is_vault = directions[..., 2] > VAULT_FROM
    weight = np.hypot(directions[..., 0], directions[..., 1])[is_vault]  # lines crowd at the pole
    closed = float((found[is_vault] * weight).sum() / weight.sum())
    return Skull(middle, _without_leaks(radii), closed, bool((tops & ~found)[directions[..., 2] > 0.5].any()))


def _middle(volume: Volume) -> Array | None:
    """The middle of the largest sections of what is enclosed by bone, LPS mm."""
    spacing_mm = np.array(volume.spacing_mm[1:])
    radius = max(1, round(CLOSING_MM / float(spacing_mm.mean())))
    areas_mm2, places = np.zeros(len(volume.array)), np.zeros((len(volume.array), 2))
    for index, plane in enumerate(volume.array):
        bone = plane >= BONE_HU
        if not bone.any():
            continue
        near = ndimage.distance_transform_cdt(~bone, metric="chessboard") <= radius
        labels, _ = ndimage.label(ndimage.binary_fill_holes(near) & ~near)
        sizes = np.bincount(labels.ravel(), minlength=2)[1:]
        areas_mm2[index] = float(sizes.max()) * float(np.prod(spacing_mm))
        places[index] = ndimage.center_of_mass(labels == int(sizes.argmax()) + 1) if sizes.max() else 0.0
    if areas_mm2.max() < MIN_INSIDE_MM2:
        return None
    large = np.flatnonzero(areas_mm2 >= LARGE_SHARE * areas_mm2.max())
    place = (float(np.median(large)), *np.median(places[large], axis=0))
    return np.asarray(volume.affine[:3] @ (*place, 1.0), np.float64)


def _directions() -> Array:
    """Unit vectors ``[elevation, azimuth, 3]``, LPS; azimuth 0 is left, a quarter back."""
    elevation = (np.arange(1, ELEVATIONS + 1) / (ELEVATIONS + 1) - 0.5) * np.pi
    azimuth = np.arange(AZIMUTHS) / AZIMUTHS * 2.0 * np.pi
    up, around = np.meshgrid(elevation, azimuth, indexing="ij")
    return np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], axis=-1)


def _without_leaks(radii: Array) -> Array:
    """Replace lines that found no bone, or only far outside, by the median of those around them."""
    for _ in range(ELEVATIONS):
        around = _median_around(radii)
        is_leak = ~(radii <= MAX_BULGE * around) & np.isfinite(around)
        if not is_leak.any():
            break
        radii = np.where(is_leak, around, radii)
    filled = np.pad(np.where(np.isfinite(radii), radii, 0.0), ((0, 0), (1, 1)), mode="wrap")
    return np.asarray(ndimage.median_filter(filled, size=3, mode="nearest")[:, 1:-1], np.float64)


def _median_around(radii: Array) -> Array:
    half = WINDOW // 2
    padded = np.pad(np.pad(radii, ((0, 0), (half, half)), mode="wrap"), ((half, half), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW)).reshape(*radii.shape, -1)
    counts = np.isfinite(windows).sum(axis=-1)
    ordered = np.sort(windows, axis=-1)  # NaN last
    median = np.take_along_axis(ordered, np.maximum(counts - 1, 0)[..., None] // 2, -1)[..., 0]
    return np.asarray(np.where(counts > 0, median, np.nan), np.float64)


def _plane(parameters: Array) -> tuple[Array, float]:
    """Normal and place from turn and roll in degrees and a move in mm."""
    turn, roll = np.deg2rad(parameters[:2])
    normal = np.array([np.cos(turn) * np.cos(roll), np.sin(turn) * np.cos(roll), np.sin(roll)])
    return normal, float(parameters[2])
