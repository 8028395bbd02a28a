"""The store as one value: its folder, its database, its audit key and its clock."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy import event

from node.audit import AuditKey, append, read_or_make_key
from node.errors import StoreError
from node.store.files import make_instance_folders

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
    """

    root: Path
    engine: sa.Engine
    key: AuditKey
    clock: Callable[[], float] = time.time
    turn: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start and is durable when it ends.

        The threads of a process queue here, holding nothing: SQLite's own wait is a lottery that lets some
        wait for seconds, and each waiting connection would be one less for readers.
        """
        if not self.turn.acquire(timeout=LOCK_WAIT_S):
            raise sa.exc.TimeoutError(f"no turn to write within {LOCK_WAIT_S:g} s")
        try:
            with self.engine.connect().execution_options(wetread_writes=True) as connection, connection.begin():
                yield connection
        finally:
            self.turn.release()

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
        self.engine.dispose()


def open_store(root: Path, *, clock: Callable[[], float] = time.time) -> Store:
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
    event.listen(engine, "connect", _configure_connection)
    event.listen(engine, "begin", _begin)
    try:
        _migrate(engine)
    except sa.exc.DatabaseError as error:
        engine.dispose()
        raise StoreError(f"the database of the store {root} cannot be opened: {error.orig}") from error
    return Store(root=root, engine=engine, key=read_or_make_key(root / "audit.key"), clock=clock)


def _configure_connection(connection: "sa.engine.interfaces.DBAPIConnection", _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # A reader that becomes a writer half way fails at once with "locked"; so a writer says so first.
    is_writer = connection.get_execution_options().get("wetread_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


def _migrate(engine: sa.Engine) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.connect().execution_options(wetread_writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
