"""Whole nodes in bad times: a PACS and a RIS that are down half of the time, and processes that are killed."""

import json
import random
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from bench.sender import free_port
from node.demo.pacs import DemoPacs
from node.demo.ris import DemoRis
from node.store.schema import ASSIGNMENTS, DELIVERIES
from tests.faults.killing import kill_at_random
from tests.faults.running import RunningNode, running_node
from tests.invariants import check_stat_first
from tests.soak.objects import NAME_CANARY, PATIENT_CANARY, chance_of, make_object, write_part10

__all__ = ["soak_flapping", "soak_kills"]

IMAGES = 2  # of each study
STAT_EVERY = 7
PHASE_S = (0.5, 6.0)
KILL_PAUSE_S = (0.2, 2.5)
PART_S = 1.0
REST_S = 120.0  # after the last kill or the last image, however little time was asked for
WAITS = {
    r"^sweep_every_s = 60.0": "sweep_every_s = 5.0",
    r"^first_retry_s = 1.0": "first_retry_s = 0.5",
    r"^max_retry_s = 900.0": "max_retry_s = 4.0",
}

HANDLER = """
from node.api import Basis, Handler, Reading, Terms

def analyse(study, models):
    return Reading(tuple(instance.sop_instance_uid for instance in study.instances))

handler = Handler(
    name="look", version="1", manufacturer="Tests", basis=Basis.RULE_BASED, template="chest_xray",
    terms=Terms(modalities=("CT",)), analyse=analyse,
)
"""
RULES = """
[[rules]]
name = "urgent ones"
handler = "look"
when = {{ StudyID = {stat} }}
priority = "stat"
destinations = ["pacs", "ris"]

[[rules]]
name = "all others"
handler = "look"
when = {{ Modality = "CT", StudyID = {routine} }}
priority = "routine"
destinations = ["pacs", "ris"]
"""


def soak_flapping(folder: Path, *, studies: int, seed: str, limit_s: float) -> dict[str, str]:
    """Let PACS and RIS be up half of the time until everything is delivered; the figures."""
    start = time.monotonic()
    with _node(folder, studies) as node:
        over = threading.Event()
        flaps: Counter[str] = Counter()
        peers = {"pacs": node.pacs, "ris": node.ris}
        threads = [
            threading.Thread(target=_flap, args=(name, peer, chance_of(seed, name), over, flaps))
            for name, peer in peers.items()
        ]
        for thread in threads:
            thread.start()
        try:
            node.send(_files(folder, studies, seed), until=start + limit_s)
            node.wait_until_at_rest(timeout_s=max(REST_S, limit_s - (time.monotonic() - start)))
        finally:
            over.set()
            for thread in threads:
                thread.join()
        _check(node, studies)
        check_stat_first(node.store)
        tries, most = _attempts(node)
    return {
        "studies": f"{studies} in {time.monotonic() - start:.0f} s",
        "outages of the PACS, of the RIS": f"{flaps['pacs']}, {flaps['ris']}",
        "attempts for each delivery, most": f"{tries:.1f}, {most}",
        "not delivered, delivered twice": "0, 0",
    }


def soak_kills(folder: Path, *, kills: int, studies: int, seed: str, limit_s: float) -> dict[str, str]:
    """Kill any process at any moment while studies come in; the figures."""
    start = time.monotonic()
    with _node(folder, studies, receivers=2) as node:
        files = _files(folder, studies, seed)
        share = -(-len(files) // max(1, kills // 4))  # so that there is work as long as there are kills
        sender = threading.Thread(target=_send_in_parts, args=(node, files, share, start + limit_s))
        sender.start()
        killed = kill_at_random(node, chance_of(seed, "kills"), count=kills, pause_s=KILL_PAUSE_S)
        sender.join(limit_s)
        assert not sender.is_alive()
        assert sorted(node.acknowledged) == sorted(files)
        node.wait_until_at_rest(timeout_s=max(REST_S, limit_s - (time.monotonic() - start)))
        _check(node, studies)
    hit = ", ".join(f"{role} {count}" for role, count in sorted(Counter(killed).items()))
    return {
        "kills": f"{kills}: {hit}",
        "studies": f"{studies} in {time.monotonic() - start:.0f} s",
        "not delivered, delivered twice": "0, 0",
    }


@contextmanager
def _node(folder: Path, studies: int, *, receivers: int = 1) -> Iterator[RunningNode]:
    """A node whose one handler looks at nothing, so that a study costs little; short waits."""
    waits = {**WAITS, r"^processes = 1": f"processes = {receivers}", r"^port = 0": f"port = {free_port()}"}

    def change(config: str) -> str:
        stat = [str(number) for number in range(studies) if number % STAT_EVERY == 0]
        routine = [str(number) for number in range(studies) if number % STAT_EVERY]
        head = config.partition("[[rules]]")[0]
        for pattern, replacement in waits.items():
            head, count = re.subn(pattern, replacement, head, count=1, flags=re.MULTILINE)  # [dicom] is first
            assert count == 1, pattern
        return head + RULES.format(stat=json.dumps(stat), routine=json.dumps(routine))

    def prepare(site: Path) -> None:
        shutil.rmtree(site / "handlers")
        (site / "handlers").mkdir()
        (site / "handlers" / "look.py").write_text(HANDLER, encoding="utf-8")

    folder.mkdir(parents=True)
    with running_node(folder, change=change, prepare=prepare) as node:
        node.canaries = (NAME_CANARY, PATIENT_CANARY)
        yield node


def _files(folder: Path, studies: int, seed: str) -> list[Path]:
    out = folder / "files"
    out.mkdir()
    return [
        write_part10(out / f"{number:05d}.dcm", make_object(seed, number, per_study=IMAGES, rows=16))
        for number in range(studies * IMAGES)
    ]


def _send_in_parts(node: RunningNode, files: list[Path], share: int, until: float) -> None:
    for first in range(0, len(files), share):
        node.send(files[first : first + share], until=until)
        time.sleep(PART_S)


def _flap(
    name: str, peer: DemoPacs | DemoRis, chance: random.Random, over: threading.Event, flaps: "Counter[str]"
) -> None:
    """Down for a while, up for as long on average; up at the end."""
    while not over.wait(chance.uniform(*PHASE_S)):
        peer.stop()
        flaps[name] += 1
        over.wait(chance.uniform(*PHASE_S))
        peer.start()


def _check(node: RunningNode, studies: int) -> None:
    node.check()
    with node.store.reading() as connection:
        states = Counter(connection.execute(sa.select(ASSIGNMENTS.c.state)).scalars())
        deliveries = Counter(connection.execute(sa.select(DELIVERIES.c.state)).scalars())
    assert states == {"reported": studies}, f"readings ended so: {states}"
    assert set(deliveries) <= {"accepted", "verified"}, f"deliveries ended so: {deliveries}"


def _attempts(node: RunningNode) -> tuple[float, int]:
    with node.store.reading() as connection:
        attempts = list(connection.execute(sa.select(DELIVERIES.c.attempts)).scalars())
    return sum(attempts) / len(attempts), max(attempts)
