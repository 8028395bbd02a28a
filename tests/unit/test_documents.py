"""JSON, FHIR and files: made with the other results, in each language that is asked for, and sent where it is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from fhir.resources.R4B.bundle import Bundle
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from node.app import open_site
from node.dicom.part10 import file_header
from node.domain.work import OutputKind
from node.paths import bundled_site
from node.receive.spool import Incoming, accept
from node.settings import (
    Destination,
    DicomDestination,
    FolderDestination,
    HttpDestination,
    StoreSettings,
    load_settings,
)
from node.steps import Site, report_assignment, report_failure, route_study
from node.store.found import find_reports
from node.store.schema import DELIVERIES
from node.store.work import outputs_of
from tests.unit.report.studies import head
from tests.unit.rows import freeze_whole

STUDY = "2.25.1001"
JSON, FHIR, ORU = OutputKind.JSON, OutputKind.FHIR, OutputKind.ORU


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    shipped = load_settings(bundled_site() / "config.toml", {})
    settings = replace(shipped, store=StoreSettings(tmp_path / "store", refuse_below_free_mb=0))
    found = open_site(bundled_site(), settings)
    yield found
    found.store.close()


def _receive(site: Site) -> None:
    ds = head(STUDY, f"{STUDY}.2", str(ComputedRadiographyImageStorage), 1)
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


def _reported(site: Site, *destinations: Destination) -> str:
    """A failed analysis, which is reported like any other outcome, sent to these destinations alone."""
    names = {one.name: one for one in destinations}
    rules = tuple(replace(rule, destinations=tuple(names)) for rule in site.settings.rules)
    mine = replace(site, settings=replace(site.settings, destinations=names, rules=rules))
    _receive(site)
    assert freeze_whole(site.store, quiet_s=0, after_release_s=0) == [(STUDY, 1)]
    (assignment_id,) = route_study(mine, STUDY, 1)
    report_failure(mine, assignment_id, "the process was killed")
    assert report_assignment(mine, assignment_id) == ""
    return assignment_id


def _sent(site: Site, assignment_id: str) -> dict[str, list[OutputKind]]:
    kinds = {output.output_id: output.kind for output in outputs_of(site.store, assignment_id)}
    found: dict[str, list[OutputKind]] = {}
    with site.store.reading() as connection:
        for row in connection.execute(sa.select(DELIVERIES).order_by(DELIVERIES.c.sequence)):
            found.setdefault(row.destination, []).append(kinds[row.output_id])
    return found


def test_each_destination_gets_what_it_asks_for_and_nothing_else(site: Site) -> None:
    item = _reported(
        site,
        DicomDestination("pacs", "h", 104, "P"),
        HttpDestination("json", "http://h"),
        HttpDestination("both", "http://h", objects=(FHIR, JSON)),
        FolderDestination("share", "/x", objects=(OutputKind.TEXT_SR, ORU, FHIR)),
    )
    found = {name: set(kinds) for name, kinds in _sent(site, item).items()}
    assert found == {
        "pacs": {OutputKind.TEXT_SR}, "json": {JSON}, "both": {JSON, FHIR}, "share": {OutputKind.TEXT_SR, ORU, FHIR},
    }  # fmt: skip
    assert [output.kind for output in outputs_of(site.store, item)].count(JSON) == 1


def test_a_document_is_made_once_in_each_language_that_is_asked_for(site: Site) -> None:
    item = _reported(
        site,
        HttpDestination("english", "http://h"),
        HttpDestination("chinese", "http://h", language="zh"),
        HttpDestination("chinese too", "http://h", language="zh"),
    )
    documents = [output for output in outputs_of(site.store, item) if output.kind is JSON]
    languages = {json.loads(one.path.read_bytes())["language"]: one.output_id for one in documents}
    assert set(languages) == {"en", "zh-CN"}
    with site.store.reading() as connection:
        sent = {row.destination: row.output_id for row in connection.execute(sa.select(DELIVERIES))}
    assert sent == {"english": languages["en"], "chinese": languages["zh-CN"], "chinese too": languages["zh-CN"]}


def test_a_document_names_the_objects_of_its_report_and_says_why_it_failed(site: Site) -> None:
    item = _reported(site, HttpDestination("both", "http://h", objects=(FHIR, JSON)))
    outputs = {output.kind: output for output in outputs_of(site.store, item)}
    said = json.loads(outputs[JSON].path.read_bytes())
    assert (said["result_id"], said["status"]) == (outputs[JSON].output_id, "failed")
    assert said["reason"]
    assert [one["sop_instance_uid"] for one in said["objects"]] == [outputs[OutputKind.TEXT_SR].output_id]
    bundle = Bundle.model_validate_json(outputs[FHIR].path.read_bytes())
    assert bundle.identifier is not None
    assert bundle.identifier.value == f"urn:oid:{outputs[FHIR].output_id}"


def test_documents_are_found_again_when_the_index_is_rebuilt(site: Site) -> None:
    item = _reported(site, FolderDestination("share", "/x", objects=(ORU, FHIR, JSON, OutputKind.TEXT_SR)))
    (found,) = find_reports(site.store.root, ["chest_xray", "brain_mr"])
    assert {(one.output_id, one.kind, one.sha256) for one in found.outputs} == {
        (one.output_id, one.kind, one.sha256) for one in outputs_of(site.store, item)
    }
