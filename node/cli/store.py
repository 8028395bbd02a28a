"""The commands that look after the store: check it, rebuild its index, copy it, make it again, erase from it."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from node import __version__
from node.cli.context import Json, Place, Site, console, open_place, print_json
from node.errors import AlreadyRunningError, WetreadError
from node.store.database import open_store
from node.supervisor import running_pid

__all__ = ["store_commands"]

Advance = Callable[[int, int], None]
SHOWN = 20

store_commands = typer.Typer(no_args_is_help=True, help=__doc__)


@store_commands.command()
def verify(
    site: Site = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="If all is well, believe a disk again that failed to keep bytes.")
    ] = False,
    json: Json = False,
) -> None:
    """Read every file and compare it with its row; exit code 1 and a list if something is wrong. Changes nothing."""
    from node.store.check import check_store
    from node.store.volume import bad_reason, clear_bad

    place = open_place(site)
    with closing(open_store(place.settings.store.path)) as opened, _bar("checking", is_hidden=json) as advance:
        found = check_store(opened, advance=advance)
    root = place.settings.store.path
    mark = bad_reason(root)
    if mark and clear and not found.damage:
        clear_bad(root)
        mark = ""
    if json:
        print_json({**asdict(found), "volume": mark})
    else:
        console.print(
            f"Looked at {found.instances} images, {found.analyses} analyses, {found.outputs} results, "
            f"{found.quarantined} quarantined objects and {found.audit_records} audit records."
        )
        for one in found.damage[:SHOWN]:
            console.print(f"  {one.kind} {one.name}: {one.reason}", markup=False)
        _say_rest(len(found.damage))
        if found.unlisted:
            console.print(f"{len(found.unlisted)} files have no row: left by work cut short, never acknowledged:")
            for name in found.unlisted[:SHOWN]:
                console.print(f"  {name}", markup=False)
            _say_rest(len(found.unlisted))
        if mark:
            console.print(f"The volume is marked bad: {mark}. See to the disk, then: wetread store verify --clear")
        console.print(f"{len(found.damage)} things are wrong." if found.damage else "Everything is as it was written.")
    if found.damage or mark:
        raise typer.Exit(1)


@store_commands.command()
def recover(
    site: Site = None,
    read_again: Annotated[
        bool, typer.Option("--read-again", help="Also read studies again that have results; these become corrections.")
    ] = False,
    json: Json = False,
) -> None:
    """Rebuild the index from the files, when the database is lost or damaged; the old one is kept aside."""
    from node.store.recover import REASON
    from node.store.recover import recover as rebuild

    place = _stopped(site)
    names = {path.stem for path in (place.folder / "handlers").glob("*.py")}
    handlers = sorted(names | {rule.handler for rule in place.settings.rules})
    with _bar("reading files", is_hidden=json) as advance:
        found = rebuild(
            place.settings.store.path, handlers=handlers, clock=time.time, read_again=read_again, advance=advance
        )
    if json:
        print_json(found)
        return
    console.print(f"The index knows {found.studies} studies with {found.instances} images again.")
    console.print(f"{found.reopened} studies are read at the next start.")
    if found.reported and not read_again:
        console.print(
            f"{found.reported} have results: {REASON}. They are not sent again; --read-again reads them anew."
        )
    for name in found.quarantined[:SHOWN]:
        console.print(f"  put in quarantine: {name}", markup=False)
    _say_rest(len(found.quarantined))
    console.print(
        f"The old database is in {found.put_aside}. A new audit trail has begun; it names the end of the old."
    )
    _say_of_postgresql(place, "it knows work of the old index: give the node an empty database")


@store_commands.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Folder for backups of this node only.")],
    site: Site = None,
    link: Annotated[
        bool, typer.Option("--link", help="Share files with the store where the volume is the same.")
    ] = False,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Keep the last so many backups; 0 keeps all.")] = 0,
    json: Json = False,
) -> None:
    """Add a backup to a folder, whether or not the node runs; only what is not there yet is copied."""
    from node.store.backup import back_up

    place = open_place(site)
    with closing(open_store(place.settings.store.path)) as opened, _bar("copying", is_hidden=json) as advance:
        made = back_up(
            opened, folder.resolve(), version=__version__, settings_file=place.folder / "config.toml", link=link,
            keep=keep, advance=advance,
        )  # fmt: skip
    if json:
        print_json(made)
    else:
        size_mb = made.copied_bytes / 1_000_000
        console.print(f"{made.folder}: {made.files} files, {made.copied} of them new ({size_mb:.1f} MB).", markup=False)
        for name in made.missing[:SHOWN]:
            console.print(f"  not in the store: {name}", markup=False)
        _say_rest(len(made.missing))
        _say_of_postgresql(place, "it is not in this backup and must be backed up by its own means")
    if made.missing:
        raise typer.Exit(1)


@store_commands.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="Folder that holds backups.", exists=True)],
    site: Site = None,
    at: Annotated[str, typer.Option("--at", help="Name of the backup; the newest if not given.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Put a store that is there aside.")] = False,
    json: Json = False,
) -> None:
    """Make the store again from a backup, after every byte of it was checked."""
    from node.store.restore import choose_backup
    from node.store.restore import restore as make_again

    place = _stopped(site)
    with _bar("copying", is_hidden=json) as advance:
        made = make_again(
            choose_backup(folder.resolve(), at),
            place.settings.store.path,
            clock=time.time,
            force=force,
            advance=advance,
        )
    if json:
        print_json(made)
        return
    console.print(f"Restored {made.files} files as of {made.made_at.astimezone():%Y-%m-%d %H:%M:%S}.", markup=False)
    if made.put_aside:
        console.print(f"The store that was there is now {made.put_aside}.", markup=False)
    console.print(
        f"{made.pending} results were waiting then and are sent at the next start. What was delivered since "
        "is sent again, with the same SOP Instance UIDs and message control ids; images that came after it are gone."
    )
    _say_of_postgresql(place, "restore it to a moment before the backup, or give the node an empty database")


@store_commands.command()
def erase(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    site: Site = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Erase a study: images, results, what was still to be sent; the audit trail keeps that it was, not what."""
    from node.app import work_prefixes
    from node.engine import forget_work
    from node.store.erase import erase_study, look_at_study

    place = open_place(site)
    with closing(open_store(place.settings.store.path)) as opened:
        there = look_at_study(opened, study)
        if not yes and not json:
            console.print(
                f"{there.instances} images, {there.outputs} results and {there.quarantined} quarantined objects go. "
                f"{there.pending} results were not delivered yet and never will be."
            )
            typer.confirm("Erase them for ever?", abort=True)
        if json and not yes:
            raise WetreadError("erasing cannot be undone; with --json, say --yes as well")
        erased = erase_study(opened, study, may_be_waiting=running_pid(place.settings) is None)
    url = place.settings.engine.url or f"sqlite:///{place.settings.store.path / 'engine.db'}"
    if place.settings.engine.url or (place.settings.store.path / "engine.db").is_file():
        for one in erased:
            forget_work(url, work_prefixes(one.study_uid, one.assignment_ids))
    if json:
        print_json(there)
        return
    console.print("Erased. Backups that were made before still hold it; what was sent is with those who took it.")


def _stopped(site: Path | None) -> Place:
    """The place of a command that no node may run beside."""
    place = open_place(site)
    if running_pid(place.settings) is not None:
        raise AlreadyRunningError("the node is running; stop it first: wetread stop")
    return place


def _say_rest(count: int) -> None:
    if count > SHOWN:
        console.print(f"  and {count - SHOWN} more; --json lists all")


def _say_of_postgresql(place: Place, what: str) -> None:
    if place.settings.engine.url:
        console.print(f"The durable queue is in a database of its own ([engine] url): {what}.")


@contextmanager
def _bar(what: str, *, is_hidden: bool) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=is_hidden, transient=True) as progress:
        bar = progress.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        yield advance
