"""Calcium in a heart with known boxes, and what is refused."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from handlers.cardiac_ct import analyse, describe, handler
from node.api import Finding, NotEvaluableError, Reading
from node.dicom.pixels import slice_values
from node.dicom.read import read_dataset
from node.domain.study import Series
from node.infer.reading import analysis_of
from node.report.state import state
from node.report.template import load_templates
from tests.phantoms_ct import CALCIUM, Grid, heart, make_volume, write_ct
from tests.phantoms_mr import as_series, as_study

GATED: dict[str, object] = {"BodyPartExamined": "HEART", "HeartRate": 62}


@pytest.fixture(scope="module")
def chest() -> tuple[Grid, float]:
    return heart()


@pytest.fixture(scope="module")
def series(chest: tuple[Grid, float], tmp_path_factory: pytest.TempPathFactory) -> Series:
    return write_ct(chest[0], tmp_path_factory.mktemp("heart"), **GATED)


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


def test_boxes_of_calcium_give_the_sum_by_hand(chest: tuple[Grid, float], reading: Reading) -> None:
    (finding,) = reading.findings
    measured = values(finding)
    assert finding.kind == "calcium_candidates"
    assert measured["agatston"] == pytest.approx(chest[1], abs=1e-6)
    assert measured["calcium_volume"] == pytest.approx(sum(rows * columns * 3.0 for _, _, rows, columns, _ in CALCIUM))
    assert measured["lesion_count"] == len(CALCIUM) == len(finding.regions)
    assert "calcium_mass" not in measured
    assert finding.certainty is finding.score is None


def test_without_masks_of_the_arteries_there_is_no_category(reading: Reading) -> None:
    assert reading.findings[0].qualities == ()


def test_ribs_spine_and_breast_bone_are_no_candidates(chest: tuple[Grid, float], reading: Reading) -> None:
    (segmentation,) = reading.segmentations
    assert segmentation.mask.sum() == sum(rows * columns for _, _, rows, columns, _ in CALCIUM)
    assert (chest[0].array >= 130.0).sum() > 100 * segmentation.mask.sum()


def test_key_images_weigh_each_lesion(reading: Reading) -> None:
    assert [heat_map.score for heat_map in reading.heat_maps] == [1.0, 0.5, 0.75, 0.25]
    assert all(len(heat_map.regions) == 1 for heat_map in reading.heat_maps)


def test_a_field_of_view_cut_to_the_heart_gives_the_same(
    chest: tuple[Grid, float], reading: Reading, tmp_path: Path
) -> None:
    grid = chest[0]
    cut = Grid(
        grid.array[10:50, 20:220, 85:305], grid.spacing_mm,
        (grid.origin[0] + 85.0, grid.origin[1] + 20.0, grid.origin[2] + 30.0),
    )  # fmt: skip
    again = analyse(as_study(write_ct(cut, tmp_path, **GATED)), {})
    assert values(again.findings[0]) == pytest.approx(values(reading.findings[0]))


def test_images_without_gating_are_measured_and_say_so(series: Series) -> None:
    header = {keyword: value for keyword, value in series.header.items() if keyword != "HeartRate"}
    study = as_study(replace(series, header=header))
    reading = analyse(study, {})
    assert reading.findings[0].qualities == ("not_gated",)
    analysis = analysis_of(reading, handler, study, cards=(), device="CPU", size_of=lambda _: (270, 360, 1))
    template = load_templates(Path(__file__).parents[3] / "sr_templates")["cardiac_ct"]
    for language, words in (("en", "no ECG gating is named"), ("zh", "未注明心电门控")):
        statement = state(
            analysis, template, study_instance_uid="2.25.7", language=language,
            made_at=datetime(2026, 3, 1, tzinfo=UTC), is_correction=False,
        )  # fmt: skip
        assert words in statement.conclusion
        assert "CAC-DRS A" not in statement.conclusion


def test_a_heart_without_calcium_is_no_finding(tmp_path: Path) -> None:
    grid, total = heart(())
    reading = analyse(as_study(write_ct(grid, tmp_path, **GATED)), {})
    (finding,) = reading.findings
    assert total == values(finding)["agatston"] == 0.0
    assert not finding.is_abnormal
    assert reading.segmentations == reading.heat_maps == ()


def test_masks_of_vessels_give_the_coronary_score_its_category_and_each_vessel() -> None:
    array = np.full((5, 40, 40), 40.0, np.float32)
    array[1, 5:15, 5:15] = 450.0  # 100 mm2 x 4
    array[3, 20:25, 20:24] = 250.0  # 20 mm2 x 2
    array[3, 30:35, 30:35] = 900.0  # outside every vessel
    lad, rca, lcx = (np.zeros(array.shape, np.bool_) for _ in range(3))
    lad[:, :18, :18], rca[:, 18:28, 18:28], lcx[:, :4, 30:] = True, True, True
    reading = describe(
        make_volume(array, (3.0, 1.0, 1.0)),
        np.ones(array.shape, np.bool_),
        slice_thickness_mm=3.0,
        is_gated=True,
        vessels={"lad": lad, "rca": rca, "lcx": lcx},
        calibration_mg_per_ml_hu=0.8,
    )
    total, *vessels = reading.findings
    assert (total.kind, total.qualities) == ("coronary_calcium", ("cac_drs_a3",))
    assert values(total)["agatston"] == pytest.approx(440.0)
    assert values(total)["calcium_mass"] == pytest.approx(0.8 * (450.0 * 300.0 + 250.0 * 60.0) / 1000.0)
    assert {each.kind: values(each)["agatston"] for each in vessels} == pytest.approx(
        {"calcium_lad": 400.0, "calcium_rca": 40.0}
    )


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"KVP": 100}, "kvp"),
        ({"KVP": None}, "kvp"),
        ({"SliceThickness": 1.5}, "thickness"),
        ({"SliceThickness": 5.0}, "thickness"),
        ({"ContrastBolusAgent": "Iohexol"}, "contrast"),
        ({"ConvolutionKernel": "B70f"}, "kernel"),
        ({"BodyPartExamined": "HEAD"}, "not_cardiac_ct"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "derived"),
    ],
)
def test_a_header_outside_the_definition_is_refused(header: dict[str, object], key: str, series: Series) -> None:
    assert refusal(replace(series, header={**series.header, **header})) == key


def test_another_modality_is_refused(series: Series) -> None:
    assert refusal(replace(series, modality="MR")) == "not_cardiac_ct"


def test_blood_with_contrast_is_refused(tmp_path: Path) -> None:
    grid, _ = heart((), blood_hu=300.0)
    assert refusal(write_ct(grid, tmp_path, **GATED)) in {"contrast", "heart_not_found"}


def test_noise_that_reaches_130_hu_is_refused(tmp_path: Path) -> None:
    grid, _ = heart((), noise_hu=60.0)
    assert refusal(write_ct(grid, tmp_path, **GATED)) in {"noise", "heart_not_found"}


def test_metal_is_refused(chest: tuple[Grid, float], tmp_path: Path) -> None:
    grid, _ = heart([(0, 50, 3, 3, 2800.0)])
    assert refusal(write_ct(grid, tmp_path, **GATED)) == "metal"


@pytest.mark.parametrize("hu", [-1000.0, 0.0, 40.0])
def test_empty_images_are_refused(hu: float, tmp_path: Path) -> None:
    even = Grid(np.full((40, 64, 64), hu, np.float32), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert refusal(write_ct(even, tmp_path, **GATED)) == "heart_not_found"


@pytest.mark.parametrize("name", ["693_UNCR.dcm", "explicit_VR-UN.dcm"])
def test_a_real_head_or_abdomen_stacked_forty_times_is_refused(name: str, tmp_path: Path) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    plane = slice_values(read_dataset(Path(str(path)), with_pixels=True))[::2, ::2]
    slab = Grid(np.repeat(plane[None], 40, axis=0), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert refusal(write_ct(slab, tmp_path, **GATED)) == "heart_not_found"
    assert refusal(as_series([Path(str(path))])) in {"not_cardiac_ct", "thickness", "kvp", "contrast"}
