"""One look at a node tells its processes, queues and destinations, whether or not it runs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.health import look
from node.process import say_ready
from node.settings import DicomDestination, Hl7Destination, Settings
from node.store.database import Store, open_store
from node.store.outbox import mark_accepted, mark_dead, mark_postponed, pending_deliveries
from node.store.studies import add_assignments, mark_generation_failed
from node.store.work import mark_assignment_failed
from tests.unit.rows import STUDY, Clock, arrive, assign, freeze_whole, image, message, report

ROLES = ("receiver", "worker")
SETTINGS = Settings(
    destinations={
        "pacs": DicomDestination("pacs", "10.0.0.1", 104, "PACS"),
        "ris": Hl7Destination("ris", "10.0.0.2", 2575),
    }
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def test_a_node_that_never_ran_has_nothing_and_no_process(store: Store) -> None:
    health = look(store, SETTINGS, ROLES)
    assert dict(health.processes) == {"receiver": 0, "worker": 0}
    assert (health.port, health.studies, health.instances, health.open_studies) == (0, 0, 0, 0)
    assert health.free_mb > 0
    assert [(one.name, one.address, one.pending) for one in health.destinations] == [
        ("pacs", "10.0.0.1:104", 0), ("ris", "10.0.0.2:2575", 0),
    ]  # fmt: skip


def test_running_processes_and_the_port_are_told(store: Store) -> None:
    say_ready(store.root / "run", "receiver", port=11112)
    (store.root / "run" / "worker.json").write_bytes(b"half a rec")
    health = look(store, SETTINGS, ROLES)
    assert (dict(health.processes), health.port) == ({"receiver": os.getpid(), "worker": 0}, 11112)


def test_studies_and_assignments_are_counted_by_state(store: Store) -> None:
    arrive(store, 1, study="2.25.8")
    freeze_whole(store, quiet_s=0, after_release_s=0)
    add_assignments(store, "2.25.8", 1, [], [])
    mark_assignment_failed(store, assign(store, study="2.25.2"), "why", workflow="w")
    report(store, assign(store, study="2.25.3"), [])
    arrive(store, 2, study="2.25.9")
    health = look(store, SETTINGS, ROLES)
    assert (health.studies, health.instances, health.open_studies, health.unrouted) == (4, 4, 1, 1)
    assert dict(health.assignments) == {"failed": 1, "reported": 1}
    assert health.without_result == 1


def test_a_study_whose_routing_was_given_up_is_without_a_result(store: Store) -> None:
    arrive(store, 1)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    mark_generation_failed(store, STUDY, 1, "routing failed 3 times")
    assert look(store, SETTINGS, ROLES).without_result == 1


def test_a_destination_tells_its_queue_and_its_last_error_until_all_is_well(store: Store, clock: Clock) -> None:
    item = assign(store)
    report(store, item, [(message(store, f"M{number}"), "ris") for number in range(3)] + [(image(store, "2.25.7"), "pacs")])  # fmt: skip  # noqa: E501
    first, second, third = pending_deliveries(store, item.assignment_id, "ris")
    mark_accepted(store, first, "AA")
    mark_dead(store, second, "answered AE")
    clock.now += 1
    mark_postponed(store, third, "no answer", delay_s=5)
    pacs, ris = look(store, SETTINGS, ROLES).destinations
    assert (ris.pending, ris.accepted, ris.dead_letters, ris.last_error) == (1, 1, 1, "no answer")
    assert (pacs.pending, pacs.last_error) == (1, "")
    mark_accepted(store, third, "AA")
    _, ris = look(store, SETTINGS, ROLES).destinations
    assert (ris.pending, ris.last_error) == (0, "answered AE")
