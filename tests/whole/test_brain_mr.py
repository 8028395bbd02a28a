"""Brain volume on real and wrong anatomy: what it finds on Colin27, and what it refuses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from skimage.draw import polygon2mask

from handlers.brain_mr import handler
from node.domain.study import Instance, Series, Study
from node.errors import NotEvaluableError, UnreadableInstanceError
from node.infer.loaded import LoadedModel
from node.infer.models import load_manifest
from node.infer.session import open_model
from tests.phantoms_mr import (
    AXIAL,
    CORONAL,
    FLIPPED,
    RAS_TO_LPS,
    SAGITTAL,
    TEMPLATES,
    as_series,
    as_study,
    load_colin27,
    reorient,
    write_mr_series,
)

Models = Mapping[str, LoadedModel]
Head = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]

MODEL = Path(__file__).parents[2] / "models" / "brain_extraction"
SILENT: dict[str, Any] = dict.fromkeys(
    [
        "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName", "ScanningSequence",
        "SequenceVariant", "ScanOptions", "RepetitionTime", "EchoTime", "InversionTime",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def models() -> Models:
    if not (MODEL / "model.onnx").exists():
        pytest.skip("the model is not there: wetread models fetch brain_extraction")
    return {"brain_extraction": open_model(load_manifest(MODEL).card, MODEL, threads=2)}


@pytest.fixture(scope="module")
def head() -> Head:
    return colin27("ch2")


@pytest.fixture(scope="module")
def reference() -> npt.NDArray[np.bool_]:
    return np.asarray(colin27("ch2bet")[0] > 0, np.bool_)


def colin27(name: str) -> Head:
    pytest.importorskip("nibabel", reason="nibabel is not installed")
    if not (TEMPLATES / f"{name}.nii.gz").exists():
        pytest.skip("Colin27 is not there: apt-get install mricron-data")
    return load_colin27(name)


def refusal(models: Models, *series: Series) -> str:
    with pytest.raises(NotEvaluableError) as caught:
        handler.analyse(as_study(*series), models)
    assert str(caught.value)
    return caught.value.key


@pytest.mark.peer
@pytest.mark.parametrize("storage", [AXIAL, SAGITTAL, CORONAL, FLIPPED])
def test_brain_of_colin27_is_outlined_in_every_storage(
    storage: str, models: Models, head: Head, reference: npt.NDArray[np.bool_], tmp_path: Path
) -> None:
    stored, affine = reorient(*head, storage)
    series = as_series(write_mr_series(stored, affine, tmp_path))
    reading = handler.analyse(as_study(series), models)

    (segmentation,) = reading.segmentations
    mask, _ = reorient(segmentation.mask, segmentation.affine, AXIAL)
    dice = 2.0 * (mask & reference).sum() / (mask.sum() + reference.sum())
    assert dice >= 0.92

    (finding,) = reading.findings
    (measurement,) = finding.measurements
    assert (finding.kind, finding.is_abnormal) == ("brain_volume", False)
    assert (measurement.quantity, measurement.unit) == ("volume", "ml")
    assert measurement.value == pytest.approx(mask.sum() / 1000.0)  # voxels of 1 mm
    assert measurement.value == pytest.approx(1948.0, rel=0.01)  # the same in every storage
    assert sorted(reading.source_uids) == sorted(instance.sop_instance_uid for instance in series.instances)

    (region,) = finding.regions
    plane = segmentation.mask[segmentation.sop_instance_uids.index(region.sop_instance_uid)]
    assert 20 < len(region.points) <= 400
    inside = polygon2mask(plane.shape, np.array(region.points)[:, ::-1] - 0.5)
    assert 2.0 * (inside & plane).sum() / (inside.sum() + plane.sum()) > 0.98

    assert len(reading.heat_maps) == 3
    assert region.sop_instance_uid in {heat_map.sop_instance_uid for heat_map in reading.heat_maps}
    for heat_map in reading.heat_maps:
        plane = segmentation.mask[segmentation.sop_instance_uids.index(heat_map.sop_instance_uid)]
        assert heat_map.heat.shape == heat_map.background.shape == plane.shape
        assert heat_map.heat.dtype == heat_map.background.dtype == np.float32
        assert min(heat_map.heat.min(), heat_map.background.min()) >= 0.0
        assert max(heat_map.heat.max(), heat_map.background.max()) <= 1.0
        assert (heat_map.heat[plane] > 0.5).all()
        assert heat_map.score > heat_map.threshold == 0.5
        assert heat_map.spacing_mm == pytest.approx((1.0, 1.0))


@pytest.mark.peer
def test_slices_of_6_mm_and_a_silent_header_are_measured_too(models: Models, head: Head, tmp_path: Path) -> None:
    array, affine = head
    affine = affine @ np.diag([6.0, 1.0, 1.0, 1.0])
    thick = array[:180].reshape(30, 6, *array.shape[1:]).mean(axis=1)
    reading = handler.analyse(as_study(as_series(write_mr_series(thick, affine, tmp_path, **SILENT))), models)
    assert reading.findings[0].measurements[0].value == pytest.approx(1900.0, rel=0.02)


@pytest.mark.peer
def test_of_a_t2_and_a_t1_the_t1_is_read(models: Models, head: Head, tmp_path: Path) -> None:
    array, affine = head
    t2 = as_series(write_mr_series(254 - array, affine, tmp_path / "t2", SeriesDescription="T2 TSE", SeriesNumber=2))
    t1 = as_series(write_mr_series(array, affine, tmp_path / "t1"))
    reading = handler.analyse(as_study(t2, t1), models)
    assert set(reading.source_uids) == {instance.sop_instance_uid for instance in t1.instances}


@pytest.mark.peer
def test_a_head_stripped_to_the_brain_is_refused(
    models: Models, head: Head, reference: npt.NDArray[np.bool_], tmp_path: Path
) -> None:
    stripped = np.where(reference, head[0], 0.0)
    assert refusal(models, as_series(write_mr_series(stripped, head[1], tmp_path))) == "stripped"


@pytest.mark.peer
def test_the_stripped_average_brain_of_mni152_is_refused(models: Models, tmp_path: Path) -> None:
    datasets = pytest.importorskip("nilearn.datasets", reason="nilearn is not installed")
    image = datasets.load_mni152_template(resolution=1)
    array, affine = reorient(np.asarray(image.dataobj, np.float32) * 1000.0, RAS_TO_LPS @ image.affine, AXIAL)
    assert refusal(models, as_series(write_mr_series(array, affine, tmp_path))) == "stripped"


@pytest.mark.peer
@pytest.mark.parametrize(
    ("cut", "key"),
    [
        (np.s_[:75], "cut_off"),
        (np.s_[:, 15:], "cut_off"),
        (np.s_[:, :, :70], "cut_off"),
        (np.s_[20:], "implausible_shape"),
        (np.s_[::6], "too_few_slices"),
        (np.s_[:, :, :50], "not_head_mr"),
    ],
)
def test_a_head_that_is_cut_is_refused(cut: Any, key: str, models: Models, head: Head, tmp_path: Path) -> None:
    coarse, affine = head[0][::2, ::2, ::2], head[1] @ np.diag([2.0, 2.0, 2.0, 1.0])
    assert refusal(models, as_series(write_mr_series(coarse[cut], affine, tmp_path))) == key


@pytest.mark.peer
@pytest.mark.parametrize("body", ["cylinder", "smooth noise"])
def test_a_body_of_the_size_of_a_head_is_refused(body: str, models: Models, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    z, y, x = np.meshgrid(*(np.arange(size) - size / 2 for size in (90, 108, 90)), indexing="ij")
    array = ((y / 50) ** 2 + (x / 42) ** 2 < 1) * 100.0 + ((y / 42) ** 2 + (x / 35) ** 2 < 1) * 60.0
    if body == "smooth noise":
        waves = sum(np.sin(random.normal(size=3) @ np.array([z, y, x]).reshape(3, -1) / 8) for _ in range(20))
        array = (waves.reshape(z.shape) + 20.0) * 20.0 * (array > 0)
    affine = np.array([[0, 0, 2, 0], [0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]])
    series = as_series(write_mr_series(array, affine, tmp_path, **SILENT))
    assert refusal(models, series) in {"implausible_volume", "implausible_shape", "cut_off"}


@pytest.mark.peer
def test_blank_images_are_refused(models: Models, tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2, 0], [0, 2, 0, 0], [6, 0, 0, 0], [0, 0, 0, 1.0]])
    assert refusal(models, as_series(write_mr_series(np.zeros((24, 100, 100)), affine, tmp_path))) == "blank"


def test_a_missing_slice_is_refused_without_a_model(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2, 0], [0, 2, 0, 0], [6, 0, 0, 0], [0, 0, 0, 1.0]])
    paths = write_mr_series(np.zeros((30, 100, 100)), affine, tmp_path)
    assert refusal({}, as_series(paths[:12] + paths[13:])) == "geometry"


@pytest.mark.parametrize("name", ["MR2_UNCR.dcm", "MR2_UNCI.dcm"])
def test_a_shoulder_is_refused(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    assert refusal({}, as_series([Path(str(path))])) == "not_head_mr"


@pytest.mark.peer
def test_a_shoulder_with_a_silent_header_is_refused(models: Models, tmp_path: Path) -> None:
    path = get_testdata_file("MR2_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    plane = dcmread(str(path)).pixel_array[::4, ::4].astype(np.float32)
    affine = np.array([[0, 0, 0.78, 0], [0, 0.78, 0, 0], [6, 0, 0, 0], [0, 0, 0, 1.0]])
    series = as_series(write_mr_series(np.repeat(plane[None], 30, axis=0), affine, tmp_path, **SILENT))
    assert refusal(models, series) == "stripped"  # too little tissue for a head


def told(modality: str = "MR", count: int = 20, **header: Any) -> Study:
    """Only a header: whatever is refused here is refused before a file is opened."""
    instances = tuple(
        Instance(f"1.{number}", "1.2", "1.2.840.10008.1.2.1", "1", Path(f"{number}.dcm"), 0, "")
        for number in range(count)
    )
    return Study("1", 1, (Series("1", modality, instances, header),))


@pytest.mark.parametrize(
    ("study", "key"),
    [
        (told("CT"), "not_head_mr"),
        (told(BodyPartExamined="SHOULDER"), "not_head_mr"),
        (told(BodyPartExamined="CSPINE", SeriesDescription="T1 SAG"), "not_head_mr"),
        (told(SeriesDescription="膝关节 T1"), "not_head_mr"),
        (told(StudyDescription="MRI ABDOMEN", SeriesDescription="t1_vibe"), "not_head_mr"),
        (told(BodyPartExamined="HEAD", SeriesDescription="AX T2 TSE"), "not_t1"),
        (told(SeriesDescription="Sag 3D FLAIR"), "not_t1"),
        (told(SeriesDescription="ep2d_diff_b1000"), "not_t1"),
        (told(SeriesDescription="DWI_ADC"), "not_t1"),
        (told(ImageType=["DERIVED", "PRIMARY", "ADC"]), "not_t1"),
        (told(SeriesDescription="T1 map"), "not_t1"),
        (told(SeriesDescription="localizer"), "not_t1"),
        (told(SeriesDescription="tof_3d_mip"), "not_t1"),
        (told(SeriesDescription="SWI"), "not_t1"),
        (told(SeriesDescription="T1 MPRAGE post GD"), "not_t1"),
        (told(SeriesDescription="T1 MPRAGE", ContrastBolusAgent="Gadobutrol"), "not_t1"),
        (told(EchoTime=95.0, RepetitionTime=4000.0), "not_t1"),
        (told(EchoTime=12.0, RepetitionTime=3000.0), "not_t1"),
        (told(EchoTime=20.0, RepetitionTime=600.0, ScanningSequence="GR"), "not_t1"),
        (told(EchoTime=30.0, RepetitionTime=9000.0, InversionTime=2500.0, ScanningSequence=["SE", "IR"]), "not_t1"),
        (told(ScanningSequence=["EP", "SE"]), "not_t1"),
        (told(SeriesDescription="T1 MPRAGE", count=19), "too_few_slices"),
    ],
)
def test_what_the_header_says_is_no_t1_of_a_head_is_refused_unread(study: Study, key: str) -> None:
    with pytest.raises(NotEvaluableError) as caught:
        handler.analyse(study, {})
    assert caught.value.key == key


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"BodyPartExamined": "HEAD", "SeriesDescription": "T1 MPRAGE", "ContrastBolusAgent": ""},
        {"BodyPartExamined": "BRAIN", "SeriesDescription": "Ax T1 FLAIR", "RepetitionTime": 2500.0, "EchoTime": 9.0},
        {"BodyPartExamined": "HEADNECK", "SeriesDescription": "3D BRAVO", "RepetitionTime": 8.2, "EchoTime": 3.2},
        {"StudyDescription": "头颅 平扫", "SeriesDescription": "t1_tfe_3d_sag", "EchoTime": 3.7},
        {"StudyDescription": "MR HEAD AND C-SPINE", "SeriesDescription": "EPILEPSY T1 3D"},
        {"ScanningSequence": ["GR", "IR"], "RepetitionTime": 2300.0, "EchoTime": 2.98, "InversionTime": 900.0},
        {"ScanningSequence": "SE", "RepetitionTime": 550.0, "EchoTime": 14.0},
    ],
)
def test_a_header_of_a_t1_or_a_silent_one_lets_the_images_be_read(header: dict[str, Any]) -> None:
    with pytest.raises(UnreadableInstanceError):  # the files of `told` do not exist
        handler.analyse(told(**header), {})


def test_the_handler_names_the_operating_point_of_its_model() -> None:
    card = load_manifest(MODEL).card
    assert handler.models == (card.name,)
    assert dict(handler.parameters)["threshold"] == f"{card.threshold:g}"
