from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import rgb2lab

from node.domain.findings import HeatMap, Region
from node.report.colours import blend, colour_of
from node.report.picture import NOT_FOR_DIAGNOSIS, Captions, draw

CAPTIONS = Captions("Original", "AI overlay", "Heat", ("brain_mr 1.0.0  learned",), ("R", "L"))


def heat_map(rows: int, columns: int) -> HeatMap:
    heat = np.zeros((rows, columns), np.float32)
    heat[rows // 4 : rows // 2, columns // 4 : columns // 2] = 1.0
    background = np.full((rows, columns), 0.25, np.float32)
    return HeatMap("2.25.1", heat, background, "detector score", 1.0, 0.5)


def is_grey(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.ptp(picture.astype(int), axis=-1) == 0)


def panels(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], ...]:
    """Original and overlay, found by the grey level that only they have."""
    level = (picture == 64).all(axis=-1)
    rows, columns = np.flatnonzero(level.sum(axis=1) > size[1]), np.flatnonzero(level.sum(axis=0) > size[0] // 4)
    starts = (columns[0], columns[-1] + 1 - size[1])
    return tuple(picture[rows[0] : rows[0] + size[0], x : x + size[1]] for x in starts)


def test_the_scale_rises_evenly_in_lightness() -> None:
    colours = colour_of(np.linspace(0, 1, 256, dtype=np.float32)) / 255.0
    steps = np.diff(rgb2lab(colours[None])[0, :, 0])
    assert steps.min() > 0.2
    assert steps.max() < 0.3


@pytest.mark.parametrize("level", [0.0, 0.1, 0.199])
def test_heat_below_a_fifth_leaves_the_image_as_it_is(level: float) -> None:
    background = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    heat = np.full((8, 8), level, np.float32)
    assert np.array_equal(blend(background, heat), blend(background, np.zeros_like(heat)))
    assert is_grey(blend(background, heat)).all()


def test_anatomy_stays_visible_under_full_heat() -> None:
    background = np.array([[0.0, 1.0]], np.float32)
    dark, light = blend(background, np.ones((1, 2), np.float32))[0].astype(int)
    assert (light - dark > 0.5 * 255).all()


@pytest.mark.parametrize(("rows", "columns"), [(64, 80), (256, 256), (1200, 900)])
def test_no_panel_is_smaller_than_its_source(rows: int, columns: int) -> None:
    picture = draw(heat_map(rows, columns), CAPTIONS)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > max(rows, 512 if rows < 512 else 0)
    assert picture.shape[1] > 2 * max(columns, 512 if columns < 512 else 0)


def test_the_original_is_shown_untouched_beside_the_overlay() -> None:
    original, overlay = panels(draw(heat_map(600, 600), CAPTIONS), (600, 600))
    assert (original == 64).all()
    assert is_grey(overlay)[:150].all()
    assert not is_grey(overlay)[150:300, 150:300].any()
    assert is_grey(overlay)[300:].all()


def test_an_outline_is_drawn_where_it_was_measured() -> None:
    square = Region("2.25.1", ((100.0, 200.0), (300.0, 200.0), (300.0, 400.0), (100.0, 400.0)))
    plain = replace(heat_map(600, 600), heat=np.zeros((600, 600), np.float32), regions=((square, ""),))
    overlay = panels(draw(plain, CAPTIONS), (600, 600))[1]
    rows, columns = np.nonzero(~is_grey(overlay))
    assert abs(rows.min() - 200) <= 2
    assert abs(rows.max() - 399) <= 2
    assert abs(columns.min() - 100) <= 2
    assert abs(columns.max() - 299) <= 2


def test_pixels_that_are_not_square_are_stretched_to_their_true_shape() -> None:
    tall = draw(replace(heat_map(600, 600), spacing_mm=(2.0, 1.0)), CAPTIONS)
    wide = draw(replace(heat_map(600, 600), spacing_mm=(1.0, 2.0)), CAPTIONS)
    square = draw(heat_map(600, 600), CAPTIONS)
    assert tall.shape[0] - square.shape[0] == 600
    assert wide.shape[1] - square.shape[1] == 1200


def test_the_warning_stands_on_the_picture_in_both_languages() -> None:
    assert "not for diagnostic use" in NOT_FOR_DIAGNOSIS
    assert "非诊断用途" in NOT_FOR_DIAGNOSIS
    picture = draw(heat_map(512, 512), CAPTIONS)
    amber = (picture == (255, 191, 0)).all(axis=-1)
    assert amber[:40].sum() > 200


def test_a_long_line_is_broken_and_not_cut() -> None:
    short = draw(heat_map(512, 512), CAPTIONS)
    long = draw(heat_map(512, 512), replace(CAPTIONS, lines=("权重" * 200,)))
    assert long.shape[1] == short.shape[1]
    assert long.shape[0] > short.shape[0] + 20


def test_a_very_long_strip_does_not_grow_without_bound() -> None:
    assert draw(heat_map(20, 1500), CAPTIONS).shape[1] < 4000
