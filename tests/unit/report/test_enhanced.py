"""Results of an enhanced multi-frame image name the frame that each thing was seen on."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.domain.findings import Analysis, HeatMap, Region, Segmentation
from node.domain.study import Study
from node.domain.work import OutputKind
from node.errors import ReportError
from tests.peers.validators import dciodvfy
from tests.phantoms_enhanced import item, write_enhanced
from tests.phantoms_mr import as_series, as_study
from tests.unit.report.studies import brain_analysis, make

ROWS, COLUMNS, SLICES = 48, 40, 6
AFFINE = np.array([[0, 0, 1, -20], [0, 1, 0, -24], [2, 0, 0, 0], [0, 0, 0, 1]], np.float64)
ORDER = (3, 0, 5, 1, 4, 2)
FRAMES = (2, 4, 6, 1, 5, 3)  # of each slice
KEY_FRAME = FRAMES[3]


def _study(folder: Path, **more: object) -> Study:
    volume = np.full((SLICES, ROWS, COLUMNS), 100, np.float32)
    return as_study(as_series([write_enhanced(volume, AFFINE, folder / "e.dcm", order=ORDER, **more)]))


def _analysis(study: Study, *, frame: int = KEY_FRAME) -> Analysis:
    """The brain of the classic phantom, seen on frames."""
    uid = study.instances[0].sop_instance_uid
    plain = brain_analysis(study)
    outline = Region(uid, plain.findings[0].regions[0].points, frame)
    mask = np.zeros((SLICES, ROWS, COLUMNS), np.bool_)
    mask[1:, 12:36, 10:30] = True
    mask[1, 12, 10] = False
    heat = plain.heat_maps[0].heat
    background = plain.heat_maps[0].background
    return replace(
        plain,
        findings=(replace(plain.findings[0], regions=(outline,)),),
        heat_maps=(HeatMap(uid, heat, background, "segmentation probability", 0.9, 0.5, frame_number=frame),),
        segmentations=(Segmentation("brain", mask, AFFINE, (uid,) * SLICES, "brain-1", FRAMES),),
    )


def _references(ds: Dataset) -> list[Dataset]:
    return [one for element in ds.iterall() if element.VR == "SQ" for one in element.value
            if "ReferencedFrameNumber" in one]  # fmt: skip


def test_an_outline_names_its_frame(tmp_path: Path) -> None:
    study = _study(tmp_path)
    ds = make(_analysis(study), study, tmp_path).read(OutputKind.MEASUREMENT_SR)
    (reference,) = _references(ds)
    uid = study.instances[0].sop_instance_uid
    assert (reference.ReferencedSOPInstanceUID, reference.ReferencedFrameNumber) == (uid, KEY_FRAME)


def test_a_heat_map_names_its_frame_and_has_the_sides_of_the_patient(tmp_path: Path) -> None:
    study = _study(tmp_path)
    ds = make(_analysis(study), study, tmp_path).read(OutputKind.HEAT_MAP)
    assert ds.SourceImageSequence[0].ReferencedFrameNumber == KEY_FRAME
    assert list(ds.PatientOrientation) == ["L", "P"]


def test_a_mask_lies_on_the_frames_it_was_drawn_on(tmp_path: Path) -> None:
    study = _study(tmp_path)
    analysis = _analysis(study)
    path = make(analysis, study, tmp_path).path(OutputKind.SEGMENTATION)
    seg = hd.seg.segread(path)
    uid = study.instances[0].sop_instance_uid
    pixels = seg.get_pixels_by_source_frame(
        uid, list(FRAMES), combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels.astype(bool), analysis.segmentations[0].mask)
    places = [
        float(one.PlanePositionSequence[0].ImagePositionPatient[2]) for one in seg.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(places) == [2, 4, 6, 8, 10]


@pytest.mark.peer
def test_results_of_an_enhanced_image_are_clean_for_dciodvfy(tmp_path: Path) -> None:
    study = _study(tmp_path)
    for output in make(_analysis(study), study, tmp_path).outputs:
        assert dciodvfy(output.path) == [], output.kind


def test_a_mask_on_frames_that_are_not_alike_is_left_out_and_the_rest_is_made(tmp_path: Path) -> None:
    scout = {"PlaneOrientationSequence": item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])}
    study = _study(tmp_path, each={5: scout})
    kinds = make(_analysis(study), study, tmp_path).kinds
    assert OutputKind.SEGMENTATION not in kinds
    assert {OutputKind.TEXT_SR, OutputKind.MEASUREMENT_SR, OutputKind.HEAT_MAP} <= set(kinds)


def test_a_frame_that_is_not_there_is_refused(tmp_path: Path) -> None:
    study = _study(tmp_path)
    with pytest.raises(ReportError, match="has 6 frames, not 7"):
        make(_analysis(study, frame=7), study, tmp_path)


def test_the_phantom_is_what_it_says(tmp_path: Path) -> None:
    ds = dcmread(tmp_path / Path(_study(tmp_path).instances[0].path).name)
    third = ds.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient
    assert [float(value) for value in third] == [-20, -24, 10]
