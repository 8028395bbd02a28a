"""What a radiologist sees of the results in OHIF, whose pictures a person can look at afterwards.

A film and a head are read by the applications themselves, their results are sent to Orthanc, and OHIF shows them from
there. Where an outline or a mask must be on the page is computed from the result; what is there is read off its pixels.
Set TEST_PICTURES to a folder to keep the pictures.

OHIF 3.13 shows a film black whose Pixel Spacing is 0\\0, as the one from pydicom-data says, with or without results;
and with Orthanc 1.10 no Segmentation whose rows are no whole number of bytes: its own reader refuses the pad byte, and
Orthanc has frames of one bit only where 8 divides Columns. So the film has no spacing here, and the head a matrix of
256 by 256, as scanners make.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from scipy import ndimage

from node import deliver, infer, report
from node.demo.colin27 import TEMPLATES, load_colin27, write_mr_series
from node.dicom.read import header_of, read_dataset
from node.domain.statement import Statement
from node.domain.study import Instance, Series, Study
from node.domain.work import STANDARD_KINDS, Assignment, Output, OutputKind, Priority
from node.settings import load_settings
from node.store.analyses import load_analysis
from node.store.digest import dataset_digest
from tests.peers.ohif import Viewer, ohif
from tests.peers.orthanc import destination, orthanc_with_dicomweb, upload

pytestmark = [pytest.mark.peer, pytest.mark.timeout(200)]

SITE = Path(__file__).parents[2]
WHO = {"PatientName": "Wang^XiaoMing=王^小明", "PatientID": "P-CN"}
MATRIX = 256
NEAR_PX = 3
BELOW_QUESTION_PX = 165  # whether to open the segmentation; it is shown already
Points = Sequence[Sequence[float]] | npt.NDArray[np.float64]
Picture = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Read:
    """A study and what was made of it."""

    study_uid: str
    statement: Statement
    outputs: tuple[Output, ...]

    def of_kind(self, kind: OutputKind) -> Dataset:
        return dcmread(next(output.path for output in self.outputs if output.kind is kind))

    @property
    def series(self) -> int:
        return 1 + len({output.kind for output in self.outputs})


@dataclass(frozen=True)
class Scene:
    """The viewer, with both studies in the archive behind it."""

    viewer: Viewer
    film: Read
    head: Read


def _study(files: Sequence[Path]) -> Study:
    instances = []
    for path in files:
        ds = read_dataset(path)
        digest, size_bytes = dataset_digest(path)
        syntax = str(ds.file_meta.TransferSyntaxUID)
        instances.append(
            Instance(
                str(ds.SOPInstanceUID), str(ds.SOPClassUID), syntax, str(ds.SeriesInstanceUID), path, size_bytes, digest
            )
        )
    ds = read_dataset(files[0])
    series = Series(str(ds.SeriesInstanceUID), str(ds.Modality), tuple(instances), header_of(ds))
    return Study(str(ds.StudyInstanceUID), 1, (series,))


def _read(handler: str, files: Sequence[Path], folder: Path) -> Read:
    """Let an application read a study and make its results, in Chinese."""
    settings, study = load_settings(SITE / "config.toml", {}), _study(files)
    template = report.load_templates(SITE / "sr_templates")[handler]
    series = tuple(one.series_instance_uid for one in study.series)
    assignment = Assignment("2.25.1", study.study_instance_uid, 1, handler, "a rule", Priority.ROUTINE, (), series)
    analysis = load_analysis(
        infer.infer(assignment, study, site=SITE, folder=folder / f"{handler} analysis", settings=settings.infer)
    )
    statement = report.state(
        analysis, template, study_instance_uid=study.study_instance_uid, language="zh",
        made_at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC), is_correction=False,
    )  # fmt: skip
    outputs = report.build(
        analysis, statement, template, study=study, folder=folder / handler, settings=settings.report,
        kinds=frozenset(STANDARD_KINDS),
    )  # fmt: skip
    return Read(study.study_instance_uid, statement, outputs)


def _film(folder: Path) -> Path:
    ds = dcmread(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID, ds.StudyDescription = WHO["PatientName"], WHO["PatientID"], "胸部正位"
    del ds.PixelSpacing
    ds.save_as(folder / "film.dcm")
    return folder / "film.dcm"


def _head(folder: Path) -> list[Path]:
    """Colin27 in the middle of a usual matrix."""
    volume, affine = load_colin27()
    before = [(MATRIX - size) // 2 for size in volume.shape[1:]]
    after = [MATRIX - size - first for size, first in zip(volume.shape[1:], before, strict=True)]
    padded = np.pad(volume, ((0, 0), *zip(before, after, strict=True)))
    moved = affine.copy()
    moved[:, 3] = affine @ np.array([0.0, -before[0], -before[1], 1.0])
    return write_mr_series(padded, moved, folder / "head", **WHO)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if not (TEMPLATES / "ch2.nii.gz").is_file():
        pytest.skip("Colin27 is not there: apt-get install mricron-data")
    if not (SITE / "models" / "brain_extraction" / "model.onnx").is_file():
        pytest.skip("the model is not there: wetread models fetch brain_extraction")
    folder = tmp_path_factory.mktemp("viewer")
    pictures = Path(os.environ.get("TEST_PICTURES") or folder / "pictures")
    with orthanc_with_dicomweb(folder / "pacs") as pacs, ohif(pacs.http_port, pictures) as viewer:
        film, head = _film(folder), _head(folder)
        with ThreadPoolExecutor(2) as readers:
            reads = tuple(readers.map(_read, ("chest_xray", "brain_mr"), ([film], head), (folder, folder)))
        upload(pacs, [film, *head])
        for output in (output for read in reads for output in read.outputs):
            assert deliver.send_dicom(output.path, output, destination(pacs), calling_ae="WETREAD") == "0x0000"
        yield Scene(viewer, *reads)


def _on_page(viewer: Viewer, points: Points) -> npt.NDArray[np.float64]:
    """Where the viewport has the centres of pixels, as (column, row) of its image, on the page."""
    return viewer.on_page([[float(column), float(row)] for column, row in points])


def _picture(viewer: Viewer, name: str) -> Picture:
    with Pillow.open(viewer.keep(name)) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


def _colours(picture: Picture, places: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    columns, rows = np.floor(places).astype(int).T
    return np.asarray(picture[rows, columns], np.int16)


def _outlines(ds: Dataset) -> list[npt.NDArray[np.float64]]:
    """Every outline of a report, centre of the first pixel at 0, 0 (SCOORD has its corner there, PS3.3 C.18.6)."""
    found = [item for item in ds.iterall() if item.keyword == "GraphicData"]
    return [np.reshape(np.asarray(one.value, np.float64), (-1, 2)) - 0.5 for one in found]


def _share_on_line(picture: Picture, places: npt.NDArray[np.float64]) -> float:
    """How many of these places have a line of an outline beside them; images are grey, OHIF's lines green or yellow."""
    is_line = (picture[..., 1] - picture[..., 2]) > 80
    windows = [
        is_line[int(y) - NEAR_PX : int(y) + NEAR_PX + 1, int(x) - NEAR_PX : int(x) + NEAR_PX + 1] for x, y in places
    ]
    return float(np.mean([window.any() for window in windows]))


