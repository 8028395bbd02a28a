"""Compare two chest handlers on nodules put into real films, pair by pair, with intervals.

``python -m tools.lung_fields.froc SITE OLD NEW FILM...``, OLD and NEW being handler files. Half of the nodules are
smooth balls, half have the texture of two masses cut out of a real film (RG1 of pydicom-data). A nodule counts
as found at k marks if one of the k best marks lies within its radius. Intervals: bootstrap over films, then
over nodules.
"""

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.data import get_testdata_file
from scipy import ndimage

from node.api import Handler, Image, Mask, Model, NotEvaluableError, find_lung_fields, read_image
from node.domain.study import Instance, Series, Study
from node.infer.models import load_manifest
from node.infer.session import open_model
from tests.phantoms import write_cr
from tools.lung_fields.films import Grid, films

__all__: list[str] = []

CONTRASTS = (0.05, 0.10, 0.20)  # of the range from black to white
DIAMETERS_MM, LUNGS_MM = (6.0, 22.0), 270.0  # both lungs of an adult are about this wide
MASSES = ((860, 1466, 84), (1173, 1456, 102))  # row, column, radius on RG1: two well-defined ones
TEMPLATE_PX = 64
MARKS = (1, 2, 4, 8)
RESAMPLED = 2000
Marks = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule that was put in, and at which mark each handler found it (999: never)."""

    film: str
    contrast: float
    diameter_mm: float
    is_real: bool
    ranks: tuple[int, int]


def main() -> None:
    """Insert, read, count, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path, help="holds models/lung_fields")
    parser.add_argument("handlers", type=Path, nargs=2, help="old and new handler file")
    parser.add_argument("films", type=Path, nargs="+", help="normal films")
    parser.add_argument("--each", type=int, default=6, help="nodules for each film and contrast")
    asked = parser.parse_args()
    handlers = [_load(path, f"handler_{number}") for number, path in enumerate(asked.handlers)]
    folder = asked.site / "models" / "lung_fields"
    models = {"lung_fields": open_model(load_manifest(folder).card, folder, threads=1)}
    textures = _textures()
    found: list[Nodule] = []
    clean: list[tuple[int, int]] = []
    rng = np.random.default_rng(20261122)
    with tempfile.TemporaryDirectory() as name:
        for film, values in films(asked.films):
            low, high = np.percentile(values, (0.1, 99.9))
            picture = np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)
            marks = [_marks(handler, models, picture, Path(name)) for handler in handlers]
            if marks[0] is None or marks[1] is None:
                _say(f"{film}: left out, refused by {'the old' if marks[0] is None else 'the new'} handler")
                continue
            clean.append((len(marks[0]), len(marks[1])))
            fields = find_lung_fields(picture, models["lung_fields"].run)
            for contrast in CONTRASTS:
                for number in range(asked.each):
                    where, radius_px, millimetres = _place(rng, fields.both, fields.width_px)
                    texture = textures[rng.integers(len(textures))] if number % 2 else None
                    stamp = _stamp(picture.shape, where, radius_px, texture, rng.uniform(0, 360))
                    spoilt = np.clip(picture + contrast * stamp, 0.0, 1.0).astype(np.float32)
                    ranks = [_rank(_marks(one, models, spoilt, Path(name)), where, radius_px) for one in handlers]
                    found.append(Nodule(film, contrast, millimetres, texture is not None, (ranks[0], ranks[1])))
    _say(f"{len(clean)} films, {len(found)} nodules; marks on the films themselves: old "
         f"{np.mean([one[0] for one in clean]):.2f}, new {np.mean([one[1] for one in clean]):.2f} each")  # fmt: skip
    _report(found)


def _report(found: list[Nodule]) -> None:
    groups = {f"contrast {contrast:.2f}": [one for one in found if one.contrast == contrast] for contrast in CONTRASTS}
    groups |= {"all": found, "smooth": [one for one in found if not one.is_real]}
    groups |= {"real texture": [one for one in found if one.is_real]}
    for low, high in ((6, 11), (11, 16), (16, 22)):
        groups[f"{low} to {high} mm"] = [one for one in found if low <= one.diameter_mm < high]
    for name, group in groups.items():
        for most in MARKS:
            hits = np.array([[rank < most for rank in one.ranks] for one in group], dtype=np.float64)
            old, new, gain = (_interval(column, group) for column in (*hits.T, hits[:, 1] - hits[:, 0]))
            _say(f"{name}, {most} marks, n {len(group)}: old {old}, new {new}, new less old {gain}")


