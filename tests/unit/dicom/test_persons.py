from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.dicom.persons import contradiction, differences
from node.domain.study import Patient, PersonName
from tests.unit.report.studies import mr_study

WANG = Patient("P-0042", "HOSPITAL", PersonName("Wang^XiaoMing", "王^小明"), "19800102", "M")


def change(path: Path, keyword: str, value: str) -> None:
    ds = dcmread(path)
    setattr(ds, keyword, value)
    ds.save_as(path)


@pytest.mark.parametrize(
    "other",
    [
        Patient("P-0042", "", PersonName(), ""),
        Patient("P-0042", "", PersonName("WANG^XIAOMING"), "19800102"),
        Patient("P-0042", "", PersonName("Wang XiaoMing^^^"), ""),
        Patient("P-0042", "", PersonName("", "王^小明"), ""),
    ],
)
def test_what_is_left_out_or_written_another_way_contradicts_nothing(other: Patient) -> None:
    assert differences(WANG, other) == ()


@pytest.mark.parametrize(
    ("other", "keyword"),
    [
        (Patient("P-0043", "", PersonName("Wang^XiaoMing"), "19800102"), "PatientID"),
        (Patient("P-0042", "", PersonName("Wang^XiaoHong"), "19800102"), "PatientName"),
        (Patient("P-0042", "", PersonName("Wang^XiaoMing", "王^晓明"), "19800102"), "PatientName"),
        (Patient("P-0042", "", PersonName("Wang^XiaoMing"), "19800201"), "PatientBirthDate"),
    ],
)
def test_another_id_name_or_birth_date_is_another_person(other: Patient, keyword: str) -> None:
    assert differences(WANG, other) == (keyword,)


@given(st.text(), st.text())
def test_contradiction_goes_both_ways(one: str, other: str) -> None:
    a, b = (Patient("1", "", PersonName(name), "") for name in (one, other))
    assert differences(a, b) == differences(b, a)


def test_a_single_slice_of_another_patient_is_found(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    paths = [instance.path for instance in study.instances]
    assert contradiction(paths) == ""
    change(paths[4], "PatientBirthDate", "19800103")
    assert contradiction(paths) == "PatientBirthDate"
    change(paths[4], "PatientName", "Li^Hua")
    assert contradiction(paths) == "PatientName, PatientBirthDate"


def test_the_same_name_in_another_character_set_is_the_same_person(tmp_path: Path) -> None:
    def in_gb18030(ds: Dataset) -> None:
        if ds.InstanceNumber == 2:
            ds.SpecificCharacterSet = "GB18030"

    study = mr_study(tmp_path, change=in_gb18030)
    assert contradiction(instance.path for instance in study.instances) == ""


def test_a_file_that_cannot_be_parsed_is_left_to_who_reads_it(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    study.instances[0].path.write_bytes(b"no DICOM")
    assert contradiction(instance.path for instance in study.instances) == ""
