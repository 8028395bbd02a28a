"""Stored objects as headers: parsed without trust, in Unicode, bounded."""

import warnings
import zlib
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.dicom.charset import declared_sets, decode_text
from node.dicom.elements import PARSE_FAULTS, Decode, Plain, items, text, values, vr_of
from node.dicom.part10 import dataset_offset
from node.dicom.uid import is_valid_uid
from node.domain.codes import Code
from node.domain.study import HeaderValue, Order, Patient, PersonName
from node.errors import UnreadableInstanceError

__all__ = ["header_of", "order_of", "patient_of", "read_dataset"]

LONGEST_TEXT = 1024
MOST_VALUES = 256
LONGEST_INFLATED_BYTES = 1 << 31
INFLATE_STEP_BYTES = 1 << 20
CLASSIC_NAMES = {"EffectiveEchoTime": "EchoTime", "InversionTimes": "InversionTime"}  # PS3.3 C.8.13.5, both in ms
IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def read_dataset(path: Path, *, with_pixels: bool = False) -> Dataset:
    """Read a stored object, whatever the sender wrote into it.

    Parameters
    ----------
    with_pixels
        Read Pixel Data and what comes after it, too.

    Returns
    -------
    The Dataset as stored: values are still raw, text is not decoded (see `charset.normalise`).

    Raises
    ------
    UnreadableInstanceError
        If the file is no DICOM file, is cut short, cannot be parsed, inflates beyond 2 GiB, or lacks
        one of its four identifiers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            _check_inflated_size(path)
            ds = dcmread(path, stop_before_pixels=not with_pixels)
    except (*PARSE_FAULTS, InvalidDicomError, zlib.error) as fault:
        raise UnreadableInstanceError(f"{path.stem}: cannot be parsed ({type(fault).__name__})") from None
    for keyword in IDENTIFIERS:
        if not is_valid_uid(text(ds, keyword)):
            raise UnreadableInstanceError(f"{path.stem}: {keyword} is missing or is no UID")
    for tag in sorted(ds.keys()):  # iterating over the Dataset itself would convert every value
        element = ds.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement) and len(element.value or b"") < element.length != 0xFFFFFFFF:
            raise UnreadableInstanceError(
                f"{text(ds, 'SOPInstanceUID')}: {tag} has {element.length} bytes by its length, "
                f"the file ends after {len(element.value or b'')}"
            )
    return ds


def header_of(ds: Dataset) -> dict[str, HeaderValue]:
    """List what rules and handlers may see of a header.

    Returns
    -------
    Keyword -> text, number, or a list of them; None if the element is empty. Top level, standard
    attributes, no sequences, no binary values; text in Unicode, at most 1024 characters and 256
    values each. A value that is not what its VR says is left out. Of an enhanced image also what its
    functional groups say of all frames, such as Slice Thickness, under the names of classic images.
    """
    declared = declared_sets(ds)

    def decode(value: bytes | str, vr: str) -> str:
        return decode_text(value, declared, vr)

    header = _plain_values(ds, decode)
    for group in items(ds, "SharedFunctionalGroupsSequence")[:1]:
        for tag in sorted(group.keys()):
            for macro in items(group, tag)[:1] if vr_of(group.get_item(tag), group) == "SQ" else ():
                header = _plain_values(macro, decode) | header
    for enhanced, classic in CLASSIC_NAMES.items():
        if enhanced in header and classic not in header:
            header[classic] = header[enhanced]
    return header


def _plain_values(ds: Dataset, decode: Decode) -> dict[str, HeaderValue]:
    found: dict[str, HeaderValue] = {}
    for tag in sorted(ds.keys()):
        keyword = keyword_for_tag(tag)
        element = ds.get_item(tag, keep_deferred=True)
        listed = values(element, vr_of(element, ds), decode) if keyword else None
        if listed is not None:
            found[keyword] = _header_value(listed[:MOST_VALUES])
    return found


def patient_of(ds: Dataset) -> Patient:
    """Who the images are of; from a Dataset that `charset.normalise` returned."""
    return Patient(
        patient_id=text(ds, "PatientID").strip(),
        issuer=text(ds, "IssuerOfPatientID").strip(),
        name=_person_name(text(ds, "PatientName")),
        birth_date=_digits(text(ds, "PatientBirthDate"), 8),
        sex=sex if (sex := text(ds, "PatientSex").strip()) in {"M", "F", "O"} else "",
    )


def order_of(ds: Dataset) -> Order:
    """What was ordered; from a Dataset that `charset.normalise` returned.

    Placer and filler number, accession number and procedure are looked for at the top level first,
    then in the first item of Request Attributes Sequence.
    """
    places = [ds, *items(ds, "RequestAttributesSequence")[:1]]
    return Order(
        study_instance_uid=text(ds, "StudyInstanceUID"),
        accession_number=_first_text(places, "AccessionNumber"),
        placer_order_number=_first_text(places, "PlacerOrderNumberImagingServiceRequest"),
        filler_order_number=_first_text(places, "FillerOrderNumberImagingServiceRequest"),
        procedure=_procedure(places),
        study_description=text(ds, "StudyDescription"),
        study_date=_digits(text(ds, "StudyDate"), 8),
        study_time=_digits(text(ds, "StudyTime").partition(".")[0], 6),
        referring_physician=_person_name(text(ds, "ReferringPhysicianName")),
    )


def _check_inflated_size(path: Path) -> None:
    """Refuse a deflated object that would fill the memory (1 MB can become 3 GB)."""
    if read_file_meta_info(path).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 A.5: RFC 1951, no zlib header
    size = 0
    with path.open("rb") as file:
        file.seek(dataset_offset(file))
        while step := file.read(INFLATE_STEP_BYTES):
            while step:
                size += len(inflater.decompress(step, INFLATE_STEP_BYTES))
                step = inflater.unconsumed_tail
                if size > LONGEST_INFLATED_BYTES:
                    raise UnreadableInstanceError(f"{path.stem}: inflates beyond {LONGEST_INFLATED_BYTES} bytes")


def _header_value(found: tuple[Plain, ...]) -> HeaderValue:
    if not found:
        return None
    if len(found) == 1:
        return found[0][:LONGEST_TEXT] if isinstance(found[0], str) else found[0]
    if isinstance(found[0], str):
        return [str(value)[:LONGEST_TEXT] for value in found]
    if isinstance(found[0], int):
        return [int(value) for value in found]
    return [float(value) for value in found]


def _person_name(written: str) -> PersonName:
    """Part a name into its groups; trailing empty components and spaces are dropped (PS3.5 6.2.1)."""
    groups = ["^".join(part.strip() for part in group.split("^")).rstrip("^") for group in written.split("=")]
    alphabetic, ideographic, phonetic = (*groups, "", "", "")[:3]
    return PersonName(alphabetic, ideographic, phonetic)


def _first_text(places: list[Dataset], keyword: str) -> str:
    return next((found for place in places if (found := text(place, keyword).strip())), "")


def _procedure(places: list[Dataset]) -> Code | None:
    """What was ordered in codes: the requested procedure, else the procedure as performed."""
    for keyword in ("RequestedProcedureCodeSequence", "ProcedureCodeSequence"):
        for place in places:
            for item in items(place, keyword)[:1]:
                value, scheme = text(item, "CodeValue").strip(), text(item, "CodingSchemeDesignator").strip()
                if value and scheme:
                    return Code(value, scheme, text(item, "CodeMeaning").strip())
    return None


def _digits(written: str, most: int) -> str:
    """A date or time without the dots and colons of its ACR-NEMA form; "" if it holds anything else."""
    plain = written.strip().replace(".", "").replace(":", "").replace("-", "")
    return plain[:most] if plain.isascii() and plain.isdigit() else ""
