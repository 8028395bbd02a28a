"""CT with known truth: a thorax with nodules, and a heart with calcium; everything from arguments and a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.study import Series
from node.domain.volume import Volume
from tests.phantoms import ct_slice
from tests.phantoms_mr import as_series

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]

AIR, LUNG, FAT, SOFT, MARROW, CORTEX = -1000.0, -860.0, -100.0, 40.0, 250.0, 700.0
AIRWAYS = (((0, 5, 150), (0, 8, 35), 8.5), ((0, 8, 35), (-45, 8, 5), 6.0), ((0, 8, 35), (50, 8, 0), 6.0))
EDGE_MM = 1.2  # over which an edge rises, as on a scanner


@dataclass(frozen=True, slots=True)
class Nodule:
    """A ball: centre in LPS mm, diameter and HU; `core_mm` and `core_hu` make it part-solid."""

    centre: Point
    diameter_mm: float
    hu: float = SOFT
    core_mm: float = 0.0
    core_hu: float = SOFT

    @property
    def volume_ml(self) -> float:
        return np.pi / 6.0 * self.diameter_mm**3 / 1000.0


NODULES = (
    Nodule((-80.0, 10.0, 60.0), 10.0),  # right upper, solid
    Nodule((75.0, -20.0, -20.0), 6.0),  # left middle, solid and small
    Nodule((-85.0, 35.0, -25.0), 16.0, -620.0),  # right middle, ground glass
    Nodule((80.0, 30.0, 50.0), 20.0, -600.0, 9.0),  # left upper, part-solid
    Nodule((-128.5, 0.0, 10.0), 12.0),  # right, its outer half behind the pleura
    Nodule((70.0, 45.0, -80.0), 8.0),  # left lower, solid
)


@dataclass(slots=True)
class Grid:
    """An array with its place; what is drawn has an edge of `EDGE_MM`."""

    array: Array
    spacing_mm: Point
    origin: Point  # LPS of the first voxel; axes are up, back, left

    def axes(self, box: tuple[slice, ...] | None = None) -> list[npt.NDArray[np.float32]]:
        """z, y and x in mm, broadcastable, of a box."""
        box = box or tuple(slice(0, side) for side in self.array.shape)
        lines = [
            (origin + step * np.arange(part.start, part.stop)).astype(np.float32)
            for origin, step, part in zip(self.origin[::-1], self.spacing_mm, box, strict=True)
        ]
        return [lines[0][:, None, None], lines[1][:, None], lines[2]]

    def box(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, ...]:
        """Voxels between two corners in LPS mm."""
        parts = []
        for start, end, origin, step, side in zip(
            low[::-1], high[::-1], self.origin[::-1], self.spacing_mm, self.array.shape, strict=True
        ):
            first = int(np.clip(np.floor((start - origin) / step), 0, side))
            parts.append(slice(first, int(np.clip(np.ceil((end - origin) / step) + 1, first, side))))
        return tuple(parts)

    def blend(self, depth_mm: npt.NDArray[np.float32], hu: float, box: tuple[slice, ...] | None = None) -> None:
        """Put `hu` where the depth below a surface is positive, half at the surface itself."""
        share = np.clip(depth_mm / EDGE_MM + 0.5, 0.0, 1.0)
        part = self.array[box] if box else self.array
        part += share * (hu - part)

    def ball(self, centre: Point, diameter_mm: float, hu: float) -> None:
        reach = diameter_mm / 2.0 + 2.0
        box = self.box([c - reach for c in centre], [c + reach for c in centre])
        z, y, x = self.axes(box)
        away = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        self.blend(diameter_mm / 2.0 - away, hu, box)

    def tube(self, start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], radius_mm: float, hu: float) -> None:
        """A cylinder with round ends."""
        low, high = np.minimum(start, end) - radius_mm - 2.0, np.maximum(start, end) + radius_mm + 2.0
        box = self.box(list(low), list(high))
        z, y, x = self.axes(box)
        along = end - start
        length = float(along @ along)
        share = ((x - start[0]) * along[0] + (y - start[1]) * along[1] + (z - start[2]) * along[2]) / max(length, 1e-6)
        share = np.clip(share, 0.0, 1.0)
        away = np.sqrt(sum((axis - s - share * a) ** 2 for axis, s, a in zip((x, y, z), start, along, strict=True)))
        self.blend((radius_mm - away).astype(np.float32), hu, box)

    def volume(self) -> Volume:
        return make_volume(self.array, self.spacing_mm, self.origin)


BULLAE = (Nodule((-75.0, 20.0, -55.0), 30.0, -990.0), Nodule((75.0, 0.0, 20.0), 26.0, -990.0))
"""Balls of air: what lies below -950 HU is known."""

CALCIUM = ((-3, 60, 4, 2, 150.0), (3, 40, 3, 3, 250.0), (10, 30, 2, 2, 350.0), (17, 20, 5, 4, 600.0))
"""Boxes in the heart: slice from its middle, column from the spine, rows, columns and HU; each on one slice."""


def make_volume(array: npt.NDArray[np.generic], spacing_mm: Point, origin: Point = (0.0, 0.0, 0.0)) -> Volume:
    """A Volume whose axes are up, back and left."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing_mm[2]], [0, spacing_mm[1], 0], [spacing_mm[0], 0, 0]])
    affine[:3, 3] = origin
    uids = tuple(f"2.25.{index + 1}" for index in range(len(array)))
    return Volume(np.asarray(array, np.float32), affine, "HU", uids, "2.25.1000")


