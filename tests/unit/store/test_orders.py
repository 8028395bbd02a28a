"""Orders find their study by Accession Number and Patient ID, and what they fill is never invented."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.domain.orders import OrderContext, PatientEvent, PatientIdentifier, Received, add_orders
from node.domain.study import Order, Patient, PersonName
from node.domain.work import Priority
from node.explain import story
from node.store.database import Store, open_store
from node.store.erase import erase_study
from node.store.orders import (
    FOR_REPORT,
    Taken,
    complete_order,
    find_orders,
    forget_orders_before,
    keep_message,
    note_use,
)
from node.store.schema import HL7_MESSAGES, ORDER_USES, ORDERS
from tests.unit.rows import STUDY, Clock, assign, message, report

ACCESSION = f"A-{STUDY}"
P1 = PatientIdentifier("P1", "HOSPITAL", "1.2.3")
ORDER = OrderContext(ACCESSION, (P1,), "NW", placer_order_number="PL-1", indication="Fall", priority=Priority.STAT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def keep(store: Store, *orders: OrderContext, control_id: str = "1") -> Taken:
    return keep_message(store, Received("HIS", control_id, "ORM^O01", control_id * 64, orders))


def found(store: Store, patient_id: str = "P1", issuer: str = "") -> list[OrderContext]:
    orders = find_orders(store, accession_number=ACCESSION, patient_id=patient_id, issuer=issuer)
    return [one.context for one in orders]


@pytest.mark.parametrize("issuer", ["", "HOSPITAL", "hospital", "1.2.3"])
def test_accession_and_patient_agree(store: Store, issuer: str) -> None:
    keep(store, ORDER)
    assert found(store, issuer=issuer) == [ORDER]


@pytest.mark.parametrize(("patient_id", "issuer"), [("P2", ""), ("P1", "OTHER"), ("", ""), ("p1", "")])
def test_accession_alone_is_never_enough(store: Store, patient_id: str, issuer: str) -> None:
    keep(store, ORDER)
    assert found(store, patient_id, issuer) == []


def test_no_accession_finds_nothing(store: Store) -> None:
    keep(store, replace(ORDER, accession_number=""))
    assert find_orders(store, accession_number="", patient_id="P1", issuer="") == []


def test_what_changes_an_order_is_part_of_it(store: Store) -> None:
    keep(store, ORDER)
    later = OrderContext(ACCESSION, (P1,), "XO", placer_order_number="PL-1", filler_order_number="F-1", reason="Pain")
    keep(store, later, control_id="2")
    (one,) = found(store)
    assert (one.filler_order_number, one.indication, one.reason, one.priority) == ("F-1", "Fall", "Pain", Priority.STAT)


def test_a_cancelled_order_stands_no_more_until_it_is_ordered_anew(store: Store) -> None:
    keep(store, ORDER)
    keep(store, replace(ORDER, control="CA", is_cancelled=True), control_id="2")
    assert found(store) == []
    keep(store, ORDER, control_id="3")
    assert len(found(store)) == 1


def test_of_two_orders_only_what_they_agree_on_is_taken(store: Store) -> None:
    keep(store, ORDER, replace(ORDER, placer_order_number="PL-2", priority=None))
    order = add_orders(Order(STUDY, ACCESSION), found(store))
    assert (order.placer_order_number, order.indication) == ("", "Fall")


def test_the_header_stands_where_both_speak(store: Store) -> None:
    keep(store, ORDER)
    patient = Patient("P1", "", PersonName())
    order, orders = complete_order(store, patient, Order(STUDY, ACCESSION, placer_order_number="HEADER"))
    assert (order.placer_order_number, order.indication, len(orders)) == ("HEADER", "Fall", 1)
    plain = Order(STUDY, "another")
    assert complete_order(store, patient, plain) == (plain, [])


def test_explain_tells_of_a_merge_of_the_patient_id_in_both_languages(store: Store) -> None:
    assign(store)
    merged = PatientEvent("A40", (PatientIdentifier("P-9"),), (PatientIdentifier("P1"),))
    keep_message(store, Received("HIS", "9", "ADT^A40", "9" * 64, events=(merged,)))
    assert _told(store) == [
        "the hospital merged this Patient ID into P-9; the images and their results keep the old one"
    ]
    assert "P-9" in next(event.text for event in story(store, STUDY, language="zh") if event.stage == "order")


def test_old_messages_go_with_their_orders(store: Store, clock: Clock) -> None:
    keep(store, ORDER)
    clock.now += 100
    keep(store, replace(ORDER, placer_order_number="PL-2"), control_id="2")
    assert forget_orders_before(store, before=clock.now - 50) == 1
    assert [one.placer_order_number for one in found(store)] == ["PL-2"]


def _told(store: Store) -> list[str]:
    return [event.text for event in story(store, STUDY) if event.stage == "order"]


def test_explain_tells_what_an_order_was_used_for(store: Store) -> None:
    item = assign(store)
    keep(store, ORDER)
    assert _told(store) == ["an order (NW) came; it was not used so far"]
    orders = find_orders(store, accession_number=ACCESSION, patient_id="P1", issuer="")
    for _ in range(2):
        note_use(store, orders, [item.assignment_id], FOR_REPORT)
    assert sorted(_told(store)) == ["an order (NW) came", "an order (NW) stands in the result of chest_xray"]


def test_explain_tells_of_an_order_for_another_patient_and_of_a_cancelled_one(store: Store) -> None:
    assign(store)
    keep(store, replace(ORDER, patient_ids=(PatientIdentifier("P2"),)))
    keep(store, replace(ORDER, is_cancelled=True, control="CA"), control_id="2")
    assert _told(store) == [
        "an order (NW) came; it names another Patient ID, so it was not used",
        "an order was cancelled (CA); the study is read all the same",
    ]


def test_explain_tells_of_an_order_that_came_after_the_results(store: Store, clock: Clock) -> None:
    item = assign(store)
    report(store, item, [(message(store, "M1"), "ris")])
    clock.now += 5
    keep(store, ORDER)
    assert _told(store) == [
        "an order (NW) came after the results were made: they are as they were, and nothing was sent again"
    ]


def test_erasing_a_study_takes_its_orders(store: Store) -> None:
    assign(store)
    keep(store, ORDER, replace(ORDER, accession_number="A-other"))
    erase_study(store, STUDY, may_be_waiting=True)
    with store.reading() as connection:
        left = connection.execute(sa.select(ORDERS.c.accession_number)).scalars().all()
        assert connection.execute(sa.select(ORDER_USES)).all() == []
        assert len(connection.execute(sa.select(HL7_MESSAGES)).all()) == 1
    assert left == ["A-other"]
