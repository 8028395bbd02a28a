"""A store made again from a backup: checked first, then there as a whole.

What a restored node does again is what any node does after a crash, with the same SOP Instance UIDs and
control ids: what the backup knew as accepted is not sent again, what it knew as pending is sent.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from node.errors import StoreError
from node.paths import sync_folder
from node.store.archive import PARTIAL_SUFFIX, Entry, Manifest, backups_in, content_path, copy_checked, read_manifest
from node.store.check import open_sound_store
from node.store.holding import store_alone
from node.store.schema import DELIVERIES

__all__ = ["Restored", "choose_backup", "restore"]

Advance = Callable[[int, int], None]
PARTS = ("wetread.db", "engine.db", "audit.key", "audit.anchor")


@dataclass(frozen=True, slots=True)
class Restored:
    """A store that was made again: from which backup, how many files, what is still to be sent, the old store's place.

    `put_aside` is None if there was no store.
    """

    backup: Path
    made_at: datetime
    version: str
    files: int
    pending: int
    put_aside: Path | None


def choose_backup(folder: Path, name: str = "") -> Path:
    """The newest backup in a folder, or the one with a name.

    Raises
    ------
    StoreError
        If there is none.
    """
    found = {path.name: path for path in backups_in(folder)} if folder.is_dir() else {}
    if not found or (name and name not in found):
        there = ", ".join(found) or "none"
        raise StoreError(f"there is no whole backup {name + ' ' if name else ''}in {folder}; there are: {there}")
    return found[name] if name else max(found.items())[1]


def restore(
    backup: Path,
    root: Path,
    *,
    clock: Callable[[], float],
    force: bool = False,
    advance: Advance = lambda _done, _total: None,
) -> Restored:
    """Make a store from a backup; nothing is changed unless every byte of it is what the manifest says.

    Parameters
    ----------
    root
        Where the store is to be: nothing, or an empty folder.
    force
        If there is a store, rename it instead of refusing.

    Raises
    ------
    StoreError
        If the backup is not whole, there is a store already, or it cannot be written.
    AlreadyRunningError
        If a node works on the store.
    """
    manifest = read_manifest(backup)
    is_there = root.is_dir() and any(path.name != "lost+found" for path in root.iterdir())
    if is_there and not force:
        raise StoreError(f"{root} holds something already; --force puts it aside, as a whole")
    if root.is_mount():
        raise StoreError(f"{root} is a volume of its own and cannot be renamed; let [store] path be a folder below it")
    partial = root.with_name(root.name + PARTIAL_SUFFIX)
    aside = root.with_name(f"{root.name}.before-{datetime.fromtimestamp(clock(), UTC):%Y%m%dT%H%M%SZ}")
    try:
        if partial.exists():
            shutil.rmtree(partial)  # of a restore that was cut short
        partial.mkdir(parents=True, mode=0o750)
        _copy(backup, manifest, partial, advance)
        pending = _note(partial, backup.name, manifest, clock)
        if is_there:
            with store_alone(root):
                root.rename(aside)
        elif root.exists():
            root.rmdir()
        partial.rename(root)
        sync_folder(root.parent)
    except OSError as error:
        raise StoreError(f"nothing was restored: {error.strerror}: {error.filename or root}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    made_at = datetime.fromtimestamp(manifest.made_at, UTC)
    return Restored(backup, made_at, manifest.version, len(manifest.files), pending, aside if is_there else None)


def _copy(backup: Path, manifest: Manifest, target: Path, advance: Advance) -> None:
    parts = [(backup / name, target / name, entry) for name, entry in manifest.parts.items() if name in PARTS]
    files = [
        (content_path(backup.parent, entry.digest), target / name, entry) for name, entry in manifest.files.items()
    ]
    everything: list[tuple[Path, Path, Entry]] = [*parts, *files]
    folders = {target}
    for done, (source, place, entry) in enumerate(everything, start=1):
        copy_checked(source, place, entry)
        folders |= {place.parent, place.parent.parent}
        advance(done, len(everything))
    for folder in folders:
        sync_folder(folder)


def _note(root: Path, name: str, manifest: Manifest, clock: Callable[[], float]) -> int:
    """Open the store while it is not yet in its place, and write down what happened; how much is still to be sent."""
    store = open_sound_store(root, clock=clock)
    try:
        with store.writing() as connection:
            pending = sa.select(sa.func.count()).select_from(DELIVERIES).where(DELIVERIES.c.state == "pending")
            count = int(connection.execute(pending).scalar_one())
            details: dict[str, str | int | float] = {"files": len(manifest.files), "pending": count}
            store.audit(connection, "store restored", name, step=f"{clock():.3f}", details=details)
    finally:
        store.close()
    return count
