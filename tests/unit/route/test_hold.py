"""Phantoms and quality checks are held by the shipped words; patients whose names only look like that are not."""

from pathlib import Path

import pytest

from node.domain.study import HeaderValue, Series, Study
from node.errors import ConfigError
from node.route import held_by
from node.settings import load_settings

HOLDS = load_settings(Path(__file__).parents[3] / "config.toml", {}).holds


def _held(**header: HeaderValue) -> str:
    return held_by(Study("2.25.1", 1, (Series("2.25.2", "CT", (), header),)), HOLDS)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "PHANTOM^CT"),
        ("PatientName", "phantom2"),
        ("PatientName", "Test^Patient"),
        ("PatientName", "TEST01"),
        ("PatientName", "ＴＥＳＴ^１"),
        ("PatientName", "Daily^QA"),
        ("PatientName", "QC_2026"),
        ("PatientName", "Wang^Moti=体模^甲"),
        ("PatientName", "CT室QA"),
        ("PatientName", "水模"),
        ("PatientName", "Catphan 604"),
        ("PatientID", "TEST-0001"),
        ("PatientID", "QA-17"),
        ("StudyDescription", "Weekly Quality  Assurance"),
        ("StudyDescription", "quality_control head"),
        ("StudyDescription", "设备质控"),
        ("StudyDescription", "CALIBRATION"),
        ("BodyPartExamined", "PHANTOM"),
        ("OtherPatientNames", ["Li^Lei", "Phantom^A"]),
    ],
)
def test_what_is_no_patient_is_held_and_says_by_which_word(keyword: str, value: HeaderValue) -> None:
    reason = _held(**{keyword: value})
    assert reason.startswith("held as 'QA by ")
    assert f"{keyword} has the word " in reason


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Testa^Maria"),
        ("PatientName", "Contestabile^Luca"),
        ("PatientName", "Testud^Ana"),
        ("PatientName", "Müllertest^X"),
        ("PatientName", "Teste^João"),
        ("PatientName", "Acrivos^Nikos"),
        ("PatientName", "Qadir^Qcha"),
        ("PatientName", "Phantomas^Leo"),
        ("PatientName", "Wang^XiaoMing=王^小明"),
        ("PatientName", "Тестова^Анна"),
        ("PatientID", "QC0012345"),
        ("PatientID", "00QA77"),
        ("PatientID", "P-0042"),
        ("StudyDescription", "MRI brain, phantom limb pain"),
        ("StudyDescription", "Cardiac stress test"),
        ("StudyDescription", "肺功能测试后胸部CT"),
        ("SeriesDescription", "ASSET calibration"),
        ("ProtocolName", "Test bolus"),
        ("BodyPartExamined", "CHEST"),
        ("PatientName", None),
        ("PatientID", 42),
    ],
)
def test_a_patient_is_read_whatever_the_name_looks_like(keyword: str, value: HeaderValue) -> None:
    assert _held(**{keyword: value}) == ""


def test_the_reason_says_nothing_else_that_stands_there() -> None:
    assert "Canary" not in _held(PatientName="Canary^Phantom")


def test_a_phantom_that_hurts_is_still_held_if_it_is_one_elsewhere() -> None:
    assert _held(StudyDescription="phantom limb test", PatientName="Phantom")


def test_a_hold_on_what_is_no_keyword_stops_the_start(tmp_path: Path) -> None:
    for table in ('keywords = ["PatientNames"]\nwords = ["x"]', 'keywords = ["PatientName"]\nwords = [" "]'):
        path = tmp_path / "config.toml"
        path.write_text(f'[[holds]]\nname = "QA"\n{table}\n', encoding="utf-8")
        with pytest.raises(ConfigError):
            load_settings(path, {})
