"""Brushes for synthetic radiographs: soft shapes, strokes and random fields on one fixed grid.

Everything is ``float32[row, column]`` of `SIZE_PX` squared and takes its randomness from the generator it is given.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

__all__ = [
    "COLUMNS",
    "ROWS",
    "SIZE_PX",
    "Grid",
    "Points",
    "Stroke",
    "blurred",
    "ellipse",
    "grain",
    "polygon",
    "slow_field",
    "strokes",
    "uniform",
]

SIZE_PX = 128
FINER = 2  # strokes and polygons are drawn this much finer and averaged
Grid = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
"""``float64[point, 2]``: (row, column)."""
Stroke = tuple[Points, float, float]
"""A line through points, its width in pixels and its strength."""

ROWS, COLUMNS = (axis.astype(np.float32) for axis in np.mgrid[:SIZE_PX, :SIZE_PX])
_STEPS = np.arange(SIZE_PX, dtype=np.float32)
_SQUARED_DISTANCES = (_STEPS[:, None] - _STEPS[None, :]) ** 2


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two bounds."""
    return float(rng.uniform(low, high))


def blurred(picture: Grid, sigma: float) -> Grid:
    """Gaussian blur as two matrix products; the edge is renormalised, not mirrored."""
    if sigma < 0.3:
        return picture
    kernel = np.exp(-_SQUARED_DISTANCES / np.float32(2.0 * sigma * sigma))
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.asarray(kernel @ picture @ kernel.T, dtype=np.float32)


def slow_field(rng: np.random.Generator, points: int) -> Grid:
    """A smooth random field between -1 and 1 that turns about `points` times across the picture."""
    nodes = np.linspace(0.0, SIZE_PX - 1.0, points, dtype=np.float32)
    width = np.float32(0.6 * SIZE_PX / (points - 1))
    weights = np.exp(-(((_STEPS[:, None] - nodes[None, :]) / width) ** 2) / 2.0)
    weights /= weights.sum(axis=1, keepdims=True)
    field = weights @ rng.normal(size=(points, points)).astype(np.float32) @ weights.T
    return np.asarray(field / (np.abs(field).max() + 1e-6), dtype=np.float32)


def grain(rng: np.random.Generator, persistence: float) -> Grid:
    """Texture of every size, as of lung or bone: octaves of noise, each `persistence` as strong as the coarser one."""
    picture, strength, points = np.zeros((SIZE_PX, SIZE_PX), dtype=np.float32), 1.0, 4
    while points < SIZE_PX:
        positions = np.linspace(0.0, points - 1.0, SIZE_PX)
        weights = np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(points)[None, :])).astype(np.float32)
        picture += strength * (weights @ rng.normal(size=(points, points)).astype(np.float32) @ weights.T)
        points, strength = points * 2, strength * persistence
    return np.asarray(picture / (picture.std() + np.float32(1e-6)), dtype=np.float32)


def ellipse(center: tuple[float, float], half: tuple[float, float], angle: float = 0.0, softness: float = 0.1) -> Grid:
    """A soft ellipse, 1 inside: centre and half axes as (row, column), turned by `angle` in radians."""
    down, across = ROWS - np.float32(center[0]), COLUMNS - np.float32(center[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    first, second = cosine * down + sine * across, cosine * across - sine * down
    radius = np.sqrt((first / np.float32(max(half[0], 0.5))) ** 2 + (second / np.float32(max(half[1], 0.5))) ** 2)
    return _step((1.0 - radius) / np.float32(max(softness, 0.02)))


def polygon(points: Points) -> Grid:
    """A filled polygon, 1 inside."""
    canvas = Image.new("L", (SIZE_PX * FINER, SIZE_PX * FINER))
    ImageDraw.Draw(canvas).polygon(_corners(points), fill=255)
    return np.asarray(canvas.reduce(FINER), dtype=np.float32) / 255.0


def strokes(lines: Iterable[Stroke]) -> Grid:
    """Lines through points; where two cross, the later one is seen."""
    canvas = Image.new("F", (SIZE_PX * FINER, SIZE_PX * FINER))
    draw = ImageDraw.Draw(canvas)
    for points, width, strength in lines:
        joint = "curve" if width > 2 else None
        draw.line(_corners(points), fill=strength, width=max(1, round(width * FINER)), joint=joint)
    return np.asarray(canvas.reduce(FINER), dtype=np.float32)


def _corners(points: Points) -> Sequence[tuple[float, float]]:
    return [(float(column * FINER), float(row * FINER)) for row, column in points]


def _step(values: Grid) -> Grid:
    return np.asarray(1.0 / (1.0 + np.exp(-4.0 * np.clip(values, -8.0, 8.0))), dtype=np.float32)
