"""The grid a model sees and where it lies on the image: resampled, padded or cut, and turned, and all of it back.

A grid's place is told by edges, as in SCOORD: 0 is the outer edge of the first pixel, so a pixel's centre is at its
index and a half. Then nothing shifts by half a pixel, however much larger or smaller the grid is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from node.domain.models import Preparation
from node.domain.volume import Affine, Pixels

__all__ = ["Grid", "grid_of", "turn_of"]

# LPS directions of the letters of PS3.3 C.7.6.1.1.1.
DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


@dataclass(frozen=True, slots=True)
class Turn:
    """How stored axes become those a model wants: `axes` in their new order, then `flipped` ones reversed."""

    axes: tuple[int, ...]
    flipped: tuple[int, ...] = ()

    def apply(self, array: Pixels) -> Pixels:
        """From the stored order to the model's."""
        return np.flip(array.transpose(self.axes), self.flipped)

    def undo(self, array: Pixels) -> Pixels:
        """From the model's order to the stored one."""
        return np.flip(array, self.flipped).transpose(tuple(np.argsort(self.axes)))


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a model's grid lies on a stored image.

    Parameters
    ----------
    shape
        Its sides.
    starts, steps
        Along each axis, in pixels of the turned image: the edge at which the grid begins, and the width of its pixels.
    source_shape
        Sides of the stored image, before it is turned.
    """

    shape: tuple[int, ...]
    starts: tuple[float, ...]
    steps: tuple[float, ...]
    source_shape: tuple[int, ...]
    turn: Turn

    def take(self, values: Pixels, fill: float) -> Pixels:
        """Put an image on the grid: linear, smoothed before it shrinks; `fill` where the grid is larger."""
        turned = self.turn.apply(values)
        steps, starts = np.array(self.steps), np.array(self.starts)
        sigmas = np.maximum((steps - 1.0) / 2.0, 0.0)
        smooth = ndimage.gaussian_filter(turned, sigmas, mode="nearest") if sigmas.any() else turned
        first = starts + steps / 2.0 - 0.5
        on_grid = ndimage.affine_transform(smooth, steps, first, self.shape, np.float32, order=1, mode="nearest")
        for axis, side in enumerate(turned.shape):
            centres = starts[axis] + (np.arange(self.shape[axis]) + 0.5) * steps[axis]
            on_grid[_along(axis, (centres < 0) | (centres > side))] = fill
        return np.asarray(on_grid, np.float32)

    def put_back(self, scores: Pixels) -> Pixels:
        """Put what was found on the grid onto the stored image; 0 where the grid did not reach."""
        steps, starts = np.array(self.steps), np.array(self.starts)
        shape = tuple(self.source_shape[axis] for axis in self.turn.axes)
        first = (0.5 - starts) / steps - 0.5
        turned = ndimage.affine_transform(scores, 1.0 / steps, first, shape, np.float32, order=1, mode="nearest")
        for axis, side in enumerate(shape):
            places = (np.arange(side) + 0.5 - starts[axis]) / steps[axis]
            turned[_along(axis, (places < 0) | (places > self.shape[axis]))] = 0.0
        return np.ascontiguousarray(self.turn.undo(turned))

    def points(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Turn places on the grid (edges, ``[n, axis]``) into places on the image; for a grid that is not turned."""
        return np.asarray(np.array(self.starts) + points * np.array(self.steps), np.float64)


def grid_of(
    shape: Sequence[int], spacing_mm: Sequence[float] | None, preparation: Preparation, turn: Turn | None = None
) -> Grid:
    """Lay a model's grid on an image.

    With a spacing the grid's pixels have exactly that size and it lies in the middle of the image. Without one the
    image is stretched, or shrunk and padded to keep its proportions, or taken pixel by pixel (tiles).

    Parameters
    ----------
    shape, spacing_mm
        Of the stored image, in its stored order; the spacing is needed if the preparation has one.
    """
    turn = turn or Turn(tuple(range(len(shape))))
    sides = np.array(shape, np.float64)[list(turn.axes)]
    size = np.array(preparation.size, np.float64)
    if preparation.spacing_mm is not None and spacing_mm is not None:
        steps = np.array(preparation.spacing_mm) / np.array(spacing_mm)[list(turn.axes)]
    elif preparation.fit == "tiles":
        steps = np.ones(len(sides))
    elif preparation.fit == "pad":
        steps = np.full(len(sides), float((sides / size).max()))
    else:
        steps = sides / size
    counts = np.maximum(np.ceil(sides / steps - 1e-6), size) if preparation.fit == "tiles" else size
    starts = (sides - counts * steps) / 2.0
    return Grid(
        tuple(int(count) for count in counts),
        tuple(float(start) for start in starts),
        tuple(float(step) for step in steps),
        tuple(shape),
        turn,
    )


def turn_of(affine: Affine, axes: str) -> Turn:
    """Find which stored axis runs which way, so that they come to run as `axes` says, such as ``HPL``."""
    wanted = np.array([DIRECTIONS[letter] for letter in axes], np.float64)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = wanted @ directions  # [wanted axis, stored axis]
    _, stored = linear_sum_assignment(-np.abs(cosines))
    flipped = tuple(place for place, axis in enumerate(stored) if cosines[place, axis] < 0)
    return Turn(tuple(int(axis) for axis in stored), flipped)


def _along(axis: int, places: npt.NDArray[np.bool_]) -> tuple[slice | npt.NDArray[np.bool_], ...]:
    return (*(slice(None) for _ in range(axis)), places)