def _interval(values: npt.NDArray[np.float64], group: list[Nodule]) -> str:
    """Mean and 95 % interval, by films first: nodules in one film are not independent."""
    rng = np.random.default_rng(1)
    names = sorted({one.film for one in group})
    by_film = [values[[one.film == name for one in group]] for name in names]
    means = []
    for _ in range(RESAMPLED):
        chosen = rng.integers(len(names), size=len(names))
        means.append(float(np.concatenate([rng.choice(by_film[film], len(by_film[film])) for film in chosen]).mean()))
    low, high = np.percentile(means, (2.5, 97.5))
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def _place(rng: np.random.Generator, lungs: Mask, width_px: int) -> tuple[tuple[float, float], float, float]:
    """A place in a lung not close to its edge, the radius in pixels, the diameter in mm on an adult's scale."""
    inside = ndimage.distance_transform_edt(lungs) > 0.03 * width_px
    rows, columns = np.nonzero(inside)
    chosen = rng.integers(rows.size)
    diameter_mm = float(rng.uniform(*DIAMETERS_MM))
    return (float(rows[chosen]), float(columns[chosen])), diameter_mm / 2 / LUNGS_MM * width_px, diameter_mm


def _stamp(
    shape: tuple[int, ...], where: tuple[float, float], radius_px: float, texture: Grid | None, turn: float
) -> Grid:
    """A nodule of height about 1: a ball, or a real mass turned and made small."""
    stamp = np.zeros(shape, dtype=np.float32)
    if texture is None:
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        square = ((rows - where[0]) ** 2 + (columns - where[1]) ** 2) / radius_px**2
        return np.asarray(np.sqrt(np.clip(1.0 - square, 0.0, 1.0)), dtype=np.float32)
    factor = radius_px / (TEMPLATE_PX / 2 / 1.5)
    turned = ndimage.rotate(texture, turn, reshape=False, order=1)
    small = ndimage.zoom(ndimage.gaussian_filter(turned, max(0.0, 0.4 / factor - 0.4)), factor, order=1)
    top, left = (round(place - side / 2) for place, side in zip(where, small.shape, strict=True))
    part = stamp[max(0, top) : top + small.shape[0], max(0, left) : left + small.shape[1]]
    part[:] = small[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]]
    return stamp


def _textures() -> list[Grid]:
    """Two masses of RG1 over a plane through what surrounds them, each 1.5 radii to the edge, height about 1."""
    path = get_testdata_file("RG1_UNCR.dcm")
    film: Image = read_image(Instance("1.2", "", "", "1.2.3", Path(str(path)), 0, ""))
    found = []
    for row, column, radius in MASSES:
        half = round(1.5 * radius)
        patch = film.array[row - half : row + half, column - half : column + half]
        patch = ndimage.zoom(patch, TEMPLATE_PX / patch.shape[0], order=1)[:TEMPLATE_PX, :TEMPLATE_PX]
        down, across = (np.mgrid[:TEMPLATE_PX, :TEMPLATE_PX] - (TEMPLATE_PX - 1) / 2) / (TEMPLATE_PX / 2 / 1.5)
        distance = np.hypot(down, across)
        terms = np.stack([np.ones_like(down), down, across], axis=-1)
        around = (distance > 1.1) & (distance < 1.5)
        plane = terms @ np.linalg.lstsq(terms[around], patch[around], rcond=None)[0]
        mass = (patch - plane) * np.clip((1.2 - distance) / 0.2, 0.0, 1.0)
        found.append(np.clip(mass / np.percentile(mass[distance < 0.9], 75), -0.3, 1.5).astype(np.float32))
    return found


def _marks(handler: Handler, models: Mapping[str, Model], picture: Grid, folder: Path) -> Marks | None:
    """Row and column of every mark, best first; None if the film is refused."""
    path = write_cr((picture * 4095).astype(np.uint16), folder / "film.dcm", PixelSpacing=[0, 0])
    instance = Instance("1.2.4", "", "", "1.2.3", path, 0, "")
    try:
        reading = handler.analyse(Study("1.2", 1, (Series("1.2.3", "CR", (instance,), {}),)), models)
    except NotEvaluableError:
        return None
    ordered = sorted(reading.findings, key=lambda finding: -(finding.score or 0.0))
    centres = [np.mean(finding.regions[0].points, axis=0) - 0.5 for finding in ordered]
    return [(float(row), float(column)) for column, row in centres]


def _rank(marks: Marks | None, where: tuple[float, float], radius_px: float) -> int:
    for number, (row, column) in enumerate(marks or ()):
        if np.hypot(row - where[0], column - where[1]) <= max(radius_px, 0.01 * 512):
            return number
    return 999


def _load(path: Path, name: str) -> Handler:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    handler: Handler = module.handler
    return handler


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
