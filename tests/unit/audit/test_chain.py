"""Any change to the audit trail is found, with the number of the record."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.audit import AUDIT, read_or_make_key, verify, write_anchor
from node.errors import AuditChainError
from node.store.database import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    with found.writing() as connection:
        for number in range(5):
            details = {"instances": number}
            found.audit(connection, "study frozen", f"2.25.{number}", step="generation 1", details=details)
    yield found
    found.close()


def _verify(store: Store) -> int:
    with store.reading() as connection:
        return verify(connection, store.key, store.root / "audit.anchor").count


def _tamper(store: Store, statement: str) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER IF EXISTS audit_no_update")
        connection.exec_driver_sql("DROP TRIGGER IF EXISTS audit_no_delete")
        connection.exec_driver_sql(statement)


def test_an_untouched_chain_is_whole(store: Store) -> None:
    assert _verify(store) == 5


def test_a_record_that_was_added_before_is_not_added_again(store: Store) -> None:
    with store.writing() as connection:
        store.audit(connection, "study frozen", "2.25.1", step="generation 1", details={"instances": 7})
    assert _verify(store) == 5


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE audit SET details = '{}' WHERE seq = 3", "record 3 was changed"),
        ("UPDATE audit SET subject = '2.25.9' WHERE seq = 1", "record 1 was changed"),
        ("DELETE FROM audit WHERE seq = 2", "record 2 is missing"),
        ("UPDATE audit SET seq = 9 WHERE seq = 5", "record 5 is missing"),
        ("INSERT INTO audit SELECT 6, at, 'w', step, action, subject, details, mac FROM audit LIMIT 1", "record 6"),
    ],
)
def test_every_kind_of_tampering_is_found_at_its_record(store: Store, statement: str, words: str) -> None:
    _tamper(store, statement)
    with pytest.raises(AuditChainError, match=words):
        _verify(store)


def test_a_tail_that_was_cut_off_is_found_by_the_anchor(store: Store) -> None:
    with store.reading() as connection:
        write_anchor(connection, store.root / "audit.anchor")
    _tamper(store, "DELETE FROM audit WHERE seq > 3")
    with pytest.raises(AuditChainError, match="was cut: expected at least 5"):
        _verify(store)


@pytest.mark.parametrize("statement", ["UPDATE audit SET action = 'x'", "DELETE FROM audit"])
def test_the_database_itself_refuses_to_change_a_record(store: Store, statement: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), store.writing() as connection:
        connection.exec_driver_sql(statement)


def test_the_key_is_for_its_owner_only_and_never_printed(store: Store) -> None:
    path = store.root / "audit.key"
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text(encoding="ascii") not in repr(store)


def test_another_key_does_not_verify(store: Store, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other")
    with store.reading() as connection, pytest.raises(AuditChainError, match="record 1"):
        verify(connection, other.key, store.root / "audit.anchor")
    other.close()


def test_the_table_is_the_one_the_chain_knows(store: Store) -> None:
    columns = {column["name"] for column in sa.inspect(store.engine).get_columns("audit")}
    assert columns == {column.name for column in AUDIT.columns}


def test_a_key_that_could_not_be_made_durable_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="Input/output"):
            read_or_make_key(tmp_path / "audit.key")
    assert list(tmp_path.iterdir()) == []
    key = read_or_make_key(tmp_path / "audit.key")
    assert read_or_make_key(tmp_path / "audit.key") == key
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600


def test_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    start, keys = threading.Barrier(8), []

    def make() -> None:
        start.wait(30)
        keys.append(read_or_make_key(tmp_path / "audit.key"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(keys) == 8
    assert len({key.secret for key in keys}) == 1


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.key").write_text("")
    with pytest.raises(AuditChainError, match="is not an audit key"):
        read_or_make_key(tmp_path / "audit.key")
