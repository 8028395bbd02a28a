from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from node.domain.findings import Analysis, HeatMap
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report import preview_png
from tests.unit.report.studies import brain_analysis, film_analysis, film_study, make, mr_study


def test_a_heat_map_says_what_it_is_and_what_it_was_made_from(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    ds = make(brain_analysis(study), study, tmp_path / "out").read(OutputKind.HEAT_MAP)
    assert (ds.Modality, ds.ConversionType, list(ds.ImageType)) == ("OT", "WSD", ["DERIVED", "SECONDARY"])
    assert (ds.BurnedInAnnotation, ds.RecognizableVisualFeatures) == ("YES", "NO")
    assert ds.ImageComments == "AI result - NOT FOR DIAGNOSTIC USE - unverified"
    assert "brain_mr 1.0.0" in ds.DerivationDescription
    source = ds.SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == "2.25.101.4"
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert ds.BodyPartExamined == "HEAD"
    assert list(ds.PatientOrientation) == ["L", "P"]
    for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "PixelSpacing"):
        assert keyword not in ds


def test_a_lossy_source_makes_a_lossy_heat_map(tmp_path: Path) -> None:
    def lossy(ds: Dataset) -> None:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio = "12.5"
        ds.LossyImageCompressionMethod = "ISO_15444_1"

    study = film_study(tmp_path, change=lossy)
    ds = make(film_analysis(study), study, tmp_path / "out").read(OutputKind.HEAT_MAP)
    assert (ds.LossyImageCompression, float(ds.LossyImageCompressionRatio)) == ("01", 12.5)
    assert ds.LossyImageCompressionMethod == "ISO_15444_1"


def test_several_key_images_are_one_series(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    heat_map = analysis.heat_maps[0]
    other = replace(heat_map, sop_instance_uid="2.25.101.2", regions=())
    made = make(replace(analysis, heat_maps=(heat_map, other)), study, tmp_path / "out")
    assert made.kinds.count(OutputKind.HEAT_MAP) == 2
    assert len({output.output_id for output in made.outputs}) == 5


def test_slice_and_outline_of_a_heat_map_are_named_in_the_language_of_the_report(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    english = brain_analysis(study)
    (heat_map,) = english.heat_maps
    ((outline, label),) = heat_map.regions
    assert (label, heat_map.slice_label) == ("brain", "slice 4/6")
    in_chinese = replace(heat_map, regions=((outline, "脑"),), slice_label="第 4/6 层")
    nameless = replace(heat_map, regions=((outline, ""),), slice_label="")

    def pixels(name: str, shown: HeatMap, language: str) -> bytes:
        analysis = replace(english, heat_maps=(shown,))
        made = make(analysis, study, tmp_path / name, language=language)
        return bytes(made.read(OutputKind.HEAT_MAP).PixelData)

    assert pixels("a", heat_map, "zh") == pixels("b", in_chinese, "zh") != pixels("c", nameless, "zh")
    assert pixels("d", heat_map, "en") != pixels("e", in_chinese, "en")


def test_the_preview_is_the_picture(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    made = make(film_analysis(study), study, tmp_path / "out", language="zh")
    preview_png(made.path(OutputKind.HEAT_MAP), tmp_path / "preview.png")
    ds = made.read(OutputKind.HEAT_MAP)
    with Image.open(tmp_path / "preview.png") as image:
        assert image.size == (ds.Columns, ds.Rows)
        assert np.asarray(image).tobytes() == ds.PixelData[: ds.Rows * ds.Columns * 3]


def test_a_preview_of_anything_else_is_refused(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    with pytest.raises(ReportError, match="not a heat map"):
        preview_png(study.instances[0].path, tmp_path / "preview.png")


@pytest.mark.parametrize(
    "heat",
    [np.full((120, 100), np.nan, np.float32), np.zeros((120, 99), np.float32), np.zeros(120, np.float32)],
)
def test_a_heat_that_is_none_is_refused(tmp_path: Path, heat: np.ndarray) -> None:
    study = film_study(tmp_path)
    analysis: Analysis = film_analysis(study)
    broken = replace(analysis, heat_maps=(replace(analysis.heat_maps[0], heat=heat),))
    with pytest.raises(ReportError):
        make(broken, study, tmp_path / "out")
