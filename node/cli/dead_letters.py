"""``wetread dead-letters``: what was given up and why; send it again, or leave it."""

import os
import pwd
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from node.cli.context import Json, Place, Site, console, open_place, print_json, print_table
from node.errors import StoreError, WetreadError
from node.store.database import Store, open_store
from node.store.dead_letters import DeadLetter, dead_letters, drop, retry

__all__ = ["letters"]

letters = typer.Typer(no_args_is_help=True, help="Dead letters: results that were given up; retry or drop them.")

Names = Annotated[list[str] | None, typer.Argument(help="Output ids as listed; OUTPUT@DESTINATION for one of several.")]
To = Annotated[str, typer.Option("--destination", help="Only those for this destination.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@letters.command("list")
def letters_list(
    site: Site = None,
    json: Json = False,
    destination: To = "",
    accession: Annotated[bool, typer.Option("--accession", help="Show Accession Numbers, too.")] = False,
) -> None:
    """Show every dead letter: what, for whom, since when, why."""
    store = open_store(open_place(site).settings.store.path)
    found = dead_letters(store, destination=destination)
    store.close()
    if json:
        print_json([_record(one, accession=accession) for one in found])
        return
    columns = ["output", "kind", "destination", "since", "study", "reason"]
    rows = [[one.output_id, one.kind, one.destination, _age(one), one.study_uid, one.reason] for one in found]
    if accession:
        columns.insert(5, "accession")
        for row, one in zip(rows, found, strict=True):
            row.insert(5, one.accession_number)
    print_table("Dead letters", columns, rows)


def _record(one: DeadLetter, *, accession: bool) -> dict[str, object]:
    record = asdict(one)
    if not accession:
        del record["accession_number"]
    return record


def _age(one: DeadLetter) -> str:
    hours = max(0.0, time.time() - one.since) / 3600
    return f"{hours / 24:.0f} d" if hours >= 48 else f"{hours:.1f} h"


@letters.command("retry")
def letters_retry(
    names: Names = None, site: Site = None, json: Json = False, destination: To = "", everything: All = False
) -> None:
    """Send dead letters again: same bytes, same UIDs and control ids. A running node does so at its next sweep."""
    place = open_place(site)

    def again(store: Store, letter: DeadLetter, by: str) -> str:
        if letter.destination not in place.settings.destinations:
            return f"there is no [destinations.{letter.destination}] any more"
        return retry(store, letter, by=by)

    _each(place, names, destination, everything=everything, json=json, act=again, done="will be sent again")


@letters.command("drop")
def letters_drop(
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the audit trail. No patient data.")],
    names: Names = None,
    site: Site = None,
    json: Json = False,
    destination: To = "",
    everything: All = False,
) -> None:
    """Leave dead letters for good."""

    def leave(store: Store, letter: DeadLetter, by: str) -> str:
        return drop(store, letter, reason, by=by)

    _each(open_place(site), names, destination, everything=everything, json=json, act=leave, done="dropped")


def _each(
    place: Place,
    names: list[str] | None,
    destination: str,
    *,
    everything: bool,
    json: bool,
    act: Callable[[Store, DeadLetter, str], str],
    done: str,
) -> None:
    if sum((bool(names), bool(destination), everything)) != 1:
        raise WetreadError("say which: outputs, --destination NAME, or --all")
    store = open_store(place.settings.store.path)
    by = pwd.getpwuid(os.getuid()).pw_name
    try:
        found = dead_letters(store, names=names or (), destination=destination)
        said = {one.delivery_id: act(store, one, by) for one in found}
    finally:
        store.close()
    if json:
        print_json([{"delivery_id": key, "is_done": not why, "reason": why} for key, why in said.items()])
    else:
        for key, why in said.items():
            console.print(f"{key}: {why or done}", markup=False)
        if not said:
            console.print("There are none.")
    if any(said.values()):
        raise StoreError(f"{sum(map(bool, said.values()))} of {len(said)} were left as they are")
