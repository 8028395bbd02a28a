"""What the files of a store say of themselves when there are no rows to ask: images, results, analyses."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.dicom.charset import decode_label
from node.dicom.elements import PARSE_FAULTS, number
from node.dicom.read import read_dataset
from node.dicom.scan import scan_file
from node.dicom.uid import derive_uid, is_valid_uid
from node.domain.work import OutputKind
from node.errors import UnreadableInstanceError
from node.store.analyses import DOCUMENT
from node.store.digest import dataset_digest
from node.store.files import file_digest, name_of

__all__ = ["FoundInstance", "FoundOutput", "FoundReport", "find_instance", "find_reports"]

KINDS: Mapping[str, OutputKind] = {
    BasicTextSRStorage: OutputKind.TEXT_SR,
    Comprehensive3DSRStorage: OutputKind.MEASUREMENT_SR,
    SecondaryCaptureImageStorage: OutputKind.HEAT_MAP,
    SegmentationStorage: OutputKind.SEGMENTATION,
    MultiFrameTrueColorSecondaryCaptureImageStorage: OutputKind.HEAT_MAP_FRAMES,
    KeyObjectSelectionDocumentStorage: OutputKind.KEY_OBJECTS,
    GrayscaleSoftcopyPresentationStateStorage: OutputKind.PRESENTATION_STATE,
    ParametricMapStorage: OutputKind.PARAMETRIC_MAP,
    EncapsulatedPDFStorage: OutputKind.PDF,
}
MESSAGES: Mapping[str, OutputKind] = {
    ".hl7": OutputKind.ORU,
    ".json": OutputKind.JSON,
    ".fhir": OutputKind.FHIR,
}
STUDY_SR_SERIES = 9004  # of measurements without an outline
MOST_GENERATIONS = 64
UID_PREFIX = "2.25."


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An image as its own file tells of it, and when the file was written."""

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    patient_id: str
    accession_number: str
    digest: str
    size_bytes: int
    received_at: float


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """One result object or message."""

    output_id: str
    kind: OutputKind
    path: Path
    sha256: str
    size_bytes: int
    sop_class_uid: str
    transfer_syntax_uid: str
    made_at: float


@dataclass(frozen=True, slots=True)
class FoundReport:
    """The results of one Assignment; `handler` is "" and `generation` 1 if they cannot be told from its id."""

    assignment_id: str
    study_instance_uid: str
    handler: str
    generation: int
    status: str
    reason: str
    analysis: str
    analysed_at: float
    outputs: tuple[FoundOutput, ...]


def find_instance(root: Path, path: Path) -> FoundInstance:
    """Read who an image is, and that it is whole and in the place that belongs to it.

    Raises
    ------
    UnreadableInstanceError
        If it is not.
    """
    syntax = _transfer_syntax(path)
    outline = scan_file(path, syntax)
    for name, uid in (
        ("SOPClassUID", outline.sop_class_uid),
        ("SOPInstanceUID", outline.sop_instance_uid),
        ("StudyInstanceUID", outline.study_instance_uid),
        ("SeriesInstanceUID", outline.series_instance_uid),
    ):
        if not is_valid_uid(uid):
            raise UnreadableInstanceError(f"the dataset holds no valid {name} (PS3.5 9.1)")
    if root / name_of(outline.sop_instance_uid) != path:
        raise UnreadableInstanceError("the file is not in the place of its SOP Instance UID: the store did not put it")
    digest, size_bytes = dataset_digest(path)
    return FoundInstance(
        path, outline.sop_instance_uid, outline.sop_class_uid, syntax, outline.study_instance_uid,
        outline.series_instance_uid, outline.modality, decode_label(outline.patient_id, outline.specific_character_set),
        decode_label(outline.accession_number, outline.specific_character_set),
        digest, size_bytes, path.stat().st_mtime,
    )  # fmt: skip


def find_reports(root: Path, handlers: Sequence[str]) -> Iterator[FoundReport]:
    """The results of every Assignment that came so far; an Analysis without results was never sent anywhere.

    Parameters
    ----------
    handlers
        Names to try: an Assignment's id is derived from study, generation and handler.
    """
    for folder in sorted((root / "results").iterdir()):
        if not folder.is_dir():
            continue
        outputs, study_uid = _outputs(folder)
        if not study_uid:
            continue
        assignment_id = UID_PREFIX + folder.name
        handler, generation = _origin(assignment_id, study_uid, handlers)
        analysis = root / "analyses" / folder.name / DOCUMENT
        status, reason = _status(analysis)
        times = [output.made_at for output in outputs]
        yield FoundReport(
            assignment_id, study_uid, handler, generation, status, reason,
            str(analysis.parent.relative_to(root)) if analysis.is_file() else "",
            min([*times, *([analysis.stat().st_mtime] if analysis.is_file() else [])]), outputs,
        )  # fmt: skip


def _outputs(folder: Path) -> tuple[tuple[FoundOutput, ...], str]:
    """Result files of a folder, and the study that they say they are of."""
    found, study_uid = [], ""
    for path in sorted(folder.iterdir()):
        kind, classes = MESSAGES.get(path.suffix, OutputKind.ORU), ("", "")
        if path.suffix == ".dcm":
            try:
                syntax = _transfer_syntax(path)
                outline = scan_file(path, syntax)
            except UnreadableInstanceError:
                continue  # `wetread store verify` lists it: a file that no row names
            if outline.sop_class_uid not in KINDS or outline.sop_instance_uid != path.stem:
                continue
            kind, classes = _kind(path, outline.sop_class_uid), (outline.sop_class_uid, syntax)
            study_uid = outline.study_instance_uid
        elif path.suffix not in MESSAGES:
            continue
        stat = path.stat()
        found.append(FoundOutput(path.stem, kind, path, file_digest(path), stat.st_size, *classes, stat.st_mtime))
    return tuple(found), study_uid


def _kind(path: Path, sop_class_uid: str) -> OutputKind:
    """Two kinds share a class; the number of their series tells them apart."""
    kind = KINDS[sop_class_uid]
    is_of_study = kind is OutputKind.MEASUREMENT_SR and number(read_dataset(path), "SeriesNumber") == STUDY_SR_SERIES
    return OutputKind.STUDY_SR if is_of_study else kind


def _origin(assignment_id: str, study_uid: str, handlers: Sequence[str]) -> tuple[str, int]:
    for generation in range(1, MOST_GENERATIONS + 1):
        for handler in handlers:
            if derive_uid("assignment", study_uid, str(generation), handler) == assignment_id:
                return handler, generation
    return "", 1


def _status(path: Path) -> tuple[str, str]:
    try:
        record = json.loads(path.read_bytes())["analysis"]
        return str(record["status"]), str(record.get("reason", ""))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", ""


def _transfer_syntax(path: Path) -> str:
    try:
        return str(read_file_meta_info(path)["TransferSyntaxUID"].value)
    except (*PARSE_FAULTS, InvalidDicomError) as fault:
        raise UnreadableInstanceError(f"the file header cannot be parsed ({type(fault).__name__})") from None
