"""One visit: what was taken is noted, what never will be is a dead letter, the rest waits longer each time."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from node.deliver.mllp import MllpConnection
from node.deliver.outbox import LEAST_ATTEMPTS, Connection, visit
from node.deliver.scu import DicomConnection
from node.demo.ris import DemoRis
from node.domain.work import Output
from node.settings import DeliverSettings, Destination, Hl7Destination
from node.store import digest
from node.store.database import Store, open_store
from node.store.digest import Hasher, content_digest
from node.store.outbox import Batch, blocked_until, mark_accepted, open_batches, pending_deliveries
from node.store.schema import DELIVERIES
from tests.peers import pacs as bad_pacs
from tests.peers import ris as bad_ris
from tests.peers.pacs import BadPacs, Fault
from tests.peers.ris import Answer, BadRis, refused_port
from tests.unit.rows import Clock, assign, image, message, report

PATIENCE = DeliverSettings(first_retry_s=5, max_retry_s=60, give_up_after_h=2)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _visit(store: Store, assignment_id: str, destination: Destination, *, name: str | None = None) -> float | None:
    wanted: Mapping[str, Destination] = {name or destination.name: destination}
    connections: Mapping[str, Connection] = {
        key: MllpConnection(one) if isinstance(one, Hl7Destination) else DicomConnection(one, calling_ae="WETREAD")
        for key, one in wanted.items()
    }
    try:
        return visit(
            store, assignment_id, name or destination.name, destinations=wanted, connections=connections,
            settings=PATIENCE,
        )  # fmt: skip
    finally:
        for connection in connections.values():
            connection.close()


def _row(store: Store, output_id: str) -> "sa.Row[tuple[object, ...]]":
    with store.reading() as connection:
        return connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.output_id == output_id)).one()


def _state(store: Store, output_id: str) -> tuple[str, str, str, int]:
    row = _row(store, output_id)
    return row.state, row.answer, row.error, row.attempts


def _reported(store: Store, *outputs: tuple[Output, str], study: str = "2.25.1", generation: int = 1, patient: str = "P1") -> str:  # fmt: skip  # noqa: E501
    item = assign(store, study=study, generation=generation)
    report(store, item, outputs, patient=patient)
    return item.assignment_id


def test_what_a_ris_takes_is_accepted_with_its_answer(store: Store, tmp_path: Path) -> None:
    sent = message(store, "M1")
    item = _reported(store, (sent, "ris"))
    with DemoRis(tmp_path / "ris") as ris:
        assert _visit(store, item, bad_ris.destination(ris.port)) is None
        assert ris.receipts() == [sent.path.read_bytes()]
        assert _visit(store, item, bad_ris.destination(ris.port)) is None
        assert len(ris.receipts()) == 1
    assert _state(store, "M1") == ("verified", "AA", "", 1)
    assert open_batches(store) == []


def test_everything_for_a_pacs_goes_in_one_association_with_its_bytes(store: Store) -> None:
    outputs = [image(store, f"2.25.7{number}") for number in range(3)]
    item = _reported(store, *((output, "pacs") for output in outputs))
    with BadPacs(0x0000, 0xB000, 0x0000) as pacs:
        assert _visit(store, item, bad_pacs.destination(pacs.port)) is None
        assert pacs.associations == 1
        assert pacs.sop_instance_uids == [output.output_id for output in outputs]
    for output, data in zip(outputs, pacs.datasets, strict=True):
        assert output.path.read_bytes().endswith(data)
    assert [_state(store, output.output_id)[:2] for output in outputs] == [
        ("accepted", "0x0000"), ("accepted", "0xB000"), ("accepted", "0x0000"),
    ]  # fmt: skip


def test_content_that_is_refused_is_a_dead_letter_and_the_next_still_goes(store: Store) -> None:
    item = _reported(store, (image(store, "2.25.70"), "pacs"), (image(store, "2.25.71"), "pacs"))
    with BadPacs(0xC000, 0x0000) as pacs:
        assert _visit(store, item, bad_pacs.destination(pacs.port)) is None
    state, _, error, _ = _state(store, "2.25.70")
    assert state == "dead_letter"
    assert "0xC000" in error
    assert _state(store, "2.25.71")[0] == "accepted"


def test_a_ris_that_refuses_the_content_makes_a_dead_letter(store: Store) -> None:
    item = _reported(store, (message(store, "M1"), "ris"))
    with BadRis(Answer.ERROR) as ris:
        assert _visit(store, item, bad_ris.destination(ris.port)) is None
    state, _, error, _ = _state(store, "M1")
    assert (state, "AE" in error) == ("dead_letter", True)


def test_waits_double_up_to_the_longest_and_the_visit_itself_never_waits(store: Store, clock: Clock) -> None:
    item = _reported(store, (message(store, "M1"), "ris"))
    waits = []
    with refused_port() as port:
        for _ in range(7):
            wait_s = _visit(store, item, bad_ris.destination(port))
            assert wait_s is not None
            assert _row(store, "M1").next_attempt_at == clock.now + wait_s
            waits.append(wait_s)
            clock.now += wait_s
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    state, answer, error, attempts = _state(store, "M1")
    assert (state, answer, attempts) == ("pending", "", 7)
    assert "cannot be reached" in error


@pytest.mark.parametrize("fault", [0xA700, Fault.ABORT])
def test_a_pacs_in_trouble_is_visited_again_and_what_it_took_stays_taken(store: Store, fault: int | Fault) -> None:
    item = _reported(store, (image(store, "2.25.70"), "pacs"), (image(store, "2.25.71"), "pacs"))
    with BadPacs(0x0000, fault, 0x0000) as pacs:
        assert _visit(store, item, bad_pacs.destination(pacs.port)) == 5
        assert [_state(store, uid)[0] for uid in ("2.25.70", "2.25.71")] == ["accepted", "pending"]
        assert _visit(store, item, bad_pacs.destination(pacs.port)) is None
        assert pacs.sop_instance_uids == ["2.25.70", "2.25.71", "2.25.71"]
    assert _state(store, "2.25.71") == ("accepted", "0x0000", "", 2)


def test_after_the_last_hour_it_is_a_dead_letter_that_says_how_long_it_was_tried(store: Store, clock: Clock) -> None:
    item = _reported(store, (message(store, "M1"), "ris"))
    with refused_port() as port:
        for _ in range(LEAST_ATTEMPTS):
            assert _visit(store, item, bad_ris.destination(port)) is not None
        clock.now += 2 * 3600
        assert _visit(store, item, bad_ris.destination(port)) == 60
        clock.now += 1
        assert _visit(store, item, bad_ris.destination(port)) is None
    state, _, error, _ = _state(store, "M1")
    assert (state, error.startswith("given up after 2.0 h")) == ("dead_letter", True)


def test_a_clock_that_was_set_forward_alone_makes_no_dead_letter(store: Store, clock: Clock) -> None:
    item = _reported(store, (message(store, "M1"), "ris"))
    clock.now += 4 * 86400
    with refused_port() as port:
        for _ in range(LEAST_ATTEMPTS - 1):
            assert _visit(store, item, bad_ris.destination(port)) is not None
        assert _state(store, "M1")[0] == "pending"
        assert _visit(store, item, bad_ris.destination(port)) is None
    assert _state(store, "M1")[0] == "dead_letter"


@pytest.mark.parametrize(("give_up_after_h", "attempts"), [(0.001, 1), (0.01, 4), (0.1, 9), (1, 20), (72, 20)])
def test_a_short_patience_has_room_for_fewer_attempts(
    store: Store, clock: Clock, give_up_after_h: float, attempts: int
) -> None:
    item = _reported(store, (message(store, "M1"), "ris"))
    clock.now += 80 * 3600
    count = 0
    with refused_port() as port:
        destination = bad_ris.destination(port)
        settings = DeliverSettings(first_retry_s=5, max_retry_s=60, give_up_after_h=give_up_after_h)
        with MllpConnection(destination) as ris:
            while _state(store, "M1")[0] == "pending":
                wanted, used = {"ris": destination}, {"ris": ris}
                visit(store, item, "ris", destinations=wanted, connections=used, settings=settings)
                count += 1
    assert count == attempts


def test_a_late_destination_that_is_back_still_gets_it_after_the_last_hour(store: Store, clock: Clock) -> None:
    item = _reported(store, (message(store, "M1"), "ris"))
    clock.now += 100 * 3600
    with BadRis(Answer.ACCEPT) as ris:
        assert _visit(store, item, bad_ris.destination(ris.port)) is None
    assert _state(store, "M1")[0] == "verified"


def test_bytes_that_changed_on_disk_are_never_sent(store: Store) -> None:
    sent = message(store, "M1")
    item = _reported(store, (sent, "ris"))
    sent.path.write_bytes(sent.path.read_bytes().replace(b"P1", b"P2"))
    with BadRis(Answer.ACCEPT) as ris:
        assert _visit(store, item, bad_ris.destination(ris.port)) is None
        assert ris.messages == []
    state, _, error, _ = _state(store, "M1")
    assert (state, "not the ones that were made" in error) == ("dead_letter", True)


@pytest.mark.parametrize("has_digest", [True, False])
def test_an_object_is_hashed_once_when_it_is_sent_by_the_fastest_method_its_row_has(
    store: Store, monkeypatch: pytest.MonkeyPatch, has_digest: bool
) -> None:
    sent = image(store, "2.25.70")
    if has_digest:
        sent = replace(sent, digest=content_digest(sent.path.read_bytes()))
    item = _reported(store, (sent, "pacs"))
    hashed: list[str] = []

    def counted(name: str, make: Callable[..., Hasher]) -> Callable[..., Hasher]:
        return lambda *given: hashed.append(name) or make(*given)  # type: ignore[func-returns-value]

    monkeypatch.setattr(digest, "blake3", counted("blake3", digest.blake3))
    monkeypatch.setattr(digest, "hashlib", SimpleNamespace(sha256=counted("sha256", hashlib.sha256)))
    monkeypatch.setattr(hashlib, "file_digest", counted("whole file by SHA-256", hashlib.file_digest))
    with BadPacs() as pacs:
        assert _visit(store, item, bad_pacs.destination(pacs.port)) is None
    assert _state(store, "2.25.70")[0] == "accepted"
    assert hashed == ["blake3" if has_digest else "sha256"]


def test_a_file_that_is_gone_is_a_dead_letter(store: Store) -> None:
    sent = image(store, "2.25.70")
    item = _reported(store, (sent, "pacs"))
    sent.path.unlink()
    with BadPacs() as pacs:
        assert _visit(store, item, bad_pacs.destination(pacs.port)) is None
    assert _state(store, "2.25.70")[0] == "dead_letter"


def test_a_disk_that_does_not_answer_now_is_asked_again(store: Store) -> None:
    sent = message(store, "M1")
    item = _reported(store, (sent, "ris"))
    content = sent.path.read_bytes()
    sent.path.unlink()
    sent.path.symlink_to(sent.path.name)  # a loop: an OSError that is not "no such file"
    with BadRis(Answer.ACCEPT) as ris:
        assert _visit(store, item, bad_ris.destination(ris.port)) == 5
        sent.path.unlink()
        sent.path.write_bytes(content)
        assert _visit(store, item, bad_ris.destination(ris.port)) is None
    assert _state(store, "M1")[0] == "verified"


def test_a_destination_that_left_the_configuration_makes_dead_letters(store: Store) -> None:
    item = _reported(store, (message(store, "M1"), "old ris"))
    assert visit(
        store, item, "old ris", destinations={}, connections={}, settings=PATIENCE
    ) is None  # fmt: skip
    state, _, error, _ = _state(store, "M1")
    assert (state, "[destinations.old ris]" in error) == ("dead_letter", True)


def test_a_destination_that_changed_its_kind_makes_dead_letters_instead_of_failing_for_ever(store: Store) -> None:
    item = _reported(store, (image(store, "2.25.70"), "x"), (message(store, "M1"), "y"))
    with BadRis(Answer.ACCEPT) as ris, BadPacs() as pacs:
        assert _visit(store, item, bad_ris.destination(ris.port), name="x") is None
        assert _visit(store, item, bad_pacs.destination(pacs.port), name="y") is None
        assert (ris.messages, pacs.datasets) == ([], [])
    assert [_state(store, name)[0] for name in ("2.25.70", "M1")] == ["dead_letter", "dead_letter"]


def test_a_correction_never_passes_what_it_corrects_and_another_patient_is_not_held_up(
    store: Store, clock: Clock
) -> None:
    first = _reported(store, (message(store, "M1"), "ris"))
    correction = _reported(store, (message(store, "M2"), "ris"), generation=2)
    stranger = _reported(store, (message(store, "M3"), "ris"), study="2.25.2", patient="P2")
    with BadRis(Answer.REJECT, Answer.ACCEPT) as ris:
        destination = bad_ris.destination(ris.port)
        assert _visit(store, first, destination) == 5
        wait_s = _visit(store, correction, destination)
        assert wait_s is not None
        assert wait_s > 5
        assert _visit(store, stranger, destination) is None
        clock.now += wait_s
        assert _visit(store, first, destination) is None
        assert _visit(store, correction, destination) is None
        order = [text.split(b"|")[9] for text in ris.messages]
    assert order == [b"M1", b"M3", b"M1", b"M2"]


def test_a_correction_goes_when_what_it_corrects_is_a_dead_letter(store: Store) -> None:
    first = _reported(store, (message(store, "M1"), "ris"))
    correction = _reported(store, (message(store, "M2"), "ris"), generation=2)
    with BadRis(Answer.ERROR, Answer.ACCEPT) as ris:
        _visit(store, first, bad_ris.destination(ris.port))
        assert _visit(store, correction, bad_ris.destination(ris.port)) is None
    assert _state(store, "M2")[0] == "verified"


def test_a_clock_that_was_set_back_does_not_hold_a_correction_for_that_long(store: Store, clock: Clock) -> None:
    first = _reported(store, (message(store, "M1"), "ris"))
    correction = _reported(store, (message(store, "M2"), "ris"), generation=2)
    with refused_port() as port:
        _visit(store, first, bad_ris.destination(port))
        clock.now -= 86400
        wait_s = _visit(store, correction, bad_ris.destination(port))
    assert wait_s is not None
    assert wait_s <= PATIENCE.max_retry_s


def test_an_image_is_not_held_up_by_a_message(store: Store) -> None:
    _reported(store, (message(store, "M1"), "both"))
    second = _reported(store, (image(store, "2.25.70"), "both"), generation=2)
    (item,) = pending_deliveries(store, second, "both")
    assert blocked_until(store, item) is None


def test_batches_are_what_is_still_to_be_sent_oldest_first(store: Store) -> None:
    first = _reported(store, (message(store, "M1"), "ris"), (image(store, "2.25.70"), "pacs"))
    second = _reported(store, (message(store, "M2"), "ris"), study="2.25.2")
    batches = open_batches(store)
    assert [(batch.assignment_id, batch.destination) for batch in batches] == [
        (first, "ris"), (first, "pacs"), (second, "ris"),
    ]  # fmt: skip
    (item,) = pending_deliveries(store, first, "ris")
    mark_accepted(store, item, "AA")
    mark_accepted(store, replace(item, attempts=9), "CA")  # a second word changes nothing
    assert _state(store, "M1")[:2] == ("accepted", "AA")
    assert Batch(first, "ris", item.priority) not in open_batches(store)