def test_every_outline_of_the_film_is_drawn_where_the_report_has_it(scene: Scene) -> None:
    viewer, outlines = scene.viewer, _outlines(scene.film.of_kind(OutputKind.MEASUREMENT_SR))
    viewer.open(scene.film.study_uid, series=scene.film.series)
    _picture(viewer, "film 1 as it opens")
    viewer.show("AI RESULT")
    viewer.wait_for_outlines(len(outlines))
    viewer.answer("No")  # whether to go on with the measurements
    picture = _picture(viewer, "film 2 outlines")
    assert len(outlines) == sum(len(finding.regions) for finding in scene.film.statement.findings) > 0
    for outline in outlines:
        assert _share_on_line(picture, _on_page(viewer, outline)) == 1.0


def test_the_heat_map_of_the_film_is_shown_pixel_for_pixel(scene: Scene) -> None:
    _heat_map_is_shown(scene.viewer, scene.film, "film 3 heat map")


def test_the_report_of_the_film_can_be_read_in_chinese(scene: Scene) -> None:
    _report_can_be_read(scene.viewer, scene.film, "film 4 report")


def test_the_outline_of_the_brain_is_drawn_on_its_slice(scene: Scene) -> None:
    viewer, (outline,) = scene.viewer, _outlines(scene.head.of_kind(OutputKind.MEASUREMENT_SR))
    viewer.open(scene.head.study_uid, series=scene.head.series)
    viewer.show("AI RESULT")
    viewer.wait_for_outlines(1)
    picture = _picture(viewer, "head 1 outline")
    assert _share_on_line(picture, _on_page(viewer, outline)) > 0.98
    (volume,) = scene.head.statement.findings[0].measurements
    assert f"Volume: {volume.value:.2f} ml" in viewer.text()


