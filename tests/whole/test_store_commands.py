"""The store's commands on a node that runs: what was acknowledged before a backup is there after a restore (I10), a
lost index comes back without anything being sent twice, an erased study is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread

from node.process import without_settings
from node.store.database import open_store
from node.store.files import name_of
from node.store.schema import ASSIGNMENTS
from node.supervisor import stop_running
from tests.faults.running import RunningNode, running_node

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]
STUDY = "2.25.4712."


def _run(node: RunningNode, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from node.cli import main; main()", *words, "--site", str(node.site)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**without_settings(os.environ), "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def _json(node: RunningNode, *words: str, code: int = 0) -> Any:
    return json.loads(_run(node, "store", *words, "--json", code=code))


def _radiograph(folder: Path, number: str, *, image: int = 1) -> Path:
    ds = dcmread(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY + number, f"{STUDY}{number}.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}{number}.1.{image}"
    ds.AccessionNumber, ds.PatientID = f"A{number}", f"CANARY-{number}"
    path = folder / f"{number}-{image}.dcm"
    ds.save_as(path)
    return path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    with running_node(tmp_path) as found:
        yield found


def _send(node: RunningNode, folder: Path, *numbers: str) -> None:
    node.send([_radiograph(folder, number) for number in numbers], until=time.monotonic() + 60)


def _kill_all(node: RunningNode) -> None:
    for role, pid in sorted(node.processes().items(), key=lambda item: item[0] != "supervisor"):
        if not role.startswith("child"):
            node.kill(pid)


def _open_anew(node: RunningNode) -> None:
    """The test's own connections belong to the files of before."""
    node.store.close()
    node.store = open_store(node.settings.store.path)


def _files_that_say(root: Path, patient: bytes) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and patient in path.read_bytes()]


def test_what_was_acknowledged_before_a_backup_is_there_and_delivered_once_after_a_restore(
    node: RunningNode, tmp_path: Path
) -> None:
    _send(node, tmp_path, "1")
    node.wait_until_at_rest(timeout_s=120)
    first = _json(node, "backup", str(tmp_path / "backups"))
    os.kill(node.processes()["worker"], signal.SIGSTOP)  # what comes now is acknowledged and goes no further
    _send(node, tmp_path, "2")
    second = _json(node, "backup", str(tmp_path / "backups"))
    assert (second["files"], second["copied"]) == (first["files"] + 1, 1)
    assert "is running" in _run(node, "store", "restore", str(tmp_path / "backups"), "--force", code=1)
    _kill_all(node)
    assert "holds something already" in _run(node, "store", "restore", str(tmp_path / "backups"), code=1)

    said = _run(node, "store", "restore", str(tmp_path / "backups"), "--force")
    assert "with the same SOP Instance UIDs" in said
    _open_anew(node)
    assert _json(node, "verify")["damage"] == []
    node.start()
    node.wait_until_at_rest(timeout_s=120)
    assert len(node.ris.receipts()) == 2
    node.check()


def test_a_broken_index_keeps_the_node_from_starting_and_is_rebuilt_without_anything_sent_twice(
    node: RunningNode, tmp_path: Path
) -> None:
    _send(node, tmp_path, "1")
    node.wait_until_at_rest(timeout_s=120)
    delivered, messages = sorted(node.pacs.instances()), node.ris.receipts()
    assert "stop it first" in _run(node, "store", "recover", code=1)
    stop_running(node.settings)
    node.store.close()
    database = node.settings.store.path / "wetread.db"
    content = bytearray(database.read_bytes())
    content[:100] = b"\xa5" * 100
    database.write_bytes(content)
    assert "wetread store recover" in _run(node, "start", code=1)

    found = _json(node, "recover")
    assert (found["studies"], found["instances"], found["reported"], found["reopened"]) == (1, 1, 1, 0)
    assert _json(node, "verify")["damage"] == []
    assert "whether they were delivered is not known" in _run(node, "explain", "A1")
    _open_anew(node)
    node.start()
    node.send([_radiograph(tmp_path, "1", image=2)], until=time.monotonic() + 60)
    node.wait_until_at_rest(timeout_s=120)
    assert set(delivered) < set(node.pacs.instances())
    first, second = node.ris.receipts()
    assert [first] == messages
    assert b"|C|" in second  # the late image made a correction; nothing of before was sent again
    assert b"|C|" not in first
    with node.store.reading() as connection:
        query = sa.select(ASSIGNMENTS.c.generation, ASSIGNMENTS.c.handler).order_by(ASSIGNMENTS.c.generation)
        assert connection.execute(query).all() == [(1, "chest_xray"), (2, "chest_xray")]


def test_damage_is_found_and_named_and_an_erased_study_is_gone(node: RunningNode, tmp_path: Path) -> None:
    _send(node, tmp_path, "1", "2")
    node.wait_until_at_rest(timeout_s=120)
    assert "Everything is as it was written" in _run(node, "store", "verify")
    path = node.store.root / name_of(f"{STUDY}2.1.1")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (damage,) = _json(node, "verify", code=1)["damage"]
    assert (damage["kind"], damage["name"]) == ("instance", f"{STUDY}2.1.1")
    assert "was changed" in _run(node, "store", "verify", code=1)

    assert "for ever" in _run(node, "store", "erase", f"{STUDY}2", code=1)  # nobody said yes
    assert _json(node, "erase", f"{STUDY}2", "--yes")["instances"] == 1
    assert "no study has this" in _run(node, "explain", "A2", code=1)
    assert "no study" in _run(node, "store", "erase", f"{STUDY}2", "--yes", code=1)
    assert _json(node, "verify")["damage"] == []

    stop_running(node.settings)
    node.store.close()
    said = {patient: _files_that_say(node.store.root, patient) for patient in (b"CANARY-1", b"CANARY-2")}
    assert said[b"CANARY-1"]
    assert not said[b"CANARY-2"]

    _open_anew(node)
    node.acknowledged.clear()
    node.start()
    _send(node, tmp_path, "2")  # it may come again, and is then read like any other
    node.wait_until_at_rest(timeout_s=120)
    assert "ris took oru" in _run(node, "explain", "A2")


def test_a_disk_that_failed_is_believed_again_only_when_all_is_well(node: RunningNode) -> None:
    mark = node.store.root / "run" / "volume.bad"
    mark.write_text("fsync failed: Input/output error\n", encoding="utf-8")
    assert "verify --clear" in _run(node, "store", "verify", code=1)
    assert mark.exists()
    _run(node, "store", "verify", "--clear")
    assert not mark.exists()
