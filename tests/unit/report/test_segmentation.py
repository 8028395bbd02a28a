from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset

from node.domain.work import OutputKind
from node.errors import ReportError
from tests.unit.report.studies import brain_analysis, make, mr_study


def test_the_mask_comes_back_where_it_was_put(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    made = make(analysis, study, tmp_path / "out")
    segmentation = hd.seg.segread(made.path(OutputKind.SEGMENTATION))
    uids = [instance.sop_instance_uid for instance in study.instances]
    back = segmentation.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)[..., 0]
    assert np.array_equal(back.astype(bool), analysis.segmentations[0].mask)
    assert segmentation.NumberOfFrames == 5  # the first slice is empty
    assert segmentation.FrameOfReferenceUID == "2.25.102"


def test_the_segment_is_named_and_tracked_like_its_finding(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    made = make(brain_analysis(study), study, tmp_path / "out")
    segmentation = hd.seg.segread(made.path(OutputKind.SEGMENTATION))
    segment = segmentation.get_segment_description(1)
    (group,) = hd.sr.srread(made.path(OutputKind.MEASUREMENT_SR)).content.get_planar_roi_measurement_groups()
    assert (segment.tracking_id, segment.tracking_uid) == ("brain-1", group.tracking_uid)
    assert segment.segmented_property_type.value == "12738006"
    assert segment.algorithm_identification.name == "brain_mr"
    assert segmentation.SeriesDescription == "AI SEG brain"


def test_no_random_uid_is_left(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    ds = make(brain_analysis(study), study, tmp_path / "out").read(OutputKind.SEGMENTATION)
    uids = {str(item.DimensionOrganizationUID) for item in ds.DimensionIndexSequence}
    assert uids == {str(ds.DimensionOrganizationSequence[0].DimensionOrganizationUID)}
    assert uids.pop().startswith("2.25.")
    assert len(ds.ContributingEquipmentSequence) == 1


def test_an_empty_mask_makes_no_object(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    empty = replace(analysis.segmentations[0], mask=np.zeros((6, 48, 40), np.bool_))
    assert OutputKind.SEGMENTATION not in make(replace(analysis, segmentations=(empty,)), study, tmp_path / "o").kinds


def test_images_without_a_frame_of_reference_keep_their_reports(tmp_path: Path) -> None:
    def unplace(ds: Dataset) -> None:
        del ds.FrameOfReferenceUID

    study = mr_study(tmp_path, change=unplace)
    made = make(brain_analysis(study), study, tmp_path / "out")
    assert made.kinds == [OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR, OutputKind.HEAT_MAP]


def test_a_mask_that_does_not_fit_its_images_is_refused(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    short = replace(analysis.segmentations[0], mask=np.ones((5, 48, 40), np.bool_))
    with pytest.raises(ReportError, match="does not fit"):
        make(replace(analysis, segmentations=(short,)), study, tmp_path / "out")
    narrow = replace(analysis.segmentations[0], mask=np.ones((6, 48, 39), np.bool_))
    with pytest.raises(ReportError, match="48 x 39"):
        make(replace(analysis, segmentations=(narrow,)), study, tmp_path / "out")


def test_a_whole_head_of_181_slices_stays_small(tmp_path: Path) -> None:
    study = mr_study(tmp_path, slices=181, rows=217, columns=181)
    analysis = brain_analysis(study, rows=217, columns=181)
    made = make(analysis, study, tmp_path / "out")
    assert made.path(OutputKind.SEGMENTATION).stat().st_size < 1_500_000
