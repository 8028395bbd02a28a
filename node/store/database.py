"""The store as one value: its folder, its database, its audit key and its clock."""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy import event

from node.audit import AuditKey, append, read_or_make_key
from node.errors import StoreError
from node.store.files import make_instance_folders
from node.store.volume import mark_bad

__all__ = ["Store", "open_store"]

MIGRATIONS = Path(__file__).parent / "migrations"
FOLDERS = ("incoming", "instances", "quarantine", "analyses", "results", "run", "logs")
LOCK_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Store:
    """An open store.

    Parameters
    ----------
    root
        The folder that holds everything this node knows.
    engine
        The database; write only through `writing`.
    key
        The secret of the audit chain.
    clock
        Seconds since the epoch, UTC; passed in so that tests own the time.
    is_durable
        False waits for no disk: what was acknowledged a moment before a power cut may be lost.
    """

    root: Path
    engine: sa.Engine
    key: AuditKey
    clock: Callable[[], float] = time.time
    is_durable: bool = True
    turn: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    arrivals: "deque[Any]" = field(default_factory=deque, repr=False, compare=False)  # see intake.py
    kept: list[sa.Connection] = field(default_factory=list, repr=False, compare=False)

    @contextmanager
    def taking_turn(self) -> Iterator[None]:
        """Be the only thread of this process that writes.

        Raises
        ------
        StoreError
            If the turn does not come within 30 s.
        """
        if not self.turn.acquire(timeout=LOCK_WAIT_S):
            raise StoreError(f"no turn to write within {LOCK_WAIT_S:g} s")
        try:
            yield
        finally:
            self.turn.release()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start and is durable when it ends.

        The threads of a process queue here, holding nothing: SQLite's own wait is a lottery that lets some
        wait for seconds, and each waiting connection would be one less for readers.
        """
        with (
            self.taking_turn(),
            self._noticing_a_failed_disk(),
            self.engine.connect().execution_options(wetread_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def writing_directly(self) -> Iterator[tuple[sqlite3.Connection, sa.Connection]]:
        """As `writing`, for statements that run for every received object: over one kept connection and its driver.

        The driver prepares a statement once; making it anew costs ten times as much as running it. What the second
        connection of the pair executes is part of the same transaction.
        """
        with self.taking_turn(), self._noticing_a_failed_disk():
            if not self.kept:
                self.kept.append(self.engine.connect().execution_options(wetread_is_begun=True))
            connection = self.kept[0]
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)  # noqa: S101  narrows the type; `open_store` made it
            try:
                driver.execute("BEGIN IMMEDIATE")
                yield driver, connection
                driver.execute("COMMIT")
                connection.rollback()  # its own notion of a transaction; there is none any more
            except BaseException:
                self.kept.clear()
                connection.close()  # rolls back, and what may be broken is not used again
                raise

    @contextmanager
    def _noticing_a_failed_disk(self) -> Iterator[None]:
        """Mark the volume when the index cannot be made durable: what was written may be gone, whatever comes next."""
        try:
            yield
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            if getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR:  # the low byte is the kind
                mark_bad(self.root, f"the index could not be written: {cause}")
            raise

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database and blocks nobody.

        Raises
        ------
        StoreError
            If the database is damaged.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except sa.exc.DatabaseError as error:
            if type(error) is not sa.exc.DatabaseError:  # its subclasses tell of the moment, not of the file
                raise
            raise StoreError(f"the database of the store {self.root} is damaged: {error.orig}") from error

    def audit(
        self,
        connection: sa.Connection,
        action: str,
        subject: str,
        *,
        workflow: str = "",
        step: str = "",
        details: Mapping[str, str | int | float] | None = None,
    ) -> None:
        """Add a record to the audit chain in the caller's transaction."""
        at = datetime.fromtimestamp(self.clock(), UTC)
        append(
            connection, self.key, at=at, action=action, subject=subject, workflow=workflow, step=step, details=details
        )

    def close(self) -> None:
        """Give back all database connections."""
        with self.taking_turn():
            while self.kept:
                self.kept.pop().close()
        self.engine.dispose()


def open_store(root: Path, *, clock: Callable[[], float] = time.time, is_durable: bool = True) -> Store:
    """Open the store in a folder; make it, or bring its tables up to date, when needed.

    Raises
    ------
    StoreError
        If the folder cannot be used or the database is damaged.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o750)
        for name in FOLDERS:
            (root / name).mkdir(exist_ok=True, mode=0o750)
        make_instance_folders(root)
    except OSError as error:
        raise StoreError(f"the store {root} cannot be made: {error.strerror}") from error
    engine = sa.create_engine(
        f"sqlite:///{root / 'wetread.db'}", connect_args={"timeout": LOCK_WAIT_S}, hide_parameters=True
    )
    event.listen(engine, "connect", partial(_configure_connection, "FULL" if is_durable else "OFF"))
    event.listen(engine, "begin", _begin)
    try:
        _migrate(engine)
    except sa.exc.DatabaseError as error:
        engine.dispose()
        raise StoreError(f"the database of the store {root} cannot be opened: {error.orig}") from error
    return Store(root=root, engine=engine, key=read_or_make_key(root / "audit.key"), clock=clock, is_durable=is_durable)


def _configure_connection(
    synchronous: str, connection: "sa.engine.interfaces.DBAPIConnection", _record: object
) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("wetread_is_begun", False):
        return
    # A reader that becomes a writer half way fails at once with "locked"; so a writer says so first.
    is_writer = connection.get_execution_options().get("wetread_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


def _migrate(engine: sa.Engine) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.connect().execution_options(wetread_writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
