"""Images that come late are read with the others, and what is said then takes the place of what was said before."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hl7
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from node.app import open_site
from node.dicom.part10 import file_header
from node.domain.work import OutputKind
from node.explain import story
from node.paths import bundled_site
from node.receive.spool import Incoming, accept
from node.settings import CompleteSettings, Condition, StoreSettings, load_settings
from node.steps import Site, report_assignment, report_failure, route_study
from node.store import studies
from node.store.schema import GENERATIONS
from node.store.wishes import force
from node.store.work import assignment as assignment_of
from node.store.work import mark_assignment_failed, outputs_of, state_of
from tests.unit.report.studies import head
from tests.unit.rows import Clock, freeze_whole

STUDY = "2.25.1001"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(tmp_path: Path, clock: Clock) -> Iterator[Site]:
    shipped = load_settings(bundled_site() / "config.toml", {})
    settings = replace(shipped, store=StoreSettings(tmp_path / "store", refuse_below_free_mb=0))
    found = open_site(bundled_site(), settings)
    found = replace(found, store=replace(found.store, clock=clock))
    yield found
    found.store.close()


def _receive(site: Site, number: int, **header: str) -> None:
    ds = head(STUDY, f"{STUDY}.{header.get('SeriesNumber', 2)}", str(ComputedRadiographyImageStorage), number)
    ds.Modality = "CR"
    ds.Rows = ds.Columns = 8
    ds.PixelData = b"\0" * 128
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = site.store.root / "incoming" / str(number)
    dcmwrite(path, ds, enforce_file_format=False)
    body = path.read_bytes()
    body = body[body.index(b"\x08\x00\x05\x00") :]  # the first element: SpecificCharacterSet
    path.write_bytes(file_header(str(ds.SOPClassUID), str(ds.SOPInstanceUID), ExplicitVRLittleEndian) + body)
    incoming = Incoming(path, str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ExplicitVRLittleEndian), "CR1")
    assert accept(site.store, incoming, refuse_below_free_mb=0).status == 0x0000


def _freeze(site: Site) -> int:
    ((_, generation),) = freeze_whole(site.store, quiet_s=0, after_release_s=0)
    return generation


def _route(site: Site, number: int, **header: str) -> str:
    _receive(site, number, **header)
    (assignment_id,) = route_study(site, STUDY, _freeze(site))
    return assignment_id


def _report(site: Site, assignment_id: str) -> None:
    """Report it, as an analysis that failed: what is said is another test's matter."""
    report_failure(site, assignment_id, "the process was killed")
    assert report_assignment(site, assignment_id) == ""


def _said(site: Site, assignment_id: str) -> tuple[Dataset, str]:
    outputs = {output.kind: output for output in outputs_of(site.store, assignment_id)}
    return dcmread(outputs[OutputKind.TEXT_SR].path), outputs[OutputKind.ORU].path.read_bytes().decode("utf-8")


def _predecessors(ds: Dataset) -> list[str]:
    return [
        str(one.ReferencedSOPInstanceUID)
        for study in ds.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]


def _status(message: str) -> set[str]:
    parsed = hl7.parse(message)
    return {str(parsed.segment("OBR")[25])} | {str(one[11]) for one in parsed.segments("OBX")[4:]}


def _states(site: Site) -> list[str]:
    with site.store.reading() as connection:
        return [row.state for row in connection.execute(sa.select(GENERATIONS).order_by(GENERATIONS.c.generation))]


def test_each_later_report_names_the_one_before_and_its_message_is_a_correction(site: Site) -> None:
    documents = []
    for number in (1, 2, 3):
        assignment_id = _route(site, number)
        _report(site, assignment_id)
        documents.append(_said(site, assignment_id))
    assert [_predecessors(ds) for ds, _ in documents] == [
        [], [str(documents[0][0].SOPInstanceUID)], [str(documents[1][0].SOPInstanceUID)]
    ]  # fmt: skip
    assert len({str(ds.SOPInstanceUID) for ds, _ in documents}) == 3
    assert ["C" in _status(message) for _, message in documents] == [False, True, True]


def test_images_that_come_while_the_first_are_read_correct_its_report(site: Site) -> None:
    first = _route(site, 1)
    second = _route(site, 2)
    _report(site, first)
    _report(site, second)
    assert _predecessors(_said(site, second)[0]) == [str(_said(site, first)[0].SOPInstanceUID)]
    assert "C" in _status(_said(site, second)[1])


