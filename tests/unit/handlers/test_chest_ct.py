"""Nodule candidates on a thorax with known truth, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from skimage.draw import polygon2mask

from handlers.chest_ct import analyse, handler
from node.api import Finding, NotEvaluableError, Reading, find_components
from node.dicom.pixels import slice_values
from node.dicom.read import read_dataset
from node.domain.study import Series
from tests.phantoms_ct import BULLAE, LUNG, NODULES, SOFT, Grid, Nodule, thorax, write_ct
from tests.phantoms_mr import as_series, as_study

KINDS = [
    "solid_nodule", "solid_nodule", "ground_glass_nodule", "part_solid_nodule", "solid_nodule", "solid_nodule",
]  # fmt: skip
SIDES = ["R", "L", "R", "L", "R", "L"]
THIRDS = ["upper_third", "middle_third", "middle_third", "upper_third", "middle_third", "lower_third"]
SPACING_MM = (1.5, 1.2, 1.2)
AT_PLEURA = 4


@pytest.fixture(scope="module")
def chest() -> Grid:
    return thorax([*BULLAE, *NODULES], spacing_mm=SPACING_MM)


@pytest.fixture(scope="module")
def series(chest: Grid, tmp_path_factory: pytest.TempPathFactory) -> Series:
    return write_ct(chest, tmp_path_factory.mktemp("chest"))


@pytest.fixture(scope="module")
def reading(series: Series) -> Reading:
    return analyse(as_study(series), {})


def refusal(*series: Series) -> str:
    with pytest.raises(NotEvaluableError) as caught:
        analyse(as_study(*series), {})
    assert str(caught.value)
    return caught.value.key


def values(finding: Finding) -> dict[str, float]:
    return {measurement.quantity: measurement.value for measurement in finding.measurements}


def found(reading: Reading, nodule: Nodule) -> Finding:
    """The finding whose part of the segmentation lies where the nodule is."""
    (segmentation,) = reading.segmentations
    parts = find_components(segmentation.mask, segmentation.affine)
    part = min(parts, key=lambda each: np.linalg.norm(np.subtract(each.centre_mm, nodule.centre)))
    assert np.linalg.norm(np.subtract(part.centre_mm, nodule.centre)) < (3.0 if nodule is NODULES[AT_PLEURA] else 0.7)
    volume_mm3 = 1000.0 * part.volume_ml
    (finding,) = [each for each in reading.findings if values(each).get("volume") == pytest.approx(volume_mm3)]
    return finding


def test_every_nodule_is_marked_and_no_vessel(reading: Reading) -> None:
    assert len([each for each in reading.findings if each.is_abnormal]) == len(NODULES)


@pytest.mark.parametrize("number", range(len(NODULES)))
def test_a_nodule_has_its_density_side_and_third(number: int, reading: Reading) -> None:
    finding = found(reading, NODULES[number])
    assert (finding.kind, finding.laterality) == (KINDS[number], SIDES[number])
    assert finding.qualities[0] == THIRDS[number]
    assert (finding.qualities[1] == "at_pleura") == (number == AT_PLEURA)
    assert finding.certainty is None
    assert finding.score is not None
    assert finding.score >= 0.3


@pytest.mark.parametrize("number", [n for n in range(len(NODULES)) if n != AT_PLEURA])
def test_a_nodule_has_its_size_volume_and_attenuation(number: int, reading: Reading) -> None:
    nodule, measured = NODULES[number], values(found(reading, NODULES[number]))
    assert measured["volume"] == pytest.approx(1000.0 * nodule.volume_ml, rel=0.12)
    assert measured["long_axis"] == pytest.approx(nodule.diameter_mm, abs=1.3)
    assert measured["short_axis"] == pytest.approx(nodule.diameter_mm, abs=1.3)
    if not nodule.core_mm:
        assert measured["attenuation"] == pytest.approx(nodule.hu, abs=15.0)
    else:
        assert measured["solid_volume"] == pytest.approx(np.pi / 6.0 * nodule.core_mm**3, rel=0.3)


def test_a_nodule_half_behind_the_pleura_is_found_and_measured_too_small_by_at_most_half(reading: Reading) -> None:
    radius, height = 6.0, 7.5  # what lies inside the lung is a cap of this height
    cap_mm3 = np.pi * height**2 * (3 * radius - height) / 3.0
    measured = values(found(reading, NODULES[AT_PLEURA]))
    assert 0.5 * cap_mm3 < measured["volume"] < 1.1 * cap_mm3


def test_low_attenuation_area_is_the_known_share(reading: Reading) -> None:
    (finding,) = [each for each in reading.findings if each.kind == "low_attenuation"]
    measured, air_ml = values(finding), sum(ball.volume_ml for ball in BULLAE)
    assert not finding.is_abnormal
    assert measured["low_attenuation"] == pytest.approx(100.0 * air_ml / measured["lung_volume"], abs=0.1)
    assert measured["slice_thickness"] == 1.5


def test_key_images_show_each_candidate_inside_its_outline(reading: Reading) -> None:
    outlined = [(heat_map, region) for heat_map in reading.heat_maps for region, _ in heat_map.regions]
    assert len(outlined) == len(NODULES)
    for heat_map, region in outlined:
        assert region.sop_instance_uid == heat_map.sop_instance_uid
        inside = polygon2mask(heat_map.heat.shape, np.array(region.points)[:, ::-1] - 0.5)
        assert heat_map.heat[inside].max() >= heat_map.threshold == 0.3
        assert heat_map.heat.dtype == heat_map.background.dtype == np.float32
        assert 0.0 <= heat_map.heat.min() <= heat_map.heat.max() <= 1.0


def test_a_thorax_without_nodules_gives_none_and_no_low_attenuation_with_a_sharp_kernel(tmp_path: Path) -> None:
    empty = thorax((), spacing_mm=(2.5, 1.2, 1.2), seed=7)
    reading = analyse(as_study(write_ct(empty, tmp_path, ConvolutionKernel="B70f")), {})
    assert reading.findings == reading.heat_maps == reading.segmentations == ()
    assert len(reading.source_uids) == len(empty.array)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"BodyPartExamined": "HEAD"}, "not_chest_ct"),
        ({"BodyPartExamined": "", "SeriesDescription": "Abdomen 1.5"}, "not_chest_ct"),
        ({"SliceThickness": 5.0}, "thick_slices"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived"),
    ],
)
def test_a_header_of_something_else_is_refused_before_any_pixel_is_read(
    header: dict[str, object], key: str, series: Series
) -> None:
    assert refusal(replace(series, instances=series.instances, header={**series.header, **header})) == key


def test_another_modality_is_refused(series: Series) -> None:
    assert refusal(replace(series, modality="MR")) == "not_chest_ct"


def test_a_chest_cut_at_the_top_is_refused(chest: Grid, tmp_path: Path) -> None:
    coarse = Grid(chest.array[:112], chest.spacing_mm, chest.origin)
    assert refusal(write_ct(coarse, tmp_path)) == "cut_off"


@pytest.mark.parametrize(("hu", "key"), [(-1000.0, "not_hu"), (0.0, "lungs_not_found")])
def test_empty_images_are_refused(hu: float, key: str, tmp_path: Path) -> None:
    even = Grid(np.full((60, 64, 64), hu, np.float32), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert refusal(write_ct(even, tmp_path, BodyPartExamined=None)) == key


@pytest.mark.parametrize("name", ["693_UNCR.dcm", "explicit_VR-UN.dcm"])
def test_a_real_head_or_abdomen_stacked_sixty_times_is_refused(name: str, tmp_path: Path) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    plane = slice_values(read_dataset(Path(str(path)), with_pixels=True))[::2, ::2]
    slab = Grid(np.repeat(plane[None], 60, axis=0), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert refusal(write_ct(slab, tmp_path, BodyPartExamined=None)) == "lungs_not_found"
    assert refusal(as_series([Path(str(path))])) in {"not_chest_ct", "too_few_slices", "thick_slices"}


def test_a_brain_is_refused_whatever_its_header_says(tmp_path: Path) -> None:
    z, y, x = np.ogrid[-60:60, -100:100, -100:100]
    away = np.sqrt((z / 55.0) ** 2 + (y / 90.0) ** 2 + (x / 75.0) ** 2)
    head = np.where(away < 0.92, 35.0, np.where(away < 1.0, 900.0, -1000.0)).astype(np.float32)
    assert refusal(write_ct(Grid(head, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0)), tmp_path)) == "lungs_not_found"


def test_the_record_says_that_it_is_rule_based_and_what_it_does_not_look_at() -> None:
    assert handler.basis == "rule-based"
    assert "masses" in handler.not_looked_at
    assert LUNG < SOFT
