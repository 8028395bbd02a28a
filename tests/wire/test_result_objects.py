"""Result objects before programs of other makers: they must find nothing to complain about."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from node.domain.findings import Analysis, Certainty, Finding, Region, Status, Tier
from node.domain.study import Study
from node.domain.work import OutputKind
from tests.peers.validators import dciodvfy, dsrdump, tid1500reader
from tests.unit.report.studies import (
    NETWORK,
    brain_analysis,
    film_analysis,
    film_study,
    make,
    mr_study,
    without_findings,
)

pytestmark = pytest.mark.peer

REPORTS = (OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR)


def brain(folder: Path) -> tuple[Study, Analysis]:
    study = mr_study(folder)
    return study, brain_analysis(study)


def film(folder: Path) -> tuple[Study, Analysis]:
    study = film_study(folder)
    return study, film_analysis(study)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("case", [brain, film])
def test_every_object_passes_dciodvfy_and_dsrdump(tmp_path: Path, case: object, language: str) -> None:
    study, analysis = brain(tmp_path) if case is brain else film(tmp_path)
    for output in make(analysis, study, tmp_path / "out", language=language).outputs:
        assert dciodvfy(output.path) == []
        if output.kind in REPORTS:
            assert "王^小明" in dsrdump(output.path)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("status", [Status.NO_FINDINGS, Status.NOT_EVALUABLE, Status.FAILED])
def test_every_outcome_without_findings_passes(tmp_path: Path, status: Status, language: str) -> None:
    study, analysis = film(tmp_path)
    reason = "" if status is Status.NO_FINDINGS else "the skull has already been removed"
    made = make(without_findings(analysis, status, reason=reason), study, tmp_path / "out", language=language)
    path = made.path(OutputKind.TEXT_SR)
    assert dciodvfy(path) == []
    assert reason in dsrdump(path)


def test_certainty_several_outlines_and_a_frame_pass(tmp_path: Path) -> None:
    study, analysis = film(tmp_path)
    square = ((20.0, 30.0), (30.0, 30.0), (30.0, 40.0))
    uid = study.instances[0].sop_instance_uid
    regions = (Region(uid, square), Region(uid, square, frame_number=1))
    finding = Finding("x-1", "round_opacity", (), regions, "B", certainty=Certainty(0.9, Tier.HIGH))
    made = make(replace(analysis, algorithm=NETWORK, findings=(finding,)), study, tmp_path / "out")
    for output in made.outputs:
        assert dciodvfy(output.path) == []


def test_a_correction_passes(tmp_path: Path) -> None:
    study, analysis = film(tmp_path)
    first = make(analysis, study, tmp_path / "1")
    grown = replace(study, generation=2)
    second = make(analysis, grown, tmp_path / "2", is_correction=True, previous=first.outputs)
    for output in second.outputs:
        assert dciodvfy(output.path) == []


def test_images_that_lack_type_2_attributes_make_objects_without_errors(tmp_path: Path) -> None:
    def strip(ds: Dataset) -> None:
        for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
                        "ReferringPhysicianName", "SpecificCharacterSet", "IssuerOfPatientID"):  # fmt: skip
            delattr(ds, keyword)
        ds.PatientName = "Wang^XiaoMing"
        ds.StudyDescription = "MR"

    study = mr_study(tmp_path, change=strip)
    for output in make(brain_analysis(study), study, tmp_path / "out").outputs:
        complaints = dciodvfy(output.path)
        # Empty is what the images say; that a DICOMDIR would like more is no fault of the result.
        assert all("needed to build DICOMDIR" in complaint for complaint in complaints)


def test_dcmqi_reads_back_the_measurements_that_were_put_in(tmp_path: Path) -> None:
    study, analysis = film(tmp_path)
    made = make(analysis, study, tmp_path / "out")
    read = tid1500reader(made.path(OutputKind.MEASUREMENT_SR), tmp_path / "read.json")
    assert (read["VerificationFlag"], read["SeriesNumber"]) == ("UNVERIFIED", "9001")
    first, second = read["Measurements"]
    assert (first["TrackingIdentifier"], second["TrackingIdentifier"]) == ("opacity-1", "opacity-2")
    assert first["Finding"]["CodeValue"] == "112001"
    assert first["FindingSite"]["CodeValue"] == "39607008"
    assert [
        (item["quantity"]["CodeValue"], float(item["value"]), item["units"]["CodeValue"])
        for item in first["measurementItems"]
    ] == [("103339001", 14.1421, "mm"), ("246262008", 0.62, "1")]
    assert first["measurementAlgorithmIdentification"]["AlgorithmName"] == "chest_xray"
    assert first["measurementAlgorithmIdentification"]["AlgorithmVersion"] == "1.2.0"


def test_dcmqi_reads_the_volume_in_ml(tmp_path: Path) -> None:
    study, analysis = brain(tmp_path)
    made = make(analysis, study, tmp_path / "out")
    read = tid1500reader(made.path(OutputKind.MEASUREMENT_SR), tmp_path / "read.json")
    (item,) = read["Measurements"][0]["measurementItems"]
    assert (item["quantity"]["CodeValue"], float(item["value"]), item["units"]["CodeValue"]) == (
        "118565006",
        1385.25,
        "ml",
    )
    assert read["procedureReported"]["CodeValue"] == "24590-2"
