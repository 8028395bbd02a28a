"""Calcium scores are exact by definition: thresholds, weights, least area, slices."""

import numpy as np
import pytest

from node.domain.volume import Volume
from node.errors import GeometryError
from node.imaging.calcium import cac_drs_category, density_weights, score_calcium, score_vessels
from tests.phantoms_ct import make_volume


def box(
    hu: float, *, rows: int = 4, columns: int = 5, spacing_mm: tuple[float, float, float] = (3.0, 0.5, 0.5)
) -> Volume:
    array = np.full((5, 30, 30), 40.0, np.float32)
    array[2, 10 : 10 + rows, 10 : 10 + columns] = hu
    return make_volume(array, spacing_mm)


def everywhere(volume: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.ones(volume.array.shape, np.bool_)


@pytest.mark.parametrize(
    ("hu", "weight"),
    [
        (129, 0), (129.9, 0), (130, 1), (199, 1), (199.9, 1), (200, 2), (299, 2), (300, 3), (399, 3), (400, 4),
    ],
)  # fmt: skip
def test_weight_goes_by_the_maximum_of_a_lesion_on_a_slice(hu: float, weight: int) -> None:
    volume = box(hu)
    score = score_calcium(volume, everywhere(volume), slice_thickness_mm=3.0)
    assert score.agatston == score.agatston_unscaled == 20 * 0.25 * weight
    assert score.volume_mm3 == (20 * 0.25 * 3.0 if weight else 0.0)
    assert score.lesion_count == (1 if weight else 0)
    if weight:
        assert set(np.unique(density_weights(volume, 2, score.lesions))) == {0.0, float(weight)}


@pytest.mark.parametrize(
    ("pixel_mm", "pixels", "area_mm2"),
    [(0.5, 4, 1.0), (0.5, 3, 0.0), (0.57, 3, 0.0), (0.58, 3, 3 * 0.58**2), (0.99, 1, 0.0), (1.0, 1, 1.0)],
)
def test_a_lesion_counts_from_one_square_millimetre_on(pixel_mm: float, pixels: int, area_mm2: float) -> None:
    volume = box(150.0, rows=1, columns=pixels, spacing_mm=(3.0, pixel_mm, pixel_mm))
    assert score_calcium(volume, everywhere(volume), slice_thickness_mm=3.0).agatston == pytest.approx(area_mm2)


def test_area_is_counted_for_each_slice_by_itself() -> None:
    array = np.full((5, 20, 20), 40.0, np.float32)
    array[1, 5:7, 5:7] = 450.0  # 1 mm2
    array[2, 5, 5:8] = 450.0  # 0.75 mm2: none on this slice though it is one lesion in space
    volume = make_volume(array, (3.0, 0.5, 0.5))
    score = score_calcium(volume, everywhere(volume), slice_thickness_mm=3.0)
    assert score.agatston == 4.0
    assert score.lesions.sum() == 4


def test_each_slice_has_a_weight_of_its_own() -> None:
    array = np.full((5, 20, 20), 40.0, np.float32)
    array[1, 5:9, 5:9] = 150.0
    array[1, 6, 6] = 400.0  # one pixel lifts the whole lesion on this slice
    array[2, 5:9, 5:9] = 250.0
    volume = make_volume(array, (3.0, 1.0, 1.0))
    score = score_calcium(volume, everywhere(volume), slice_thickness_mm=3.0)
    assert score.agatston == 16 * 4 + 16 * 2
    assert score.lesion_count == 1


def test_two_lesions_on_a_slice_have_weights_of_their_own_and_corners_join() -> None:
    array = np.full((3, 20, 20), 40.0, np.float32)
    array[1, 2:4, 2:4] = 150.0
    array[1, 10:12, 10:12] = 450.0
    volume = make_volume(array, (3.0, 1.0, 1.0))
    assert score_calcium(volume, everywhere(volume), slice_thickness_mm=3.0).agatston == 4 * 1 + 4 * 4
    array[1, 4, 4] = 350.0  # touches the first by a corner
    volume = make_volume(array, (3.0, 1.0, 1.0))
    assert score_calcium(volume, everywhere(volume), slice_thickness_mm=3.0).agatston == 5 * 3 + 4 * 4


@pytest.mark.parametrize(
    ("thickness_mm", "distance_mm", "factor"), [(3.0, 3.0, 1.0), (2.5, 2.5, 2.5 / 3), (3.0, 1.5, 0.5)]
)
def test_slices_are_scaled_by_their_distance_to_three_millimetres(
    thickness_mm: float, distance_mm: float, factor: float
) -> None:
    volume = box(450.0, spacing_mm=(distance_mm, 0.5, 0.5))
    score = score_calcium(volume, everywhere(volume), slice_thickness_mm=thickness_mm)
    assert score.agatston_unscaled == 20 * 0.25 * 4
    assert score.agatston == pytest.approx(20 * 0.25 * 4 * factor)
    assert score.volume_mm3 == pytest.approx(20 * 0.25 * distance_mm)


@pytest.mark.parametrize(("thickness_mm", "distance_mm"), [(1.5, 1.5), (5.0, 5.0), (2.5, 3.0), (0.0, 3.0)])
def test_other_slices_and_gaps_are_refused(thickness_mm: float, distance_mm: float) -> None:
    volume = box(450.0, spacing_mm=(distance_mm, 0.5, 0.5))
    with pytest.raises(GeometryError, match=r"2\.5 to 3 mm"):
        score_calcium(volume, everywhere(volume), slice_thickness_mm=thickness_mm)


def test_an_oblique_stack_with_unequal_pixels_has_the_same_score() -> None:
    volume = box(350.0, rows=3, columns=4, spacing_mm=(3.0, 0.4, 0.7))
    turn = np.deg2rad(20.0)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = volume.affine.copy()
    affine[:3, :3] = rotation @ affine[:3, :3]
    turned = Volume(volume.array, affine, "HU", volume.sop_instance_uids, volume.frame_of_reference_uid)
    for each in (volume, turned):
        score = score_calcium(each, everywhere(each), slice_thickness_mm=3.0)
        assert score.agatston == pytest.approx(12 * 0.4 * 0.7 * 3)
        assert score.volume_mm3 == pytest.approx(12 * 0.4 * 0.7 * 3.0)


def test_mass_needs_a_calibration() -> None:
    volume = box(250.0)
    where = everywhere(volume)
    assert score_calcium(volume, where, slice_thickness_mm=3.0).mass_mg is None
    calibrated = score_calcium(volume, where, slice_thickness_mm=3.0, calibration_mg_per_ml_hu=0.78)
    assert calibrated.mass_mg == pytest.approx(0.78 * 250.0 * 15.0 / 1000.0)


def test_only_the_region_counts_and_vessels_are_scored_by_themselves() -> None:
    volume = box(450.0)
    left = everywhere(volume)
    left[:, :, 12:] = False
    scores = score_vessels(volume, {"lad": left, "rca": ~left}, slice_thickness_mm=3.0)
    assert scores["lad"].agatston == 4 * 2 * 0.25 * 4
    assert scores["rca"].agatston == 4 * 3 * 0.25 * 4


@pytest.mark.parametrize(
    ("agatston", "category"),
    [(0, "A0"), (0.5, "A1"), (1, "A1"), (99.9, "A1"), (100, "A2"), (299.9, "A2"), (300, "A3"), (5000, "A3")],
)
def test_categories_are_those_of_cac_drs(agatston: float, category: str) -> None:
    assert cac_drs_category(agatston) == category
    assert cac_drs_category(agatston, 2) == ("A0" if agatston == 0 else f"{category}/N2")
