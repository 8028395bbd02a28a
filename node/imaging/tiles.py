"""A window that slides over an image too large for a network, and how its answers are put together again.

Neighbouring tiles overlap, and each counts most in its middle: at its border a network sees only half of what it
needs. Weights are a Gaussian with a standard deviation of an eighth of the side, as nnU-Net has it.

Isensee et al., Nat Methods 2021;18:203.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from node.domain.volume import Pixels

__all__ = ["gaussian_weights", "slide", "tile_places"]

SIGMA_SHARE = 0.125
LEAST_WEIGHT = 1e-3  # a place that lies at the border of every tile still gets an answer


def slide(array: Pixels, size: Sequence[int], overlap: float, run: Callable[[Pixels], Pixels]) -> Pixels:
    """Let a network answer tile by tile, and blend the answers.

    Parameters
    ----------
    array
        ``float32`` with as many axes as `size`, along none shorter than it; any axes before them (channels) stay whole.
    size
        Sides of a tile.
    overlap
        Share of a tile that the next one sees as well, 0 to below 1.
    run
        Takes a tile, gives ``float32[label, ...]`` on its grid.

    Returns
    -------
    ``float32[label, ...]`` on the grid of `array`: the weighted mean of the answers of all tiles that hold a place.

    Raises
    ------
    ValueError
        If the array is smaller than a tile, or `overlap` is not a share.
    """
    weights = gaussian_weights(size)
    total: Pixels | None = None
    sides = array.shape[-len(size) :]
    norm = np.zeros(sides, np.float32)
    for place in tile_places(sides, size, overlap):
        before = (slice(None),) * (array.ndim - len(size))
        answer = run(array[before + place])
        if total is None:
            total = np.zeros((len(answer), *sides), np.float32)
        total[(slice(None), *place)] += answer * weights
        norm[place] += weights
    assert total is not None  # noqa: S101  # there is always one tile
    return np.asarray(total / norm, np.float32)


def tile_places(shape: Sequence[int], size: Sequence[int], overlap: float) -> Iterator[tuple[slice, ...]]:
    """Where tiles lie: as few as cover everything with at least that overlap, evenly spread from border to border.

    Raises
    ------
    ValueError
        As `slide`.
    """
    is_covered = len(shape) == len(size) and all(side >= tile > 0 for side, tile in zip(shape, size, strict=True))
    if not is_covered or not 0.0 <= overlap < 1.0:
        raise ValueError(f"expected an array of at least {list(size)} and an overlap of 0 to below 1")
    starts = [_starts(side, tile, overlap) for side, tile in zip(shape, size, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(start, start + tile) for start, tile in zip(corner, size, strict=True))


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    stride = max(1, round(tile * (1.0 - overlap)))
    count = -(-(side - tile) // stride) + 1
    return [int(start) for start in np.rint(np.linspace(0, side - tile, count))]


def gaussian_weights(size: Sequence[int]) -> Pixels:
    """How much each place of a tile counts: 1 in the middle, least at the corners, never 0."""
    weights = np.ones(tuple(size), np.float32)
    for axis, side in enumerate(size):
        distances = (np.arange(side) - (side - 1) / 2.0) / (SIGMA_SHARE * side)
        profile = np.exp(-0.5 * distances**2).astype(np.float32)
        weights *= profile.reshape([-1 if each == axis else 1 for each in range(len(size))])
    return np.maximum(weights, LEAST_WEIGHT)
