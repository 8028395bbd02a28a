"""Every command and its options; what it does is elsewhere.

What only some commands need (the engine, models, the demonstration with its extra packages) is imported
when they run, so that ``wetread status`` answers at once.
"""

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from node import __version__, audit
from node.cli.conformance import conformance
from node.cli.context import Json, Site, console, open_place, print_json, print_table
from node.cli.dead_letters import letters
from node.cli.evaluate import register as register_evaluation
from node.cli.explain import explain
from node.cli.models import models
from node.cli.probe import probe
from node.cli.store import store_commands
from node.cli.study import study
from node.errors import ConfigError, ModelError, WetreadError
from node.health import look
from node.network.tls import check_tls
from node.paths import copy_site
from node.process import read_ready, roles
from node.store.database import open_store
from node.store.nightly import Share, last_share
from node.supervisor import main as supervise
from node.supervisor import running_pid, start_detached, stop_running

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
trail = typer.Typer(no_args_is_help=True, help="The audit trail.")
app.add_typer(models, name="models")
app.add_typer(trail, name="audit")
app.command()(conformance)
app.command()(explain)
register_evaluation(app)
app.command()(probe)
app.add_typer(store_commands, name="store")
app.add_typer(study, name="study")
app.add_typer(letters, name="dead-letters")


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Wetread gives the wet read: SR and heat map to the PACS, ORU to the RIS, before the study is opened."""
    if version:
        console.print(f"wetread {__version__}")
        raise typer.Exit


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="New folder for the site.")]) -> None:
    """Make a site: config.toml, handlers, models and sr_templates, to be changed by the hospital."""
    copy_site(folder)
    console.print(f"Made a site in {folder}. Next: wetread check --site {folder}", markup=False)


@app.command()
def check(site: Site = None, json: Json = False) -> None:
    """Check everything the site decides, without starting anything."""
    from node import infer
    from node.app import open_site
    from node.deliver.connections import connection_to

    place = open_place(site)
    check_tls(place.settings.dicom)
    loaded = open_site(place.folder, place.settings)
    for destination in place.settings.destinations.values():  # a missing secret or certificate is said here
        connection_to(destination, calling_ae=place.settings.dicom.ae_title).close()
    states = infer.model_states(place.folder / "models")
    used = {name for handler in loaded.handlers.values() for name in handler.models}
    missing = [state for state in states if state.name in used and state.state != infer.State.READY]
    port = place.settings.dicom.port
    is_free = not port or _is_free(place.settings.dicom.host, port) or running_pid(place.settings) is not None
    record = {
        "site": place.folder,
        "store": place.settings.store.path,
        "rules": [rule.name for rule in place.settings.rules],
        "handlers": sorted(loaded.handlers),
        "templates": sorted(loaded.templates),
        "models": {state.name: str(state.state) for state in states},
        "destinations": sorted(place.settings.destinations),
        "port_is_free": is_free,
    }
    if json:
        print_json(record)
    else:
        print_table("Site", ("what", "found"), [(key, _words(value)) for key, value in record.items()])
    if missing:
        raise ModelError(f"model {missing[0].name} is {missing[0].state}: run wetread models fetch")
    if not is_free:
        raise ConfigError(f"[dicom] port {port} on {place.settings.dicom.host} is taken by another program")


def _night(share: Share | None) -> str:
    if share is None:
        return "none yet"
    found = f"{len(share.damage)} damaged: run wetread store verify" if share.damage else "all as they were"
    return f"{share.at}, {share.instances} images, {found}"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@app.command()
def start(
    site: Site = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay in the foreground, for systemd.")] = False,
) -> None:
    """Start the node; returns when it is ready and leaves it running."""
    place = open_place(site)
    if foreground:
        sys.exit(supervise(["--site", str(place.folder)]))
    from node.app import open_site

    check_tls(place.settings.dicom)
    open_site(place.folder, place.settings).store.close()
    pid = start_detached(place.folder, place.settings)
    port = read_ready(place.settings.store.path / "run", "receiver").get("port", 0)
    dicom = place.settings.dicom
    console.print(f"Running as {dicom.ae_title} on {dicom.host}:{port}, process {pid}.", markup=False)


@app.command()
def stop(site: Site = None) -> None:
    """Stop the node: what is being received is finished, within 30 s; what is being read goes on at the next start."""
    console.print("Stopped." if stop_running(open_place(site).settings) else "No node was running.")


@app.command()
def status(site: Site = None, json: Json = False) -> None:
    """Show states, queues and destinations."""
    place = open_place(site)
    store = open_store(place.settings.store.path)
    health = look(store, place.settings, roles(place.settings.dicom.processes))
    store.close()
    if json:
        print_json(health)
        return
    rows: list[tuple[object, object]] = [
        (role, f"running, process {pid}" if pid else "not running") for role, pid in health.processes.items()
    ]
    rows += [
        ("listening on", f"{place.settings.dicom.ae_title} {place.settings.dicom.host}:{health.port or '-'}"),
        ("listening on, TLS", health.tls_port or "-"),
        ("free disk", f"{health.free_mb} MB"),
        ("studies", f"{health.studies}, {health.open_studies} still being received"),
        ("waiting for a series", health.waiting),
        ("held as QA", f"{health.held}, see wetread study list" if health.held else 0),
        ("instances", health.instances),
        ("in quarantine", health.quarantined),
        ("last nightly check", _night(last_share(place.settings.store.path))),
        ("taken by no rule", health.unrouted),
        ("given up without a result", f"{health.without_result}, see wetread explain" if health.without_result else 0),
        ("readings", ", ".join(f"{count} {state}" for state, count in sorted(health.assignments.items())) or "none"),
    ]
    print_table("Node", ("what", "now"), rows)
    print_table(
        "Destinations",
        ("name", "address", "waiting", "accepted", "verified", "dead letters", "last error"),
        [
            (one.name, one.address, one.pending, one.accepted, one.verified, one.dead_letters, one.last_error)
            for one in health.destinations
        ],
    )


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.", exists=True)],
    site: Site = None,
    host: Annotated[str | None, typer.Option(help="Address; this site's node if not given.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; this site's node if not given.")] = None,
    called_ae: Annotated[str | None, typer.Option(help="AE title of the receiver.")] = None,
    calling_ae: Annotated[str, typer.Option(help="Our AE title for this.")] = "WETREADSCU",
    json: Json = False,
) -> None:
    """Send DICOM files or folders to the node, as a modality would."""
    from node.send import Sent, dicom_files, send_files

    place = open_place(site)
    running_port = read_ready(place.settings.store.path / "run", "receiver").get("port", place.settings.dicom.port)
    files = dicom_files(paths)
    if not files:
        raise WetreadError("no DICOM file was found there: a file must have DICM at byte 128")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=json) as progress:
        bar = progress.add_task("sending", total=len(files))

        def advance(_sent: Sent) -> None:
            progress.advance(bar)

        results = send_files(
            files,
            host=host or place.settings.dicom.host.replace("0.0.0.0", "127.0.0.1"),  # noqa: S104  we connect to it
            port=port or running_port,
            called_ae=called_ae or place.settings.dicom.ae_title,
            calling_ae=calling_ae,
            on_sent=advance,
        )
    refused = [result for result in results if not result.is_taken]
    if json:
        print_json({"sent": len(results), "refused": [{"path": one.path, "status": one.status} for one in refused]})
    else:
        console.print(f"{len(results) - len(refused)} of {len(results)} were taken.")
        for one in refused:
            code = "no answer" if one.status is None else f"0x{one.status:04X}"
            console.print(f"  {one.path}: {code}", markup=False)
    if refused:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what comes back; made anew.")] = Path("demo/out"),
    json: Json = False,
) -> None:
    """Show it all on this machine: a PACS, a RIS, a node, and two real studies through all of them."""
    try:
        from node.demo.run import run_demo
    except ModuleNotFoundError as error:
        raise ConfigError(f"the demonstration needs {error.name}: pip install 'wetread[demo]'") from error

    summary = run_demo(out, Console(stderr=True) if json else console)
    if json:
        print_json(summary)


@trail.command("verify")
def audit_verify(site: Site = None, json: Json = False) -> None:
    """Prove that no audit record was changed, removed or added; exit code 1 and the record's number if one was."""
    store = open_store(open_place(site).settings.store.path)
    with store.reading() as connection:
        found = audit.verify(connection, store.key, store.root / "audit.anchor")
    store.close()
    if json:
        print_json(found)
    else:
        console.print(f"The audit trail is whole: {found.count} records, {found.first_at} to {found.last_at}.")
