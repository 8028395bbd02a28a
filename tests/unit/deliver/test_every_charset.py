"""A name of any character set is the same in the image, in the reports and in the message."""

import struct
from pathlib import Path

import hl7
import pytest
from pydicom.dataset import Dataset

from node.deliver import build_oru
from node.dicom.charset import normalise
from node.dicom.elements import text
from node.dicom.read import order_of, patient_of, read_dataset
from node.domain.study import Order, Patient, PersonName, Study
from node.domain.work import OutputKind
from node.settings import Hl7Destination
from tests.peers.validators import dsrdump
from tests.unit.deliver.statements import MADE_AT, STATEMENT
from tests.unit.dicom.character_sets import SPELLINGS, Spelling
from tests.unit.report.studies import film_analysis, film_study, make, study_of

HL7_SETS = {"UNICODE UTF-8": "utf-8", "GB 18030-2000": "gb18030"}


PLACES = {"PatientName": "PN", "PatientID": "LO", "StudyDescription": "LO", "AccessionNumber": "SH"}


def _study(folder: Path, spelling: Spelling) -> Study:
    """A radiograph whose text is written in that set, byte by byte, so that no code of ours or pydicom's had a hand."""

    def leave_places(ds: Dataset) -> None:
        ds.SpecificCharacterSet = "ISO_IR 6"
        for keyword in PLACES:
            setattr(ds, keyword, keyword.upper()[:8])

    study = film_study(folder, change=leave_places)
    values = {
        "PatientName": spelling.write(spelling.name, "\\=^"),
        "PatientID": spelling.write(f"P {spelling.line}", "\\"),
        "StudyDescription": spelling.write(spelling.line, "\\"),
        "AccessionNumber": spelling.write(f"A{spelling.line[:4]}".strip(), "\\"),
    }
    path = study.instances[0].path
    content = path.read_bytes().replace(_element("CS", b"ISO_IR 6"), _element("CS", spelling.label.encode()))
    for keyword, vr in PLACES.items():
        place = _element(vr, keyword.upper()[:8].encode())
        assert content.count(place) == 1
        content = content.replace(place, _element(vr, values[keyword]))
    path.write_bytes(content)
    return study_of(list(study.instances), study_uid=study.study_instance_uid)


def _element(vr: str, value: bytes) -> bytes:
    """VR, length and value (PS3.5 7.1.2)."""
    value += b" " * (len(value) % 2)
    return vr.encode() + struct.pack("<H", len(value)) + value


def _meant(spelling: Spelling) -> tuple[Patient, str, str]:
    groups = (*spelling.name.split("="), "", "")[:3]
    patient = Patient(f"P {spelling.line}", "HOSPITAL", PersonName(*groups), "19800102", "M")
    return patient, spelling.line, f"A{spelling.line[:4]}".strip()


@pytest.mark.parametrize("key", SPELLINGS)
def test_every_result_object_names_the_patient_of_the_image(key: str, tmp_path: Path) -> None:
    spelling = SPELLINGS[key]
    study = _study(tmp_path, spelling)
    patient, description, accession = _meant(spelling)
    made = make(film_analysis(study), study, tmp_path / "out")
    assert made.kinds == [OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR, OutputKind.HEAT_MAP]
    for kind in made.kinds:
        ds = normalise(made.read(kind))
        assert patient_of(ds) == patient
        assert (text(ds, "StudyDescription"), text(ds, "AccessionNumber")) == (description, accession)
        assert text(made.read(kind), "SpecificCharacterSet") == "ISO_IR 192"


@pytest.mark.peer
@pytest.mark.parametrize("key", ["ISO 2022 IR 58", "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO_IR 13", "GB18030", "ISO_IR 144"])  # fmt: skip  # noqa: E501
def test_dsrdump_shows_the_name_as_it_was_meant(key: str, tmp_path: Path) -> None:
    study = _study(tmp_path, SPELLINGS[key])
    made = make(film_analysis(study), study, tmp_path / "out")
    shown = dsrdump(made.path(OutputKind.TEXT_SR))
    for part in SPELLINGS[key].name.split("=")[0].split("^"):
        assert part in shown


@pytest.mark.parametrize("key", SPELLINGS)
def test_the_message_names_the_patient_of_the_image_in_either_set(key: str, tmp_path: Path) -> None:
    spelling = SPELLINGS[key]
    header = normalise(read_dataset(_study(tmp_path, spelling).instances[0].path))
    patient, description, accession = _meant(spelling)
    assert patient_of(header) == patient
    for character_set, codec in HL7_SETS.items():
        message = hl7.parse(_oru(patient_of(header), order_of(header), character_set).decode(codec))
        pid, obr = message.segment("PID"), message.segment("OBR")
        written = {str(name[7][0]): "^".join(str(part[0]) for part in name[:2]).strip("^") for name in pid[5]}
        groups = {"A": patient.name.alphabetic, "I": patient.name.ideographic, "P": patient.name.phonetic}
        assert written == {letter: name for letter, name in groups.items() if name}
        assert str(pid[3][0][0]) == patient.patient_id
        assert str(obr[18]) == accession
        assert str(obr[4]) == f"^{description}"


def _oru(patient: Patient, order: Order, character_set: str) -> bytes:
    return build_oru(
        STATEMENT,
        patient=patient,
        order=order,
        destination=Hl7Destination("ris", "127.0.0.1", 2575, character_set=character_set),
        message_control_id="M-1",
        sr_uids=(),
        sr_series_uid="",
        application_version="0.1.0",
        made_at=MADE_AT,
    )
