"""What is taken of an HL7 message, what its sender is told, and what is on the disk by then."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from node import audit
from node.deliver.ack import Ack, parse_ack
from node.domain.codes import Code
from node.domain.work import Priority
from node.receive.orders import take_message
from node.settings import Hl7Settings
from node.store.database import Store, open_store
from node.store.orders import find_orders, last_stay
from node.store.schema import HL7_MESSAGES, ORDERS, PATIENT_EVENTS, QUARANTINE
from tests.unit.rows import Clock
from tests.wire.hl7_messages import adt, merge, omi, orm

SETTINGS = Hl7Settings()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=Clock())
    yield found
    found.close()


def told(store: Store, data: bytes, settings: Hl7Settings = SETTINGS, *, has_room: bool = True) -> Ack:
    (answer,) = take_message(store, settings, lambda: has_room, data)
    return parse_ack(answer)


def count(store: Store, table: sa.Table) -> int:
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_an_order_is_kept_with_all_that_it_says(store: Store) -> None:
    assert told(store, orm()).code == "AA"
    (found,) = find_orders(store, accession_number="A-77", patient_id="P-0042", issuer="HOSPITAL")
    order = found.context
    assert (order.placer_order_number, order.filler_order_number, order.control) == ("PL-1", "F-1", "NW")
    assert (order.indication, order.reason, order.priority) == ("Fall from stairs", "Headache", Priority.STAT)
    assert order.procedure == Code("CT1", "LOCAL", "CT head")
    assert (order.ordering_provider, order.patient_class, order.location) == (
        ("1234", "Li", "Lei"), "E", ("ER", "1", "2", "HOSPITAL"),
    )  # fmt: skip


def test_an_imaging_order_has_its_own_places_for_accession_and_priority(store: Store) -> None:
    assert told(store, omi()).code == "AA"
    (found,) = find_orders(store, accession_number="A-77", patient_id="999", issuer="OTHER")
    assert (found.context.priority, found.context.indication) == (Priority.STAT, "跌倒")


@pytest.mark.parametrize(
    ("word", "priority"),
    [("S", Priority.STAT), ("A", Priority.URGENT), ("R", Priority.ROUTINE), ("", None), ("TS10", None)],
)
def test_priority_is_what_the_order_says_or_nothing(store: Store, word: str, priority: Priority | None) -> None:
    told(store, orm(priority=word))
    (found,) = find_orders(store, accession_number="A-77", patient_id="P-0042", issuer="")
    assert found.context.priority is priority


def test_the_site_says_where_the_accession_number_stands(store: Store) -> None:
    assert told(store, orm(accession="", filler="F-9")).code == "AE"
    told(store, orm("M-5", accession="", filler="F-9"), Hl7Settings(accession=("OBR-18", "OBR-3")))
    assert find_orders(store, accession_number="F-9", patient_id="P-0042", issuer="")


def test_a_message_that_comes_again_is_accepted_and_changes_nothing(store: Store) -> None:
    for _ in range(3):
        assert told(store, orm()).code == "AA"
    assert (count(store, HL7_MESSAGES), count(store, ORDERS)) == (1, 1)


def test_an_id_that_another_message_had_is_an_error_until_its_counter_begins_anew(store: Store) -> None:
    told(store, orm())
    again = told(store, orm(accession="A-78"))
    assert (again.code, again.error_codes) == ("AE", ("205",))
    assert count(store, ORDERS) == 1
    store.clock.now += 8 * 86400.0  # type: ignore[attr-defined]
    assert told(store, orm(accession="A-78")).code == "AA"


def test_where_a_patient_is_comes_from_the_last_word(store: Store) -> None:
    assert told(store, adt("1", event="A01")).code == "AA"
    assert told(store, adt("2", ward="ICU^3")).code == "AA"
    assert last_stay(store, patient_id="P-0042", issuer="HOSPITAL") == ("I", ("ICU", "3"))
    assert last_stay(store, patient_id="P-0042", issuer="ELSEWHERE") == ("", ())


def test_a_merge_is_noted_at_the_id_that_goes(store: Store) -> None:
    assert told(store, merge()).code == "AA"
    with store.reading() as connection:
        (row,) = connection.execute(sa.select(PATIENT_EVENTS)).all()
    assert (row.trigger, row.patient_id) == ("A40", "P-0042")
    assert '"stays": ["P-1"]' in row.content


def _changed(old: bytes, new: bytes) -> bytes:
    message = orm(version="2.5.1")
    assert old in message
    return message.replace(old, new)


@pytest.mark.parametrize(
    ("message", "code", "error"),
    [
        (_changed(b"ORM^O01", b"ORU^R01"), "AR", "200"),
        (_changed(b"ORM^O01", b"ADT^A99"), "AR", "201"),
        (_changed(b"|P|", b"|T|"), "AR", "202"),
        (_changed(b"|2.5.1|", b"|3.0|"), "AR", "203"),
        (_changed(b"|M-1|", b"||"), "AE", "101"),
        (_changed(b"PID|1||P-0042^^^HOSPITAL|", b"PID|1|||"), "AE", "101"),
        (_changed(b"PID|1|", b"ZID|1|"), "AE", "100"),
        (_changed(b"OBR|1|", b"OBX|1|"), "AE", "100"),
        (_changed(b"|A-77|", b"||"), "AE", "101"),
        (_changed(b"|A-77|", b"|" + b"A" * 65 + b"|"), "AE", "102"),
        (_changed(b"UNICODE UTF-8", b"KLINGON"), "AE", "102"),
        (_changed(b"Fall", "Sturz Straße".encode("latin-1")), "AE", "102"),
        (merge().replace(b"MRG|", b"ZMR|"), "AE", "100"),
        (b"hello", "AE", "100"),
        (b"", "AE", "100"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_reason_and_put_aside(
    store: Store, message: bytes, code: str, error: str
) -> None:
    (answer,) = take_message(store, SETTINGS, lambda: True, message)
    said = answer.decode()
    assert f"\rMSA|{code}|" in said
    assert f"|{error}^" in said
    assert (count(store, HL7_MESSAGES), count(store, QUARANTINE)) == (0, 1)
    with store.reading() as connection:
        (row,) = connection.execute(sa.select(QUARANTINE)).all()
    assert (store.root / row.path).read_bytes() == message
    assert row.reason.startswith("HL7 message refused: ")
    take_message(store, SETTINGS, lambda: True, message)
    assert count(store, QUARANTINE) == 1


def test_an_old_version_is_told_in_the_form_of_its_time(store: Store) -> None:
    (answer,) = take_message(store, SETTINGS, lambda: True, orm(accession=""))
    assert b"\rERR|IPC^1^1^101&Required field missing&HL70357\r" in answer
    assert parse_ack(answer).error_codes == ("101",)


def test_no_word_of_a_message_is_in_the_log(store: Store) -> None:
    with structlog.testing.capture_logs() as logs:
        for message in (orm("1", indication="Canary"), orm("2", indication="Canary", accession=""), b"MSH Canary"):
            take_message(store, SETTINGS, lambda: True, message)
        take_message(store, SETTINGS, lambda: True, orm("Canary^1").replace(b"ORM^O01", b"Canary^Canary"))
    assert logs
    assert "Canary" not in str(logs)
    assert "P-0042" not in str(logs)


def test_a_full_disk_rejects_so_that_the_sender_comes_again(store: Store) -> None:
    answer = told(store, orm(), has_room=False)
    assert (answer.code, answer.error_codes) == ("AR", ("207",))
    assert (count(store, HL7_MESSAGES), count(store, QUARANTINE)) == (0, 0)
    assert told(store, orm()).code == "AA"


def test_a_store_that_cannot_write_rejects_so_that_the_sender_comes_again(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE orders")
    assert told(store, orm()).code == "AR"
    assert count(store, HL7_MESSAGES) == 0


@pytest.mark.parametrize(
    ("asked", "when_taken", "when_refused"),
    [
        ("||", ["AA"], ["AE"]), ("AL|NE", ["CA"], ["CE"]), ("AL|AL", ["CA", "AA"], ["CE", "AE"]),
        ("NE|AL", ["AA"], ["AE"]), ("ER|ER", [], ["CE", "AE"]), ("SU|NE", ["CA"], []),
    ],
)  # fmt: skip
def test_enhanced_mode_gets_the_answers_it_asks_for(
    store: Store, asked: str, when_taken: list[str], when_refused: list[str]
) -> None:
    more = "||||||UNICODE UTF-8" if asked == "||" else f"|||{asked}||UNICODE UTF-8"
    taken = take_message(store, SETTINGS, lambda: True, orm(more=more))
    refused = take_message(store, SETTINGS, lambda: True, orm("M-9", more=more, accession=""))
    assert [parse_ack(one).code for one in taken] == when_taken
    assert [parse_ack(one).code for one in refused] == when_refused


def test_answer_names_both_sides_and_the_message(store: Store) -> None:
    (answer,) = take_message(store, Hl7Settings(application="NIGHT", facility="RAD"), lambda: True, omi("4711"))
    fields = answer.decode().split("\r")[0].split("|")
    assert fields[2:6] == ["NIGHT", "RAD", "HIS", "HOSPITAL"]
    assert (fields[8], fields[11], fields[17]) == ("ACK^O23^ACK", "2.5.1", "UNICODE UTF-8")
    assert parse_ack(answer).control_id == "4711"


def test_what_was_kept_is_in_the_audit_trail_without_a_patient(store: Store) -> None:
    told(store, orm())
    with store.reading() as connection:
        audit.verify(connection, store.key, store.root / "audit.anchor")
        rows = str(connection.execute(sa.text("SELECT * FROM audit")).all())
    assert "message kept" in rows
    assert "P-0042" not in rows


@how(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 40))
def test_no_message_however_broken_stays_without_an_answer(store: Store, noise: bytes, at: int, cut: int) -> None:
    whole = orm(version="2.5.1")
    for data in (noise, whole[:at] + noise + whole[at + cut :], b"MSH|^~\\&|" + noise):
        for answer in take_message(store, SETTINGS, lambda: True, data):
            assert answer.startswith(b"MSH|^~\\&|WETREAD|")
            assert answer.count(b"\rMSA|") == 1
            assert not set(answer) & {0x0B, 0x1C}
