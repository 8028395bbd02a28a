"""The studies in a folder, each with a pseudonymous number that stays the same in every run."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.dicom.elements import text
from node.dicom.read import read_dataset
from node.domain.study import Instance, Study
from node.errors import EvaluationError, UnreadableInstanceError
from node.paths import write_atomically
from node.route import gather
from node.store.digest import dataset_digest

__all__ = ["Case", "Folder", "number_cases", "scanner_of", "studies_in"]

KEY_FILE = "key.json"
OWNER_ONLY = 0o600
UNKNOWN_SCANNER = "unknown"


@dataclass(frozen=True, slots=True)
class Folder:
    """What is in a folder: whole studies, and how many files are no image or cannot be read."""

    studies: tuple[Study, ...]
    patients: dict[str, str]
    other_files: int
    unreadable_files: int


@dataclass(frozen=True, slots=True)
class Case:
    """A study with the numbers by which a report knows it and its patient."""

    number: int
    patient: int
    study: Study


def studies_in(folder: Path, *, on_file: Callable[[], None] = lambda: None) -> Folder:
    """Find every image below a folder and group them into studies; results and other objects are left aside.

    Raises
    ------
    EvaluationError
        If there is no image.
    """
    instances: dict[str, dict[str, Instance]] = {}
    patients: dict[str, str] = {}
    other = unreadable = 0
    for path in _files(folder):
        on_file()
        try:
            study_uid, patient, instance = _instance(path)
        except UnreadableInstanceError:
            unreadable += 1
            continue
        if instance is None:
            other += 1
            continue
        instances.setdefault(study_uid, {}).setdefault(instance.sop_instance_uid, instance)
        patients.setdefault(study_uid, patient)
    if not instances:
        raise EvaluationError(f"{folder}: expected DICOM images, found none")
    studies = tuple(gather(uid, 1, list(instances[uid].values())) for uid in sorted(instances))
    return Folder(studies, patients, other, unreadable)


def number_cases(
    studies: Sequence[Study], patients: dict[str, str], missing: Sequence[str], work: Path
) -> tuple[list[Case], dict[str, int]]:
    """Give each study and each patient a number; also the numbers of labelled studies without images.

    The key (number to Study Instance UID) is kept in the working folder for its owner alone, so that a case of a report
    can be found again in the house, and keeps its number when studies are added.
    """
    path = work / KEY_FILE
    key: dict[str, dict[str, int]] = {"cases": {}, "patients": {}}
    if path.is_file():
        key = json.loads(path.read_text(encoding="utf-8"))
    uids = [*(study.study_instance_uid for study in studies), *missing]
    for uid in sorted(uids, key=_scrambled):
        key["cases"].setdefault(uid, len(key["cases"]) + 1)
        patient = _scrambled(patients.get(uid) or uid)
        key["patients"].setdefault(patient, len(key["patients"]) + 1)
    write_atomically(path, json.dumps(key, indent=1).encode(), mode=OWNER_ONLY)
    cases = [
        Case(
            key["cases"][study.study_instance_uid],
            key["patients"][_scrambled(patients.get(study.study_instance_uid) or study.study_instance_uid)],
            study,
        )
        for study in studies
    ]
    return sorted(cases, key=lambda case: case.number), {uid: key["cases"][uid] for uid in missing}


def scanner_of(study: Study) -> str:
    """Maker and model of the scanner, as the first Series says."""
    header = study.series[0].header if study.series else {}
    parts = [str(header.get(keyword) or "").strip() for keyword in ("Manufacturer", "ManufacturerModelName")]
    return " ".join(part for part in parts if part) or UNKNOWN_SCANNER


def _scrambled(name: str) -> str:
    """An order that has nothing to do with dates or names."""
    return hashlib.sha256(name.encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: expected a folder with DICOM images")
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def _instance(path: Path) -> tuple[str, str, Instance | None]:
    ds = read_dataset(path)
    study_uid = text(ds, "StudyInstanceUID")
    patient = "\0".join((text(ds, "IssuerOfPatientID"), text(ds, "PatientID"))) if text(ds, "PatientID") else ""
    sop_instance_uid, sop_class_uid = text(ds, "SOPInstanceUID"), text(ds, "SOPClassUID")
    if not study_uid or not sop_instance_uid or not sop_class_uid:
        raise UnreadableInstanceError("lacks an identifier")
    is_image = "Rows" in ds and text(ds, "Modality") not in ("SEG", "SR", "PR", "KO")
    if not is_image:
        return study_uid, patient, None
    digest, size_bytes = dataset_digest(path)
    syntax, series = str(ds.file_meta.TransferSyntaxUID), text(ds, "SeriesInstanceUID")
    return study_uid, patient, Instance(sop_instance_uid, sop_class_uid, syntax, series, path, size_bytes, digest)
