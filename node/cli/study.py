"""``wetread study``: what is open, being read or done; call a study whole, let a held one go, or leave one unread."""

import os
import pwd
import time
from collections.abc import Callable
from typing import Annotated

import typer

from node.cli.context import Json, Site, console, open_place, print_json, print_table
from node.errors import StoreError
from node.explain import find_studies
from node.store import wishes
from node.store.database import Store, open_store
from node.store.worklist import StudyState, study_states

__all__ = ["study"]

study = typer.Typer(
    no_args_is_help=True, help="Studies: which are open, being read or done; force, release or discard one."
)

Name = Annotated[str, typer.Argument(help="Study Instance UID or Accession Number.", metavar="STUDY")]


@study.command("list")
def study_list(
    site: Site = None,
    json: Json = False,
    limit: Annotated[int, typer.Option(help="How many at most, the newest first.", min=1, max=10_000)] = 50,
) -> None:
    """Show the newest studies: how far each is, how many images it has, and since when."""
    store = open_store(open_place(site).settings.store.path)
    found = study_states(store, limit=limit)
    store.close()
    if json:
        print_json(list(found))
        return
    now = time.time()
    rows = [_row(one, now) for one in found]
    columns = ("study", "accession", "state", "generation", "images", "from", "last image", "why")
    print_table("Studies", columns, rows)


def _row(one: StudyState, now: float) -> tuple[object, ...]:
    images = f"{one.instances}" if one.expected is None else f"{one.instances} of {one.expected}"
    age = _age(now - one.last_instance_at)
    who = f"{one.calling_ae} / {one.modality}" if one.modality else one.calling_ae
    state = f"{one.state}, review" if one.needs_review else one.state
    return one.study_uid, one.accession_number, state, one.generation, images, who, age, one.reason


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


@study.command("complete")
def study_complete(name: Name, site: Site = None) -> None:
    """Take a study as whole now: it is read with the images that are here."""
    _wish(name, site, wishes.force)


@study.command("release")
def study_release(name: Name, site: Site = None) -> None:
    """Let a study be read that is held as one of a phantom or a quality check; nothing holds it any more."""
    _wish(name, site, wishes.release)


@study.command("discard")
def study_discard(name: Name, site: Site = None) -> None:
    """Leave a study unread that is still open or waits to be read; its images stay."""
    _wish(name, site, wishes.discard)


def _wish(name: str, site: Site, wish: Callable[..., str]) -> None:
    store = open_store(open_place(site).settings.store.path)
    try:
        study_uid = _find(store, name)
        text = wish(store, study_uid, by=pwd.getpwuid(os.getuid()).pw_name)
    finally:
        store.close()
    console.print(f"Study {study_uid}: {text}.", markup=False)


def _find(store: Store, name: str) -> str:
    found = find_studies(store, name)
    if len(found) != 1:
        known = f"{len(found)} studies have" if found else "no study has"
        more = f": {', '.join(found)}" if found else ""
        raise StoreError(f"{known} this Study Instance UID or Accession Number{more}")
    return found[0]
