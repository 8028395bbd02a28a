from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.domain.findings import Analysis, Finding, Region
from node.domain.study import Study
from node.domain.work import OutputKind
from tests.unit.report.studies import ALL_KINDS, Change, brain_analysis, film_analysis, film_study, make, mr_study

SQUARE = ((10.0, 12.0), (20.0, 12.0), (20.0, 22.0), (10.0, 22.0))


def states(analysis: Analysis, study: Study, folder: Path, language: str = "en") -> list[Dataset]:
    made = make(analysis, study, folder, language=language, kinds=ALL_KINDS)
    paths = [output.path for output in made.outputs if output.kind is OutputKind.PRESENTATION_STATE]
    return [dcmread(path) for path in paths]


def brain_state(tmp_path: Path, change: Change | None = None) -> Dataset:
    study = mr_study(tmp_path, change=change)
    (ds,) = states(brain_analysis(study), study, tmp_path / "out")
    return ds


def test_the_outline_lies_where_the_finding_is_and_is_closed(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    (ds,) = states(analysis, study, tmp_path / "out")
    (annotation,) = ds.GraphicAnnotationSequence
    points = np.reshape(annotation.GraphicObjectSequence[0].GraphicData, (-1, 2))
    region = analysis.findings[0].regions[0]
    assert np.allclose(points, [*region.points, region.points[0]])
    assert annotation.GraphicObjectSequence[0].GraphicAnnotationUnits == "PIXEL"
    assert annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID == region.sop_instance_uid


def test_the_label_carries_the_id_of_the_reports_and_that_nobody_verified_it(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    (ds,) = states(film_analysis(study), study, tmp_path / "out", "zh")
    labels = [item.UnformattedTextValue for item in ds.GraphicAnnotationSequence[0].TextObjectSequence]
    assert labels == [
        "AI [opacity-1] 类圆形致密影（候选） 长径 14.14 mm (未经审核)",
        "AI [opacity-2] 类圆形致密影（候选） (未经审核)",
    ]


def test_the_window_is_that_of_the_image(tmp_path: Path) -> None:
    def window(ds: Dataset) -> None:
        ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = [40, 600], [80, 1500], "LINEAR"

    (voi,) = brain_state(tmp_path, window).SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction) == (40, 80, "LINEAR")


def test_an_image_without_a_window_is_shown_as_the_heat_map_shows_it(tmp_path: Path) -> None:
    def ramp(ds: Dataset) -> None:
        ds.PixelData = np.linspace(0, 1000, 48 * 40).astype(np.uint16).tobytes()

    (voi,) = brain_state(tmp_path, ramp).SoftcopyVOILUTSequence
    assert voi.WindowCenter == pytest.approx(500, abs=1)
    assert voi.WindowWidth == pytest.approx(980, abs=1)


def test_the_modality_lut_of_the_image_comes_along(tmp_path: Path) -> None:
    def hounsfield(ds: Dataset) -> None:
        ds.RescaleIntercept, ds.RescaleSlope = -1024, 1

    ds = brain_state(tmp_path, hounsfield)
    assert (ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType) == (-1024, 1, "US")


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
def test_the_polarity_of_the_image_is_kept(tmp_path: Path, photometric: str, shape: str) -> None:
    def set_polarity(ds: Dataset) -> None:
        ds.PhotometricInterpretation = photometric

    assert brain_state(tmp_path, set_polarity).PresentationLUTShape == shape


def test_images_of_another_grey_scale_get_a_state_of_their_own(tmp_path: Path) -> None:
    def slope(ds: Dataset) -> None:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1 + ds.InstanceNumber % 2, "US"

    study = mr_study(tmp_path, change=slope)
    uids = [instance.sop_instance_uid for instance in study.instances]
    finding = Finding("brain-1", "brain_volume", regions=tuple(Region(uid, SQUARE) for uid in uids[:3]))
    found = states(replace(brain_analysis(study), findings=(finding,)), study, tmp_path / "out")
    shown = [[item.ReferencedSOPInstanceUID for item in ds.ReferencedSeriesSequence[0].ReferencedImageSequence]
             for ds in found]  # fmt: skip
    assert shown == [[uids[0], uids[2]], [uids[1]]]
    assert len({ds.SOPInstanceUID for ds in found}) == 2


def test_an_image_in_colour_gets_none(tmp_path: Path) -> None:
    def colour(ds: Dataset) -> None:
        ds.PhotometricInterpretation = "RGB"

    study = mr_study(tmp_path, change=colour)
    assert states(brain_analysis(study), study, tmp_path / "out") == []


def test_the_whole_image_is_displayed_with_its_true_spacing(tmp_path: Path) -> None:
    (area,) = brain_state(tmp_path).DisplayedAreaSelectionSequence
    assert list(area.DisplayedAreaBottomRightHandCorner) == [40, 48]
    assert list(area.PresentationPixelSpacing) == [1, 1]
    assert area.PresentationSizeMode == "SCALE TO FIT"
