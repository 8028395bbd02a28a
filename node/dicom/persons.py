"""Whether images can be of one person; a study of two people must never be read as one."""

import re
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.dicom.charset import normalise
from node.dicom.elements import PARSE_FAULTS
from node.dicom.part10 import read_file_meta
from node.dicom.read import patient_of, read_dataset
from node.domain.study import Patient
from node.errors import UnreadableInstanceError

__all__ = ["contradiction", "differences", "raw_identity"]

IDENTITY = ("SpecificCharacterSet", "PatientID", "PatientName", "PatientBirthDate")
AFTER_IDENTITY = 0x00100040  # Patient's Sex: what is needed stands before it


def contradiction(files: Iterable[Path]) -> str:
    """Say in which attributes images of one study name different people; "" if they can be of one person.

    A file that cannot be parsed is passed over: whoever reads its image says so.
    """
    first: Patient | None = None
    seen: set[tuple[object, ...]] = set()
    for path in files:
        try:
            ds = _read_identity(path)
            raw = raw_identity(ds)
            if raw in seen:
                continue
            seen.add(raw)
            patient = patient_of(normalise(ds))
        except UnreadableInstanceError:
            continue
        first = first or patient
        found = differences(first, patient)
        if found:
            return ", ".join(found)
    return ""


def differences(one: Patient, other: Patient) -> tuple[str, ...]:
    """Keywords in which two patients contradict each other; empty if they can be the same.

    The Patient ID must be the same. A name or birth date that one of them lacks contradicts nothing, and
    neither do case, spaces or empty parts of a name: devices of one hospital write these in their own ways.
    """
    found = [] if one.patient_id == other.patient_id else ["PatientID"]
    groups = ((one.name.alphabetic, other.name.alphabetic), (one.name.ideographic, other.name.ideographic))
    if any(mine and others and _plain(mine) != _plain(others) for mine, others in groups):
        found.append("PatientName")
    if one.birth_date and other.birth_date and one.birth_date != other.birth_date:
        found.append("PatientBirthDate")
    return tuple(found)


def raw_identity(ds: Dataset) -> tuple[object, ...]:
    """What a header says of its patient, byte for byte: two that are equal here need no closer look."""
    return tuple(_raw(ds, keyword) for keyword in IDENTITY)


def _read_identity(path: Path) -> Dataset:
    """The first elements of an object: much less work than all of its header."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            if read_file_meta(file).transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
                return read_dataset(path)  # which looks at its size before it inflates it
            file.seek(0)
            return read_partial(file, stop_when=_is_after_identity)
    except (*PARSE_FAULTS, InvalidDicomError, zlib.error) as fault:
        raise UnreadableInstanceError(f"{path.stem}: cannot be parsed ({type(fault).__name__})") from None


def _is_after_identity(tag: BaseTag, vr: str | None, length: int) -> bool:
    del vr, length  # pydicom hands them over, too
    return int(tag) >= AFTER_IDENTITY


def _raw(ds: Dataset, keyword: str) -> object:
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in ds:
        return None
    element = ds.get_item(tag)
    value = element.value if isinstance(element, RawDataElement) else str(element.value)
    return value.strip(b" \0") if isinstance(value, bytes) else value


def _plain(group: str) -> str:
    return re.sub(r"[\s^]+", "^", group).strip("^").casefold()