def test_the_heat_map_of_the_head_is_shown_pixel_for_pixel(scene: Scene) -> None:
    _heat_map_is_shown(scene.viewer, scene.head, "head 2 heat map")


def test_the_report_of_the_head_can_be_read_in_chinese(scene: Scene) -> None:
    _report_can_be_read(scene.viewer, scene.head, "head 3 report")


def test_the_segmentation_of_the_head_lies_on_the_brain(scene: Scene) -> None:
    viewer, seg = scene.viewer, scene.head.of_kind(OutputKind.SEGMENTATION)
    viewer.show("AI SEG")
    viewer.wait_until("services.segmentationService.getSegmentations().length > 0")
    viewer.scroll(60)
    picture = _picture(viewer, "head 4 segmentation")
    mask = _frame_of(seg, viewer.shown_instance())
    deep, far = ndimage.binary_erosion(mask, iterations=3), ~ndimage.binary_dilation(mask, iterations=3)
    assert deep.sum() > 10_000
    for is_inside, places in ((True, deep), (False, far)):
        rows, columns = np.nonzero(places)
        some = np.random.default_rng(2).permutation(len(rows))[:2000]
        on_page = _on_page(viewer, np.stack([columns[some], rows[some]], axis=1))
        seen = _colours(picture, on_page[on_page[:, 1] > BELOW_QUESTION_PX])
        is_tinted = np.ptp(seen, axis=1) > 20  # the images are grey
        assert np.mean(is_tinted == is_inside) > 0.97  # OHIF's own words lie over some of it


def _frame_of(seg: Dataset, sop_instance_uid: str) -> npt.NDArray[np.bool_]:
    for frame, item in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = item.DerivationImageSequence[0].SourceImageSequence
        if source.ReferencedSOPInstanceUID == sop_instance_uid:
            return np.asarray(frame > 0, np.bool_)
    raise AssertionError("the image that is shown has no frame of the segmentation")


def _heat_map_is_shown(viewer: Viewer, read: Read, name: str) -> None:
    expected = read.of_kind(OutputKind.HEAT_MAP).pixel_array
    viewer.show("AI HEATMAP")
    viewer.wait_for_text("AI HEATMAP")
    viewer.settle()
    picture = _picture(viewer, name)
    rng = np.random.default_rng(1)
    rows, columns = (rng.integers(0, size, 3000) for size in expected.shape[:2])
    seen = _colours(picture, _on_page(viewer, np.stack([columns, rows], axis=1)))
    difference = np.abs(seen - expected[rows, columns].astype(np.int16)).max(axis=1)
    assert np.median(difference) <= 8
    assert np.mean(difference < 60) > 0.9  # a thin line may fall between two pixels of the page


def _report_can_be_read(viewer: Viewer, read: Read, name: str) -> None:
    viewer.show("AI REPORT")
    viewer.wait_for_text(read.statement.conclusion[:20])
    _picture(viewer, name)
    said = viewer.text()
    assert "\ufffd" not in said
    for sentence in (*(finding.sentence for finding in read.statement.findings), read.statement.responsibility):
        assert sentence in said
    assert viewer.has_glyphs(read.statement.responsibility)
