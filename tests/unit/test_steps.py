"""Steps that run again add nothing, and what the site gave up meanwhile stops nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from node.app import open_site
from node.dicom.part10 import file_header
from node.dicom.read import read_dataset
from node.domain.study import Patient, PersonName
from node.domain.work import OutputKind
from node.paths import bundled_site
from node.receive.spool import Incoming, accept
from node.report import outputs
from node.settings import Hl7Destination, Settings, StoreSettings, load_settings
from node.steps import Site, infer_assignment, patient_key, report_assignment, report_failure, route_study
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, OUTPUTS
from node.store.studies import end_waits
from node.store.wishes import release
from node.store.work import assignment, outputs_of, state_of
from tests.unit.report.studies import head, texts
from tests.unit.rows import freeze_whole

STUDY = "2.25.1001"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    shipped = load_settings(bundled_site() / "config.toml", {})
    settings = replace(shipped, store=StoreSettings(tmp_path / "store", refuse_below_free_mb=0))
    found = open_site(bundled_site(), settings)
    yield found
    found.store.close()


def _receive(site: Site, number: int = 1, **header: object) -> None:
    ds = head(STUDY, f"{STUDY}.2", str(ComputedRadiographyImageStorage), number)
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    ds.Modality = "CR"
    ds.Rows = ds.Columns = 8
    ds.PixelData = b"\0" * 128
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = site.store.root / "incoming" / "a"
    dcmwrite(path, ds, enforce_file_format=False)
    body = path.read_bytes()
    body = body[body.index(b"\x08\x00\x05\x00") :]  # the first element: SpecificCharacterSet
    path.write_bytes(file_header(str(ds.SOPClassUID), str(ds.SOPInstanceUID), ExplicitVRLittleEndian) + body)
    incoming = Incoming(path, str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ExplicitVRLittleEndian), "CR1")
    assert accept(site.store, incoming, refuse_below_free_mb=0).status == 0x0000


def _routed(site: Site) -> str:
    _receive(site)
    assert freeze_whole(site.store, quiet_s=0, after_release_s=0) == [(STUDY, 1)]
    (assignment_id,) = route_study(site, STUDY, 1)
    return assignment_id


def _with_destinations(site: Site, settings: Settings) -> Site:
    return replace(site, settings=settings)


def _deliveries(site: Site) -> set[tuple[str, str]]:
    with site.store.reading() as connection:
        return {(row.destination, row.state) for row in connection.execute(sa.select(DELIVERIES))}


def test_a_study_is_routed_once_and_the_step_says_the_same_again(site: Site) -> None:
    first = _routed(site)
    assert route_study(site, STUDY, 1) == [first]
    with site.store.reading() as connection:
        assert [row.state for row in connection.execute(sa.select(GENERATIONS))] == ["routed"]


def test_an_analysis_that_was_noted_before_a_crash_is_not_made_again(site: Site) -> None:
    item = _routed(site)
    report_failure(site, item, "the process was killed")
    nowhere = replace(site, folder=site.store.root)  # no handler is found there: a second reading would fail
    assert infer_assignment(nowhere, item) == ""


def test_a_report_made_before_a_crash_is_not_made_again(site: Site) -> None:
    item = _routed(site)
    report_failure(site, item, "the process was killed")
    assert report_assignment(site, item) == ""
    outputs = outputs_of(site.store, item)
    assert outputs
    before = {output.path: output.path.stat().st_mtime_ns for output in outputs}
    assert report_assignment(site, item) == ""
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {output.path.stat().st_mode & 0o777 for output in outputs} == {0o640}


def test_a_destination_that_was_removed_meanwhile_keeps_no_result_from_the_others(site: Site) -> None:
    item = _routed(site)
    left = {name: one for name, one in site.settings.destinations.items() if isinstance(one, Hl7Destination)}
    smaller = _with_destinations(site, replace(site.settings, destinations=left))
    report_failure(smaller, item, "the process was killed")
    assert report_assignment(smaller, item) == ""
    assert state_of(site.store, item) == "reported"
    assert _deliveries(site) == {("pacs", "pending"), ("ris", "pending")}
    assert assignment(site.store, item).destinations == ("pacs", "ris")


def test_patients_without_an_id_do_not_wait_for_each_other() -> None:
    known = Patient("P1", "HOSPITAL", PersonName("A"))
    unknown = Patient("", "HOSPITAL", PersonName("A"))
    assert patient_key(known, "2.25.1") == patient_key(known, "2.25.2")
    assert patient_key(known, "2.25.1") != patient_key(Patient("P1", "OTHER", PersonName("A")), "2.25.1")
    assert patient_key(unknown, "2.25.1") != patient_key(unknown, "2.25.2")


def test_each_destination_gets_the_forms_it_asks_for_in_its_own_language(site: Site) -> None:
    item = _routed(site)
    there = site.settings.destinations
    wards = replace(there["pacs"], language="zh", objects=(OutputKind.TEXT_SR, OutputKind.PDF))
    both = {**there, "wards": wards}
    asked = _with_destinations(site, replace(site.settings, destinations=both))
    with site.store.writing() as connection:
        connection.execute(sa.update(ASSIGNMENTS).values(destinations='["pacs", "ris", "wards"]'))
    report_failure(asked, item, "the process was killed")
    assert report_assignment(asked, item) == ""
    with site.store.reading() as connection:
        rows = connection.execute(sa.select(DELIVERIES.c.destination, OUTPUTS.c.kind, OUTPUTS.c.path).join(OUTPUTS))
        given = {(row.destination, row.kind): site.store.root / row.path for row in rows}
    assert set(given) == {("pacs", "text_sr"), ("ris", "oru"), ("wards", "text_sr"), ("wards", "pdf")}
    assert "无法" not in dumped(given["pacs", "text_sr"])
    assert "分析失败" in dumped(given["wards", "text_sr"])
    assert "The analysis failed" in given["ris", "oru"].read_text(encoding="utf-8")


def dumped(path: Path) -> str:
    return " ".join(texts(read_dataset(path)))


def test_a_study_of_two_names_under_one_id_is_not_read_and_says_why(site: Site) -> None:
    _receive(site)
    _receive(site, number=2, PatientName="Li^Hua=李^华")
    assert freeze_whole(site.store, quiet_s=0, after_release_s=0) == [(STUDY, 1)]
    assert route_study(site, STUDY, 1) == []
    with site.store.reading() as connection:
        (row,) = connection.execute(sa.select(GENERATIONS))
    assert (row.state, row.reason) == ("unrouted", "its images differ in PatientName, so they are not read together")
    assert "Hua" not in row.reason


def test_a_result_that_is_not_its_patients_stops_all_of_its_assignment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = _routed(site)
    report_failure(site, item, "the process was killed")
    written = outputs._write
    monkeypatch.setattr(outputs, "_write", lambda kind, ds, folder: written(kind, _of_another(ds), folder))
    assert "differs from its images in PatientID" in report_assignment(site, item)
    assert state_of(site.store, item) == "failed"
    assert _deliveries(site) == set()
    assert not list((site.store.root / "results").rglob("*.dcm"))


def _of_another(ds: Dataset) -> Dataset:
    ds.PatientID = "SOMEBODY-ELSE"
    return ds


def test_a_phantom_is_held_until_a_person_lets_it_go_and_then_routed(site: Site) -> None:
    _receive(site, PatientName="PHANTOM^CR")
    assert freeze_whole(site.store, quiet_s=0, after_release_s=0) == [(STUDY, 1)]
    assert route_study(site, STUDY, 1) == []
    with site.store.reading() as connection:
        (row,) = connection.execute(sa.select(GENERATIONS)).all()
    assert (row.state, row.reason) == ("held", "held as 'QA by name': PatientName has the word 'phantom'")
    release(site.store, STUDY, by="anna")
    assert end_waits(site.store) == [(STUDY, 1)]
    assert len(route_study(site, STUDY, 1)) == 1


def test_a_patient_with_a_name_that_looks_like_a_test_is_read(site: Site) -> None:
    _receive(site, PatientName="Testa^Maria")
    freeze_whole(site.store, quiet_s=0, after_release_s=0)
    assert len(route_study(site, STUDY, 1)) == 1
