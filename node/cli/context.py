"""What every command shares: which site, which settings, and how to print for people or for programs."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from node.log import configure_logging
from node.paths import find_site
from node.settings import Settings, load_settings

__all__ = ["Json", "Place", "Site", "console", "open_place", "print_json", "print_table"]

console = Console(highlight=False)

Site = Annotated[Path | None, typer.Option("--site", help="Folder that holds config.toml.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass(frozen=True, slots=True)
class Place:
    """The site a command works on, and what it decided."""

    folder: Path
    settings: Settings


def open_place(site: Path | None) -> Place:
    """Find the site and read its settings; the log of a command shows warnings only.

    Raises
    ------
    ConfigError
        If there is no such site or its ``config.toml`` is not what it must be.
    """
    folder = find_site(site, os.environ, Path.cwd())
    settings = load_settings(folder / "config.toml", os.environ)
    configure_logging("warning", settings.log.format)
    return Place(folder, settings)


def print_json(record: object) -> None:
    """Print a record for programs."""
    console.print_json(json.dumps(record, default=_plain, ensure_ascii=False))


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"cannot print a {type(value).__name__}")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows for people; what came from peers is never taken as markup."""
    table = Table(title=title, title_justify="left", show_lines=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell).replace("[", r"\[") for cell in row))
    console.print(table)
