"""An outline encloses what it was drawn around, where a viewer draws it."""

import numpy as np
import pytest
from skimage.draw import polygon2mask

from node.domain.volume import Volume
from node.imaging.outlines import box_points, confined, outline_all, outline_largest, region_of_slice


def area(points: tuple[tuple[float, float], ...]) -> float:
    x, y = np.array([*points, points[0]]).T
    return abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:])) / 2


def test_an_outline_encloses_the_very_pixels_of_its_mask() -> None:
    rows, columns = np.ogrid[:60, :50]
    mask = np.asarray((rows - 30) ** 2 / 400 + (columns - 22) ** 2 / 150 <= 1, np.bool_)
    points = outline_largest(mask)
    corners = np.array(points)[:, ::-1] - 0.5  # SCOORD to pixel centres
    drawn = polygon2mask(mask.shape, corners)  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(drawn, mask)
    assert area(points) == pytest.approx(mask.sum(), rel=0.01)


def test_a_mask_at_the_border_is_closed_there() -> None:
    points = np.array(outline_largest(np.ones((4, 6), np.bool_)))
    assert points.min(axis=0) == pytest.approx((0, 0))
    assert points.max(axis=0) == pytest.approx((6, 4))


def test_parts_come_largest_first_and_hollows_are_none() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[2:8, 2:8] = mask[12:36, 12:36] = True
    mask[20:28, 20:28] = False
    found = outline_all(mask)
    assert [round(area(points)) for points in found] == [576, 36] or [round(area(p)) for p in found] == [575, 35]
    assert outline_largest(mask) == found[0]
    assert len(outline_all(mask, most=1)) == 1


def test_a_long_outline_is_thinned_and_keeps_its_area() -> None:
    rows, columns = np.ogrid[:400, :400]
    mask = np.asarray(np.hypot(rows - 200, columns - 200) <= 180 + 8 * np.sin(columns / 3.0), np.bool_)
    thin = outline_largest(mask, most_points=200)
    assert len(thin) <= 200 < len(outline_largest(mask, most_points=100_000))
    assert area(thin) == pytest.approx(mask.sum(), rel=0.02)


def test_nothing_has_no_outline_and_no_region() -> None:
    blank = np.zeros((8, 8), np.float32)
    assert outline_largest(blank) == ()
    assert outline_all(blank) == ()
    volume = Volume(np.zeros((2, 8, 8), np.float32), np.eye(4), "HU", ("1", "2"), "3")
    with pytest.raises(ValueError, match="slice 1"):
        region_of_slice(volume, 1, blank)


def test_a_region_names_its_image_and_frame_and_follows_the_confined_score() -> None:
    scores = np.zeros((20, 20), np.float32)
    scores[2:18, 2:5] = 0.9
    scores[8:12, 10:16] = 0.7
    mask = np.zeros((20, 20), np.bool_)
    mask[8:12, 10:16] = True
    volume = Volume(np.zeros((2, 20, 20), np.float32), np.eye(4), "HU", ("1", "1"), "3", (4, 7))
    region = region_of_slice(volume, 1, confined(scores, mask, 0.5), 0.5)
    assert (region.sop_instance_uid, region.frame_number) == ("1", 7)
    assert min(column for column, _ in region.points) > 9


def test_a_box_is_centred_on_pixel_centres_and_cut_at_the_border() -> None:
    assert box_points((4, 5), (2, 4), (20, 20)) == ((3.5, 3.5), (7.5, 3.5), (7.5, 5.5), (3.5, 5.5))
    assert box_points((0, 19), (4, 4), (20, 20))[0] == (17.5, 0.0)
    assert box_points((0, 19), (4, 4), (20, 20))[2] == (20.0, 2.5)
