"""Where the site is, and how files come to be: whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from node.errors import ConfigError

__all__ = ["bundled_site", "copy_site", "find_site", "sync_folder", "write_atomically"]

BUNDLED_SITE = Path(__file__).parent / "_site"
CHECKOUT = Path(__file__).parent.parent
SITE_PARTS = ("config.toml", "handlers", "models", "sr_templates")


def find_site(asked: Path | None, environment: Mapping[str, str], working_folder: Path) -> Path:
    """The folder that holds ``config.toml``: ``--site``, then ``WETREAD_SITE``, then here, then the bundled one.

    Raises
    ------
    ConfigError
        If the folder that was asked for holds no ``config.toml``.
    """
    named = asked or (Path(environment["WETREAD_SITE"]) if environment.get("WETREAD_SITE") else None)
    if named is not None:
        if not (named / "config.toml").is_file():
            raise ConfigError(f"{named} is no site: it holds no config.toml; make one with: wetread init {named}")
        return named.resolve()
    if (working_folder / "config.toml").is_file():
        return working_folder.resolve()
    return bundled_site()


def bundled_site() -> Path:
    """The site the package carries; in a checkout, the checkout itself."""
    return BUNDLED_SITE if (BUNDLED_SITE / "config.toml").is_file() else CHECKOUT


def copy_site(folder: Path) -> None:
    """Copy the bundled site into a folder, to be changed by the hospital.

    Raises
    ------
    ConfigError
        If the folder already holds a part of a site; then nothing was changed.
    """
    taken = [name for name in SITE_PARTS if (folder / name).exists()]
    if taken:
        raise ConfigError(f"{folder} already holds {', '.join(taken)}; nothing was changed")
    folder.mkdir(parents=True, exist_ok=True)
    source = bundled_site()
    for name in SITE_PARTS:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(source / name, folder / name)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a rename or link is not, until its folder is synced)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes, *, mode: int = 0o640) -> None:
    """Write a file so that any reader, and any restart, sees all of it or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
