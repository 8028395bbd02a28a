"""Synthetic radiographs and outlines that the lung fields model is trained on."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tools.lung_fields.generate import SIZE_PX, example
from tools.lung_fields.outlines import HELD_OUT, Outlines, read_outlines, split


def drawn(*lungs: tuple[int, int, int, int]) -> bytes:
    picture = Image.new("L", (300, 300))
    for box in lungs:
        ImageDraw.Draw(picture).ellipse(box, fill=255)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def archive(**masks: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in masks.items():
            written.writestr(f"masks/{name}.png", content)
    return file.getvalue()


TWO = drawn((40, 40, 130, 260), (170, 40, 260, 260))


@pytest.fixture(scope="module")
def outlines() -> Outlines:
    return read_outlines(archive(a=TWO, b=drawn((50, 60, 120, 250), (160, 50, 255, 250))))


def test_the_lung_at_the_left_is_one_and_the_other_two(outlines: Outlines) -> None:
    assert outlines.shape == (2, 256, 256)
    for outline in outlines:
        assert set(np.unique(outline)) == {0, 1, 2}
        assert np.nonzero(outline == 1)[1].mean() < 128 < np.nonzero(outline == 2)[1].mean()


def test_a_mask_seen_twice_one_lung_alone_and_a_crumb_beside_a_lung_are_left_out() -> None:
    one, crumb = drawn((40, 40, 130, 260)), drawn((40, 40, 130, 260), (200, 100, 220, 120))
    assert len(read_outlines(archive(a=TWO, again=TWO, one=one, crumb=crumb))) == 1


def test_held_out_outlines_are_never_among_those_for_training() -> None:
    outlines = np.arange(HELD_OUT + 20, dtype=np.uint8).reshape(-1, 1, 1)
    training, held_out = split(outlines, 3)
    assert len(held_out) == HELD_OUT
    assert not set(training.ravel()) & set(held_out.ravel())
    assert len(set(training.ravel()) | set(held_out.ravel())) == len(outlines)


def test_an_example_is_the_same_every_time_and_another_one_for_another_index(outlines: Outlines) -> None:
    picture, truth = example(outlines, 7, 3)
    again, same = example(outlines, 7, 3)
    assert np.array_equal(picture, again)
    assert np.array_equal(truth, same)
    assert not np.array_equal(picture, example(outlines, 7, 4)[0])
    assert not np.array_equal(picture, example(outlines, 8, 3)[0])


def test_examples_are_finite_normalised_and_have_the_left_lung_at_the_left(outlines: Outlines) -> None:
    without = 0
    for index in range(60):
        picture, truth = example(outlines, 1, index)
        assert picture.shape == (SIZE_PX, SIZE_PX)
        assert truth.shape == (2, SIZE_PX, SIZE_PX)
        assert np.isfinite(picture).all()
        assert abs(float(picture.mean())) < 1e-3
        assert not (truth[0] * truth[1]).any()
        without += not truth.any()
        if truth[0].any() and truth[1].any():
            left, right = (float(np.nonzero(side)[1].mean()) for side in truth)
            assert left < right
    assert 4 <= without <= 25  # a fifth has no lungs to be found
