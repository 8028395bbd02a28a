"""Whether the store still holds what its rows say: every file, every digest, the audit trail. Nothing is changed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from node import audit
from node.errors import AuditChainError, DicomError, StoreError
from node.store.analyses import DOCUMENT, load_analysis
from node.store.database import Store, open_store
from node.store.files import file_digest, verify_instance
from node.store.holding import keeping_files
from node.store.intake import instance_row
from node.store.schema import ASSIGNMENTS, INSTANCES, OUTPUTS, QUARANTINE, REMOVALS

__all__ = ["Checked", "Damage", "check_audit", "check_store", "fault_of", "open_sound_store", "remains"]

ADVICE = "stop the node and run: wetread store recover"
PAGE = 500  # rows looked at in one short transaction: a long one would hold up the log of the database
Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not what its row says: what (``instance``, ``output``, ...), which, and how."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at, what is wrong, and files that no row names: left by a receive or a reading cut short."""

    instances: int
    outputs: int
    analyses: int
    quarantined: int
    audit_records: int
    damage: tuple[Damage, ...]
    unlisted: tuple[str, ...]


def open_sound_store(root: Path, *, clock: Callable[[], float] = time.time, is_durable: bool = True) -> Store:
    """Open a store after its database was looked through, page by page.

    Raises
    ------
    StoreError
        If the database is damaged; the message names the command that helps.
    """
    try:
        store = open_store(root, clock=clock, is_durable=is_durable)
    except StoreError as error:
        raise StoreError(f"{error}; if the file is damaged, {ADVICE}") from error
    found = _fault_of_database(store)
    if found:
        store.close()
        raise StoreError(f"the database of the store {root} is damaged ({found}); {ADVICE}")
    return store


def _fault_of_database(store: Store) -> str:
    try:
        with store.engine.connect() as connection:
            said = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    except sa.exc.DatabaseError as error:
        return str(error.orig)
    return "" if said == "ok" else "a page or a row of it is not what it must be"


def check_store(store: Store, *, advance: Advance = lambda _done, _total: None) -> Checked:
    """Read every file of the store and compare it with its row; a node may be running meanwhile.

    Parameters
    ----------
    advance
        Told after each row how many rows of how many are done.

    Raises
    ------
    StoreError
        If the database is damaged, or files are being removed all the time.
    """
    tables = (INSTANCES, OUTPUTS, ASSIGNMENTS, QUARANTINE)
    damage: list[Damage] = []
    with keeping_files(store.root):
        fault = _fault_of_database(store)
        if fault:
            raise StoreError(f"the database of the store {store.root} is damaged ({fault}); {ADVICE}")
        files = set(_files(store.root))  # before the rows: a file that comes later has its row later
        with store.reading() as connection:
            sizes = (connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in tables)
            total = sum(sizes)
        counts = dict.fromkeys(tables, 0)
        for done, (table, row) in enumerate(_rows(store, tables), start=1):
            found = fault_of(store, table, row)
            counts[table] += 1
            if found:
                damage.append(found)
            files -= set(_names(store.root, table, row))
            advance(done, max(done, total))
        unlisted = tuple(sorted(name for name in files if not _has_row(store, name)))
        records, broken = check_audit(store)
    return Checked(
        counts[INSTANCES], counts[OUTPUTS], counts[ASSIGNMENTS], counts[QUARANTINE], records,
        (*damage, *broken), unlisted,
    )  # fmt: skip


def remains(study_uid: "sa.ColumnElement[str]", generation: "sa.ColumnElement[int]") -> "sa.ColumnElement[bool]":
    """True for what belongs to a generation of a study whose files were not removed on purpose."""
    return ~sa.exists().where(REMOVALS.c.study_uid == study_uid, REMOVALS.c.generation >= generation)


def _rows(store: Store, tables: tuple[sa.Table, ...]) -> "Iterator[tuple[sa.Table, sa.Row[tuple[object, ...]]]]":
    """Every row whose files must be there, page by page."""
    for table in tables:
        key, last = next(iter(table.primary_key)), ""
        query = sa.select(table).order_by(key).limit(PAGE)
        if table is OUTPUTS:
            query = query.join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        if table in (OUTPUTS, ASSIGNMENTS):
            query = query.where(remains(ASSIGNMENTS.c.study_uid, ASSIGNMENTS.c.generation))
        if table is ASSIGNMENTS:
            query = query.where(ASSIGNMENTS.c.analysis_path != "")
        while True:
            with store.reading() as connection:
                rows = connection.execute(query.where(key > last)).all()
            if not rows:
                break
            for row in rows:
                yield table, row
            last = rows[-1]._mapping[key]


def fault_of(store: Store, table: sa.Table, row: "sa.Row[tuple[object, ...]]") -> Damage | None:
    """What is wrong with the file that a row names; None if nothing is."""
    values = row._mapping
    try:
        if table is INSTANCES:
            verify_instance(instance_row(store.root, row))
        elif table is ASSIGNMENTS:
            load_analysis(store.root / values["analysis_path"])
        elif table is OUTPUTS:
            if file_digest(store.root / values["path"]) != values["sha256"]:
                raise StoreError("its file was changed after it was made")
        elif (store.root / values["path"]).stat().st_size != values["size_bytes"]:
            raise StoreError("its file has another size than it had")
    except OSError as error:
        reason = f"its file cannot be read: {error.strerror}"
    except (StoreError, DicomError) as error:
        reason = str(error)
    else:
        return None
    kinds = {INSTANCES: "instance", ASSIGNMENTS: "analysis", OUTPUTS: "output", QUARANTINE: "quarantined object"}
    return Damage(kinds[table], str(values[next(iter(table.primary_key)).name]), reason)


def _files(root: Path) -> Iterator[str]:
    for kind in ("instances", "quarantine", "results"):
        for path in (root / kind).rglob("*"):
            if path.is_file():
                yield str(path.relative_to(root))
    for path in (root / "analyses").glob(f"*/{DOCUMENT}"):
        yield str(path.parent.relative_to(root))


def _names(root: Path, table: sa.Table, row: "sa.Row[tuple[object, ...]]") -> list[str]:
    if table is ASSIGNMENTS:
        return [str(Path(row._mapping["analysis_path"]))]
    return [str((root / row._mapping["path"]).relative_to(root))]


def _has_row(store: Store, name: str) -> bool:
    """True if a file got its row since, or belongs to work that is going on."""
    kind = name.partition("/")[0]
    if kind in ("analyses", "results"):
        short = name.split("/")[1]
        query = sa.select(ASSIGNMENTS.c.state).where(
            ASSIGNMENTS.c.assignment_id.in_((short, f"2.25.{short}")), ASSIGNMENTS.c.state.in_(("assigned", "analysed"))
        )
    else:
        table = INSTANCES if kind == "instances" else QUARANTINE
        query = sa.select(table.c.path).where(table.c.path == name)
    with store.reading() as connection:
        return connection.execute(query).first() is not None


def check_audit(store: Store) -> tuple[int, list[Damage]]:
    """How many records the audit trail has, and what is wrong with it."""
    try:
        with store.reading() as connection:
            return audit.verify(connection, store.key, store.root / "audit.anchor").count, []
    except AuditChainError as error:
        return 0, [Damage("audit trail", "audit", str(error))]
