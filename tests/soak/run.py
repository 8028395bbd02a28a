"""The long form of the soak tests: ``python -m tests.soak.run --minutes 60 --seed 1``, or ``make soak``.

Each part gets its share of the time and its full count; a part that is out of time says how far it came.
A table of figures is printed at the end. The exit code is 1 if a promise was broken or a part could not
run; the folder of a part that failed stays, with everything that its processes wrote.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.log import configure_logging
from tests.soak.cuts import soak_cuts
from tests.soak.flapping import soak_flapping, soak_kills
from tests.soak.hostile import soak_file_mutations, soak_wire_mutations
from tests.soak.power import need_mount, soak_power
from tests.soak.senders import soak_senders
from tests.soak.tracing import need_strace

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class Part:
    """A soak test: its name, its share of the time, and how to run it in a folder until a moment."""

    name: str
    share: float
    run: Callable[[Path, float], dict[str, str]]


def parts_of(seed: str, minutes: float) -> tuple[Part, ...]:
    """All parts; counts of those that cannot stop half way shrink when there is little time."""
    scale = min(1.0, minutes / 60)

    def count(full: int, least: int) -> int:
        return max(least, round(full * scale))

    def cuts(folder: Path, until: float) -> dict[str, str]:
        need_strace()
        return soak_cuts(folder, seed=seed, most=None, until=until)

    def power(folder: Path, until: float) -> dict[str, str]:
        need_mount(folder.parent)
        return soak_power(folder, cuts=30, seed=seed, until=until)

    return (
        Part(
            "senders",
            0.15,
            lambda folder, until: soak_senders(
                folder, senders=16, objects=count(20_000, 400), seed=seed, limit_s=_left(until) * 1.5
            ),
        ),
        Part(
            "broken conversations",
            0.05,
            lambda folder, until: soak_wire_mutations(folder, count=10_000, seed=seed, until=until),
        ),
        Part(
            "broken objects",
            0.08,
            lambda folder, until: soak_file_mutations(folder, count=10_000, seed=seed, until=until),
        ),
        Part("power cuts", 0.07, power),
        Part("cut system calls", 0.35, cuts),
        Part(
            "flapping PACS and RIS",
            0.15,
            lambda folder, until: soak_flapping(folder, studies=count(200, 6), seed=seed, limit_s=_left(until) * 2),
        ),
        Part(
            "kill -9",
            0.15,
            lambda folder, until: soak_kills(
                folder, kills=count(200, 5), studies=count(100, 4), seed=seed, limit_s=_left(until) * 2
            ),
        ),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="about how long in all")
    parser.add_argument("--seed", default="1", help="the same seed makes the same faults")
    parser.add_argument("--only", default="", help="run the parts whose name holds this word")
    parser.add_argument("--folder", type=Path, help="where to work; a new one here if not given")
    asked = parser.parse_args(arguments)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="soak-", dir=Path.cwd()))
    folder.mkdir(parents=True, exist_ok=True)
    configure_logging("error", "text")  # the node's own words stand in the evidence
    rows: list[tuple[str, str, str]] = []
    is_good = True
    for part in parts_of(asked.seed, asked.minutes):
        if asked.only not in part.name:
            continue
        found, is_well = _run(part, folder.resolve(), asked.minutes * 60 * part.share)
        rows += [(part.name, name, value) for name, value in found.items()]
        is_good = is_good and is_well
    _say("\n| soak | figure | value |\n|---|---|---|")
    for row in rows:
        _say(f"| {' | '.join(row)} |")
    if is_good:
        shutil.rmtree(folder)
    else:
        _say(f"\nThe evidence is in {folder}")
    return 0 if is_good else 1


def _run(part: Part, folder: Path, seconds: float) -> tuple[dict[str, str], bool]:
    """Run a part; what it found, and whether every promise was kept. A part that breaks must not end the others."""
    _say(f"{part.name}: about {seconds / 60:.1f} min ...")
    place, start = folder / part.name.replace(" ", "_"), time.monotonic()
    try:
        found = part.run(place, start + seconds)
    except pytest.skip.Exception as reason:
        _say(f"{part.name}: NOT RUN: {reason}")
        return {"not run": str(reason)}, False
    except Exception as error:  # noqa: BLE001  a part's edge: what went wrong is said, and its folder is kept
        _say(f"{part.name}: FAILED\n{traceback.format_exc()}")
        return {"FAILED": str(error).splitlines()[0][:200] if str(error) else type(error).__name__}, False
    _say(f"{part.name}: held, {time.monotonic() - start:.0f} s")
    shutil.rmtree(place, ignore_errors=True)
    return found, True


def _left(until: float) -> float:
    return until - time.monotonic()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