def thorax(
    nodules: Sequence[Nodule] = NODULES,
    *,
    spacing_mm: Point = (1.5, 1.0, 1.0),
    seed: int = 1,
    noise_hu: float = 18.0,
    has_vessels: bool = True,
    lung_hu: float = LUNG,
    height_mm: float = 290.0,
) -> Grid:
    """A chest from the neck to below the diaphragm: skin, fat, ribs, spine, heart, airways, vessels, table."""
    size = (round(height_mm / spacing_mm[0]), round(270.0 / spacing_mm[1]), round(360.0 / spacing_mm[2]))
    grid = Grid(np.full(size, AIR, np.float32), spacing_mm, (-180.0, -130.0, -145.0))
    z, y, x = grid.axes()
    _draw_wall(grid)
    lungs = np.full(size, -1e3, np.float32)
    for side, dome in ((-1.0, -88.0), (1.0, -95.0)):
        lung = _ellipsoid((x, y, z), (side * 72.0, 0.0, -20.0), (58.0, 80.0, 125.0))
        lung = np.minimum(lung, -_ellipsoid((x, y, z), (side * 70.0, 5.0, dome - 60.0), (68.0, 95.0, 75.0)))
        np.maximum(lungs, lung, out=lungs)
    heart = _ellipsoid((x, y, z), (15.0, -25.0, -50.0), (62.0, 50.0, 58.0))
    grid.blend(np.minimum(lungs, -heart), lung_hu)
    if has_vessels:
        _draw_vessels(grid, seed)
    inside = np.minimum(lungs, -heart)
    for nodule in nodules:
        _draw_nodule(grid, nodule, inside)
    for wider_mm, hu in ((1.5, SOFT), (0.0, AIR)):
        for start, end, radius in AIRWAYS:
            grid.tube(np.array(start, np.float64), np.array(end, np.float64), radius + wider_mm, hu)
    return _noisy(grid, noise_hu, seed)


def _draw_wall(grid: Grid) -> None:
    z, y, x = grid.axes()
    across = 1.0 - 0.25 * np.clip((z - 60.0) / 100.0, 0, 1)  # narrower towards the neck
    skin = (1.0 - np.sqrt((x / (158.0 * across)) ** 2 + (y / (112.0 * across)) ** 2)) * 112.0
    grid.blend(np.broadcast_to(skin, grid.array.shape), SOFT)  # skin
    grid.blend(np.broadcast_to(skin - 2.0, grid.array.shape), FAT)
    grid.blend(np.broadcast_to(skin - 10.0, grid.array.shape), SOFT)
    slope = z + 0.25 * y  # ribs fall to the front
    rib = 4.0 - np.abs((slope % 22.0) - 11.0)
    shell = 3.0 - np.abs((np.sqrt((x / 140.0) ** 2 + (y / 98.0) ** 2) - 1.0) * 98.0)
    grid.blend(np.minimum(np.minimum(rib, shell), 110.0 - np.abs(z)), MARROW)
    spine = 16.0 - np.sqrt(x**2 + (y - 68.0) ** 2)
    grid.blend(np.broadcast_to(spine, grid.array.shape), CORTEX)
    grid.blend(np.broadcast_to(spine - 2.0, grid.array.shape), MARROW)
    sternum = np.minimum(15.0 - np.abs(x), 5.0 - np.abs(y + 90.0))
    grid.blend(np.broadcast_to(np.minimum(sternum, 70.0 - np.abs(z)), grid.array.shape), MARROW)
    for depth in (116.0, 128.0):  # a table of two shells with foam between
        grid.blend(np.broadcast_to(np.minimum(1.0 - np.abs(y - depth), 170.0 - np.abs(x)), grid.array.shape), -150.0)


def _ellipsoid(axes: Sequence[npt.NDArray[np.float32]], centre: Point, half: Point) -> Array:
    """Depth below an ellipsoid's surface, about in mm."""
    square = sum(((axis - c) / h) ** 2 for axis, c, h in zip(axes, centre, half, strict=True))
    return np.asarray((1.0 - np.sqrt(square)) * min(half), np.float32)


