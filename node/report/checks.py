"""The identity gate: a result that does not say the same patient as its images never leaves."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from node.dicom.charset import normalise
from node.dicom.elements import text
from node.dicom.read import patient_of, read_dataset
from node.errors import ReportError
from node.report.source import Source

__all__ = ["check_identity"]

CHARACTER_SET = "ISO_IR 192"
BYTE_FOR_BYTE = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientSex", "PatientBirthDate", "AccessionNumber")
REFERENCES = ("ReferencedSOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def check_identity(path: Path, source: Source, *, sop_instance_uid: str, known: Mapping[str, str]) -> None:
    """Read a result back from disk and compare it with the images it was made from.

    Compared are the patient as a reader understands it, and the bytes of every attribute that names the patient or
    the order with those of the images in UTF-8.

    Parameters
    ----------
    sop_instance_uid
        What the file must be.
    known
        Objects a result may refer to beside the images of the study, by SOP Instance UID with the Series they are
        in: results of the same report and the earlier ones it replaces.

    Raises
    ------
    ReportError
        If Patient ID, issuer, name (all groups), sex, birth date, accession number, Study Instance UID or SOP
        Instance UID differ, the character set is not UTF-8, or the file refers to an object, series or study that
        is not of this study. The message names the attribute, never its value.
    """
    raw = read_dataset(path)
    wrong = [keyword for keyword in BYTE_FOR_BYTE if _bytes_of(raw, keyword) != _expected(source.header, keyword)]
    if text(raw, "SpecificCharacterSet") != CHARACTER_SET:
        wrong.append("SpecificCharacterSet")
    ds = normalise(raw)
    expected, found = source.patient, patient_of(ds)
    pairs = (
        ("PatientID", expected.patient_id, found.patient_id),
        ("IssuerOfPatientID", expected.issuer, found.issuer),
        ("PatientName", expected.name, found.name),
        ("PatientSex", expected.sex, found.sex),
        ("PatientBirthDate", expected.birth_date, found.birth_date),
        ("AccessionNumber", text(source.header, "AccessionNumber"), text(ds, "AccessionNumber")),
        ("StudyInstanceUID", source.study.study_instance_uid, text(ds, "StudyInstanceUID")),
        ("SOPInstanceUID", sop_instance_uid, text(ds, "SOPInstanceUID")),
        ("MediaStorageSOPInstanceUID", sop_instance_uid, str(ds.file_meta.get("MediaStorageSOPInstanceUID"))),
    )
    wrong += [keyword for keyword, wanted, got in pairs if wanted != got]
    if wrong:
        differing = ", ".join(dict.fromkeys(wrong))
        raise ReportError(f"result {sop_instance_uid} differs from its images in {differing}")
    _check_references(ds, source, sop_instance_uid, known)


def _check_references(ds: Dataset, source: Source, sop_instance_uid: str, known: Mapping[str, str]) -> None:
    series = {one.series_instance_uid for one in source.study.series} | set(known.values())
    allowed = {
        "StudyInstanceUID": {source.study.study_instance_uid},
        "SeriesInstanceUID": series,
        "ReferencedSOPInstanceUID": source.instances.keys() | known.keys(),
    }
    for keyword, uid in _references(ds):
        if uid not in allowed[keyword]:
            raise ReportError(f"result {sop_instance_uid} refers by {keyword} to {uid}, which is not of its study")


def _bytes_of(ds: Dataset, keyword: str) -> bytes:
    """The value of an element as it stands in the file, without its padding (PS3.5 6.2)."""
    if keyword not in ds:
        return b""
    element = ds.get_item(keyword)
    value = element.value if isinstance(element, RawDataElement) else text(ds, keyword).encode("utf-8")
    return bytes(value or b"").rstrip(b" \0")


def _expected(header: Dataset, keyword: str) -> bytes:
    element = header.get(keyword)
    if element is None:
        return b""
    value = header[keyword].value
    parts = value if header[keyword].VM > 1 else [value]
    return "\\".join("" if part is None else str(part) for part in parts).encode("utf-8").rstrip(b" \0")


def _references(ds: Dataset) -> Iterable[tuple[str, str]]:
    """Every object, series and study that a Dataset names in its sequences, at any depth."""
    for element in ds:
        for item in element.value if element.VR == "SQ" else ():
            for keyword in REFERENCES:
                uid = text(item, keyword)
                if uid:
                    yield keyword, uid
            yield from _references(item)
