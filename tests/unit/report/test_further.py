"""More outlines than a measurement report has room for."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread

from node.domain.findings import Analysis, Finding, Region
from node.domain.study import Study
from node.domain.work import OutputKind
from node.report.sr import MOST_GROUPS
from tests.unit.report.studies import Made, brain_analysis, film_analysis, film_study, make, mr_study, texts

KEPT_AND_MORE = 60
SIDE = 4.0


def boxes(study: Study, analysis: Analysis, *, step: float = 5.0) -> Analysis:
    """Sixty squares of 4 x 4 pixels in rows of seven, on the first two slices."""
    uids = [instance.sop_instance_uid for instance in study.instances]
    findings = []
    for index in range(KEPT_AND_MORE):
        place = index % 30
        left, top = (place % 7) * step + 1, (place // 7) * step + 1
        corners = ((left, top), (left + SIDE, top), (left + SIDE, top + SIDE), (left, top + SIDE))
        region = Region(uids[min(index // 30, len(uids) - 1)], corners)
        findings.append(Finding(f"box-{index + 1}", analysis.findings[0].kind, (), (region,)))
    return replace(analysis, findings=tuple(findings), segmentations=())


def segmentations(made: Made) -> list[hd.seg.Segmentation]:
    return [hd.seg.segread(one.path) for one in made.outputs if one.kind is OutputKind.SEGMENTATION]


def test_the_rest_are_segments_under_the_tracking_identifiers_of_their_findings(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    made = make(boxes(study, brain_analysis(study)), study, tmp_path / "out")
    (segmentation,) = segmentations(made)
    ids = [segmentation.get_segment_description(number).tracking_id for number in segmentation.segment_numbers]
    assert ids == [f"box-{index}" for index in range(MOST_GROUPS + 1, KEPT_AND_MORE + 1)]
    assert segmentation.SeriesDescription == "AI SEG further outlines"
    pixels = segmentation.get_pixels_by_source_instance([study.instances[1].sop_instance_uid])
    assert pixels.sum() == (KEPT_AND_MORE - MOST_GROUPS) * SIDE**2
    assert pixels[0, 11:15, 31:35, 0].all()  # box 51 is the 21st of its slice: row 2, place 6 (both from 0)


def test_outlines_that_overlap_lose_nothing(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    made = make(boxes(study, brain_analysis(study), step=3.0), study, tmp_path / "out")
    found = segmentations(made)
    assert len(found) > 1
    source = [study.instances[1].sop_instance_uid]
    drawn = sum(np.count_nonzero(one.get_pixels_by_source_instance(source)) for one in found)
    assert drawn == (KEPT_AND_MORE - MOST_GROUPS) * SIDE**2


def test_the_report_says_how_many_are_left_out_and_where_they_are(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    made = make(boxes(study, brain_analysis(study)), study, tmp_path / "out")
    ds = made.read(OutputKind.MEASUREMENT_SR)
    (said,) = (text for text in texts(ds) if "left out" in text)
    assert "10 of 60 outlines" in said
    assert "box-51 to box-60" in said
    assert made.path(OutputKind.SEGMENTATION).stem in said
    assert ds.CompletionFlagDescription.startswith("50 of 60 outlines")


def test_where_no_segmentation_can_be_drawn_the_report_says_so(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    made = make(boxes(study, film_analysis(study)), study, tmp_path / "out")
    assert OutputKind.SEGMENTATION not in made.kinds
    said = texts(made.read(OutputKind.MEASUREMENT_SR))
    assert any("cannot be drawn as a Segmentation" in text and "lists every finding" in text for text in said)
    assert sum("[box-" in text for text in texts(made.read(OutputKind.TEXT_SR))) == KEPT_AND_MORE


def test_segments_keep_one_series_whose_description_is_one(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    both = replace(boxes(study, analysis), segmentations=analysis.segmentations)
    made = make(both, study, tmp_path / "out")
    found = [dcmread(one.path) for one in made.outputs if one.kind is OutputKind.SEGMENTATION]
    assert len(found) == 2
    assert len({(str(ds.SeriesInstanceUID), ds.SeriesDescription) for ds in found}) == 1
    assert [ds.InstanceNumber for ds in found] == [1, 2]
