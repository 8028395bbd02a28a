"""The patient as a message writes it: PID, and the forms in which its parts stand there."""

from collections.abc import Mapping
from datetime import datetime

from node.deliver.mapping import Fields
from node.dicom.uid import is_valid_uid
from node.domain.study import Patient
from node.errors import MessageError
from node.network.er7 import NOTHING, Er7, components, escape, repetitions

__all__ = ["DATES", "SEXES", "authority", "checked", "pid"]

LONGEST_NAMESPACE = 20  # HL7 v2.5.1 2.A.33 (HD)
SEXES = frozenset({"A", "F", "M", "N", "O", "U"})  # HL7 table 0001
DATES = {8: "%Y%m%d", 6: "%Y%m", 4: "%Y"}  # HL7 v2.5.1 2.A.77 (TS), by length


def pid(patient: Patient) -> Fields:
    """The fields of PID.

    Raises
    ------
    MessageError
        If there is no Patient ID.
    """
    patient_id = escape(patient.patient_id.strip())
    if not patient_id:
        raise MessageError("an ORU needs a PatientID: PID-3 is how a RIS knows whose result it is")
    names = (
        _name(patient.name.ideographic, "I"),  # HL7 table 0465: name representation
        _name(patient.name.alphabetic, "A"),
        _name(patient.name.phonetic, "P"),
    )
    return {
        1: Er7("1"),
        3: components(patient_id, NOTHING, NOTHING, authority(patient.issuer, "&")),
        5: repetitions(names) or components(*[NOTHING] * 6, Er7("U")),  # HL7 table 0200: name unknown
        7: checked(patient.birth_date, DATES),
        8: Er7(patient.sex) if patient.sex in SEXES else NOTHING,
    }


def authority(text: str, separator: str = "^") -> Er7:
    """An HD: a namespace, a UID as such, or a name that is too long for a namespace as a local identifier."""
    text = text.strip()
    if is_valid_uid(text):
        return Er7(f"{separator}{text}{separator}ISO")
    if len(escape(text)) > LONGEST_NAMESPACE:
        return Er7(f"{separator}{escape(text)}{separator}L")
    return escape(text)


def checked(text: str, formats: Mapping[int, str]) -> Er7:
    """A date or time of the header if it is one; headers hold others, and a RIS refuses the message for them."""
    known = formats.get(len(text))
    if known is None or not (text.isascii() and text.isdigit()):
        return NOTHING
    try:
        datetime.strptime(text, known)  # noqa: DTZ007 (only whether it is a date)
    except ValueError:
        return NOTHING
    return Er7(text)


def _name(group: str, representation: str) -> Er7:
    """One repetition of XPN (HL7 v2.5.1 2.A.88) from one component group of PN (PS3.5 6.2.1.2)."""
    parts = [escape(part.strip()) for part in group.split("^", 4)]
    if not any(parts):
        return NOTHING
    family, given, middle, prefix, suffix = (*parts, *[NOTHING] * (5 - len(parts)))
    return components(family, given, middle, suffix, prefix, NOTHING, Er7("L"), Er7(representation))
