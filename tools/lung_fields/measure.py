"""Show and count what the lung fields gate does: ``python -m tools.lung_fields.measure MODEL SHEET FILM...``.

Every film is shown with the outline found, or in red if it is refused; then, for each way to spoil a film, how many
are still accepted and how well the outline agrees with that of the film itself.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from scipy import ndimage

from node.api import LungFields, Mask, NotEvaluableError, find_lung_fields
from tools.lung_fields.films import Grid, Network, films

__all__: list[str] = []

SHOWN_PX = 300
Spoil = Callable[[Grid], Grid]


def _bias(film: Grid) -> Grid:
    return film * np.linspace(0.6, 1.4, film.shape[1], dtype=np.float32)


def _noisy(film: Grid) -> Grid:
    return film + np.random.default_rng(0).normal(0, 0.1, film.shape).astype(np.float32)


KEPT: Mapping[str, Spoil] = {
    "gamma 0.5": lambda film: film**0.5,
    "gamma 2": lambda film: film**2,
    "brighter to one side": _bias,
    "noise of 10 %": _noisy,
    "blur of 1.5 %": lambda film: ndimage.gaussian_filter(film, 0.015 * film.shape[0]),
    "a tenth cut off all around": lambda film: film[
        film.shape[0] // 20 : -(film.shape[0] // 20), film.shape[1] // 20 : -(film.shape[1] // 20)
    ],
}
WRONG: Mapping[str, Spoil] = {
    "inverted": lambda film: 1.0 - film,
    "left half": lambda film: film[:, : film.shape[1] // 2],
    "right half": lambda film: film[:, film.shape[1] // 2 :],
    "left two thirds": lambda film: film[:, : 2 * film.shape[1] // 3],
    "right two thirds": lambda film: film[:, film.shape[1] // 3 :],
    "upper half": lambda film: film[: film.shape[0] // 2],
    "lower half": lambda film: film[film.shape[0] // 2 :],
    "upside down": lambda film: film[::-1],
    "turned to the left": lambda film: np.rot90(film, 1),
    "turned to the right": lambda film: np.rot90(film, 3),
}


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("sheet", type=Path, help="contact sheet that is written, PNG")
    parser.add_argument("films", type=Path, nargs="+", help="DICOM objects, pictures, folders of pictures")
    asked = parser.parse_args()
    run = Network(asked.model).run
    tiles, chests = [], []
    for name, values in films(asked.films):
        low, high = np.percentile(values, (0.1, 99.9))
        film = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0).astype(np.float32)
        fields, said = _found(film, run)
        _say(f"{name}: {said}")
        tiles.append(_tile(film, fields, f"{name[:26]} {'' if fields else 'REFUSED'}"))
        if fields:
            chests.append((film, fields))
    _write(tiles, asked.sheet)
    for name, spoil in {**KEPT, **WRONG}.items():
        accepted, dice, keys = 0, [], []
        for film, fields in chests:
            found, said = _found(np.ascontiguousarray(spoil(film)), run)
            accepted += found is not None
            keys.append(said if found is None else "")
            if found is not None and found.both.shape == fields.both.shape and name in KEPT:
                dice.append(_dice(found.both, fields.both))
        agreement = f", Dice with its own outline mean {np.mean(dice):.3f}, least {min(dice):.3f}" if dice else ""
        inverted = sum("inverted" in key for key in keys)
        said = f", said inverted {inverted}" if inverted else ""
        _say(f"{name}: accepted {accepted} of {len(chests)}{agreement}{said}")


def _found(film: Grid, run: Callable[[Grid], Grid]) -> tuple[LungFields | None, str]:
    try:
        fields = find_lung_fields(film, run)
    except NotEvaluableError as refused:
        return None, str(refused)
    return fields, f"accepted, {100 * fields.both.mean():.0f} % of the picture"


def _dice(one: Mask, other: Mask) -> float:
    return 2.0 * float((one & other).sum()) / float(one.sum() + other.sum())


def _tile(film: Grid, fields: LungFields | None, name: str) -> Picture.Image:
    shape = (SHOWN_PX, SHOWN_PX)
    grey = Picture.fromarray((film * 255).astype(np.uint8)).resize(shape)
    pixels = np.stack([np.asarray(grey)] * 3, axis=-1).copy()
    for mask, colour in ((fields.at_left, (0, 255, 0)), (fields.at_right, (255, 200, 0))) if fields else ():
        small = np.asarray(Picture.fromarray(mask).resize(shape, Picture.Resampling.NEAREST))
        pixels[small & ~ndimage.binary_erosion(small, iterations=2)] = colour
    if fields is None:
        pixels[:6] = pixels[-6:] = (255, 0, 0)
    tile = Picture.fromarray(pixels)
    ImageDraw.Draw(tile).text((4, 8), name, fill=(255, 255, 0))
    return tile


def _write(tiles: list[Picture.Image], path: Path, across: int = 6) -> None:
    rows = -(-len(tiles) // across)
    sheet = Picture.new("RGB", (across * SHOWN_PX, rows * SHOWN_PX))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % across * SHOWN_PX, number // across * SHOWN_PX))
    sheet.save(path)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
