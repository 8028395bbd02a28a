"""Small studies of real DICOM files, and analyses of them with known truth."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, MRImageStorage

from node.dicom.read import header_of, read_dataset
from node.domain.algorithm import Algorithm, Basis
from node.domain.findings import Analysis, Finding, HeatMap, Measurement, Region, Segmentation, Status
from node.domain.study import Instance, Series, Study
from node.domain.work import STANDARD_KINDS, Output, OutputKind
from node.report import Template, build, load_templates, state
from node.settings import ReportSettings

TEMPLATES = load_templates(Path(__file__).parents[3] / "sr_templates")
MADE_AT = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
SETTINGS = ReportSettings(institution="Example Hospital", station_name="WETREAD")
NAME = "Wang^XiaoMing=王^小明=ワン^ショウメイ"
NETWORK = Algorithm(
    "brain_mr", "1.0.0", "Wetread", Basis.LEARNED, weights_sha256="ab" * 32, parameters=(("threshold", "0.5"),)
)
RULES = Algorithm("chest_xray", "1.2.0", "Wetread", Basis.RULE_BASED, parameters=(("threshold", "0.30"),))
VOLUME_ML = 1385.25
ALL_KINDS = frozenset(kind for kind in OutputKind if kind.is_dicom)
Change = Callable[[Dataset], None]


def head(study_uid: str, series_uid: str, sop_class_uid: str, number: int) -> Dataset:
    """The header that any image of a well-behaved modality has."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = f"{series_uid}.{number}"
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = series_uid
    ds.PatientName = NAME
    ds.PatientID = "P-0042"
    ds.IssuerOfPatientID = "HOSPITAL"
    ds.PatientBirthDate = "19800102"
    ds.PatientSex = "M"
    ds.StudyDate = "20260301"
    ds.StudyTime = "101500"
    ds.StudyID = "77"
    ds.AccessionNumber = "ACC1"
    ds.ReferringPhysicianName = "Li^Hua"
    ds.StudyDescription = "检查"
    ds.SeriesNumber = 3
    ds.InstanceNumber = number
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    return ds


