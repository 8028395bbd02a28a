"""The identity gate: a result that does not say the same patient as its images never leaves."""

from collections.abc import Iterable
from pathlib import Path

from pydicom.dataset import Dataset

from node.dicom.charset import normalise
from node.dicom.elements import text
from node.dicom.read import patient_of, read_dataset
from node.errors import ReportError
from node.report.source import Source

__all__ = ["check_identity"]


def check_identity(path: Path, source: Source, *, sop_instance_uid: str, known: frozenset[str]) -> None:
    """Read a result back from disk and compare it with the images it was made from.

    Parameters
    ----------
    sop_instance_uid
        What the file must be.
    known
        SOP Instance UIDs a result may refer to beside the images of the study: results of the same
        report and the earlier ones it replaces.

    Raises
    ------
    ReportError
        If patient id, issuer, name (all groups), sex, birth date, Study Instance UID or SOP Instance
        UID differ, or the file refers to an object that is not of this study. The message names the
        attribute, never its value.
    """
    ds = normalise(read_dataset(path))
    expected, found = source.patient, patient_of(ds)
    pairs = (
        ("PatientID", expected.patient_id, found.patient_id),
        ("IssuerOfPatientID", expected.issuer, found.issuer),
        ("PatientName", expected.name, found.name),
        ("PatientSex", expected.sex, found.sex),
        ("PatientBirthDate", expected.birth_date, found.birth_date),
        ("StudyInstanceUID", source.study.study_instance_uid, text(ds, "StudyInstanceUID")),
        ("SOPInstanceUID", sop_instance_uid, text(ds, "SOPInstanceUID")),
    )
    wrong = [keyword for keyword, wanted, got in pairs if wanted != got]
    if wrong:
        raise ReportError(f"result {sop_instance_uid} differs from its images in {', '.join(wrong)}")
    for keyword, uid in _references(ds):
        is_ours = uid == source.study.study_instance_uid if keyword == "StudyInstanceUID" else uid in known
        if not is_ours and uid not in source.instances:
            raise ReportError(f"result {sop_instance_uid} refers by {keyword} to {uid}, which is not of its study")


def _references(ds: Dataset) -> Iterable[tuple[str, str]]:
    """Every object and study that a Dataset names in its sequences, at any depth."""
    for element in ds:
        for item in element.value if element.VR == "SQ" else ():
            for keyword in ("ReferencedSOPInstanceUID", "StudyInstanceUID"):
                uid = text(item, keyword)
                if uid:
                    yield keyword, uid
            yield from _references(item)
