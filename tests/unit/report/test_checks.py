from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.domain.findings import Analysis
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report.checks import check_identity
from node.report.source import Source, open_source
from tests.unit.report.studies import film_analysis, film_study, make


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Source]:
    study = film_study(tmp_path)
    analysis: Analysis = film_analysis(study)
    made = make(analysis, study, tmp_path / "out")
    return made.path(OutputKind.MEASUREMENT_SR), open_source(analysis, study)


def check(path: Path, source: Source, *, known: Mapping[str, str] = MappingProxyType({})) -> None:
    check_identity(path, source, sop_instance_uid=path.stem, known=known)


def change(path: Path, keyword: str, value: str) -> None:
    ds = dcmread(path)
    setattr(ds, keyword, value)
    ds.save_as(path)


def test_a_result_as_it_was_made_passes(made: tuple[Path, Source]) -> None:
    check(*made)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "P-0043"),
        ("IssuerOfPatientID", "CLINIC"),
        ("PatientName", "Wang^XiaoMing=王^小朋=ワン^ショウメイ"),
        ("PatientName", "Wang^XiaoMing=王^小明"),
        ("PatientSex", "F"),
        ("PatientBirthDate", "19800201"),
        ("PatientID", " P-0042"),
        ("AccessionNumber", "ACC2"),
        ("SpecificCharacterSet", "GB18030"),
        ("StudyInstanceUID", "2.25.201"),
        ("SOPInstanceUID", "2.25.5"),
    ],
)
def test_a_result_of_another_patient_or_study_is_stopped(made: tuple[Path, Source], keyword: str, value: str) -> None:
    path, source = made
    change(path, keyword, value)
    with pytest.raises(ReportError, match=keyword) as caught:
        check(path, source)
    assert value == "2.25.5" or value not in str(caught.value)


def test_a_reference_to_an_image_of_another_study_is_stopped_at_any_depth(made: tuple[Path, Source]) -> None:
    path, source = made
    ds = dcmread(path)
    groups = ds.ContentSequence[-1].ContentSequence
    groups[0].ContentSequence[-1].ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.31"
    ds.save_as(path)
    with pytest.raises(ReportError, match=r"refers by ReferencedSOPInstanceUID to 2\.25\.31"):
        check(path, source)
    check(path, source, known={"2.25.31": "2.25.3"})


def test_evidence_of_another_study_is_stopped(made: tuple[Path, Source]) -> None:
    path, source = made
    ds: Dataset = dcmread(path)
    ds.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID = "2.25.32"
    ds.save_as(path)
    with pytest.raises(ReportError, match="StudyInstanceUID"):
        check(path, source)


def test_nothing_stays_when_the_gate_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = film_study(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise ReportError("no")

    monkeypatch.setattr("node.report.outputs.check_identity", refuse)
    with pytest.raises(ReportError):
        make(film_analysis(study), study, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