def save(ds: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> Instance:
    """Write an image as a receiver would have stored it."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(path, enforce_file_format=True)
    size = path.stat().st_size
    return Instance(
        str(ds.SOPInstanceUID), str(ds.SOPClassUID), syntax, str(ds.SeriesInstanceUID), path, size, "0" * 64
    )


def study_of(instances: list[Instance], *, study_uid: str, generation: int = 1) -> Study:
    """One Series."""
    ds = read_dataset(instances[0].path)
    series = Series(instances[0].series_instance_uid, str(ds.Modality), tuple(instances), header_of(ds))
    return Study(study_uid, generation, (series,))


def mr_study(
    folder: Path, *, slices: int = 6, rows: int = 48, columns: int = 40, change: Change | None = None
) -> Study:
    """An axial MR stack, 1 mm in the plane, 2 mm between slices."""
    instances = []
    for index in range(slices):
        ds = head("2.25.100", "2.25.101", MRImageStorage, index + 1)
        ds.Modality = "MR"
        ds.Manufacturer = "Phantom maker"
        ds.BodyPartExamined = "HEAD"
        ds.PatientPosition = "HFS"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        ds.FrameOfReferenceUID = "2.25.102"
        ds.PositionReferenceIndicator = ""
        ds.ImagePositionPatient = [-20.0, -24.0, 2.0 * index]
        ds.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        ds.PixelSpacing = [1.0, 1.0]
        ds.SliceThickness = 2.0
        ds.Rows, ds.Columns = rows, columns
        ds.PixelData = np.full((rows, columns), 100, np.uint16).tobytes()
        if change is not None:
            change(ds)
        instances.append(save(ds, folder))
    return study_of(instances, study_uid="2.25.100")


def film_study(folder: Path, *, change: Change | None = None) -> Study:
    """One radiograph without a usable spacing."""
    ds = head("2.25.200", "2.25.201", DigitalXRayImageStorageForPresentation, 1)
    ds.Modality = "DX"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    ds.PatientOrientation = ["L", "F"]
    ds.ImageLaterality = "U"
    ds.PixelSpacing = [0.0, 0.0]
    ds.Rows, ds.Columns = 120, 100
    ds.PixelData = np.full((120, 100), 100, np.uint16).tobytes()
    if change is not None:
        change(ds)
    return study_of([save(ds, folder)], study_uid="2.25.200")


def brain_analysis(study: Study, *, columns: int = 40, rows: int = 48) -> Analysis:
    """A measured brain with an outline, a heat map and a mask that is empty in the first slice."""
    uids = tuple(instance.sop_instance_uid for instance in study.instances)
    key = uids[len(uids) // 2]
    outline = Region(key, ((10.5, 12.25), (30.0, 12.0), (30.0, 36.0), (10.0, 36.0)))
    mask = np.zeros((len(uids), rows, columns), np.bool_)
    mask[1:, 12:36, 10:30] = True
    heat = mask[-1].astype(np.float32) * 0.9
    background = np.linspace(0, 1, rows * columns, dtype=np.float32).reshape(rows, columns)
    method = "voxels above probability 0.5, largest connected part"
    volume = Measurement("volume", VOLUME_ML, "ml", method)
    return Analysis(
        status=Status.FINDINGS,
        algorithm=NETWORK,
        template="brain_mr",
        source_uids=uids,
        findings=(Finding("brain-1", "brain_volume", (volume,), (outline,), is_abnormal=False),),
        heat_maps=(
            HeatMap(key, heat, background, "segmentation probability", 0.9, 0.5, ((outline, "brain"),), "slice 4/6"),
        ),
        segmentations=(Segmentation("brain", mask, np.eye(4), uids, "brain-1"),),
        not_looked_at=("lesions", "bleeding"),
    )


def whole_brain_analysis(study: Study) -> Analysis:
    """Like `brain_analysis`, and a second number of the whole study that nothing outlines: every form has something."""
    analysis = brain_analysis(study)
    volume = Measurement("volume", 33.5, "ml", "voxels above probability 0.5, largest connected part")
    more = Finding("brain-2", "brain_volume", (volume,), is_abnormal=False)
    return replace(analysis, findings=(*analysis.findings, more))


def film_analysis(study: Study) -> Analysis:
    """Two marked spots, one with a size."""
    uid = study.instances[0].sop_instance_uid
    first = Region(uid, ((20.0, 30.0), (30.0, 30.0), (30.0, 40.0), (20.0, 40.0)))
    second = Region(uid, ((70.0, 80.0), (78.0, 80.0), (78.0, 88.0)))
    size = Measurement("long_axis", 14.1421, "mm", "longest chord of the outline")
    heat = np.zeros((120, 100), np.float32)
    heat[30:40, 20:30] = 0.62
    return Analysis(
        status=Status.FINDINGS,
        algorithm=RULES,
        template="chest_xray",
        source_uids=(uid,),
        findings=(
            Finding("opacity-1", "round_opacity", (size,), (first,), laterality="R", score=0.62),
            Finding("opacity-2", "round_opacity", (), (second,), laterality="L", score=0.41),
        ),
        heat_maps=(
            HeatMap(uid, heat, np.full((120, 100), 0.4, np.float32), "detector score", 0.62, 0.3, ((first, "1"),)),
        ),
        not_looked_at=("pneumothorax", "effusion"),
    )


def without_findings(analysis: Analysis, status: Status, *, reason: str = "", key: str = "") -> Analysis:
    """The same study with another outcome."""
    return replace(analysis, status=status, findings=(), heat_maps=(), segmentations=(), reason=reason, reason_key=key)


def texts(ds: Dataset) -> list[str]:
    """All words of a structured report, from top to bottom."""
    return [str(element.value) for element in ds.iterall() if element.keyword == "TextValue"]


@dataclass(frozen=True, slots=True)
class Made:
    """Outputs, by kind."""

    outputs: tuple[Output, ...]

    def path(self, kind: OutputKind) -> Path:
        return next(output.path for output in self.outputs if output.kind is kind)

    def read(self, kind: OutputKind) -> Dataset:
        return read_dataset(self.path(kind), with_pixels=True)

    @property
    def kinds(self) -> list[OutputKind]:
        return [output.kind for output in self.outputs]


def make(
    analysis: Analysis,
    study: Study,
    folder: Path,
    *,
    language: str = "en",
    made_at: datetime = MADE_AT,
    is_correction: bool = False,
    settings: ReportSettings = SETTINGS,
    previous: tuple[Output, ...] = (),
    template: Template | None = None,
    kinds: frozenset[OutputKind] = frozenset(STANDARD_KINDS),
    also: tuple[str, ...] = (),
) -> Made:
    """State and build, `also` in other languages."""
    template = template or TEMPLATES[analysis.template]
    uid = study.study_instance_uid
    statement, *others = (
        state(analysis, template, study_instance_uid=uid, language=one, made_at=made_at, is_correction=is_correction)
        for one in (language, *also)
    )
    outputs = build(
        analysis,
        statement,
        template,
        study=study,
        folder=folder,
        settings=settings,
        previous=previous,
        kinds=kinds,
        translations=[(other, kinds) for other in others],
    )
    return Made(outputs)
