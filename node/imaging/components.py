"""Connected parts of a mask and their size: volume in ml, long and short axis in mm, each with its basis.

The axes are those a radiologist draws: on one slice of the stack, the longest line across the part and the
longest line at right angles to it (RECIST 1.1; Fleischner Society 2017).

Eisenhauer et al., Eur J Cancer 2009;45:228; Bankier et al., Radiology 2017;285:584.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull

from node.domain.volume import Affine, Mask, voxel_volume_ml

__all__ = [
    "AXES_BASIS",
    "VOLUME_BASIS",
    "Axes",
    "Component",
    "find_components",
    "largest_component",
    "measure_axes",
]

Point = tuple[float, float]

# How far in pixels the outline runs outside the outermost centres. Between centres everything reads too short, between
# edges too long, since the longest line takes the luckiest pixels. At 0.3 ellipses 6 to 40 pixels long read right to
# 0.35 pixels on average, each within 1.5 (tests/unit/imaging/test_components.py); at 0.5 they read 0.5 too long.
REACH = 0.3

VOLUME_BASIS = "number of voxels times the volume of one"
AXES_BASIS = "longest line across the outline on one slice, and the longest at right angles to it"


@dataclass(frozen=True, slots=True)
class Axes:
    """Long and short axis on one slice; ends are (column, row) in SCOORD's corner-based coordinates."""

    long_mm: float
    short_mm: float
    long_ends: tuple[Point, Point]
    short_ends: tuple[Point, Point]

    @property
    def mean_mm(self) -> float:
        """Mean of both, by which the Fleischner Society sorts nodules."""
        return (self.long_mm + self.short_mm) / 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One connected part of a mask.

    Parameters
    ----------
    box
        Where it lies in the mask it was found in; ``array[box]`` are the values around it.
    inside
        ``bool[slice, row, column]`` of the size of `box`: which voxels in the box are its own.
    centre
        (slice, row, column) of its centre of mass; voxel centres are whole numbers.
    centre_mm
        The same in LPS mm.
    volume_ml
        Basis: `VOLUME_BASIS`.
    slice_index
        The slice on which its long axis is longest (the lowest of equals), where `axes` are measured.
    """

    box: tuple[slice, slice, slice]
    inside: Mask
    centre: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    volume_ml: float
    slice_index: int
    axes: Axes

    @property
    def voxel_count(self) -> int:
        """How many voxels it has."""
        return int(self.inside.sum())

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the ball of the same volume."""
        return float((6.0 * self.volume_ml * 1000.0 / np.pi) ** (1.0 / 3.0))

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """The part alone, on the grid of the mask it was found in."""
        whole = np.zeros(shape, np.bool_)
        whole[self.box] = self.inside
        return whole


def find_components(
    mask: Mask, affine: Affine, *, least_ml: float = 0.0, most: int = 1000, is_corner_connected: bool = True
) -> tuple[Component, ...]:
    """Part a mask into connected components, largest first (of equals the one first in the array).

    Parameters
    ----------
    mask
        ``bool[slice, row, column]``.
    affine
        Of the Volume the mask belongs to.
    least_ml
        Smaller ones are left out.
    most
        Bound of what is returned.
    is_corner_connected
        True for 26 neighbours, False for the 6 that share a face.
    """
    structure = ndimage.generate_binary_structure(3, 3 if is_corner_connected else 1)
    labels, count = ndimage.label(mask, structure)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels)
    wanted = np.flatnonzero(sizes * voxel_volume_ml(affine) >= least_ml)
    order = wanted[np.argsort(-sizes[wanted], kind="stable")][:most]
    return tuple(_component(labels[boxes[number]] == number + 1, boxes[number], affine) for number in order)


