"""The demonstration: two real studies over the network, through the node, to a PACS and a RIS."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from node.demo.pacs import DemoPacs, OrthancPacs, open_pacs
from node.demo.ris import DemoRis
from node.demo.samples import Sample, make_samples
from node.demo.summary import StudySummary, by_control_id, collect, progress_of
from node.errors import ConfigError
from node.paths import copy_site
from node.process import read_ready, without_settings
from node.send import Sent, send_files
from node.settings import Settings, load_settings
from node.store.database import Store, open_store
from node.supervisor import start_detached, stop_running

__all__ = ["demo_site", "run_demo"]

LONGEST_WAIT_S = 180.0
POLL_S = 0.2
MOST_SHOWN = 3
BAR = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def run_demo(out: Path, console: Console) -> list[StudySummary]:
    """Push sample studies through a node of their own and write down what came back.

    Parameters
    ----------
    out
        Made anew: DICOM objects as the PACS holds them, a PNG of every heat map, every ORU as the RIS
        got it, ``summary.json``; below ``run/`` what the three programs kept.

    Returns
    -------
    One summary for each study and handler. Nothing is left running, also after an error.
    """
    shutil.rmtree(out, ignore_errors=True)
    run = out / "run"
    run.mkdir(parents=True)
    samples, missing = make_samples(run / "samples")
    for reason in missing:
        console.print(f"Left out: {reason}", markup=False, style="yellow")
    with open_pacs(run / "pacs") as pacs, DemoRis(run / "ris") as ris, Progress(*BAR, console=console) as progress:
        is_orthanc = isinstance(pacs, OrthancPacs)
        console.print(
            f"PACS: {'Orthanc' if is_orthanc else 'a storage SCP of our own'}, port {pacs.port}.  RIS: port {ris.port}."
        )
        with _node(run / "site", pacs, ris) as (settings, port):
            console.print(f"Node: {settings.dicom.ae_title}, port {port}.")
            store = open_store(settings.store.path)
            try:
                for sample in samples:
                    _send(sample, port, settings, progress)
                _wait(store, samples, progress)
                receipts = by_control_id(ris.receipts())
                summary = [
                    one
                    for sample in samples
                    for one in collect(
                        store, sample.name, sample.study_instance_uid, pacs=pacs, receipts=receipts, out=out
                    )
                ]
            finally:
                store.close()
    (out / "summary.json").write_text(
        json.dumps([asdict(one) for one in summary], indent=2, ensure_ascii=False), encoding="utf-8"
    )
    _print(summary, out, console)
    return summary


def demo_site(folder: Path, *, pacs_port: int, pacs_ae: str, ris_port: int) -> Path:
    """Make a site that talks to this PACS and RIS, listens on a free port and does not wait long."""
    copy_site(folder)
    config = folder / "config.toml"
    text = config.read_text(encoding="utf-8")
    changes = {
        r"^port = 11112": "port = 0",
        r"^port = 4242": f"port = {pacs_port}",
        r"^port = 2575": f"port = {ris_port}",
        r'^ae_title = "ORTHANC"': f'ae_title = "{pacs_ae}"',
        r"^after_release_s = 5.0": "after_release_s = 1.0",
        r"^first_retry_s = 5.0": "first_retry_s = 1.0",
        r"^refuse_below_free_mb = 2048": "refuse_below_free_mb = 256",
    }
    for pattern, replacement in changes.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if count != 1:
            raise ConfigError(f"the bundled config.toml has no line that matches {pattern}")
    config.write_text(text, encoding="utf-8")
    return folder


@contextmanager
def _node(folder: Path, pacs: DemoPacs, ris: DemoRis) -> Iterator[tuple[Settings, int]]:
    site = demo_site(folder, pacs_port=pacs.port, pacs_ae=pacs.ae_title, ris_port=ris.port)
    settings = load_settings(site / "config.toml", {})
    start_detached(site, settings, environment=without_settings(os.environ))
    try:
        yield settings, read_ready(settings.store.path / "run", "receiver")["port"]
    finally:
        stop_running(settings)


def _send(sample: Sample, port: int, settings: Settings, progress: Progress) -> None:
    bar = progress.add_task(f"sending {sample.title}", total=len(sample.files))

    def advance(_sent: Sent) -> None:
        progress.advance(bar)

    send_files(
        sample.files,
        host="127.0.0.1",
        port=port,
        called_ae=settings.dicom.ae_title,
        calling_ae="DEMO",
        on_sent=advance,
    )


def _wait(store: Store, samples: tuple[Sample, ...], progress: Progress) -> None:
    bars = {sample: progress.add_task(f"results of {sample.title}", total=None) for sample in samples}
    deadline = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < deadline:
        found = {sample: progress_of(store, sample.study_instance_uid) for sample in samples}
        for sample, one in found.items():
            progress.update(bars[sample], completed=one.finished, total=one.known or None)
        if all(one.is_over for one in found.values()):
            return
        time.sleep(POLL_S)


NAMES = {
    "text_sr": "SR, text",
    "measurement_sr": "SR, measurements",
    "heat_map": "heat map",
    "segmentation": "SEG",
    "oru": "ORU",
}


def _print(summary: list[StudySummary], out: Path, console: Console) -> None:
    table = Table(title="What came back", title_justify="left", show_lines=True)
    table.add_column("study")
    table.add_column("handler", no_wrap=True)
    table.add_column("findings", ratio=1, overflow="fold")
    table.add_column("taken by PACS and RIS", no_wrap=True)
    table.add_column("s", justify="right")
    for one in summary:
        said = [f"- {sentence}" for sentence in one.findings[:MOST_SHOWN]] or [
            one.reason or one.status.replace("_", " ")
        ]
        if len(one.findings) > MOST_SHOWN:
            said.append(f"and {len(one.findings) - MOST_SHOWN} more")
        cells = (
            one.name,
            one.handler,
            "\n".join(said),
            "\n".join(_delivered(one, kind) for kind in NAMES if kind in one.receipts),
            "-" if one.seconds is None else f"{one.seconds:.1f}",
        )
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    console.print(table)
    console.print(
        f"In {out}: *.dcm as the PACS holds them, *.png of every heat map, *.hl7 as the RIS got them, summary.json.",
        markup=False,
    )


def _delivered(one: StudySummary, kind: str) -> str:
    count = len(one.files.get(kind, ()))
    return f"{NAMES[kind]}: {one.receipts[kind]}" + (f" ({count} of them)" if count > 1 else "")
