"""What a backup looks like on disk, and how its files get there: whole, durable, each content once.

``files/`` holds every content under its own digest, shared by all backups in the folder; a folder named by
the time holds one backup: ``manifest.json`` with the digest of every file, the databases, the audit key, the
settings. Contents never change, so an older backup is not touched by a newer one.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from node.errors import StoreError
from node.paths import sync_folder

__all__ = [
    "MANIFEST",
    "PARTIAL_SUFFIX",
    "Entry",
    "Manifest",
    "add_content",
    "backups_in",
    "content_path",
    "copy_checked",
    "entry_of",
    "prune",
    "read_manifest",
    "write_manifest",
]

MANIFEST, SEAL = "manifest.json", "manifest.sha256"
PARTIAL_SUFFIX = ".part"
FORMAT = 1
BLOCK_BYTES = 1 << 20
METHOD = "sha256"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the store: the digest of its bytes, its size, and when it was written."""

    digest: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup: `parts` are files beside the manifest, `files` those of the store, by their path in it."""

    made_at: float
    version: str
    parts: Mapping[str, Entry] = field(default_factory=dict)
    files: Mapping[str, Entry] = field(default_factory=dict)


def content_path(folder: Path, digest: str) -> Path:
    """Where a backup folder keeps a content."""
    name = digest.partition(":")[2]
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise StoreError(f"{MANIFEST} names no digest: {digest[:80]!r}")
    return folder / "files" / name[:2] / name


def entry_of(path: Path) -> Entry:
    """The Entry of a file as it is now."""
    found = path.stat()
    return Entry(_digest(path), found.st_size, found.st_mtime_ns)


def add_content(folder: Path, source: Path, known: Entry | None, *, link: bool) -> tuple[Entry, bool]:
    """Keep the content of a file; its Entry, and whether bytes were written.

    The bytes are durable then; their name is when its folder below ``files/`` was synced.

    Parameters
    ----------
    known
        What an earlier backup said of this file; if size and time are still the same, it is not read again.
    link
        Share the file with the store where the volume is the same, instead of copying it.
    """
    found = source.stat()
    if (
        known is not None
        and (known.size_bytes, known.mtime_ns) == (found.st_size, found.st_mtime_ns)
        and _has(folder, known)
    ):
        return known, False
    partial = folder / "files" / f"{uuid.uuid4().hex}{PARTIAL_SUFFIX}"
    is_linked = link and source.stat().st_dev == folder.stat().st_dev
    try:
        if is_linked:
            os.link(source, partial)
            digest = _digest(partial)
        else:
            digest = _copy(source, partial)
        entry = Entry(digest, found.st_size, found.st_mtime_ns)
        target = content_path(folder, digest)
        if _has(folder, entry):
            return entry, False
        target.parent.mkdir(mode=0o700, exist_ok=True)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return entry, True


def copy_checked(source: Path, target: Path, entry: Entry) -> None:
    """Copy a file durably, with its time, if its bytes are those of its Entry.

    Raises
    ------
    StoreError
        If the bytes are others; then there is no copy.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        digest = _copy(source, target)
    except OSError as error:
        raise StoreError(f"{source} cannot be copied: {error.strerror}") from error
    if digest != entry.digest:
        target.unlink()
        raise StoreError(f"{source} was changed after the backup: expected {entry.digest}, found {digest}")
    os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and its seal into a backup that is being made."""
    content = json.dumps({"format": FORMAT, **asdict(manifest)}, ensure_ascii=False, indent=1).encode()
    seal = f"{METHOD}:{hashlib.sha256(content).hexdigest()}\n".encode()
    for name, data in ((MANIFEST, content), (SEAL, seal)):
        with (folder / name).open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def read_manifest(backup: Path) -> Manifest:
    """Read a manifest and compare it with its seal.

    Raises
    ------
    StoreError
        If the folder is no whole backup, or its manifest was changed.
    """
    try:
        content = (backup / MANIFEST).read_bytes()
        seal = (backup / SEAL).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{backup} is no whole backup: it has no readable {MANIFEST} with its {SEAL}") from error
    if seal != f"{METHOD}:{hashlib.sha256(content).hexdigest()}":
        raise StoreError(f"{backup / MANIFEST} was changed after it was written")
    record = json.loads(content)
    if record.get("format") != FORMAT:
        raise StoreError(f"{backup / MANIFEST}: expected format {FORMAT}, found {record.get('format')!r}")
    parts, files = ({name: Entry(**entry) for name, entry in record[key].items()} for key in ("parts", "files"))
    for name in (*parts, *files):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StoreError(f"{backup / MANIFEST} names a file outside the store: {name!r}")
    return Manifest(record["made_at"], record["version"], parts, files)


def backups_in(folder: Path) -> list[Path]:
    """Whole backups in a folder, oldest first."""
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}") if path.parent.suffix != PARTIAL_SUFFIX)


def prune(folder: Path, *, keep: int) -> int:
    """Remove all but the last backups, and what no backup names any more; how many contents went."""
    for old in backups_in(folder)[:-keep]:
        (old / MANIFEST).unlink()  # from now on it is no backup
        for path in _files_below(old):
            path.unlink()
        old.rmdir()
    sync_folder(folder)
    named = {entry.digest.partition(":")[2] for backup in backups_in(folder) for entry in _entries(backup)}
    count = 0
    for path in _files_below(folder / "files"):
        if path.name not in named:
            path.unlink()
            count += 1
    return count


def _entries(backup: Path) -> list[Entry]:
    return list(read_manifest(backup).files.values())


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in list(folder.rglob("*")) if path.is_file())


def _has(folder: Path, entry: Entry) -> bool:
    path = content_path(folder, entry.digest)
    return path.is_file() and path.stat().st_size == entry.size_bytes


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"{METHOD}:{hashlib.file_digest(file, METHOD).hexdigest()}"


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        os.fchmod(writer.fileno(), 0o600)
        while block := reader.read(BLOCK_BYTES):
            digest.update(block)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    return f"{METHOD}:{digest.hexdigest()}"
