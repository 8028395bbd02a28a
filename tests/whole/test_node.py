"""Real studies with real faults, pushed through a running node: what the PACS and the RIS hold afterwards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hl7
import pytest
import sqlalchemy as sa
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from node.dicom.charset import normalise
from node.explain import find_studies, story
from node.process import read_ready
from node.send import Sent, send_files
from node.store.schema import ASSIGNMENTS, OUTPUTS, QUARANTINE
from tests.faults.running import RunningNode, running_node
from tests.peers.validators import dciodvfy, dsrdump, tid1500reader

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]

NAME = "王^小明"
STUDY = "2.25.4711."
# The source's own physician is called "ward"; DICOM names the form retired, and a result keeps its study's header.
OF_THE_SOURCE = "PN [1] = <ward> - Retired Person Name form"


@dataclass(frozen=True)
class Outcome:
    """What came of all studies: statuses by file name, the PACS's objects and the RIS's messages by study."""

    node: RunningNode
    statuses: dict[str, int | None]
    objects: dict[str, list[Path]]
    messages: dict[str, str]

    def of_kind(self, study: str, kind: str) -> list[Path]:
        with self.node.store.reading() as connection:
            rows = connection.execute(sa.select(OUTPUTS.c.output_id).where(OUTPUTS.c.kind == kind))
            wanted = {row.output_id for row in rows}
        return [path for path in self.objects[STUDY + study] if path.stem in wanted]

    def reading(self, study: str) -> Any:
        with self.node.store.reading() as connection:
            return connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.study_uid == STUDY + study)).one()


def _radiograph(folder: Path, number: str, source: str = "RG1_UNCR.dcm", **changes: object) -> Path:
    """A copy of a real image in a study of its own; None takes an attribute out."""
    ds = dcmread(str(get_testdata_file(source, download=False)))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY + number, f"{STUDY}{number}.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}{number}.1.1"
    ds.AccessionNumber, ds.PatientID = f"A{number}", f"P{number}"
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    path = folder / f"{number}.dcm"
    ds.save_as(path)
    return path


def _chinese(folder: Path, number: str, character_set: str) -> Path:
    return _radiograph(
        folder, number, SpecificCharacterSet=character_set, PatientName=NAME, PatientID="P-CN", AccessionNumber="A-CN",
        StudyDescription="胸部正位",
    )  # fmt: skip


def _write_studies(folder: Path) -> list[Path]:
    folder.mkdir()
    missing = ("StudyID", "AccessionNumber", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyTime")
    files = [
        _chinese(folder, "1", "GB18030"),
        _chinese(folder, "2", "ISO_IR 192"),
        _radiograph(folder, "3", "RG1_J2KR.dcm"),
        _radiograph(folder, "4", PatientName="Missing^Type^Two", **dict.fromkeys(missing)),
        _radiograph(folder, "5", "RG3_UNCR.dcm"),
        _radiograph(folder, "6", "US1_UNCR.dcm"),
        _radiograph(folder, "7"),
    ]
    files[-1].write_bytes(files[-1].read_bytes()[:-100_000])
    return files


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("node")
    files = _write_studies(folder / "studies")
    statuses: dict[str, int | None] = {}

    def note(sent: Sent) -> None:
        statuses[sent.path.stem] = sent.status
        if sent.status == 0x0000:
            node.acknowledged.append(sent.path)

    with running_node(folder) as node:
        port = read_ready(node.store.root / "run", "receiver")["port"]
        send_files(files, host="127.0.0.1", port=port, called_ae="WETREAD", calling_ae="DX1", on_sent=note)
        node.wait_until_at_rest(timeout_s=200)
        objects: dict[str, list[Path]] = {}
        for uid in node.pacs.instances():
            path = folder / f"{uid}.dcm"
            path.write_bytes(node.pacs.download(uid))
            objects.setdefault(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID), []).append(path)
        messages = {}
        for message in node.ris.receipts():
            text = message.decode("utf-8")
            messages[str(hl7.parse(text).segments("OBX")[0][5])] = text
        yield Outcome(node, statuses, objects, messages)


def test_the_truncated_object_alone_is_refused_and_the_node_goes_on(outcome: Outcome) -> None:
    assert outcome.statuses == {**dict.fromkeys("123456", 0x0000), "7": 0xC000}
    with outcome.node.store.reading() as connection:
        (row,) = connection.execute(sa.select(QUARANTINE)).all()
    assert row.sop_uid == STUDY + "7.1.1"
    assert "truncated: element 7FE00010 lacks its last" in row.reason


def _patient(ds: Dataset) -> tuple[str, ...]:
    ds = normalise(ds)
    keywords = ("PatientName", "PatientID", "PatientSex", "PatientBirthDate", "AccessionNumber", "StudyDescription")
    return tuple(str(ds.get(keyword, "")) for keyword in keywords)


def test_a_chinese_name_is_the_same_in_every_object_whatever_the_source_wrote(outcome: Outcome) -> None:
    seen = {_patient(dcmread(path)) for study in "12" for path in outcome.objects[STUDY + study]}
    kinds = [kind for kind in ("text_sr", "measurement_sr", "heat_map") if outcome.of_kind("1", kind)]
    assert kinds == ["text_sr", "measurement_sr", "heat_map"]
    assert seen == {(NAME, "P-CN", "F", "19400305", "A-CN", "胸部正位")}


def test_a_chinese_name_is_the_same_in_the_message_whatever_the_source_wrote(outcome: Outcome) -> None:
    first, second = (hl7.parse(outcome.messages[STUDY + study]).segment("PID") for study in "12")
    assert str(first) == str(second)
    assert NAME in str(first[5])


@pytest.mark.parametrize("study", list("12345"))
def test_the_message_says_accession_study_finding_unit_and_status(outcome: Outcome, study: str) -> None:
    message = hl7.parse(outcome.messages[STUDY + study])
    accession = {"1": "A-CN", "2": "A-CN", "4": ""}.get(study, f"A{study}")
    obr = message.segment("OBR")
    assert str(obr[18]) == accession
    status = "X" if study == "5" else "R"
    assert str(obr[25]) == status
    observations = message.segments("OBX")
    assert str(observations[0][3]).startswith("113014^DICOM Study")
    findings = [one for one in observations if str(one[3]).startswith("121071^")]
    assert bool(findings) == (study != "5")
    summary = next(one for one in observations if str(one[3]).startswith("111017^"))
    assert ("373121007" in str(summary[5])) == (study == "5")
    assert {str(one[11]) for one in observations[4:]} == ({"N"} if study == "5" else {"R"})


def test_every_object_is_clean_for_dciodvfy_and_every_report_for_dsrdump(outcome: Outcome) -> None:
    complaints = {}
    for study in "12345":
        for path in outcome.objects[STUDY + study]:
            found = [line for line in dciodvfy(path) if not line.endswith(OF_THE_SOURCE) and "DICOMDIR" not in line]
            complaints |= {path.name: found} if found else {}
        for path in (*outcome.of_kind(study, "text_sr"), *outcome.of_kind(study, "measurement_sr")):
            assert "Wetread" in dsrdump(path)
    assert complaints == {}


def test_dcmqi_reads_back_every_candidate_with_its_score(outcome: Outcome, tmp_path: Path) -> None:
    (path,) = outcome.of_kind("1", "measurement_sr")
    found = tid1500reader(path, tmp_path / "out.json")["Measurements"]
    message = hl7.parse(outcome.messages[STUDY + "1"])
    findings = [one for one in message.segments("OBX") if str(one[3]).startswith("121071^")]
    assert [one["TrackingIdentifier"] for one in found] == [str(one[4]) for one in findings]
    assert len(found) >= 3
    assert all(one["measurementItems"] for one in found)


def test_compressed_pixels_give_the_same_findings_as_uncompressed_ones(outcome: Outcome) -> None:
    assert outcome.reading("3").status == "findings"
    assert outcome.reading("3").summary == outcome.reading("1").summary


def test_no_size_is_given_where_the_pixel_spacing_is_zero(outcome: Outcome) -> None:
    assert "long axis" not in outcome.messages[STUDY + "1"].lower()
    (path,) = outcome.of_kind("1", "heat_map")
    assert "PixelSpacing" not in dcmread(path, stop_before_pixels=True)


def test_missing_type_2_attributes_are_empty_in_the_results_and_never_invented(outcome: Outcome) -> None:
    for path in outcome.objects[STUDY + "4"]:
        ds = dcmread(path, stop_before_pixels=True)
        assert (str(ds.StudyID), str(ds.AccessionNumber), str(ds.PatientBirthDate)) == ("", "", "")
    assert outcome.reading("4").status == "findings"


def test_the_wrong_body_part_is_not_evaluable_with_its_reason(outcome: Outcome) -> None:
    reading = outcome.reading("5")
    assert (reading.status, bool(reading.reason)) == ("not_evaluable", True)
    assert {path.stem for path in outcome.objects[STUDY + "5"]} == {
        path.stem for path in outcome.of_kind("5", "text_sr")
    }
    (path,) = outcome.of_kind("5", "text_sr")
    assert "Not evaluable" in dsrdump(path)


def test_a_study_no_rule_takes_says_why(outcome: Outcome) -> None:
    (uid,) = find_studies(outcome.node.store, "A6")
    text = "\n".join(event.text for event in story(outcome.node.store, uid))
    assert "rule 'brain MR' did not take it: Modality is not MR" in text
    assert "no algorithm ran on generation 1: no rule took the study" in text
    assert STUDY + "6" not in outcome.objects


def test_the_story_of_a_study_ends_at_the_pacs_and_the_ris(outcome: Outcome) -> None:
    (uid,) = find_studies(outcome.node.store, "A3")
    events = story(outcome.node.store, uid)
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["receive", "complete", "route", "infer", "report", "deliver"]
    assert any("ris took oru" in event.text and event.text.endswith("with AA") for event in events)


def test_no_name_of_a_patient_is_in_the_log(outcome: Outcome) -> None:
    text = outcome.node.log()
    assert "study reported" in text
    for canary in ("王", "小明", "P-CN", "A-CN", "CompressedSamples", "Missing^Type"):
        assert canary not in text


def test_late_images_make_a_corrected_report_that_names_the_first(outcome: Outcome, tmp_path: Path) -> None:
    node = outcome.node
    late = _radiograph(tmp_path, "3", "RG1_J2KR.dcm", SOPInstanceUID=STUDY + "3.1.2", InstanceNumber=2)
    ds = dcmread(late)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(late)
    (first,) = outcome.of_kind("3", "text_sr")
    node.send([late], until=float("inf"))
    node.wait_until_at_rest(timeout_s=100)
    new = sorted(set(node.pacs.instances()) - {path.stem for paths in outcome.objects.values() for path in paths})
    reports = []
    for uid in new:
        path = tmp_path / f"{uid}.dcm"
        path.write_bytes(node.pacs.download(uid))
        reports.append(dcmread(path, stop_before_pixels=True))
    predecessors = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for ds in reports
        for sequence in ds.get("PredecessorDocumentsSequence", [])
        for item in sequence.ReferencedSeriesSequence
    }
    assert first.stem in predecessors
    last = hl7.parse(node.ris.receipts()[-1].decode("utf-8"))
    assert str(last.segment("OBR")[25]) == "C"


def test_afterwards_every_invariant_holds(outcome: Outcome) -> None:
    outcome.node.check()
