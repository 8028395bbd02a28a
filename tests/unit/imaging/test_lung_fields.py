"""The gate around the lung fields network: what it finds is believed only where two whole lungs can be."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from node.errors import NotEvaluableError
from node.imaging.lung_fields import LungFields, find_lung_fields

Grid = npt.NDArray[np.float32]
Run = Callable[[Grid], Grid]
Oval = tuple[float, float, float, float]
"""Row, column, half height, half width on the network's 128 x 128 pixels."""
LEFT: Oval = (62.0, 36.0, 40.0, 18.0)
RIGHT: Oval = (62.0, 92.0, 40.0, 18.0)


def oval(place: Oval | None, side: int = 128) -> Grid:
    if place is None:
        return np.zeros((side, side), np.float32)
    rows, columns = (np.mgrid[:side, :side] + 0.5) * 128 / side - 0.5
    radius = np.hypot((rows - place[0]) / place[2], (columns - place[1]) / place[3])
    return (radius < 1.0).astype(np.float32)


def network(
    left: Oval | None = LEFT, right: Oval | None = RIGHT, *, sure: float = 0.99, upside_down: float = 0.0
) -> Run:
    """A network that gives these lungs, mirrored for the mirrored picture, and `upside_down` of them on its head."""
    lungs = np.stack([oval(left), oval(right)]) * np.float32(sure)

    def run(pictures: Grid) -> Grid:
        assert pictures.shape == (3, 1, 128, 128)
        assert pictures.dtype == np.float32
        return np.stack([lungs, lungs[::-1, :, ::-1], upside_down * lungs[:, ::-1]])

    return run


def film(*, lungs: float = 0.2, tissue: float = 0.7, left: Oval | None = LEFT, right: Oval | None = RIGHT) -> Grid:
    """A film of 512 x 512: lungs of one level in tissue of another, with the noise every film has."""
    inside = np.maximum(oval(left, 512), oval(right, 512))
    noise = np.random.default_rng(0).normal(0, 0.02, inside.shape)
    return (tissue + (lungs - tissue) * inside + noise).astype(np.float32)


def refused(picture: Grid, run: Run) -> NotEvaluableError:
    with pytest.raises(NotEvaluableError) as error:
        find_lung_fields(picture, run)
    return error.value


def test_both_lungs_are_given_on_the_grid_of_the_picture() -> None:
    found = find_lung_fields(film()[:, :400], network())
    assert isinstance(found, LungFields)
    assert found.at_left.shape == (512, 400)
    for mask, (row, column, height, width) in ((found.at_left, LEFT), (found.at_right, RIGHT)):
        rows, columns = np.nonzero(mask)
        assert rows.mean() == pytest.approx((row + 0.5) * 4 - 0.5, abs=2)
        assert columns.mean() == pytest.approx((column + 0.5) * 400 / 128 - 0.5, abs=2)
        assert mask.sum() == pytest.approx(np.pi * height * 4 * width * 400 / 128, rel=0.03)
    assert not (found.at_left & found.at_right).any()
    assert found.width_px == pytest.approx((RIGHT[1] + RIGHT[3] - LEFT[1] + LEFT[3]) * 400 / 128, abs=4)


def test_a_crumb_beside_a_lung_is_left_out_and_a_hole_in_it_filled() -> None:
    run = network()

    def spoilt(pictures: Grid) -> Grid:
        lungs = run(pictures)
        lungs[:2, :, 2:5, 60:63] = 0.9
        lungs[0, 0, 60:64, 34:38] = lungs[1, 1, 60:64, 90:94] = 0.1
        return lungs

    found = find_lung_fields(film(), spoilt)
    assert found.at_left[62 * 4, 36 * 4]
    assert not found.both[:24].any()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (None, RIGHT),
        (LEFT, None),
        (LEFT, (62.0, 92.0, 10.0, 6.0)),  # a crumb for a lung
        ((30.0, 36.0, 25.0, 18.0), (92.0, 92.0, 25.0, 18.0)),  # one above the other
        ((100.0, 36.0, 40.0, 18.0), (100.0, 92.0, 40.0, 18.0)),  # the lower edge cuts them
        ((20.0, 36.0, 40.0, 18.0), (20.0, 92.0, 40.0, 18.0)),  # the upper edge cuts them
        ((62.0, 4.0, 40.0, 18.0), RIGHT),  # the left edge cuts one
        (LEFT, (62.0, 124.0, 40.0, 18.0)),  # the right edge cuts one
        ((62.0, 36.0, 60.0, 34.0), (62.0, 40.0, 60.0, 34.0)),  # in one place
    ],
)
def test_what_cannot_be_two_whole_lungs_is_refused(left: Oval | None, right: Oval | None) -> None:
    assert refused(film(left=left, right=right), network(left, right)).key == "lungs_not_found"


def test_lungs_that_just_touch_the_edge_are_taken() -> None:
    left, right = (62.0, 17.6, 40.0, 18.0), (62.0, 109.4, 40.0, 18.0)
    find_lung_fields(film(left=left, right=right), network(left, right))


def test_an_uncertain_outline_is_refused() -> None:
    assert refused(film(), network(sure=0.7)).key == "lungs_not_found"


def test_a_network_that_sees_the_lungs_upside_down_as_well_is_not_believed() -> None:
    find_lung_fields(film(), network(upside_down=0.3))
    assert refused(film(), network(upside_down=0.9)).key == "lungs_not_found"


def test_lungs_brighter_than_their_surroundings_are_called_inverted() -> None:
    assert refused(film(lungs=0.8, tissue=0.3), network()).key == "inverted"


def test_lungs_as_bright_as_their_surroundings_are_refused() -> None:
    assert refused(film(lungs=0.5, tissue=0.5), network()).key == "lungs_not_found"


@pytest.mark.parametrize("value", [0.0, 4095.0])
def test_an_empty_picture_is_refused_before_the_network_is_asked(value: float) -> None:
    def never(_: Grid) -> Grid:
        raise AssertionError

    assert refused(np.full((300, 300), value, np.float32), never).key == "lungs_not_found"
