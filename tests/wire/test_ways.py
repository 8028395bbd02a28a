"""Visits to web services, archives and folders: each output arrives once, whatever happens between its two ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.deliver.connections import connection_to
from node.deliver.outbox import visit
from node.domain.work import Output, OutputKind
from node.settings import (
    DeliverSettings,
    Destination,
    FolderDestination,
    HttpDestination,
    OrthancDestination,
    StowDestination,
)
from node.store.database import Store, open_store
from node.store.files import file_digest
from node.store.schema import DELIVERIES
from tests.objects import stored
from tests.peers.orthanc import orthanc_with_dicomweb
from tests.peers.web import Reply, WebFault, WebService
from tests.unit.rows import Clock, assign, message, report

PATIENCE = DeliverSettings(first_retry_s=5, max_retry_s=60, give_up_after_h=2)
TAKEN = ("accepted", "verified")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _visit(store: Store, assignment_id: str, destination: Destination) -> float | None:
    wanted: Mapping[str, Destination] = {"x": destination}
    connection = connection_to(destination, calling_ae="WETREAD")
    try:
        return visit(
            store, assignment_id, "x", destinations=wanted, connections={"x": connection}, settings=PATIENCE
        )  # fmt: skip
    finally:
        connection.close()


def _document(store: Store, output_id: str, kind: OutputKind = OutputKind.JSON) -> Output:
    path = store.root / "results" / f"{output_id}.json"
    path.write_bytes(f'{{"result_id": "{output_id}"}}\n'.encode())
    return Output(output_id, kind, path, file_digest(path), path.stat().st_size)


def _object(store: Store) -> Output:
    _, output = stored(store.root / "results")
    return output


def _reported(store: Store, *outputs: Output, generation: int = 1) -> str:
    item = assign(store, generation=generation, destinations=("x",))
    report(store, item, [(output, "x") for output in outputs])
    return item.assignment_id


def _state(store: Store, output_id: str) -> tuple[str, str, str, int]:
    with store.reading() as connection:
        row = connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.output_id == output_id)).one()
    return row.state, row.answer, row.error, row.attempts


def test_an_outage_of_a_service_is_waited_for_and_nothing_is_sent_twice(store: Store) -> None:
    item = _reported(store, _document(store, "2.25.5"), _document(store, "2.25.6", OutputKind.FHIR))
    with WebService(Reply(200), Reply(500), WebFault.CLOSE, Reply(201)) as service:
        destination = HttpDestination("x", service.url, timeout_s=5)
        assert [_visit(store, item, destination) for _ in range(3)] == [5, 10, None]
        keys = [request.headers["Idempotency-Key"] for request in service.requests]
    assert keys == ["2.25.5", "2.25.6", "2.25.6", "2.25.6"]
    assert _state(store, "2.25.5")[:2] == ("verified", "200")
    assert _state(store, "2.25.6") == ("verified", "201", "", 3)


@pytest.mark.parametrize(("asked", "wait_s"), [("30", 30), ("1", 5), ("99999", 60)])
def test_a_service_that_asks_for_patience_gets_it_within_our_own(store: Store, asked: str, wait_s: float) -> None:
    item = _reported(store, _document(store, "2.25.5"))
    with WebService(Reply(503, {"Retry-After": asked})) as service:
        assert _visit(store, item, HttpDestination("x", service.url, timeout_s=5)) == wait_s


def test_what_a_service_refuses_is_a_dead_letter_and_the_next_still_goes(store: Store) -> None:
    item = _reported(store, _document(store, "2.25.5"), _document(store, "2.25.6"))
    with WebService(Reply(422), Reply(200)) as service:
        assert _visit(store, item, HttpDestination("x", service.url, timeout_s=5)) is None
    assert _state(store, "2.25.5")[::2] == ("dead_letter", "x: 2.25.5 was answered 422")
    assert _state(store, "2.25.6")[0] in TAKEN


def test_a_correction_in_json_does_not_pass_what_it_corrects(store: Store) -> None:
    first = _reported(store, _document(store, "2.25.5"))
    second = _reported(store, _document(store, "2.25.6"), generation=2)
    with WebService(Reply(503), Reply(200)) as service:
        destination = HttpDestination("x", service.url, timeout_s=5)
        assert _visit(store, first, destination) == 5
        assert _visit(store, second, destination) is not None
        assert _visit(store, first, destination) is None
        assert _visit(store, second, destination) is None
        keys = [request.headers["Idempotency-Key"] for request in service.requests]
    assert keys == ["2.25.5", "2.25.5", "2.25.6"]


@pytest.mark.parametrize("kind", ["stow", "orthanc", "http"])
def test_an_output_that_the_destination_of_now_cannot_take_is_a_dead_letter(store: Store, kind: str) -> None:
    item = _reported(store, message(store, "M1"))
    kinds = {"stow": StowDestination, "orthanc": OrthancDestination, "http": HttpDestination}
    with WebService() as service:
        assert _visit(store, item, kinds[kind]("x", service.url)) is None
        assert service.requests == []
    assert _state(store, "M1")[0] == "dead_letter"


def test_a_folder_gets_every_kind_and_a_share_that_went_away_is_waited_for(store: Store, tmp_path: Path) -> None:
    outputs = (_document(store, "2.25.5"), message(store, "M1"), _object(store))
    item = _reported(store, *outputs)
    share = tmp_path / "share"
    destination = FolderDestination("x", str(share))
    assert _visit(store, item, destination) == 5
    share.mkdir()
    assert _visit(store, item, destination) is None
    assert sorted(path.name for path in share.iterdir()) == ["2.25.5.json", "2.25.771.dcm", "M1.hl7"]
    assert [_state(store, output.output_id)[0] for output in outputs] == ["verified"] * 3


KILLED_BEFORE_ITS_ROW = """
import os, signal, sys
from pathlib import Path
from node.deliver import outbox
from node.deliver.connections import connection_to
from node import settings
from node.store.database import open_store
root, item, kind, place = sys.argv[1:]
outbox.mark_accepted = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
destination = getattr(settings, kind)("x", place)
outbox.visit(
    open_store(Path(root)), item, "x", destinations={"x": destination},
    connections={"x": connection_to(destination, calling_ae="WETREAD")}, settings=settings.DeliverSettings(),
)
"""


def _die_before_the_row(store: Store, item: str, kind: str, place: str) -> None:
    command = [sys.executable, "-c", KILLED_BEFORE_ITS_ROW, str(store.root), item, kind, place]
    died = subprocess.run(command, capture_output=True, check=False, timeout=60, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL, died.stderr


def test_a_kill_between_a_service_and_our_row_repeats_the_request_with_its_key(store: Store) -> None:
    item = _reported(store, _document(store, "2.25.5"))
    with WebService() as service:
        _die_before_the_row(store, item, "HttpDestination", service.url)
        assert _state(store, "2.25.5")[0] == "pending"
        assert _visit(store, item, HttpDestination("x", service.url)) is None
        first, second = service.requests
    assert (first.body, first.headers["Idempotency-Key"]) == (second.body, second.headers["Idempotency-Key"])
    assert _state(store, "2.25.5")[0] == "verified"


def test_a_kill_between_a_folder_and_our_row_leaves_one_file(store: Store, tmp_path: Path) -> None:
    item = _reported(store, _document(store, "2.25.5"))
    share = tmp_path / "share"
    share.mkdir()
    _die_before_the_row(store, item, "FolderDestination", str(share))
    assert _visit(store, item, FolderDestination("x", str(share))) is None
    assert [path.name for path in share.iterdir()] == ["2.25.5.json"]
    assert _state(store, "2.25.5")[:2] == ("verified", "there already")


@pytest.mark.peer
@pytest.mark.parametrize(
    ("kind", "below", "answer"),
    [("OrthancDestination", "", "AlreadyStored"), ("StowDestination", "/dicom-web", "200")],
)
def test_a_kill_between_an_archive_and_our_row_leaves_one_object(
    store: Store, tmp_path: Path, kind: str, below: str, answer: str
) -> None:
    output = _object(store)
    item = _reported(store, output)
    kinds = {"StowDestination": StowDestination, "OrthancDestination": OrthancDestination}
    with orthanc_with_dicomweb(tmp_path / "pacs") as pacs:
        place = f"http://127.0.0.1:{pacs.http_port}{below}"
        _die_before_the_row(store, item, kind, place)
        assert pacs.instances() == [output.output_id]
        assert _visit(store, item, kinds[kind]("x", place)) is None
        assert pacs.instances() == [output.output_id]
        assert pacs.download(output.output_id) == output.path.read_bytes()
    state, said, _, attempts = _state(store, output.output_id)
    assert (state in TAKEN, said, attempts) == (True, answer, 1)
