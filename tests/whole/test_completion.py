"""A running node, a sender that can be asked what it holds, and a person with the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from node.demo.pacs import OrthancPacs
from node.explain import story
from node.process import read_ready
from node.store.schema import GENERATIONS, STUDIES
from tests.faults.running import RunningNode, running_node, wait_until
from tests.peers.orthanc import orthanc
from tests.phantoms import chest_phantom, write_cr
from tests.unit.report.studies import mr_study

pytestmark = [pytest.mark.peer, pytest.mark.timeout(200)]

ROOT = Path(__file__).parents[2]
STUDY = "2.25.100"  # of mr_study: seven slices, which no handler takes
SENDER_AE = "SENDER"
REQUIRING = """
[[rules]]
name = "needs a lateral view"
handler = "chest_xray"
when = { Modality = "CR" }
requires = [{ ViewPosition = "LL" }]
destinations = ["pacs"]
"""


@dataclass(frozen=True)
class Sender:
    """Orthanc, as a modality's archive that sends by C-STORE and answers C-FIND."""

    pacs: OrthancPacs

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = requests.request(method, f"http://127.0.0.1:{self.pacs.http_port}{path}", timeout=20, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def keep(self, path: Path) -> str:
        return str(self.call("POST", "/instances", data=path.read_bytes())["ID"])

    def knows(self, port: int) -> None:
        node = {"AET": "WETREAD", "Host": "127.0.0.1", "Port": port, "AllowFind": True, "LocalAet": SENDER_AE}
        self.call("PUT", "/modalities/wetread", json=node)

    def send(self, ids: list[str]) -> None:
        self.call("POST", "/modalities/wetread/store", json={"Resources": ids, "LocalAet": SENDER_AE})


@dataclass(frozen=True)
class Both:
    node: RunningNode
    sender: Sender

    def rows(self, study: str = STUDY) -> list[Any]:
        with self.node.store.reading() as connection:
            mine = sa.select(GENERATIONS).where(GENERATIONS.c.study_uid == study)
            return list(connection.execute(mine.order_by(GENERATIONS.c.generation)))

    def study(self, study: str = STUDY) -> Any:
        with self.node.store.reading() as connection:
            return connection.execute(sa.select(STUDIES).where(STUDIES.c.study_uid == study)).one_or_none()

    def command(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from node.cli import main; main()", *words, "--site", str(self.node.site)],
            capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def story(self, study: str = STUDY) -> str:
        return "\n".join(event.text for event in story(self.node.store, study))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("completion")
    with orthanc(folder / "sender") as pacs:
        found = f'{{ ae_title = "{SENDER_AE}", host = "127.0.0.1", port = {pacs.port}, called_ae = "{pacs.ae_title}" }}'

        def change(text: str) -> str:
            text = text.replace("senders = []", f"senders = [{found}]").replace("quiet_s = 60.0 ", "quiet_s = 600.0 ")
            return text.replace("[[rules]]", f"{REQUIRING}\n[[rules]]", 1)

        with running_node(folder / "node", change=change) as node:
            sender = Sender(pacs)
            sender.knows(read_ready(node.store.root / "run", "receiver")["port"])
            yield Both(node, sender)


def test_a_study_that_its_sender_sends_in_parts_is_one_generation(both: Both, tmp_path: Path) -> None:
    ids = [both.sender.keep(instance.path) for instance in mr_study(tmp_path, slices=7).instances]
    both.sender.send(ids[:3])
    wait_until(lambda: (row := both.study()) is not None and row.expected_count == 7, timeout_s=40, what="it was asked")
    assert (both.study().is_open, both.rows()) == (True, [])
    assert "its sender holds 7 images" in both.story()
    both.sender.send(ids[3:])
    wait_until(lambda: bool(both.rows()), timeout_s=40, what="the study settled")
    (row,) = both.rows()
    assert (row.signal, row.instance_count, row.basis) == ("count", 7, "the sender holds 7")
    assert "all images that the sender holds are here" in both.story()


def _film(folder: Path, number: int) -> tuple[Path, str]:
    uid = f"2.25.300.{number}"
    header = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPInstanceUID": f"{uid}.1.1"}
    image, _ = chest_phantom()
    return write_cr(image, folder / f"{number}.dcm", AccessionNumber=f"FILM{number}", ViewPosition="PA", **header), uid


def test_a_study_that_waits_for_a_series_is_read_when_a_person_says_so(both: Both, tmp_path: Path) -> None:
    path, uid = _film(tmp_path, 1)
    both.node.send([path], until=float("inf"))
    wait_until(lambda: [row.state for row in both.rows(uid)] == ["waiting"], timeout_s=40, what="it waits")
    listed = {one["study_uid"]: one for one in json.loads(both.command("study", "list", "--json"))}
    assert (listed[uid]["state"], listed[uid]["accession_number"]) == ("waiting", "FILM1")
    assert "rule 'needs a lateral view' waits" in listed[uid]["reason"]
    assert "waits for no series any more" in both.command("study", "complete", "FILM1")
    both.node.wait_until_at_rest(timeout_s=100)
    assert [row.state for row in both.rows(uid)] == ["routed"]
    assert "did not take it: required series not there when a person called the study whole" in both.story(uid)
    assert "is whole already" in both.command("study", "complete", "FILM1", code=1)
    assert "was read already" in both.command("study", "discard", uid, code=1)


def test_a_discarded_study_is_not_read_and_one_nobody_knows_is_an_error(both: Both, tmp_path: Path) -> None:
    path, uid = _film(tmp_path, 2)
    both.node.send([path], until=float("inf"))
    wait_until(lambda: [row.state for row in both.rows(uid)] == ["waiting"], timeout_s=40, what="it waits")
    assert "will not be read" in both.command("study", "discard", "FILM2")
    assert [row.state for row in both.rows(uid)] == ["discarded"]
    assert "no study has this" in both.command("study", "discard", "FILM404", code=1)


def test_afterwards_the_node_is_at_rest_and_every_invariant_holds(both: Both) -> None:
    both.node.wait_until_at_rest(timeout_s=60)
    both.node.check()
