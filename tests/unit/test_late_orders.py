"""An order that comes late hastens what is not read yet, and is told to a RIS that wants it, once, as a correction."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hl7
import pytest
import sqlalchemy as sa

from node import late_orders
from node.audit import AUDIT
from node.domain.orders import OrderContext, PatientIdentifier
from node.domain.work import OutputKind, Priority
from node.explain import story
from node.late_orders import hasten_readings, resend_results
from node.settings import ReportSettings
from node.steps import Site, report_assignment, report_failure, route_study
from node.store.dead_letters import dead_letters, retry
from node.store.outbox import mark_accepted, mark_dead, pending_deliveries
from node.store.schema import DELIVERIES, ORDERS
from node.store.work import assignment
from tests.unit.ordered import ORDER, STUDY, arrived, bundled, keep, reported, routed

WANTED = ReportSettings(resend_after_late_order=True)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = bundled(tmp_path / "store")
    yield replace(found, settings=replace(found.settings, report=WANTED))
    found.store.close()


def messages(site: Site, item: str) -> list[hl7.Message]:
    """Every ORU of an Assignment, in the order in which the RIS gets them."""
    return [hl7.parse(one.output.path.read_bytes().decode()) for one in pending_deliveries(site.store, item, "ris")]


def told(site: Site, language: str = "en") -> list[str]:
    return [event.text for event in story(site.store, STUDY, language=language) if event.stage == "order"]


def records(site: Site, action: str) -> int:
    query = sa.select(sa.func.count()).select_from(AUDIT).where(AUDIT.c.action == action)
    with site.store.reading() as connection:
        return int(connection.execute(query).scalar_one())


def obr(message: hl7.Message, *numbers: int) -> list[str]:
    return [str(message.segment("OBR")[number]) for number in numbers]


def test_a_late_order_sends_the_message_again_with_it_as_corrected(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    assert resend_results(site) == 1
    first, second = messages(site, item)
    assert obr(first, 2, 3, 13) == ["", "", ""]
    assert obr(second, 2, 3, 13, 18, 25) == ["PL-1", "F-1", "Fall from stairs", "ACC1", "C"]
    assert {str(one[11]) for one in second.segments("OBX")} == {"O", "C"}
    assert str(first.segment("MSH")[10]) != str(second.segment("MSH")[10])
    assert records(site, "message made again for a late order") == 1


def test_both_messages_name_the_same_reports_and_the_same_findings(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    resend_results(site)
    first, second = (
        [(str(one[3]), str(one[5])) for one in message.segments("OBX")] for message in messages(site, item)
    )
    assert first == second


def test_nothing_is_sent_again_if_the_site_does_not_want_it(site: Site) -> None:
    silent = replace(site, settings=replace(site.settings, report=ReportSettings()))
    item = routed(silent)
    reported(silent, item)
    keep(silent, ORDER)
    assert resend_results(silent) == 0
    assert len(messages(silent, item)) == 1
    assert "nothing was sent again" in told(silent)[0]


def test_an_order_that_stands_in_the_result_is_not_sent_again(site: Site) -> None:
    keep(site, ORDER)
    item = routed(site)
    reported(site, item)
    assert resend_results(site) == 0
    assert len(messages(site, item)) == 1


@pytest.mark.parametrize("cut", ["before the rows", "after the rows"])
def test_done_twice_it_is_one_message(site: Site, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    add = late_orders.late_orders.resend

    def killed(*arguments: object, **named: object) -> bool:
        if cut == "after the rows":
            add(*arguments, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(late_orders.late_orders, "resend", killed)
        with pytest.raises(KeyboardInterrupt):
            resend_results(site)
    files = {path: path.read_bytes() for path in site.store.root.rglob("*.hl7")}
    assert len(files) == 2
    for _ in range(2):
        resend_results(site)
    assert {path: path.read_bytes() for path in site.store.root.rglob("*.hl7")} == files
    assert len(messages(site, item)) == 2
    assert records(site, "message made again for a late order") == 1


def test_each_assignment_of_a_study_has_its_message_sent_again(site: Site) -> None:
    (rule,) = (one for one in site.settings.rules if one.handler == "chest_xray")
    both = (rule, replace(rule, name="labels", handler="chest_multilabel"))
    site = replace(site, settings=replace(site.settings, rules=both))
    items = route_study(site, STUDY, arrived(site))
    assert len(items) == 2
    for item in items:
        reported(site, item)
    keep(site, ORDER)
    assert resend_results(site) == 2
    assert [obr(messages(site, item)[1], 2, 25) for item in items] == [["PL-1", "C"]] * 2
    assert len({str(messages(site, item)[1].segment("MSH")[10]) for item in items}) == 2


def test_an_order_that_changes_later_is_told_again_and_one_that_says_nothing_new_is_not(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    assert resend_results(site) == 1
    keep(site, replace(ORDER, control="SC"), control_id="2")
    assert resend_results(site) == 0
    keep(site, replace(ORDER, control="XO", indication="Fall from a ladder"), control_id="3")
    assert resend_results(site) == 1
    assert resend_results(site) == 0
    assert [obr(one, 13)[0] for one in messages(site, item)] == ["", "Fall from stairs", "Fall from a ladder"]


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, patient_ids=(PatientIdentifier("P-0042", "ELSEWHERE"),)),
        replace(ORDER, patient_ids=(PatientIdentifier("P-9", "HOSPITAL"),)),
        replace(ORDER, accession_number="ACC2"),
        replace(ORDER, control="CA", is_cancelled=True),
    ],
)
def test_an_order_that_does_not_stand_for_the_study_sends_nothing(site: Site, other: OrderContext) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, other)
    assert resend_results(site) == 0
    assert len(messages(site, item)) == 1


def test_only_the_last_report_of_a_study_is_sent_again(site: Site) -> None:
    first = routed(site)
    reported(site, first)
    second = routed(site, number=2)
    keep(site, ORDER)
    assert resend_results(site) == 0  # the second will have it by itself
    reported(site, second)
    assert resend_results(site) == 0
    assert [len(messages(site, item)) for item in (first, second)] == [1, 1]
    assert obr(messages(site, second)[0], 2, 25) == ["PL-1", "C"]


def test_an_order_from_long_ago_is_not_told_when_the_site_begins_to_want_it(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    with site.store.writing() as connection:
        connection.execute(sa.update(ORDERS).values(at=ORDERS.c.at - 73 * 3600))
    assert resend_results(site) == 0


def test_a_result_whose_images_were_changed_is_left_as_it_is_and_asked_no_more(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    (path,) = (one for one in (site.store.root / "instances").rglob("*") if one.is_file())
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    for _ in range(2):
        assert resend_results(site) == 0
    assert records(site, "late order left") == 1
    assert len(messages(site, item)) == 1


def test_the_older_message_is_not_sent_again_by_hand_when_the_newer_has_arrived(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    resend_results(site)
    older, newer = pending_deliveries(site.store, item, "ris")
    mark_dead(site.store, older, "ris: the message was answered AE")
    mark_accepted(site.store, newer, "AA", verified_by="answer")
    (letter,) = dead_letters(site.store)
    assert retry(site.store, letter, by="anna") == "the destination has a later message of this reading"


def test_what_became_of_a_late_order_is_told_in_both_languages(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    keep(site, ORDER)
    resend_results(site)
    keep(site, replace(ORDER, control="SC"), control_id="2")
    resend_results(site)
    said = "an order (NW) came after the result of chest_xray was made: its message was made again with it"
    assert said in told(site)
    assert any("(SC)" in text and "nothing was sent again" in text for text in told(site))
    assert "医嘱（NW）在 chest_xray 的结果生成之后到达：已据此重新生成消息" in told(site, "zh")


def test_a_stat_order_hastens_what_waits_to_be_read(site: Site) -> None:
    item = routed(site)
    keep(site, ORDER)
    hastened: list[tuple[str, Priority]] = []
    for _ in range(2):
        hasten_readings(site, lambda *one: hastened.append(one))
    assert hastened == [(item, Priority.STAT)]
    assert assignment(site.store, item).priority is Priority.STAT
    assert "an order (NW) made the reading more urgent: chest_xray" in told(site)
    assert records(site, "reading made more urgent") == 1
    report_failure(site, item, "the process was killed")
    assert report_assignment(site, item) == ""
    with site.store.reading() as connection:
        assert {row.priority for row in connection.execute(sa.select(DELIVERIES))} == {int(Priority.STAT)}


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, priority=Priority.ROUTINE),
        replace(ORDER, priority=None),
        replace(ORDER, patient_ids=(PatientIdentifier("P-0042", "ELSEWHERE"),)),
        replace(ORDER, control="CA", is_cancelled=True),
    ],
)
def test_other_orders_hasten_nothing(site: Site, other: OrderContext) -> None:
    item = routed(site)
    keep(site, other)
    assert hasten_readings(site, lambda *_: pytest.fail("hastened")) == 0
    assert assignment(site.store, item).priority is Priority.ROUTINE


def test_a_crash_before_the_row_hastens_again(site: Site) -> None:
    item = routed(site)
    keep(site, ORDER)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hasten_readings(site, die)
    hastened: list[str] = []
    assert hasten_readings(site, lambda name, _: hastened.append(name)) == 1
    assert hastened == [item]


def test_what_is_read_already_is_not_hastened(site: Site) -> None:
    item = routed(site)
    report_failure(site, item, "the process was killed")
    keep(site, ORDER)
    assert hasten_readings(site, lambda *_: pytest.fail("hastened")) == 0
    assert OutputKind.ORU in {one.kind for one in reported(site, item).values()}
