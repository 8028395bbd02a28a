"""An order that comes in time raises the urgency and stands in every result; a later one changes nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hl7
import pytest
from pydicom import dcmread

from node.app import open_site
from node.deliver import check_destination
from node.domain.orders import OrderContext, PatientIdentifier
from node.domain.work import OutputKind, Priority
from node.errors import ConfigError
from node.explain import story
from node.paths import bundled_site
from node.settings import FieldRule, Hl7Destination, StoreSettings
from node.steps import Site, report_assignment
from node.store.work import assignment, outputs_of
from tests.unit.ordered import ORDER, STUDY, bundled, keep, reported, routed


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = bundled(tmp_path / "store")
    yield found
    found.store.close()


def told(site: Site) -> list[str]:
    return [event.text for event in story(site.store, STUDY) if event.stage == "order"]


def test_a_stat_order_makes_the_reading_and_its_delivery_stat(site: Site) -> None:
    keep(site, ORDER)
    item = routed(site)
    assert assignment(site.store, item).priority is Priority.STAT
    assert "an order (NW) made the reading more urgent: chest_xray" in told(site)


@pytest.mark.parametrize("priority", [Priority.ROUTINE, None])
def test_an_order_never_makes_a_reading_less_urgent(site: Site, priority: Priority | None) -> None:
    keep(site, replace(ORDER, priority=priority))
    rules = tuple(replace(rule, priority=Priority.URGENT) for rule in site.settings.rules)
    urgent = replace(site, settings=replace(site.settings, rules=rules))
    assert assignment(site.store, routed(urgent)).priority is Priority.URGENT


def test_what_the_order_says_stands_in_message_and_report(site: Site) -> None:
    item = routed(site)
    keep(site, ORDER)
    outputs = reported(site, item)
    obr = hl7.parse(outputs[OutputKind.ORU].path.read_bytes().decode()).segment("OBR")
    assert [str(obr[number]) for number in (2, 3, 13, 18, 31)] == ["PL-1", "F-1", "Fall from stairs", "ACC1", "^Pain"]
    (request,) = dcmread(outputs[OutputKind.TEXT_SR].path).ReferencedRequestSequence
    assert request.PlacerOrderNumberImagingServiceRequest == "PL-1"
    assert request.FillerOrderNumberImagingServiceRequest == "F-1"
    assert "an order (NW) stands in the result of chest_xray" in told(site)


@pytest.mark.parametrize(
    "other", [replace(ORDER, patient_ids=(PatientIdentifier("P-0042", "ELSEWHERE"),)),
              replace(ORDER, patient_ids=(PatientIdentifier("P-9", "HOSPITAL"),)),
              replace(ORDER, accession_number="ACC2")],
)  # fmt: skip
def test_an_order_of_another_patient_or_study_is_used_for_nothing(site: Site, other: OrderContext) -> None:
    keep(site, other)
    item = routed(site)
    assert assignment(site.store, item).priority is Priority.ROUTINE
    obr = hl7.parse(reported(site, item)[OutputKind.ORU].path.read_bytes().decode()).segment("OBR")
    assert [str(obr[number]) for number in (2, 3, 13)] == ["", "", ""]


def test_an_order_that_comes_after_the_results_changes_none_and_is_told(site: Site) -> None:
    item = routed(site)
    before = {kind: output.path.read_bytes() for kind, output in reported(site, item).items()}
    keep(site, ORDER)
    assert report_assignment(site, item) == ""
    assert {output.kind: output.path.read_bytes() for output in outputs_of(site.store, item)} == before
    assert told(site) == [
        "an order (NW) came after the results were made: they are as they were, and nothing was sent again"
    ]


def test_a_ris_whose_fields_break_the_message_stops_the_start(site: Site, tmp_path: Path) -> None:
    ris = site.settings.destinations["ris"]
    assert isinstance(ris, Hl7Destination)
    check_destination(ris)
    broken = replace(ris, fields=(FieldRule("OBR", 4, 0, 0, "empty"),))
    settings = replace(site.settings, destinations={**site.settings.destinations, "ris": broken})
    with pytest.raises(ConfigError, match=r"destinations\.ris"):
        open_site(bundled_site(), replace(settings, store=StoreSettings(tmp_path / "other")))
