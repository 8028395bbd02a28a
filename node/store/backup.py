"""A copy of everything the node was entrusted with, made while it works.

The order is what makes the copy consistent:

1. ``engine.db``. An engine that knows less than the rows finds its steps done already, as after any crash;
   one that knew more would skip steps whose effect the rows lack.
2. ``audit.anchor``: never longer than the chain that is copied after it.
3. ``wetread.db``, in one step of SQLite's online backup.
4. The files that those rows name. A row is written only after its file is durable, and nothing is removed
   while a backup goes on; what comes meanwhile is in the next backup.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from node.errors import StoreError
from node.paths import sync_folder
from node.store.archive import (
    PARTIAL_SUFFIX,
    Entry,
    Manifest,
    add_content,
    backups_in,
    content_path,
    entry_of,
    prune,
    read_manifest,
    write_manifest,
)
from node.store.database import Store
from node.store.holding import keeping_files, lock_folder

__all__ = ["BackedUp", "back_up"]

Advance = Callable[[int, int], None]
NAMED_FILES = (
    "SELECT path FROM instances",
    "SELECT path FROM quarantine",
    "SELECT path FROM outputs JOIN assignments USING (assignment_id) WHERE {remains}",
)
ANALYSES = "SELECT analysis_path FROM assignments WHERE analysis_path != '' AND {remains}"
REMAINS = (
    "NOT EXISTS (SELECT 1 FROM removals WHERE removals.study_uid = assignments.study_uid"
    " AND removals.generation >= assignments.generation)"
)


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was made: `copied` of its `files` were not in the folder before; `missing` are not in the store."""

    folder: Path
    files: int
    copied: int
    copied_bytes: int
    pruned: int
    missing: tuple[str, ...]


def back_up(
    store: Store,
    folder: Path,
    *,
    version: str,
    settings_file: Path,
    link: bool = False,
    keep: int = 0,
    advance: Advance = lambda _done, _total: None,
) -> BackedUp:
    """Add a backup to a folder; it is there whole or not at all.

    Parameters
    ----------
    folder
        Only this node's backups live in it.
    settings_file
        The site's ``config.toml``.
    link
        Share files with the store instead of copying, if the volume is the same.
    keep
        Remove all but so many backups afterwards; 0 keeps all.

    Raises
    ------
    StoreError
        If the folder cannot be written, holds something else, or a database is damaged.
    """
    now = datetime.fromtimestamp(store.clock(), UTC)
    try:
        _prepare(folder)
        with lock_folder(folder), keeping_files(store.root):
            made = _make(store, folder, now, version=version, settings_file=settings_file, link=link, advance=advance)
            pruned = prune(folder, keep=keep) if keep else 0
    except OSError as error:
        raise StoreError(f"the backup was not made: {error.strerror}: {error.filename or folder}") from error
    with store.writing() as connection:
        details: dict[str, str | int | float] = {"files": made.files, "copied": made.copied}
        store.audit(connection, "store backed up", made.folder.name, details=details)
    return BackedUp(made.folder, made.files, made.copied, made.copied_bytes, pruned, made.missing)


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    strange = [
        path.name
        for path in folder.iterdir()
        if path.name not in ("files", "backup.lock", "lost+found")
        and path.suffix != PARTIAL_SUFFIX
        and not (path.is_dir() and path.name[:8].isdigit())
    ]
    if strange:
        raise StoreError(f"{folder} holds something else ({strange[0]}); give the backups a folder of their own")
    (folder / "files").mkdir(exist_ok=True, mode=0o700)


def _make(
    store: Store,
    folder: Path,
    now: datetime,
    *,
    version: str,
    settings_file: Path,
    link: bool,
    advance: Advance,
) -> BackedUp:
    for left in (*folder.glob(f"*{PARTIAL_SUFFIX}"), *(folder / "files").glob(f"*{PARTIAL_SUFFIX}")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()  # of a backup that was cut short
    earlier = backups_in(folder)
    known = read_manifest(earlier[-1]).files if earlier else {}
    while (target := folder / f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03d}Z").exists():
        now += timedelta(milliseconds=1)  # the clock was set back
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    partial.mkdir(mode=0o700)
    parts = _copy_parts(store.root, partial, settings_file)
    names = _names(partial / "wetread.db")
    files: dict[str, Entry] = {}
    missing: list[str] = []
    copied = copied_bytes = 0
    for done, name in enumerate(names, start=1):
        try:
            files[name], is_new = add_content(folder, store.root / name, known.get(name), link=link)
        except FileNotFoundError:
            if (store.root / name).exists():
                raise  # it is the folder of the backup that went away
            missing.append(name)
            continue
        finally:
            advance(done, len(names))
        copied += is_new
        copied_bytes += files[name].size_bytes if is_new else 0
    for touched in {content_path(folder, entry.digest).parent for entry in files.values()}:
        sync_folder(touched)
    sync_folder(folder / "files")
    write_manifest(partial, Manifest(now.timestamp(), version, parts, files))
    partial.rename(target)
    sync_folder(folder)
    return BackedUp(target, len(files), copied, copied_bytes, 0, tuple(missing))


def _copy_parts(root: Path, target: Path, settings_file: Path) -> dict[str, Entry]:
    """The small and the living parts, in the order that this module's head explains."""
    if (root / "engine.db").is_file():
        _copy_database(root / "engine.db", target / "engine.db")
    _copy_small(root / "audit.anchor", target)
    _copy_database(root / "wetread.db", target / "wetread.db")
    _copy_small(root / "audit.key", target)
    _copy_small(settings_file, target)
    return {path.name: entry_of(path) for path in sorted(target.iterdir())}


def _copy_small(source: Path, folder: Path) -> None:
    if source.is_file():
        descriptor = os.open(folder / source.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(source.read_bytes())
            file.flush()
            os.fsync(file.fileno())


def _copy_database(source: Path, target: Path) -> None:
    """Copy a living SQLite database in one step: one state of it, however many write meanwhile."""
    try:
        with closing(sqlite3.connect(source, timeout=30.0)) as living, closing(sqlite3.connect(target)) as copy:
            living.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            (said,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{source.name} cannot be copied: {error}; see: wetread store verify") from error
    if said != "ok":
        raise StoreError(f"{source.name} is damaged; see: wetread store verify, wetread store recover")
    target.chmod(0o600)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _names(database: Path) -> list[str]:
    """Paths, relative to the store, of every file that the copied rows name."""
    with closing(sqlite3.connect(database)) as rows:
        names = [name for query in NAMED_FILES for (name,) in rows.execute(query.format(remains=REMAINS))]
        analyses = [name for (name,) in rows.execute(ANALYSES.format(remains=REMAINS))]
    return names + [f"{folder}/{name}" for folder in analyses for name in ("analysis.json", "arrays.npz")]
