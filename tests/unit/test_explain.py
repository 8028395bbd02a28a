"""The story of a study tells what came, what ran, what did not and why, in the order it happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.errors import StoreError
from node.explain import Event, find_studies, story
from node.store.database import Store, open_store
from node.store.files import quarantine_file
from node.store.intake import add_quarantine
from node.store.outbox import mark_accepted, mark_dead, mark_postponed, pending_deliveries
from node.store.studies import Try, add_assignments, freeze_whole, mark_generation_failed
from node.store.work import mark_assignment_failed
from tests.unit.rows import STUDY, Clock, arrive, assign, image, message, report


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _said(store: Store, stage: str) -> list[str]:
    return [event.text for event in story(store, STUDY) if event.stage == stage]


def test_a_study_is_found_by_uid_accession_number_and_patient_id_newest_first(store: Store, clock: Clock) -> None:
    arrive(store, 1, study="2.25.1")
    clock.now += 10
    arrive(store, 2, study="2.25.2")
    assert find_studies(store, "2.25.1") == ["2.25.1"]
    assert find_studies(store, "A-2.25.2") == ["2.25.2"]
    assert find_studies(store, "P1") == ["2.25.2", "2.25.1"]
    assert find_studies(store, "%") == []
    assert story(store, "2.25.77") == []


def test_the_whole_story_is_told_in_order(store: Store, clock: Clock) -> None:
    item = assign(store)
    clock.now += 10
    report(store, item, [(message(store, "M1"), "ris"), (image(store, "2.25.70"), "pacs")])
    clock.now += 10
    (to_ris,) = pending_deliveries(store, item.assignment_id, "ris")
    mark_postponed(store, to_ris, "ris: no answer", delay_s=5)
    clock.now += 10
    mark_accepted(store, to_ris, "AA")
    events = story(store, STUDY)
    assert events == sorted(events, key=lambda event: event.at)
    assert {event.stage for event in events} == {"receive", "complete", "route", "infer", "report", "deliver"}
    assert _said(store, "receive") == ["1 images of series 2.25.5 came from CT1 in 0.0 s"]
    assert _said(store, "route") == ["rule 'a rule' took it: given to chest_xray"]
    assert _said(store, "infer") == ["chest_xray answered 'findings' after 10.0 s"]
    assert _said(store, "report") == ["chest_xray was reported: A nodule is seen."]
    assert sorted(_said(store, "deliver")) == [
        "heat map 2.25.70 waits for pacs, 0 attempts so far",
        "ris took oru M1 at attempt 2 with AA",
    ]
    assert all(event.at.tzinfo is not None for event in events)


def test_a_study_that_nobody_took_says_what_each_rule_said(store: Store) -> None:
    arrive(store, 1)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    add_assignments(store, STUDY, 1, [], [Try("brain", is_match=False, reason="modality CT is not MR")])
    assert _said(store, "route") == [
        "rule 'brain' did not take it: modality CT is not MR",
        "no algorithm ran on generation 1: no rule took the study",
    ]


def test_what_failed_says_why(store: Store) -> None:
    mark_assignment_failed(store, assign(store), "the report could not be built", workflow="w")
    assert "chest_xray has no result: the report could not be built" in _said(store, "report")
    arrive(store, 50)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    mark_generation_failed(store, STUDY, 2, "routing failed 3 times")
    assert "no algorithm ran on generation 2: routing failed 3 times" in _said(store, "route")


def test_a_dead_letter_says_why(store: Store) -> None:
    item = assign(store)
    report(store, item, [(message(store, "M1"), "ris")])
    (delivery,) = pending_deliveries(store, item.assignment_id, "ris")
    mark_dead(store, delivery, "answered AE")
    assert _said(store, "deliver") == ["oru M1 for ris is a dead letter: answered AE"]


def test_an_object_of_the_study_in_quarantine_is_told(store: Store, tmp_path: Path) -> None:
    arrive(store, 1)
    other = store.root / "incoming" / "other"
    other.write_bytes(b"other")
    number, name = quarantine_file(store.root, other)
    add_quarantine(
        store, number=number, name=name, sop_uid="2.25.91", calling_ae="CT1", status=0xC001,
        reason="stored with other content", size_bytes=5,
    )  # fmt: skip
    assert any("in quarantine: stored with other content" in text for text in _said(store, "receive"))


def test_no_event_names_the_patient(store: Store) -> None:
    arrive(store, 1, patient="Wet^Canary")
    assert not [event for event in story(store, STUDY) if "Canary" in event.text]
    assert isinstance(story(store, STUDY)[0], Event)


def test_a_damaged_database_is_one_error_of_ours(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    arrive(store, 1)
    with store.reading() as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'instances'"
        page = int(connection.exec_driver_sql(query).scalar_one())
        page_bytes = int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    store.close()
    path = tmp_path / "store" / "wetread.db"
    content = bytearray(path.read_bytes())
    content[(page - 1) * page_bytes : page * page_bytes] = b"\xff" * page_bytes
    path.write_bytes(bytes(content))
    again = open_store(tmp_path / "store")
    with pytest.raises(StoreError, match="damaged"):
        story(again, STUDY)
    again.close()
