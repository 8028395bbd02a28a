"""Head CT on phantoms of known volume, place, density and midline, in a real slice, and what it must refuse."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from handlers.head_ct import handler
from node.api import Finding, NotEvaluableError, Reading
from node.domain.findings import Status
from node.domain.study import Instance, Series, Study
from node.infer.reading import analysis_of
from node.report import load_templates, state
from tests.phantoms import ct_slice
from tests.phantoms_head import Blob, ct_head, head_of_a_real_slice
from tests.phantoms_mr import as_series, as_study

TEMPLATE = load_templates(Path("sr_templates"))["head_ct"]


def read(folder: Path, *blobs: Blob, **options: Any) -> Reading:
    return handler.analyse(as_study(as_series(ct_head(folder, blobs, **options))), {})


def measured(finding: Finding) -> dict[str, float]:
    return {measurement.quantity: measurement.value for measurement in finding.measurements}


def collections(reading: Reading) -> list[Finding]:
    return [finding for finding in reading.findings if finding.kind == "hyperdense_collection"]


def shift(reading: Reading) -> float:
    """Measured shift in mm, to the left positive."""
    (finding,) = [finding for finding in reading.findings if finding.kind in {"midline", "midline_shift"}]
    return measured(finding)["shift"] * (-1.0 if finding.laterality == "R" else 1.0)


def refusal(*series: Series) -> str:
    with pytest.raises(NotEvaluableError) as caught:
        handler.analyse(as_study(*series), {})
    assert caught.value.key in TEMPLATE.reasons
    return caught.value.key


@pytest.mark.parametrize(
    ("blob", "side", "shape"),
    [
        (Blob.ellipsoid((-32.0, 10.0, 20.0), (15.0, 12.0, 10.0), 65.0), "R", "away_from_table"),
        (Blob.ellipsoid((34.0, -20.0, 5.0), (9.0, 9.0, 9.0), 80.0), "L", "away_from_table"),
        (Blob.lens("R", 22.0, 65.0), "R", "lens"),
        (Blob.crescent("L", 12.0, 65.0), "L", "crescent"),
    ],
)
def test_a_collection_has_the_volume_density_place_and_shape_of_the_phantom(
    blob: Blob, side: str, shape: str, tmp_path: Path
) -> None:
    reading = read(tmp_path, blob)
    (finding,) = collections(reading)
    values = measured(finding)
    assert values["volume"] == pytest.approx(blob.volume_ml, rel=0.15)
    assert values["mean_hu"] == pytest.approx(blob.hu, abs=5.0)
    assert (finding.laterality, finding.qualities, finding.certainty) == (side, (shape,), None)
    assert finding.score is not None
    (segmentation,) = reading.segmentations
    place = segmentation.affine @ (*np.argwhere(segmentation.mask).mean(axis=0), 1.0)
    if blob.kind == "ellipsoid":
        assert place[:3] == pytest.approx(blob.middle, abs=2.5)
        assert "depth" not in values
    else:
        assert values["depth"] == pytest.approx(blob.size[0], abs=5.0)
    assert reading.heat_maps[0].sop_instance_uid == finding.regions[0].sop_instance_uid
    assert abs(shift(reading)) <= 1.0


@pytest.mark.parametrize(("shift_mm", "options"), [(-4.0, {}), (8.0, {"turn_deg": 9.0}), (12.0, {})])
def test_the_shift_of_the_midline_is_that_of_the_phantom(
    shift_mm: float, options: dict[str, float], tmp_path: Path
) -> None:
    reading = read(tmp_path, shift_mm=shift_mm, **options)
    assert collections(reading) == []
    assert shift(reading) == pytest.approx(shift_mm, abs=1.5)
    assert [finding.is_abnormal for finding in reading.findings] == [abs(shift_mm) >= 5.0]


def test_two_collections_in_a_shifted_brain_are_told_apart(tmp_path: Path) -> None:
    crescent, inner = Blob.crescent("L", 14.0), Blob.ellipsoid((-36.0, 20.0, 15.0), (10.0, 10.0, 10.0), 75.0)
    reading = read(tmp_path, crescent, inner, shift_mm=-8.0)
    found = collections(reading)
    assert [finding.laterality for finding in found] == ["L", "R"]
    assert shift(reading) == pytest.approx(-8.0, abs=1.5)
    assert not (reading.segmentations[0].mask & reading.segmentations[1].mask).any()


def test_a_head_in_a_tilted_gantry_is_measured_as_it_is(tmp_path: Path) -> None:
    blob = Blob.ellipsoid((-34.0, 10.0, 15.0), (15.0, 12.0, 10.0), 65.0)
    reading = read(tmp_path, blob, shift_mm=7.0, tilt_deg=14.0)
    (finding,) = collections(reading)
    assert measured(finding)["volume"] == pytest.approx(blob.volume_ml, rel=0.15)
    assert finding.laterality == "R"
    assert shift(reading) == pytest.approx(7.0, abs=1.5)
    (segmentation,) = reading.segmentations
    place = segmentation.affine @ (*np.argwhere(segmentation.mask).mean(axis=0), 1.0)
    assert place[:3] == pytest.approx(blob.middle, abs=2.5)


def test_calcium_a_thin_falx_and_a_speck_are_not_marked(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        Blob.ellipsoid((0.0, 30.0, 0.0), (5.0, 5.0, 5.0), 180.0),
        Blob.ellipsoid((20.0, 30.0, 10.0), (5.0, 5.0, 5.0), 250.0),
        Blob.ellipsoid((0.0, -40.0, 45.0), (1.5, 20.0, 15.0), 200.0),
        Blob.ellipsoid((-35.0, 20.0, 25.0), (4.0, 4.0, 4.0), 65.0),
    )
    assert collections(reading) == []


def test_a_head_without_ventricles_has_no_measured_midline_and_says_so(tmp_path: Path) -> None:
    reading = read(tmp_path, shift_mm=9.0, has_ventricles=False)
    (finding,) = reading.findings
    assert (finding.kind, finding.is_abnormal) == ("midline_unmeasured", False)
    study = as_study(as_series(sorted(tmp_path.glob("*.dcm"))))
    size = (*reading.heat_maps[0].heat.shape, 1)
    analysis = analysis_of(reading, handler, study, cards=[], device="CPU", size_of=lambda _: size)
    assert analysis.status is Status.NO_FINDINGS
    for language, words in (("en", "could not be measured"), ("zh", "无法测量")):
        told = state(
            analysis,
            TEMPLATE,
            study_instance_uid="1",
            language=language,
            made_at=datetime.now(UTC),
            is_correction=False,
        )
        assert words in told.conclusion
        assert len(told.limits) == len(handler.not_looked_at)


def test_a_real_slice_has_no_collection_and_one_put_into_it_is_found(tmp_path: Path) -> None:
    if get_testdata_file("693_UNCR.dcm", download=False) is None:
        pytest.skip("pydicom-data is not installed")
    before = handler.analyse(as_study(as_series(head_of_a_real_slice(tmp_path / "before"))), {})
    assert [finding.kind for finding in before.findings] == ["midline_unmeasured"]  # one ventricle, a huge shift
    blob = Blob.ellipsoid((28.0, 20.0, 10.0), (14.0, 14.0, 12.0), 68.0)
    after = handler.analyse(as_study(as_series(head_of_a_real_slice(tmp_path / "after", [blob]))), {})
    (finding,) = collections(after)
    assert measured(finding)["volume"] == pytest.approx(blob.volume_ml, rel=0.15)
    assert measured(finding)["mean_hu"] == pytest.approx(blob.hu, abs=6.0)
    assert finding.laterality == "L"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"part": slice(0, 18)}, "cut_off"),
        ({"part": slice(13, None)}, "cut_off"),
        ({"noise_hu": 40.0}, "noise"),
        ({"blobs": [Blob.ellipsoid((0.0, 0.0, 0.0), (66.0, 86.0, 82.0), 5.0)]}, "not_brain"),
        ({"blobs": [Blob.ellipsoid((20.0, 0.0, 10.0), (16.0, 16.0, 16.0), 180.0)]}, "contrast"),
        ({"blobs": [Blob.ellipsoid((0.0, 0.0, 0.0), (66.0, 86.0, 82.0), -900.0)]}, "not_brain"),
    ],
)
def test_a_head_that_cannot_show_blood_is_refused(options: dict[str, Any], key: str, tmp_path: Path) -> None:
    assert refusal(as_series(ct_head(tmp_path, **options))) == key


@pytest.mark.parametrize("body", ["air", "water", "ring of the size of a knee", "open ring"])
def test_what_is_no_head_is_refused_though_its_header_says_head(body: str, tmp_path: Path) -> None:
    y, x = np.mgrid[:128, :128] - 63.5
    radius = np.hypot(x, y) * 2.0
    plane = np.full((128, 128), -1000, np.int16)
    if body != "air":
        plane[radius < 100] = 30
    if body.startswith("ring"):
        plane[(radius > 25) & (radius < 35)] = 1000
    if body == "open ring":
        plane[(radius > 80) & (radius < 90) & (y < 20)] = 1000
    paths = [
        ct_slice(tmp_path / f"{number}.dcm", number=number, values_hu=plane, PixelSpacing=[2.0, 2.0])
        for number in range(1, 31)
    ]
    assert refusal(as_series(paths)) == "not_head_ct"


def test_a_stack_with_a_missing_slice_is_refused(tmp_path: Path) -> None:
    paths = [ct_slice(tmp_path / f"{number}.dcm", number=number) for number in range(1, 31) if number != 12]
    assert refusal(as_series(paths)) == "geometry"


@pytest.mark.parametrize("name", ["693_UNCR.dcm", "eCT_Supplemental.dcm", "MR2_UNCR.dcm", "RG1_UNCR.dcm"])
def test_single_real_images_of_any_kind_are_refused(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    assert refusal(as_series([Path(str(path))])) in {"not_head_ct", "too_few_slices", "contrast", "not_axial"}


def told(modality: str = "CT", count: int = 30, **header: Any) -> Series:
    instances = tuple(
        Instance(f"1.{number}", "1.2", "1.2.840.10008.1.2.1", "1", Path(f"{number}.dcm"), 0, "")
        for number in range(count)
    )
    return Series("1", modality, instances, header)


@pytest.mark.parametrize(
    ("series", "key"),
    [
        (told("MR"), "not_head_ct"),
        (told(BodyPartExamined="CHEST"), "not_head_ct"),
        (told(SeriesDescription="Abdomen 5.0"), "not_head_ct"),
        (told(StudyDescription="胸部 CT 平扫"), "not_head_ct"),
        (told(BodyPartExamined="HEAD", ContrastBolusAgent="Iopromide"), "contrast"),
        (told(BodyPartExamined="HEAD", SeriesDescription="CTA Head"), "contrast"),
        (told(BodyPartExamined="HEAD", SeriesDescription="头颅 增强"), "contrast"),
        (told(BodyPartExamined="HEAD", SeriesDescription="Head C+"), "contrast"),
        (told(BodyPartExamined="HEAD", SeriesDescription="Head Sag MPR"), "not_axial"),
        (told(BodyPartExamined="HEAD", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "not_axial"),
        (told(BodyPartExamined="HEAD", count=8), "too_few_slices"),
    ],
)
def test_what_the_header_says_is_no_plain_head_is_refused_unread(series: Series, key: str) -> None:
    with pytest.raises(NotEvaluableError) as caught:
        handler.analyse(Study("1", 1, (series,)), {})
    assert caught.value.key == key


def test_every_key_the_handler_may_name_is_in_the_template() -> None:
    assert {"away_from_table", "crescent", "lens", "compact_at_table"} == set(TEMPLATE.qualities)
    assert set(handler.not_looked_at) <= set(TEMPLATE.limits)
