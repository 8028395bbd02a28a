"""Handlers, loaded once for each state of their files; and what state the files are in that a child opens."""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

from node.api import Handler
from node.infer.handlers import load_handler

__all__ = ["KnownHandlers", "state_of_files"]

MANIFEST = "model.toml"


class KnownHandlers:
    """Handlers by site and name; one whose file was changed is loaded again."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, str], tuple[str, Handler]] = {}
        self._lock = threading.Lock()

    def load(self, site: Path, name: str) -> Handler:
        """Give a handler as its file is now.

        Raises
        ------
        HandlerError
            As `load_handler`.
        """
        state = state_of_files(site, name, ())
        with self._lock:
            found = self._known.get((site, name))
            if found is None or found[0] != state:
                found = self._known[site, name] = (state, load_handler(site / "handlers", name))
            return found[1]


def state_of_files(site: Path, handler: str, models: Sequence[str]) -> str:
    """A digest that is another one when a file of the handler or of its models was changed.

    Small files are hashed. Of weights size, times and number of the file are taken: a child hashes them when it opens
    them.
    """
    digest = hashlib.sha256()
    for path in (site / "handlers" / f"{handler}.py", site / "models" / handler / MANIFEST):
        digest.update(_hashed(path))
    for name in models:
        folder = site / "models" / name
        digest.update(name.encode() + b"\0" + _hashed(folder / MANIFEST))
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            one = path.stat(follow_symlinks=True)
            digest.update(f"{path.name}\0{one.st_size} {one.st_mtime_ns} {one.st_ctime_ns} {one.st_ino}\0".encode())
    return digest.hexdigest()


def _hashed(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:  # the child says what is wrong with it
        return b"-"