def test_a_first_reading_that_ends_after_the_second_is_not_the_last_word(site: Site) -> None:
    first, second = _route(site, 1), _route(site, 2)
    _report(site, second)
    report_failure(site, first, "the process was killed")
    assert "a later generation of the study" in report_assignment(site, first)
    assert state_of(site.store, first) == "failed"
    assert _predecessors(_said(site, second)[0]) == []
    assert "C" not in _status(_said(site, second)[1])


def test_what_comes_after_a_reading_without_a_result_corrects_nothing(site: Site) -> None:
    first = _route(site, 1)
    mark_assignment_failed(site.store, assignment_of(site.store, first), "reading failed 3 times", workflow=first)
    second = _route(site, 2)
    _report(site, second)
    ds, message = _said(site, second)
    assert (_predecessors(ds), "C" in _status(message)) == ([], False)


def test_what_comes_after_a_study_nobody_took_is_read(site: Site) -> None:
    _receive(site, 1, Modality="US", SeriesNumber="1")
    assert route_study(site, STUDY, _freeze(site)) == []
    second = _route(site, 2)
    _report(site, second)
    assert _states(site) == ["unrouted", "routed"]
    assert _predecessors(_said(site, second)[0]) == []


def test_a_late_series_that_no_rule_takes_still_gives_a_report_of_its_own_generation(site: Site) -> None:
    first = _route(site, 1)
    _report(site, first)
    _receive(site, 2, Modality="US", SeriesNumber="7")
    (second,) = route_study(site, STUDY, _freeze(site))
    _report(site, second)
    before, after = _said(site, first)[0], _said(site, second)[0]
    assert assignment_of(site.store, second).series_uids == assignment_of(site.store, first).series_uids
    assert _predecessors(after) == [str(before.SOPInstanceUID)]
    assert after.SOPInstanceUID != before.SOPInstanceUID


# Required series, from the rule to the story


def _requiring(site: Site) -> Site:
    lateral = (Condition("ViewPosition", any_of=("LL",)),)
    rules = tuple(
        replace(rule, requires=(lateral,)) if rule.handler == "chest_xray" else rule for rule in site.settings.rules
    )
    complete = CompleteSettings(most_wait_s=1800)
    return replace(site, settings=replace(site.settings, rules=rules, complete=complete))


def _story(site: Site) -> str:
    return "\n".join(event.text for event in story(site.store, STUDY))


def test_a_study_is_held_until_the_required_series_is_there_and_reported_once(site: Site) -> None:
    site = _requiring(site)
    _receive(site, 1, ViewPosition="PA")
    assert route_study(site, STUDY, _freeze(site)) == []
    assert route_study(site, STUDY, 1) == []  # the step runs again after a crash
    assert _states(site) == ["waiting"]
    assert "waits for a required series: ViewPosition is LL" in _story(site)
    _receive(site, 2, ViewPosition="LL", SeriesNumber="3")
    (assignment_id,) = route_study(site, STUDY, _freeze(site))
    _report(site, assignment_id)
    assert _states(site) == ["superseded", "routed"]
    assert _predecessors(_said(site, assignment_id)[0]) == []


def test_a_required_series_that_never_comes_is_said_after_the_wait(site: Site, clock: Clock) -> None:
    site = _requiring(site)
    _receive(site, 1, ViewPosition="PA")
    assert route_study(site, STUDY, _freeze(site)) == []
    clock.now += 1799
    assert studies.end_waits(site.store) == []
    clock.now += 1
    assert studies.end_waits(site.store) == [(STUDY, 1)]
    assert route_study(site, STUDY, 1) == []
    assert _states(site) == ["unrouted"]
    assert "required series not there 1800 s after its last image: ViewPosition is LL" in _story(site)


def test_a_person_can_end_the_wait(site: Site) -> None:
    site = _requiring(site)
    _receive(site, 1, ViewPosition="PA")
    route_study(site, STUDY, _freeze(site))
    force(site.store, STUDY, by="anna")
    assert studies.end_waits(site.store) == [(STUDY, 1)]
    assert route_study(site, STUDY, 1) == []
    assert "required series not there when a person called the study whole" in _story(site)
