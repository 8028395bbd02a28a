from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset

from node.domain.findings import Certainty, Finding, Measurement, Region, Tier
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report.sr import MOST_GROUPS
from tests.unit.report.studies import NETWORK, Made, brain_analysis, film_analysis, film_study, make, mr_study, texts

SQUARE = ((20.0, 30.0), (30.0, 30.0), (30.0, 40.0))


def groups_of(made: Made) -> list[hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    document = hd.sr.srread(made.path(OutputKind.MEASUREMENT_SR))
    return list(document.content.get_planar_roi_measurement_groups())


def content_of(group: Dataset) -> list[Dataset]:
    return list(group[0].ContentSequence)


def test_a_second_library_reads_back_what_was_found(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    first, second = groups_of(make(film_analysis(study), study, tmp_path / "out"))
    assert (first.tracking_identifier, second.tracking_identifier) == ("opacity-1", "opacity-2")
    assert first.finding_type.value == "112001"
    assert first.finding_category.value == "49755003"
    assert first.finding_sites[0].value.value == "39607008"
    assert [g.finding_sites[0].laterality.value for g in (first, second)] == ["24028007", "7771000"]
    assert [(m.name.value, m.value, m.unit.value) for m in first.get_measurements()] == [
        ("103339001", 14.1421, "mm"),
        ("246262008", 0.62, "1"),
    ]
    assert [(m.name.value, m.value) for m in second.get_measurements()] == [("246262008", 0.41)]
    corners = np.array([(20, 30), (30, 30), (30, 40), (20, 40), (20, 30)], float)
    assert np.array_equal(first.roi.value, corners)  # closed by its first point
    assert first.roi.graphic_type is hd.sr.GraphicTypeValues.POLYLINE


def test_the_tracking_uid_is_the_first_uid_of_its_group(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    for group in groups_of(make(film_analysis(study), study, tmp_path / "out")):
        uids = [item for item in content_of(group) if item.ValueType == "UIDREF"]
        assert uids[0].ConceptNameCodeSequence[0].CodeValue == "112040"


def test_every_group_names_algorithm_weights_threshold_and_tier(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    sure = Finding("x-1", "round_opacity", (), (Region(study.instances[0].sop_instance_uid, SQUARE),),
                   certainty=Certainty(0.873, Tier.HIGH))  # fmt: skip
    analysis = replace(film_analysis(study), algorithm=NETWORK, findings=(sure,))
    (group,) = groups_of(make(analysis, study, tmp_path / "out"))
    texts = {str(item.TextValue) for item in content_of(group) if item.ValueType == "TEXT"}
    assert {"brain_mr", "1.0.0", "basis: learned", "weights SHA-256: " + "ab" * 32, "threshold: 0.5"} <= texts
    assert "tier: high" in texts
    family = [i for i in content_of(group) if i.ConceptNameCodeSequence[0].CodeValue == "111000"]
    assert family[0].ConceptCodeSequence[0].CodeValue == "123110"
    (certainty,) = group.get_measurements()
    assert (certainty.name.value, certainty.value, certainty.unit.value) == ("111012", 87.3, "%")


def test_a_rule_based_score_is_no_certainty(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    for group in groups_of(make(film_analysis(study), study, tmp_path / "out")):
        assert "111012" not in {measurement.name.value for measurement in group.get_measurements()}


def test_the_library_holds_only_images_that_are_outlined(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    ds = make(brain_analysis(study), study, tmp_path / "out").read(OutputKind.MEASUREMENT_SR)
    library = next(i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "111028")
    entries = library.ContentSequence[0].ContentSequence
    assert [e.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for e in entries] == ["2.25.101.4"]
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert len(evidence) == 6


def test_a_spacing_of_zero_is_not_repeated(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    text = str(make(film_analysis(study), study, tmp_path / "out").read(OutputKind.MEASUREMENT_SR))
    assert "Pixel Data Rows" in text
    assert "Pixel Spacing" not in text


def test_further_outlines_share_the_tracking_uid_and_numbers_stand_once(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    uids = [instance.sop_instance_uid for instance in study.instances]
    regions = tuple(Region(uid, SQUARE) for uid in uids[1:3])
    analysis = replace(analysis, findings=(replace(analysis.findings[0], regions=regions),))
    first, second = groups_of(make(analysis, study, tmp_path / "out"))
    assert first.tracking_uid == second.tracking_uid
    assert [len(group.get_measurements()) for group in (first, second)] == [1, 0]


@pytest.mark.parametrize(("frames", "named"), [(9, 7), (None, None)])
def test_a_frame_is_named_on_a_multi_frame_image_only(tmp_path: Path, frames: int | None, named: int | None) -> None:
    def multiply(ds: Dataset) -> None:
        if frames:
            ds.NumberOfFrames = frames

    study = film_study(tmp_path, change=multiply)
    region = Region(study.instances[0].sop_instance_uid, SQUARE, frame_number=named or 1)
    analysis = replace(film_analysis(study), findings=(Finding("x-1", "round_opacity", (), (region,)),))
    (group,) = groups_of(make(analysis, study, tmp_path / "out"))
    image = content_of(group)[-1].ContentSequence[0]
    assert image.ReferencedSOPSequence[0].get("ReferencedFrameNumber") == named


def test_a_frame_that_is_not_there_is_refused(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    region = Region(study.instances[0].sop_instance_uid, SQUARE, frame_number=2)
    analysis = replace(film_analysis(study), findings=(Finding("x-1", "round_opacity", (), (region,)),))
    with pytest.raises(ReportError, match="has 1 frames, not 2"):
        make(analysis, study, tmp_path / "out")


def test_beyond_fifty_outlines_the_document_says_that_it_is_partial(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    region = Region(study.instances[0].sop_instance_uid, SQUARE)
    many = tuple(Finding(f"x-{n}", "round_opacity", (), (region,)) for n in range(60))
    made = make(replace(film_analysis(study), findings=many), study, tmp_path / "out")
    assert len(groups_of(made)) == MOST_GROUPS
    ds = made.read(OutputKind.MEASUREMENT_SR)
    assert ds.CompletionFlag == "PARTIAL"
    assert ds.CompletionFlagDescription.startswith("50 of 60 outlines")
    assert sum(said.startswith("[x-") for said in texts(made.read(OutputKind.TEXT_SR))) == 60


def test_a_finding_without_outline_is_told_in_words_only(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    analysis = replace(film_analysis(study), findings=(Finding("x-1", "round_opacity"),))
    made = make(analysis, study, tmp_path / "out")
    assert OutputKind.MEASUREMENT_SR not in made.kinds
    assert "[x-1] Round opacity candidate." in texts(made.read(OutputKind.TEXT_SR))


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        (((1.0, 1.0), (2.0, 2.0)), "three points"),
        (((1.0, 1.0), (2.0, 2.0), (1.0, 1.0)), "three points"),
        (((1.0, 1.0), (2.0, 2.0), (101.0, 3.0)), "leaves image"),
        (((1.0, 1.0), (2.0, 2.0), (float("nan"), 3.0)), "leaves image"),
    ],
)
def test_an_outline_that_is_none_is_refused(
    tmp_path: Path, points: tuple[tuple[float, float], ...], complaint: str
) -> None:
    study = film_study(tmp_path)
    region = Region(study.instances[0].sop_instance_uid, points)
    analysis = replace(film_analysis(study), findings=(Finding("x-1", "round_opacity", (), (region,)),))
    with pytest.raises(ReportError, match=complaint):
        make(analysis, study, tmp_path / "out")


def test_meanings_stay_english_in_a_chinese_report(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    ds = make(film_analysis(study), study, tmp_path / "out", language="zh").read(OutputKind.MEASUREMENT_SR)
    meanings = [e.value for e in ds.iterall() if e.keyword == "CodeMeaning"]
    assert {"Imaging Measurements", "Measurement Group", "Tracking Identifier"} <= set(meanings)
    assert all(meaning.isascii() for meaning in meanings)


def test_a_huge_or_tiny_number_keeps_its_value(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    region = Region(study.instances[0].sop_instance_uid, SQUARE)
    for index, value in enumerate((1.0 / 3.0, 1e-7, 123456789.123, 1e20)):
        finding = Finding("x-1", "round_opacity", (Measurement("long_axis", value, "mm"),), (region,))
        made = make(replace(film_analysis(study), findings=(finding,)), study, tmp_path / str(index))
        assert groups_of(made)[0].get_measurements()[0].value == pytest.approx(value, rel=1e-9)
