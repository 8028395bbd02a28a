"""Synthetic radiographs with their lungs: example number `index` of a seed is always the same.

No picture of a patient is in them: only the outline of the lungs is real, and that one is turned, stretched
and bent. A fifth has no lungs to be found: other shapes, and chests lying on their side or upside down.
One in eight is a part of a chest, with the lungs that are on it, so that a network learns to see them end at the edge.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from tools.lung_fields.canvas import (
    COLUMNS,
    ROWS,
    SIZE_PX,
    Grid,
    blurred,
    ellipse,
    grain,
    polygon,
    slow_field,
    strokes,
    uniform,
)
from tools.lung_fields.outlines import Outlines
from tools.lung_fields.thorax import Lungs, draw_thorax

__all__ = ["SIZE_PX", "example", "normalised"]

NO_CHEST, TURNED, PART, PLAIN, INVERTED = 0.12, 0.08, 0.14, 0.10, 0.06
Points = npt.NDArray[np.float64]


def example(outlines: Outlines, seed: int, index: int) -> tuple[Grid, Grid]:
    """Picture and truth number `index` of a seed.

    Returns
    -------
    ``float32[row, column]`` with mean 0 and spread 1, and ``float32[2, row, column]``: 1 in the lung at the image's
    left and in that at its right.
    """
    rng = np.random.default_rng([seed, index])
    kind = rng.random()
    if kind < NO_CHEST:
        return normalised(_film(rng, _no_chest(rng))), np.zeros((2, SIZE_PX, SIZE_PX), dtype=np.float32)
    lungs = _placed(rng, outlines[rng.integers(len(outlines))], is_part=kind > 1.0 - PART)
    density = _plain(rng, lungs) if rng.random() < PLAIN else draw_thorax(rng, lungs)
    picture, seen = _film(rng, density), np.stack([lungs.at_left > 0.5, lungs.at_right > 0.5])
    picture, field = _collimated(rng, picture) if rng.random() < 0.35 else (picture, np.ones_like(picture))
    truth = (seen & (field > 0.5)).astype(np.float32)
    if rng.random() < INVERTED:
        picture = 1.0 - picture
    if kind < NO_CHEST + TURNED:
        picture = picture[::-1].copy() if rng.random() < 0.5 else np.rot90(picture, int(rng.integers(1, 4))).copy()
        truth = np.zeros_like(truth)
    return normalised(picture), truth


def normalised(picture: Grid) -> Grid:
    """Mean 0 and spread 1, as the network takes it."""
    return np.asarray((picture - picture.mean()) / (picture.std() + np.float32(1e-3)), dtype=np.float32)


def _placed(rng: np.random.Generator, outline: npt.NDArray[np.uint8], *, is_part: bool) -> Lungs:
    """Real outlines, turned, stretched, bent, mirrored; of a part, only half or two thirds lie in the picture."""
    size = outline.shape[0]
    if rng.random() < 0.5:
        outline = (3 - outline[:, ::-1]) % 3
    turn = rng.normal(0.0, 0.09)
    stretch = uniform(rng, 0.75, 1.35) * rng.uniform(0.88, 1.12, 2)
    middle = 0.5 + rng.uniform(-0.08, 0.08, 2)  # of the outline's square that is shown in the middle
    if is_part:
        axis, share = int(rng.integers(2)), uniform(rng, 0.4, 0.65)
        stretch[axis] /= share
        middle[axis] = rng.choice((share / 2, 1.0 - share / 2)) + uniform(rng, -0.05, 0.05)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    to_picture = np.diag(stretch * SIZE_PX / size) @ spin
    from_picture = np.linalg.inv(to_picture)
    bend = [slow_field(rng, 5) * uniform(rng, 0.0, 0.03) * SIZE_PX for _ in range(2)]
    grid = np.stack([ROWS + bend[0], COLUMNS + bend[1]]).reshape(2, -1) - (SIZE_PX - 1) / 2
    where = from_picture @ grid + (middle * size)[:, None]
    masks = [
        blurred(ndimage.map_coordinates((outline == label).astype(np.float32), where, order=1).reshape(ROWS.shape), 0.8)
        for label in (1, 2)
    ]
    edges = []
    for label in (1, 2):
        pixels = np.argwhere(outline == label)[::17].T
        edges.append((to_picture @ (pixels - (middle * size)[:, None])).T + (SIZE_PX - 1) / 2)
    every = np.vstack(edges)
    (top, left), (bottom, right) = every.min(axis=0), every.max(axis=0)
    between = (edges[0][:, 1].max() + edges[1][:, 1].min()) / 2
    return Lungs(masks[0], masks[1], float(top), float(left), float(bottom - top), float(right - left), float(between))


def _plain(rng: np.random.Generator, lungs: Lungs) -> Grid:
    """Lungs of one level on another, darker or now and then brighter: their shape is all there is to see."""
    step = uniform(rng, 0.25, 0.8) * rng.choice((-1.0, -1.0, -1.0, 1.0))
    return np.asarray(uniform(rng, 0.0, 1.0) + step * lungs.both, dtype=np.float32)


def _no_chest(rng: np.random.Generator) -> Grid:
    """Limbs, heads, rings and other shapes without lungs."""
    density = np.full((SIZE_PX, SIZE_PX), uniform(rng, 0.0, 0.3), dtype=np.float32)
    for _ in range(14 if rng.random() < 0.25 else rng.integers(1, 6)):
        kind = rng.integers(4)
        if kind < 2:
            half = (uniform(rng, 0.05, 0.5) * SIZE_PX, uniform(rng, 0.05, 0.5) * SIZE_PX)
            center, angle = (uniform(rng, 0, SIZE_PX), uniform(rng, 0, SIZE_PX)), uniform(rng, 0, np.pi)
            shape = ellipse(center, half, angle)
            if kind == 1:
                inner = uniform(rng, 0.6, 0.95)
                shape = shape - ellipse(center, (half[0] * inner, half[1] * inner), angle)
        elif kind == 2:
            path = rng.uniform(-0.2, 1.2, (4, 2)) * SIZE_PX
            shape = strokes([(path[np.argsort(path[:, 0])], uniform(rng, 0.03, 0.35) * SIZE_PX, 1.0)])
        else:
            shape = polygon(rng.uniform(0, SIZE_PX, (int(rng.integers(3, 7)), 2)))
        shape = blurred(shape, uniform(rng, 0.5, 0.05 * SIZE_PX))
        if rng.random() < 0.3:
            density = density * (1.0 - shape * uniform(rng, 0.0, 1.0))
        density = density + shape * uniform(rng, -0.4, 0.9)
    return density + grain(rng, uniform(rng, 0.4, 0.7)) * np.float32(uniform(rng, 0.0, 0.08))


def _film(rng: np.random.Generator, density: Grid) -> Grid:
    """What detector, processing and printing make of a density: blur, shading, window, gamma, sharpening, noise."""
    picture = blurred(density, uniform(rng, 0.0, 1.2) * SIZE_PX / 220)
    picture = picture * (1.0 + uniform(rng, 0.0, 0.25) * slow_field(rng, 4))
    picture = picture + uniform(rng, 0.0, 0.12) * slow_field(rng, 3)
    darkest, brightest = np.percentile(picture, [uniform(rng, 0.0, 3.0), uniform(rng, 97.0, 100.0)])
    picture = np.clip((picture - darkest) / (brightest - darkest + 1e-6), 0.0, 1.0) ** uniform(rng, 0.55, 1.8)
    if rng.random() < 0.25:
        slow = blurred(picture, uniform(rng, 0.03, 0.12) * SIZE_PX)
        sharp = (picture - slow) * uniform(rng, 0.8, 2.0) + (slow - 0.5) * uniform(rng, 0.2, 0.9)
        picture = np.clip(0.5 + sharp, 0.0, 1.0)
    picture = picture + rng.normal(size=picture.shape) * uniform(rng, 0.0, 0.04)
    picture = np.clip(picture * uniform(rng, 0.7, 1.0) + uniform(rng, 0.0, 0.2), 0.0, 1.0).astype(np.float32)
    for _ in range(rng.integers(0, 3)):
        picture = _lettered(rng, picture)
    return picture


def _lettered(rng: np.random.Generator, picture: Grid) -> Grid:
    """A side marker or other letters, white or black."""
    size = int(rng.integers(8, 22))
    canvas = Image.new("L", (SIZE_PX, SIZE_PX))
    place = (uniform(rng, 0, 0.9) * SIZE_PX, uniform(rng, 0, 0.95) * SIZE_PX)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(canvas).text(place, str(rng.choice(list("LRABPHERECT"))), fill=255, font=font)
    letter = np.asarray(canvas, dtype=np.float32) / 255.0
    return np.asarray(picture * (1.0 - letter) + letter * rng.choice((0.0, 1.0)), dtype=np.float32)


def _collimated(rng: np.random.Generator, picture: Grid) -> tuple[Grid, Grid]:
    """A border of one level around a slightly turned rectangle, and that rectangle."""
    turn, half = uniform(rng, -0.1, 0.1), rng.uniform(0.39, 0.525, 2) * SIZE_PX
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * half
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    field = polygon(corners @ spin.T + rng.uniform(0.45, 0.55, 2) * SIZE_PX)
    border = np.float32(rng.choice((0.0, 0.0, 1.0, 0.1)))
    return np.asarray(picture * field + (1.0 - field) * border, dtype=np.float32), field