def _draw_nodule(grid: Grid, nodule: Nodule, inside: Array) -> None:
    """Within the lung only: what lies in the wall is wall."""
    if nodule.hu < 0:
        grid.ball(nodule.centre, nodule.diameter_mm + 1.0, LUNG)  # no vessel runs through ground glass
    before = grid.array.copy() if nodule.hu < 0 else None
    grid.ball(nodule.centre, nodule.diameter_mm, nodule.hu)
    if nodule.core_mm:
        grid.ball(nodule.centre, nodule.core_mm, nodule.core_hu)
    if before is not None:
        outside = inside < 0
        grid.array[outside] = before[outside]


def _draw_vessels(grid: Grid, seed: int) -> None:
    random = np.random.default_rng(seed)
    for side in (-1.0, 1.0):
        start = np.array([side * 38.0, 8.0, 0.0])
        for up in (-0.9, -0.3, 0.4, 1.0):
            _branch(grid, random, start, np.array([side, 0.15, up]), 3.2, 30.0, 6)


def _branch(  # noqa: PLR0917
    grid: Grid, random: np.random.Generator, start: npt.NDArray[np.float64], direction: npt.NDArray[np.float64],
    radius: float, length: float, depth: int,
) -> None:  # fmt: skip
    direction = direction / np.linalg.norm(direction)
    end = start + length * direction
    index = [round((p - o) / s) for p, o, s in zip(end[::-1], grid.origin[::-1], grid.spacing_mm, strict=True)]
    if any(not 0 <= i < side for i, side in zip(index, grid.array.shape, strict=True)):
        return
    if grid.array[tuple(index)] > -500.0:  # vessels end before the pleura
        return
    grid.tube(start, end, radius, SOFT)
    if depth:
        for _ in range(2):
            turn = random.normal(0.0, 0.45, 3)
            _branch(grid, random, end, direction + turn, radius * 0.75, length * 0.82, depth - 1)


def heart(
    boxes: Sequence[tuple[int, int, int, int, float]] = CALCIUM,
    *,
    spacing_mm: Point = (3.0, 1.0, 1.0),
    noise_hu: float = 12.0,
    blood_hu: float = SOFT,
    height_mm: float = 170.0,
    seed: int = 3,
) -> tuple[Grid, float]:
    """The same chest in thick slices, with even boxes of calcium in the heart; the Agatston sum by hand beside it."""
    grid = thorax((), spacing_mm=spacing_mm, seed=seed, noise_hu=noise_hu, has_vessels=False, height_mm=height_mm)
    if blood_hu != SOFT:
        z, y, x = grid.axes()
        grid.blend(_ellipsoid((x, y, z), (15.0, -25.0, -50.0), (45.0, 35.0, 45.0)), blood_hu)
    middle = round((-50.0 - grid.origin[2]) / spacing_mm[0])
    row = round((-25.0 - grid.origin[1]) / spacing_mm[1])
    total = 0.0
    for slices, column, rows, columns, hu in boxes:
        at = round((column - 30.0 - grid.origin[0]) / spacing_mm[2])
        grid.array[middle + slices, row : row + rows, at : at + columns] = hu
        weight = 1 + (hu >= 200.0) + (hu >= 300.0) + (hu >= 400.0)
        total += rows * columns * spacing_mm[1] * spacing_mm[2] * weight * spacing_mm[0] / 3.0
    return grid, total


def _noisy(grid: Grid, noise_hu: float, seed: int) -> Grid:
    if noise_hu:
        noise = np.random.default_rng(seed).standard_normal(grid.array.shape, np.float32)
        noise = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(noise, 0.7, 1), 0.7, 2)
        grid.array += noise * np.float32(noise_hu / noise.std())
    np.clip(grid.array, -1024.0, 3071.0, out=grid.array)
    return grid


def write_ct(grid: Grid, folder: Path, **header: object) -> Series:
    """Write a Grid as a CT Series, slices of one millimetre thickness per millimetre of distance."""
    folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, object] = {
        "BodyPartExamined": "CHEST",
        "SliceThickness": grid.spacing_mm[0],
        "PixelSpacing": [grid.spacing_mm[1], grid.spacing_mm[2]],
        "ConvolutionKernel": "B30f",
        "KVP": 120,
        **header,
    }
    paths = []
    for index, plane in enumerate(grid.array):
        place = [grid.origin[0], grid.origin[1], grid.origin[2] + index * grid.spacing_mm[0]]
        values = np.round(plane).astype(np.int16)
        name = folder / f"{index:04d}.dcm"
        paths.append(
            ct_slice(
                name, number=index + 1, values_hu=values, ImagePositionPatient=place, InstanceNumber=index + 1, **given
            )
        )
    return as_series(paths)
