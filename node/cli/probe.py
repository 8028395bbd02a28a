"""The command ``wetread probe``: what a destination accepts, before anything is sent to it."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from node.cli.context import Json, Site, console, open_place, print_json, print_table
from node.deliver.probe import Probe
from node.deliver.probe_others import probe_folder, probe_ris, probe_web
from node.deliver.probe_pacs import probe_pacs
from node.errors import ConfigError
from node.settings import Destination, DicomDestination, FolderDestination, Hl7Destination

__all__ = ["probe"]


def probe(
    name: Annotated[str, typer.Argument(help="Name of a destination in config.toml.", metavar="DEST")],
    site: Site = None,
    json: Json = False,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Send a RIS an ORU of no patient, marked T in MSH-11.")
    ] = False,
) -> None:
    """Find out what a destination accepts, and propose its block for config.toml; exit code 1 if it cannot be used."""
    settings = open_place(site).settings
    destination = settings.destinations.get(name)
    if destination is None:
        known = ", ".join(settings.destinations) or "none"
        raise ConfigError(f"there is no [destinations.{name}]; known are {known}")
    found = _probe(destination, calling_ae=settings.dicom.ae_title, is_test_sent=send_test)
    if json:
        print_json(found)
    else:
        marks = {True: "yes", False: "NO", None: "-"}
        rows = [(one.what, marks[one.works], one.found, one.meaning) for one in found.findings]
        print_table(f"{name}, {destination.address}", ("what", "works", "found", "what it means"), rows)
        if found.proposal:
            console.print(f"\nProposed for config.toml:\n\n{found.proposal}", markup=False, soft_wrap=True)
    if not found.is_usable:
        raise typer.Exit(1)


def _probe(destination: Destination, *, calling_ae: str, is_test_sent: bool) -> Probe:
    if isinstance(destination, DicomDestination):
        return probe_pacs(destination, calling_ae=calling_ae)
    if isinstance(destination, Hl7Destination):
        return probe_ris(destination, is_test_sent=is_test_sent, now=datetime.now(UTC))
    if isinstance(destination, FolderDestination):
        return probe_folder(destination)
    return probe_web(destination)
