"""What goes wrong behind the door, with a peer that does it: delivered in the end, once, or a dead letter."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from node import audit
from node.deliver import DicomConnection, MllpConnection
from node.deliver.outbox import Connection, visit
from node.domain.work import Output
from node.settings import DeliverSettings, Destination, Hl7Destination
from node.store.database import Store, open_store
from node.store.schema import DELIVERIES
from tests.peers import pacs as pacs_peer
from tests.peers import ris as ris_peer
from tests.peers.pacs import BadPacs, Fault
from tests.peers.ris import Answer, BadRis, refused_port
from tests.unit.rows import Clock, assign, image, message, report

SETTINGS = DeliverSettings()
DAY_S = 86400.0
TEN_MINUTES_S = 600.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _queue(store: Store, *outputs: tuple[Output, str], study: str = "2.25.1", patient: str = "P1") -> str:
    item = assign(store, study=study)
    report(store, item, outputs, patient=patient)
    return item.assignment_id


def _open(destination: Destination) -> Connection:
    if isinstance(destination, Hl7Destination):
        return MllpConnection(destination)
    return DicomConnection(destination, calling_ae="WETREAD")


def _visit(
    store: Store, assignment_id: str, destination: Destination, connection: Connection | None = None
) -> float | None:
    name = destination.name
    with contextlib.ExitStack() as stack:
        used = connection or stack.enter_context(_open(destination))
        return visit(
            store, assignment_id, name, destinations={name: destination}, connections={name: used}, settings=SETTINGS
        )


def _states(store: Store) -> list[tuple[str, str]]:
    query = sa.select(DELIVERIES.c.state, DELIVERIES.c.answer).order_by(DELIVERIES.c.sequence)
    with store.reading() as connection:
        return [(row.state, row.answer) for row in connection.execute(query)]


def _verify(store: Store) -> None:
    with store.reading() as connection:
        audit.verify(connection, store.key, store.root / "audit.anchor")


def _out_of_reach(store: Store, clock: Clock, item: str, destination: Destination, *, for_s: float) -> int:
    """Visit as the engine does, each time the last visit asked for, until that time is over."""
    until, visits = clock.now + for_s, 0
    while clock.now < until:
        wait_s = _visit(store, item, destination)
        assert wait_s is not None
        visits += 1
        clock.now += wait_s
    return visits


def test_a_pacs_that_was_down_for_ten_minutes_gets_everything_once_without_a_person(store: Store, clock: Clock) -> None:
    outputs = [image(store, f"2.25.7{number}") for number in range(3)]
    item = _queue(store, *((output, "pacs") for output in outputs))
    with refused_port() as port:
        visits = _out_of_reach(store, clock, item, pacs_peer.destination(port), for_s=TEN_MINUTES_S)
    assert visits >= 5
    with BadPacs() as pacs:
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
        assert pacs.sop_instance_uids == [output.output_id for output in outputs]
    assert _states(store) == [("accepted", "0x0000")] * 3
    _verify(store)


def test_a_ris_that_was_down_for_ten_minutes_gets_the_message_once(store: Store, clock: Clock) -> None:
    sent = message(store, "M1")
    item = _queue(store, (sent, "ris"))
    with refused_port() as port:
        _out_of_reach(store, clock, item, ris_peer.destination(port), for_s=TEN_MINUTES_S)
    with BadRis(Answer.ACCEPT) as ris:
        assert _visit(store, item, ris_peer.destination(ris.port)) is None
        assert ris.messages == [sent.path.read_bytes()]
    _verify(store)


def test_a_pacs_that_took_it_with_a_warning_has_it_and_a_person_can_see(store: Store) -> None:
    item = _queue(store, (image(store, "2.25.70"), "pacs"))
    with BadPacs(0xB000) as pacs, structlog.testing.capture_logs() as events:
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
    assert _states(store) == [("accepted", "0xB000")]
    (event,) = [event for event in events if event["event"] == "output accepted with a warning"]
    assert (event["log_level"], event["answer"]) == ("warning", "0xB000")


def test_a_pacs_out_of_resources_gets_it_when_it_has_room(store: Store) -> None:
    item = _queue(store, (image(store, "2.25.70"), "pacs"))
    with BadPacs(0xA700, 0x0000) as pacs:
        assert _visit(store, item, pacs_peer.destination(pacs.port)) == SETTINGS.first_retry_s
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
    assert _states(store) == [("accepted", "0x0000")]


def test_content_a_pacs_cannot_understand_is_a_dead_letter_at_once_and_the_rest_goes(store: Store) -> None:
    item = _queue(store, (image(store, "2.25.70"), "pacs"), (image(store, "2.25.71"), "pacs"))
    with BadPacs(0xC000, 0x0000) as pacs:
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
    assert _states(store) == [("dead_letter", ""), ("accepted", "0x0000")]


@pytest.mark.parametrize("fault", [Fault.ABORT, Fault.SILENCE])
def test_a_pacs_that_dies_before_its_answer_gets_the_same_object_again_and_what_follows(
    store: Store, fault: Fault
) -> None:
    outputs = [image(store, f"2.25.7{number}") for number in range(3)]
    item = _queue(store, *((output, "pacs") for output in outputs))
    with BadPacs(0x0000, fault, 0x0000) as pacs:
        assert _visit(store, item, pacs_peer.destination(pacs.port, timeout_s=1.0)) == SETTINGS.first_retry_s
        assert [state for state, _ in _states(store)] == ["accepted", "pending", "pending"]
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
        assert pacs.sop_instance_uids == ["2.25.70", "2.25.71", "2.25.71", "2.25.72"]
        assert pacs.datasets[1] == pacs.datasets[2]
    assert _states(store) == [("accepted", "0x0000")] * 3


@pytest.mark.parametrize("answer", [Answer.SILENCE, Answer.CLOSE_WITHOUT_ANSWER, Answer.FOREIGN_ID, Answer.REJECT])
def test_a_ris_without_an_answer_of_ours_gets_the_same_message_again(store: Store, answer: Answer) -> None:
    item = _queue(store, (message(store, "M1"), "ris"))
    with BadRis(answer, Answer.ACCEPT) as ris:
        assert _visit(store, item, ris_peer.destination(ris.port, ack_timeout_s=0.3)) == SETTINGS.first_retry_s
        assert _visit(store, item, ris_peer.destination(ris.port)) is None
        first, second = ris.messages
        assert first == second
    assert _states(store) == [("verified", "AA")]


def test_a_half_open_connection_costs_one_attempt_and_no_message(store: Store) -> None:
    first = _queue(store, (message(store, "M1"), "ris"))
    second = _queue(store, (message(store, "M2"), "ris"), study="2.25.2")
    with BadRis(Answer.ACCEPT, Answer.SILENCE, Answer.ACCEPT) as ris:
        destination = ris_peer.destination(ris.port, ack_timeout_s=0.3)
        with MllpConnection(destination) as connection:
            assert _visit(store, first, destination, connection) is None
            assert _visit(store, second, destination, connection) == SETTINGS.first_retry_s
            assert _visit(store, second, destination, connection) is None
        assert ris.connections_accepted == 2
    assert _states(store) == [("verified", "AA")] * 2


def test_a_ris_that_refuses_one_message_is_sent_the_next(store: Store) -> None:
    first = _queue(store, (message(store, "M1"), "ris"))
    second = _queue(store, (message(store, "M2"), "ris"), study="2.25.2", patient="P2")
    with BadRis(Answer.ERROR, Answer.ACCEPT) as ris:
        destination = ris_peer.destination(ris.port)
        with MllpConnection(destination) as connection:
            assert _visit(store, first, destination, connection) is None
            assert _visit(store, second, destination, connection) is None
    assert _states(store) == [("dead_letter", ""), ("verified", "AA")]


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S, 30 * DAY_S])
def test_a_clock_that_jumps_while_something_waits_loses_and_doubles_nothing(
    store: Store, clock: Clock, jump_s: float
) -> None:
    first = _queue(store, (message(store, "M1"), "ris"), (image(store, "2.25.70"), "pacs"))
    second = assign(store, generation=2)
    report(store, second, [(message(store, "M2"), "ris")])
    with refused_port() as port:
        assert _visit(store, first, ris_peer.destination(port)) is not None
        assert _visit(store, first, pacs_peer.destination(port)) is not None
        clock.now += jump_s
        waits = [
            _visit(store, first, ris_peer.destination(port)),
            _visit(store, second.assignment_id, ris_peer.destination(port)),
            _visit(store, first, pacs_peer.destination(port)),
        ]
    assert all(wait_s is not None and 0 < wait_s <= SETTINGS.max_retry_s for wait_s in waits)
    with BadRis(Answer.ACCEPT) as ris, BadPacs() as pacs:
        for item in (first, second.assignment_id):
            assert _visit(store, item, ris_peer.destination(ris.port)) is None
        assert _visit(store, first, pacs_peer.destination(pacs.port)) is None
        assert [text.split(b"|")[9] for text in ris.messages] == [b"M1", b"M2"]
        assert pacs.sop_instance_uids == ["2.25.70"]
    assert {state for state, _ in _states(store)} == {"accepted", "verified"}
    _verify(store)


def test_what_cannot_be_audited_is_not_noted_as_delivered_and_is_sent_again(store: Store) -> None:
    item = _queue(store, (image(store, "2.25.70"), "pacs"), (image(store, "2.25.71"), "pacs"))
    with store.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    with BadPacs() as pacs:
        with pytest.raises(sa.exc.DatabaseError):  # the engine notes the failure; the sweep comes again
            _visit(store, item, pacs_peer.destination(pacs.port))
        assert _states(store) == [("pending", "")] * 2
        with store.writing() as connection:
            connection.exec_driver_sql("DROP TRIGGER full")
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
        assert pacs.sop_instance_uids == ["2.25.70", "2.25.70", "2.25.71"]
    assert _states(store) == [("accepted", "0x0000")] * 2
    _verify(store)


def test_a_result_that_was_bit_flipped_or_deleted_is_a_dead_letter_and_the_others_go(store: Store) -> None:
    outputs = [image(store, f"2.25.7{number}") for number in range(3)]
    item = _queue(store, *((output, "pacs") for output in outputs))
    content = bytearray(outputs[0].path.read_bytes())
    content[-1] ^= 1
    outputs[0].path.write_bytes(content)
    outputs[1].path.unlink()
    with BadPacs() as pacs:
        assert _visit(store, item, pacs_peer.destination(pacs.port)) is None
        assert pacs.sop_instance_uids == ["2.25.72"]
    assert [state for state, _ in _states(store)] == ["dead_letter", "dead_letter", "accepted"]