def largest_component(mask: Mask, *, is_corner_connected: bool = False) -> Mask:
    """The largest connected part of a mask in 2D or 3D; all False if there is none."""
    labels, _ = ndimage.label(
        mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim if is_corner_connected else 1)
    )
    sizes = np.bincount(labels.ravel(), minlength=2)
    return np.asarray(labels == (np.argmax(sizes[1:]) + 1), np.bool_)


def measure_axes(mask: Mask, spacing_mm: tuple[float, float]) -> Axes:
    """Long and short axis of a region on one slice.

    Parameters
    ----------
    mask
        ``bool[row, column]`` with at least one pixel; parts of it count as one region, hollows are filled.
    spacing_mm
        Distance of rows and of columns.

    Raises
    ------
    ValueError
        If the mask is empty.

    References
    ----------
    RECIST 1.1. Of a region that is not convex the convex outline is measured.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ValueError("expected a mask with at least one pixel")
    centres = np.stack([rows, columns], axis=1) + 0.5
    reach = REACH * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    points_mm = (centres[:, None] + reach).reshape(-1, 2) * spacing_mm
    hull = points_mm[ConvexHull(points_mm).vertices]
    distances = np.linalg.norm(hull[:, None] - hull[None], axis=2)
    one, other = (int(place) for place in np.unravel_index(int(np.argmax(distances)), distances.shape))
    long_mm = float(distances[one, other])
    along = (hull[other] - hull[one]) / long_mm
    short_ends = _longest_across(hull, along)
    short_mm = float(np.linalg.norm(short_ends[1] - short_ends[0]))
    ends = [(float(c), float(r)) for r, c in np.array([hull[one], hull[other], *short_ends]) / spacing_mm]
    return Axes(long_mm, short_mm, (ends[0], ends[1]), (ends[2], ends[3]))


def _longest_across(hull: npt.NDArray[np.float64], along: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ends of the longest line inside a convex outline at right angles to a direction; it touches a corner."""
    across = np.array([-along[1], along[0]])
    x, y = hull @ along, hull @ across
    start = int(np.argmin(x))
    x, y = np.roll(x, -start), np.roll(y, -start)
    turn = int(np.argmax(x))
    places = np.sort(x)
    one = np.interp(places, x[: turn + 1], y[: turn + 1])
    other = np.interp(places, np.append(x[turn:], x[0])[::-1], np.append(y[turn:], y[0])[::-1])
    best = int(np.argmax(np.abs(one - other)))
    return np.array([places[best] * along + side[best] * across for side in (one, other)])


def _component(inside: Mask, box: tuple[slice, slice, slice], affine: Affine) -> Component:
    first = np.array([part.start for part in box])
    centre = np.argwhere(inside).mean(axis=0) + first
    centre_mm = affine[:3, :3] @ centre + affine[:3, 3]
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    in_plane = (float(spacing_mm[1]), float(spacing_mm[2]))
    measured = [measure_axes(plane, in_plane) if plane.any() else None for plane in inside]
    longest = max(range(len(inside)), key=lambda index: axes.long_mm if (axes := measured[index]) else 0.0)
    axes = measured[longest]
    assert axes is not None  # noqa: S101  # a component has a voxel
    moved = _moved(axes, float(first[2]), float(first[1]))
    at, at_mm = (tuple(map(float, place)) for place in (centre, centre_mm))
    volume_ml = float(inside.sum()) * voxel_volume_ml(affine)
    return Component(
        box, np.asarray(inside, np.bool_), (at[0], at[1], at[2]), (at_mm[0], at_mm[1], at_mm[2]), volume_ml,
        int(first[0]) + longest, moved,
    )  # fmt: skip


def _moved(axes: Axes, columns: float, rows: float) -> Axes:
    def move(ends: tuple[Point, Point]) -> tuple[Point, Point]:
        (c0, r0), (c1, r1) = ends
        return (c0 + columns, r0 + rows), (c1 + columns, r1 + rows)

    return Axes(axes.long_mm, axes.short_mm, move(axes.long_ends), move(axes.short_ends))
