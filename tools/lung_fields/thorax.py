"""Draw a chest around given lungs: the density a synthetic radiograph would have, every property at random.

The ranges are far wider than in people on purpose (domain randomisation: Billot et al., Med Image Anal
2023;86:102789): a network that copes with all of them has seen real films as one more variation. Lengths
are fractions of the height or width of the lungs, densities fractions of the step from air to bone.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tools.lung_fields.canvas import (
    COLUMNS,
    ROWS,
    SIZE_PX,
    Grid,
    Points,
    Stroke,
    blurred,
    ellipse,
    grain,
    polygon,
    slow_field,
    strokes,
    uniform,
)

__all__ = ["Lungs", "draw_thorax"]


@dataclass(frozen=True, slots=True, eq=False)
class Lungs:
    """Two lungs on the grid, 0 to 1, and the box around both in pixels; the box may reach beyond the picture."""

    at_left: Grid
    at_right: Grid
    top: float
    left: float
    height: float
    width: float
    middle: float
    """Column between the lungs."""

    @property
    def both(self) -> Grid:
        """Either lung."""
        return np.maximum(self.at_left, self.at_right)

    def at(self, down: float, across: float) -> tuple[float, float]:
        """Row and column of a place: fractions of the height from the top, of the width from the middle."""
        return self.top + down * self.height, self.middle + across * self.width


def draw_thorax(rng: np.random.Generator, lungs: Lungs) -> Grid:
    """Density of a chest with these lungs."""
    body = _body(rng, lungs)
    density = body * (uniform(rng, 0.45, 0.75) + uniform(rng, 0.1, 0.5) * _roundness(lungs))
    density += uniform(rng, -0.15, 0.25) * np.clip((ROWS - lungs.top) / lungs.height, -0.5, 1.5)
    density -= body * _air(rng, lungs)
    density = _with_mediastinum(rng, lungs, density, body)
    density += _below(rng, lungs, body)
    density += _bones(rng, lungs) * body
    density += _vessels(rng, lungs)
    density += grain(rng, uniform(rng, 0.35, 0.75)) * uniform(rng, 0.0, 0.035) * lungs.both
    density += _disease(rng, lungs)
    if rng.random() < 0.3:
        density += _devices(rng)
    return np.asarray(density, dtype=np.float32)


def _body(rng: np.random.Generator, lungs: Lungs) -> Grid:
    """Where the patient is: wider at the shoulders, narrower at the neck."""
    down = (ROWS - lungs.top) / np.float32(lungs.height)
    half = lungs.width / 2 * uniform(rng, 1.05, 1.45) * (1.0 + uniform(rng, -0.05, 0.1) * down)
    half = half + np.clip(-down, 0.0, 1.0) * lungs.width * uniform(rng, -0.6, 0.5)
    half = half + np.clip(0.25 - down, 0.0, 0.25) * lungs.width * uniform(rng, 0.0, 0.8)
    outwards = np.abs(COLUMNS - np.float32(lungs.middle)) / np.maximum(half, 2.0)
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((outwards - 1.0) * uniform(rng, 12.0, 50.0), -30, 30))), np.float32)


def _roundness(lungs: Lungs) -> Grid:
    """A patient is thicker in the middle than at the sides."""
    outwards = (COLUMNS - np.float32(lungs.middle)) / np.float32(0.65 * lungs.width)
    return np.asarray(np.sqrt(np.clip(1.0 - outwards**2, 0.0, 1.0)), dtype=np.float32)


def _air(rng: np.random.Generator, lungs: Lungs) -> Grid:
    """How much the lungs take away: more where they are thick, not the same on both sides."""
    depth = ndimage.distance_transform_edt(lungs.both > 0.5) / (uniform(rng, 0.08, 0.25) * lungs.width)
    rim = uniform(rng, 0.15, 0.7)
    profile = lungs.both * (rim + (1.0 - rim) * (1.0 - (1.0 - np.clip(depth, 0.0, 1.0)) ** 2))
    amount = uniform(rng, 0.3, 0.75)
    side = np.where(lungs.middle > COLUMNS, amount, amount * uniform(rng, 0.8, 1.2))
    down = (ROWS - lungs.top) / lungs.height
    air = profile * (side + uniform(rng, -0.12, 0.12) * down) * (1.0 + 0.15 * slow_field(rng, 5))
    return np.asarray(air, dtype=np.float32)


def _with_mediastinum(rng: np.random.Generator, lungs: Lungs, density: Grid, body: Grid) -> Grid:
    """Spine, heart, great vessels, aortic arch; now and then a wide upper mediastinum."""
    heart_side = 1.0 if rng.random() < 0.9 else -1.0
    spine = (COLUMNS - np.float32(lungs.middle)) / np.float32(uniform(rng, 0.05, 0.12) * lungs.width)
    density = density + uniform(rng, 0.02, 0.35) * np.exp(-(spine**2))
    half = (uniform(rng, 0.16, 0.30) * lungs.height, uniform(rng, 0.13, 0.30) * lungs.width)
    place = lungs.at(uniform(rng, 0.62, 0.82), heart_side * uniform(rng, 0.02, 0.14))
    shade = ellipse(place, half, uniform(rng, -0.7, 0.7))
    half = (uniform(rng, 0.25, 0.5) * lungs.height, uniform(rng, 0.05, 0.13) * lungs.width)
    shade = np.maximum(shade, ellipse(lungs.at(uniform(rng, 0.1, 0.45), uniform(rng, -0.03, 0.03)), half))
    radius = uniform(rng, 0.03, 0.07) * lungs.width
    arch = lungs.at(uniform(rng, 0.25, 0.38), heart_side * uniform(rng, 0.05, 0.1))
    shade = np.maximum(shade, ellipse(arch, (radius, radius)))
    if rng.random() < 0.35:
        half = (uniform(rng, 0.12, 0.3) * lungs.height, uniform(rng, 0.1, 0.22) * lungs.width)
        wide = lungs.at(uniform(rng, 0.25, 0.45), uniform(rng, -0.1, 0.1))
        shade = np.maximum(shade, ellipse(wide, half, uniform(rng, -0.35, 0.35)))
    shade = blurred(shade, uniform(rng, 0.006, 0.025) * lungs.width + 0.3) * uniform(rng, 0.5, 1.0)
    inside = density[body > 0.5]
    level = float(np.percentile(inside, uniform(rng, 70.0, 97.0))) if inside.size else 0.8
    return np.asarray(density * (1.0 - shade) + shade * (level + 0.03 * grain(rng, 0.5)), dtype=np.float32)


def _below(rng: np.random.Generator, lungs: Lungs, body: Grid) -> Grid:
    """The abdomen: denser as a whole, with gas in stomach or bowel, often close under a dome."""
    added = np.zeros((SIZE_PX, SIZE_PX), dtype=np.float32)
    bottom = lungs.top + lungs.height
    if rng.random() < 0.7:
        added += (bottom - 0.1 * lungs.height < ROWS) * (1.0 - lungs.both) * body * uniform(rng, 0.0, 0.15)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 4)):
            half = (uniform(rng, 0.03, 0.1) * lungs.height, uniform(rng, 0.04, 0.16) * lungs.width)
            side = rng.choice((-1.0, 1.0))
            place = lungs.at(uniform(rng, 0.92, 1.15), side * uniform(rng, 0.12, 0.38))
            gas = blurred(ellipse(place, half, uniform(rng, -0.5, 0.5)), SIZE_PX / 160)
            added -= gas * (1.0 - lungs.both) * uniform(rng, 0.1, 0.5)
    return added


def _bones(rng: np.random.Generator, lungs: Lungs) -> Grid:
    """Ribs behind and in front, clavicles, shoulder blades."""
    bones = uniform(rng, 0.02, 0.16) * blurred(strokes(_ribs(rng, lungs)), uniform(rng, 0.4, 0.9) * SIZE_PX / 160)
    if rng.random() < 0.15:
        return bones
    tilt, down = uniform(rng, -0.12, 0.12), uniform(rng, -0.08, 0.2)
    thick, strength = uniform(rng, 0.025, 0.055) * lungs.height, uniform(rng, 0.02, 0.14)
    for side in (-1.0, 1.0):
        along = np.linspace(0.04, 0.62, 8)
        height = down - 2 * tilt * along + uniform(rng, -0.02, 0.02) + 0.03 * np.sin(8 * along)
        clavicle = strokes([(_places(lungs, height, side * along), thick, 1.0)])
        bones = bones + strength * blurred(clavicle, SIZE_PX / 220)
        corners = np.array([(0.0, 0.36), (-0.1, 0.62), (0.25, 0.60), (0.42, 0.45)]) + rng.uniform(-0.06, 0.06, (4, 2))
        blade = polygon(_places(lungs, corners[:, 0], side * corners[:, 1]))
        bones = bones + uniform(rng, 0.0, 0.15) * blurred(blade, SIZE_PX / 120)
    return bones


def _ribs(rng: np.random.Generator, lungs: Lungs) -> list[Stroke]:
    """Arcs that fall outwards behind and rise outwards in front; hollow, as cortical bone is denser."""
    count = int(rng.integers(7, 12))
    thick = uniform(rng, 0.18, 0.42) * lungs.height / count
    arch, fall, rise = uniform(rng, 0.0, 0.08), uniform(rng, 0.05, 0.3), uniform(rng, 0.1, 0.4)
    hollow, in_front, start = uniform(rng, 0.2, 0.9), uniform(rng, 0.3, 1.0), uniform(rng, -0.06, 0.06)
    has_back, has_front = rng.random() < 0.95, rng.random() < 0.8
    lines: list[Stroke] = []
    for side in (-1.0, 1.0):
        for number in range(-1, count + 2):
            level = start + (number + uniform(rng, -0.1, 0.1)) / count
            reach = 0.5 * min(1.0, 0.5 + 0.175 * max(0, number + 1))
            if has_front and 0 <= number < 0.75 * count:
                along = np.linspace(0.25, 1.05, 10)
                points = _places(lungs, level + rise * (1 - along) - arch * np.sin(np.pi * along), side * along * reach)
                lines.append((points, thick * uniform(rng, 0.8, 1.2), in_front))
            if has_back:
                along = np.linspace(0.0, 1.08, 14)
                down = level - arch * np.sin(0.8 * np.pi * along) + fall * along**2.2 * (0.5 + 0.5 * number / count)
                points = _places(lungs, down, side * along * reach)
                lines += [(points, thick, 1.0), (points, 0.5 * thick, 1.0 - 0.4 * hollow)]
    return lines


def _vessels(rng: np.random.Generator, lungs: Lungs) -> Grid:
    """Hila, and vessels that branch out of them and get thinner."""
    lines: list[Stroke] = []
    hila = np.zeros((SIZE_PX, SIZE_PX), dtype=np.float32)
    for side in (-1.0, 1.0):
        hilum = np.array(lungs.at(uniform(rng, 0.4, 0.55), side * uniform(rng, 0.08, 0.15)))
        for _ in range(rng.integers(2, 5)):
            half = uniform(rng, 0.01, 0.03) * lungs.width
            row, column = hilum + 0.04 * lungs.width * rng.normal(size=2)
            hila = np.maximum(hila, ellipse((row, column), (half, half)) * uniform(rng, 0.4, 1.2))
        for _ in range(rng.integers(6, 22)):
            count = int(rng.integers(4, 10))
            angles = uniform(rng, -1.35, 1.35) + np.cumsum(rng.normal(size=count) * 0.25)
            lengths = rng.uniform(0.02, 0.05, size=count) * lungs.width
            steps = np.stack([np.sin(angles), side * np.cos(angles)], axis=1) * lengths[:, None]
            path = np.vstack([hilum, hilum + np.cumsum(steps, axis=0)])
            width = uniform(rng, 0.006, 0.022) * lungs.width
            for part in range(count):
                strength = uniform(rng, 0.5, 1.0) * (1.0 - 0.6 * part / count)
                lines.append((path[part : part + 2], width * (1.0 - 0.8 * part / count), strength))
    picture = np.maximum(strokes(lines), hila)
    smooth = uniform(rng, 0.02, 0.12) * blurred(picture, uniform(rng, 0.3, 1.0) * SIZE_PX / 160)
    return np.asarray(smooth * np.clip(lungs.both + 0.3, 0.0, 1.0), dtype=np.float32)


def _disease(rng: np.random.Generator, lungs: Lungs) -> Grid:
    """Hazy areas, fluid with a level or a meniscus, round spots: lung that is not dark is lung all the same."""
    added = np.zeros((SIZE_PX, SIZE_PX), dtype=np.float32)
    rows, columns = np.nonzero(lungs.both > 0.5)
    if not rows.size:
        return added
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 5)):
            chosen = rng.integers(rows.size)
            half = (uniform(rng, 0.1, 0.3) * lungs.width, uniform(rng, 0.1, 0.3) * lungs.width)
            haze = ellipse((rows[chosen], columns[chosen]), half, uniform(rng, 0.0, np.pi))
            haze = blurred(haze, uniform(rng, 0.03, 0.1) * lungs.width)
            added += haze * np.clip(1.0 + 0.5 * grain(rng, 0.6), 0.0, 2.0) * uniform(rng, 0.05, 0.4)
    if rng.random() < 0.15:
        outwards = (2.0 * (COLUMNS - lungs.middle) / lungs.width) ** 2
        level = lungs.top + lungs.height * (uniform(rng, 0.55, 0.95) + uniform(rng, 0.0, 0.2) * (1.0 - outwards))
        fluid = 1.0 / (1.0 + np.exp(np.clip((level - ROWS) / (uniform(rng, 0.01, 0.08) * lungs.height), -30, 30)))
        added += fluid * (lungs.at_left if rng.random() < 0.5 else lungs.at_right) * uniform(rng, 0.1, 0.5)
    if rng.random() < 0.3:
        for _ in range(rng.integers(1, 12)):
            chosen, radius = rng.integers(rows.size), uniform(rng, 0.01, 0.06) * lungs.width
            axes = (radius, radius * uniform(rng, 0.75, 1.0))
            spot = ellipse((rows[chosen], columns[chosen]), axes, uniform(rng, 0, 3))
            added += spot * uniform(rng, 0.04, 0.25)
    return added


def _devices(rng: np.random.Generator) -> Grid:
    """Tubes, wires and a box of metal anywhere."""
    lines: list[Stroke] = []
    for _ in range(rng.integers(1, 4)):
        start, steps = rng.uniform(0, SIZE_PX, (1, 2)), rng.normal(0, 0.15 * SIZE_PX, (5, 2))
        path = np.cumsum(np.vstack([start, steps]), axis=0)
        lines.append((path, uniform(rng, 0.5, SIZE_PX / 60), uniform(rng, 0.05, 0.4)))
    added = blurred(strokes(lines), 0.5)
    if rng.random() < 0.5:
        half = uniform(rng, 0.01, 0.04) * SIZE_PX
        row, column = rng.uniform(0, SIZE_PX, 2)
        added = np.maximum(added, 1.2 * ellipse((row, column), (half, half * uniform(rng, 0.6, 1.4)), softness=0.05))
    return added


def _places(lungs: Lungs, down: Points, across: Points) -> Points:
    return np.stack([lungs.top + down * lungs.height, lungs.middle + across * lungs.width], axis=1)
