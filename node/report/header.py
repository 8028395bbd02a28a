"""What every result object carries: patient and study as the images say, equipment, and who made it."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from node import __version__
from node.dicom.elements import text
from node.dicom.uid import derive_uid
from node.domain.algorithm import Algorithm
from node.domain.findings import Analysis
from node.domain.statement import Statement
from node.domain.work import OutputKind
from node.report.concepts import code_item
from node.report.identity import Identity
from node.report.source import Source
from node.report.template import Template
from node.settings import ReportSettings

__all__ = ["MAKER", "Context", "copy_body_part", "describe_algorithm", "device_uid", "result_header", "wire_time"]

MAKER = "Wetread"

# PS3.3 C.7.1.1, C.7.2.1, C.7.2.2: Patient, General Study and Patient Study Modules
COPIED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "PatientBirthDate", "PatientBirthTime", "PatientBirthDateInAlternativeCalendar", "PatientAlternativeCalendar",
    "PatientSex", "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup", "PatientComments",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole",
    "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "QualityControlSubject",
    "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence",
    "StudyDescription", "PhysiciansOfRecord", "ProcedureCodeSequence", "RequestingService",
    "PatientAge", "PatientSize", "PatientWeight", "Occupation", "AdmissionID", "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID", "PatientSexNeutered", "TimezoneOffsetFromUTC",
)  # fmt: skip
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
SERIES = {
    OutputKind.MEASUREMENT_SR: (9001, "AI RESULT (unverified)"),
    OutputKind.TEXT_SR: (9002, "AI REPORT (text, unverified)"),
    OutputKind.SEGMENTATION: (9003, "AI SEG"),
    OutputKind.STUDY_SR: (9004, "AI RESULT OF STUDY (unverified)"),
    OutputKind.HEAT_MAP: (9005, "AI HEATMAP - NOT FOR DIAGNOSIS"),
    OutputKind.KEY_OBJECTS: (9006, "AI KEY IMAGES (unverified)"),
    OutputKind.PRESENTATION_STATE: (9007, "AI OUTLINES (unverified)"),
    OutputKind.HEAT_MAP_FRAMES: (9008, "AI HEATMAP - NOT FOR DIAGNOSIS"),
    OutputKind.PDF: (9009, "AI REPORT (PDF, unverified)"),
    OutputKind.PARAMETRIC_MAP: (9010, "AI MAP - NOT FOR DIAGNOSIS"),
}
"""Series Number and Series Description; far above what modalities use."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """All that the objects of one Report are made from; `made_at` is in the time zone of the wire."""

    analysis: Analysis
    statement: Statement
    template: Template
    settings: ReportSettings
    source: Source
    identity: Identity
    made_at: datetime


def wire_time(made_at: datetime, header: Dataset) -> datetime:
    """A moment in the images' own time zone if they name one, else in this machine's."""
    offset = text(header, "TimezoneOffsetFromUTC")
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():  # PS3.3 C.12.1: &ZZXX
        minutes = int(offset[1:3]) * 60 + int(offset[3:])
        return made_at.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
    return made_at.astimezone()


def result_header(
    context: Context,
    kind: OutputKind,
    *,
    sop_class_uid: str,
    modality: str,
    instance_number: int = 1,
    picture: str = "",
) -> Dataset:
    """Start a result object.

    Returns
    -------
    A Dataset with Patient, Study, Series, Equipment and SOP Common Modules. Attributes of type 2
    that the images lack are there and empty; nothing is invented.
    """
    ds = Dataset()
    for keyword in COPIED:
        tag = tag_for_keyword(keyword)
        if tag is not None and tag in context.source.header:
            ds.add(context.source.header[tag])
    for keyword in TYPE_2:
        if keyword not in ds:
            setattr(ds, keyword, "")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = context.identity.sop_uid(kind, instance_number, picture)
    ds.InstanceNumber = instance_number
    _add_series(ds, context, kind, modality)
    _add_equipment(ds, context)
    ds.ContributingEquipmentSequence = [_contribution(context.statement.algorithm, context.made_at)]
    return ds


def copy_body_part(ds: Dataset, image: Dataset) -> None:
    """Say of a result which part of the body its images show; Laterality is there and empty if they do not say it."""
    for keyword in ("BodyPartExamined", "Laterality"):
        if keyword in image:
            ds.add(image[keyword])
    if "BodyPartExamined" not in ds and "Laterality" not in ds:
        ds.Laterality = ""  # PS3.3 C.7.3.1: type 2C


def device_uid(settings: ReportSettings) -> str:
    """UID of this node as an observer."""
    return derive_uid("node", settings.institution, settings.station_name)


def describe_algorithm(algorithm: Algorithm) -> tuple[str, ...]:
    """Where a result comes from, one fact each: basis, weights, operating point, device."""
    weights = (f"weights SHA-256: {algorithm.weights_sha256}",) if algorithm.weights_sha256 else ()
    parameters = tuple(f"{name}: {value}" for name, value in algorithm.parameters)
    return (f"basis: {algorithm.basis.value}", *weights, *parameters, f"device: {algorithm.device}")


def _add_series(ds: Dataset, context: Context, kind: OutputKind, modality: str) -> None:
    series_number, description = SERIES[kind]
    date, time = context.made_at.strftime("%Y%m%d"), context.made_at.strftime("%H%M%S")
    ds.Modality = modality
    ds.SeriesInstanceUID = context.identity.series_uid(kind)
    ds.SeriesNumber = series_number
    ds.SeriesDescription = description
    ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = date
    ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = time


def _add_equipment(ds: Dataset, context: Context) -> None:
    """The node, not the scanner, made the object (PS3.3 C.7.5.1, C.7.5.2)."""
    settings = context.settings
    ds.Manufacturer = MAKER
    ds.ManufacturerModelName = MAKER
    ds.SoftwareVersions = __version__
    ds.StationName = settings.station_name[:16]  # VR SH
    ds.DeviceSerialNumber = settings.station_name[:64]  # VR LO
    institution = settings.institution or text(context.source.header, "InstitutionName")
    if institution:
        ds.InstitutionName = institution[:64]


def _contribution(algorithm: Algorithm, made_at: datetime) -> Dataset:
    """The model as a contributing device (PS3.3 C.12.1.1.5; IHE AI Results 6.5.3.1)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = algorithm.manufacturer
    item.ManufacturerModelName = algorithm.name
    item.SoftwareVersions = algorithm.version
    item.DeviceUID = derive_uid("algorithm", algorithm.name, algorithm.version, algorithm.weights_sha256)
    item.ContributionDateTime = made_at.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = "; ".join(describe_algorithm(algorithm))[:1024]  # VR ST
    return item
