"""The database is durable, migrated, and refuses what is not a database."""

import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from node.errors import StoreError
from node.store.database import open_store
from node.store.schema import METADATA


def test_migrations_make_exactly_the_declared_tables(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.reading() as connection:
        found = compare_metadata(MigrationContext.configure(connection), METADATA)
    store.close()
    assert found == []


def test_every_connection_writes_ahead_and_syncs_fully(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    store.close()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    first.close()
    second = open_store(tmp_path)
    assert second.key == first.key
    second.close()


def test_a_damaged_database_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "wetread.db").write_bytes(b"this is no database, it is a text of some length" * 40)
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path)


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.writing() as connection:
        connection.execute(sa.text("SELECT 1"))
        other = sqlite3.connect(tmp_path / "wetread.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    store.close()


def test_writers_that_wait_take_no_connection_from_readers(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    started = threading.Barrier(31)

    def write() -> None:
        started.wait(30)
        with store.writing() as connection:
            connection.execute(sa.text("SELECT 1"))

    threads = [threading.Thread(target=write) for _ in range(30)]
    with store.writing():
        for thread in threads:
            thread.start()
        started.wait(30)
        for thread in threads:
            thread.join(0.02)  # each comes to its wait, and stays there
            assert thread.is_alive()
        with store.reading() as connection:
            connection.execute(sa.text("SELECT 1"))
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    store.close()


def test_an_error_of_the_database_does_not_quote_what_was_to_be_written(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(sa.exc.IntegrityError) as caught, store.writing() as connection:
        connection.execute(sa.insert(METADATA.tables["studies"]).values(study_uid="2.25.1", patient_id="Wet^Canary",
                           first_at=0, last_instance_at=0, is_open=True, generation=None, calling_ae=""))  # fmt: skip
    assert "Canary" not in str(caught.value)
    store.close()
