"""Rows of objects that arrive at once: one commit, each with its own answer, all or none."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.errors import StoreError
from node.store.database import Store, open_store
from node.store.digest import new_hasher, text_of
from node.store.files import keep_instance, name_of
from node.store.intake import Arrival, Kept, add_instance
from node.store.schema import INSTANCES, STUDIES
from node.store.volume import bad_reason


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=lambda: 1000.0)
    yield found
    found.close()


def _arrival(store: Store, uid: str, content: bytes = b"content", *, name: str = "") -> Arrival:
    path = store.root / "incoming" / (name or f"{uid}.dcm")
    path.write_bytes(content)
    hasher = new_hasher()
    hasher.update(content)
    return Arrival(
        sop_instance_uid=uid,
        sop_class_uid="1.2",
        transfer_syntax_uid="1.2.1",
        study_instance_uid="2.25.1",
        series_instance_uid="2.25.5",
        path=path,
        size_bytes=len(content),
        digest=text_of(hasher),
        calling_ae="CT1",
        modality="CT",
    )


def _add(store: Store, arrival: Arrival, outcomes: dict[str, Kept | StoreError]) -> None:
    try:
        outcomes[arrival.path.name] = add_instance(store, arrival)
    except StoreError as error:
        outcomes[arrival.path.name] = error


def _add_at_once(store: Store, arrivals: list[Arrival]) -> dict[str, Kept | StoreError]:
    """All wait for the turn to write before the first of them gets it."""
    outcomes: dict[str, Kept | StoreError] = {}
    threads = [threading.Thread(target=_add, args=(store, arrival, outcomes)) for arrival in arrivals]
    with store.taking_turn():
        for thread in threads:
            thread.start()
        while len(store.arrivals) < len(arrivals):
            pass
    for thread in threads:
        thread.join(30)
    return outcomes


def test_objects_that_arrive_at_once_share_one_commit(store: Store) -> None:
    add_instance(store, _arrival(store, "2.25.90"))  # the study is there, the connection is made
    said: list[str] = []
    driver = store.kept[0].connection.driver_connection
    assert driver is not None
    driver.set_trace_callback(said.append)
    outcomes = _add_at_once(store, [_arrival(store, f"2.25.10{number}") for number in range(8)])
    driver.set_trace_callback(None)
    assert list(outcomes.values()) == [Kept.NEW] * 8
    assert said.count("COMMIT") == 1
    with store.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(INSTANCES)).scalar_one() == 9


def test_of_two_contents_under_one_uid_at_once_one_is_kept_and_the_other_collides(store: Store) -> None:
    first, second = (_arrival(store, "2.25.90", content, name=content.decode()) for content in (b"one", b"two"))
    for arrival in (first, second):
        keep_instance(store.root, arrival.path, arrival.sop_instance_uid)
    outcomes = _add_at_once(store, [first, second])
    assert sorted(map(str, outcomes.values())) == ["collision", "new"]
    (winner,) = (name for name, outcome in outcomes.items() if outcome is Kept.NEW)
    assert (store.root / name_of("2.25.90")).read_bytes() == winner.encode()


def test_a_duplicate_among_them_changes_nothing(store: Store) -> None:
    same = [_arrival(store, "2.25.90", name=f"{number}.dcm") for number in range(4)]
    assert sorted(map(str, _add_at_once(store, same).values())) == ["duplicate"] * 3 + ["new"]


def test_when_the_commit_fails_all_are_told_and_nothing_is_noted(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("CREATE TRIGGER no BEFORE INSERT ON instances BEGIN SELECT RAISE(ABORT, 'no'); END")
    outcomes = _add_at_once(store, [_arrival(store, f"2.25.10{number}") for number in range(3)])
    assert all(isinstance(outcome, StoreError) for outcome in outcomes.values())
    with store.reading() as connection:
        assert connection.execute(sa.select(STUDIES)).all() == []
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER no")
    assert add_instance(store, _arrival(store, "2.25.100")) is Kept.NEW
    assert bad_reason(store.root) == ""


def test_the_first_image_of_a_study_opens_it_with_an_audit_record_in_the_same_commit(store: Store) -> None:
    add_instance(store, _arrival(store, "2.25.90"))
    with store.reading() as connection:
        assert [row.action for row in connection.exec_driver_sql("SELECT action FROM audit")] == ["study opened"]


def test_a_store_that_is_closed_gives_its_kept_connection_back(store: Store) -> None:
    add_instance(store, _arrival(store, "2.25.90"))
    store.close()
    assert store.kept == []
