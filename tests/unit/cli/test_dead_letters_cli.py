"""``wetread dead-letters`` as a person and as a program use it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.cli.commands import app
from node.store.database import open_store
from node.store.outbox import mark_dead, pending_deliveries
from tests.unit.rows import assign, message, report

CONFIG = """
[store]
path = "store"

[destinations.ris]
kind = "hl7"
host = "127.0.0.1"
port = 2575
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    store = open_store(tmp_path / "store")
    for destination, name, study in (("ris", "M1", "2.25.1"), ("gone", "M2", "2.25.2")):
        item = assign(store, study=study)
        report(store, item, [(message(store, name), destination)])
        (delivery,) = pending_deliveries(store, item.assignment_id, destination)
        mark_dead(store, delivery, "answered AE")
    store.close()
    return tmp_path


def _run(site: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["dead-letters", *words, "--site", str(site)])


def test_the_list_shows_accession_numbers_only_when_asked(site: Path) -> None:
    records = json.loads(_run(site, "list", "--json").stdout)
    assert [(one["output_id"], one["reason"]) for one in records] == [("M1", "answered AE"), ("M2", "answered AE")]
    assert "A-2.25.1" not in _run(site, "list").stdout + _run(site, "list", "--json").stdout
    assert "A-2.25.1" in _run(site, "list", "--accession").stdout


def test_one_is_sent_again_and_another_is_dropped(site: Path) -> None:
    done = _run(site, "retry", "M1")
    assert (done.exit_code, "M1@ris: will be sent again" in done.stdout) == (0, True)
    assert _run(site, "drop", "M2", "--reason", "by hand").exit_code == 0
    assert json.loads(_run(site, "list", "--json").stdout) == []


def test_all_are_sent_again_but_what_cannot_is_told(site: Path) -> None:
    done = _run(site, "retry", "--all", "--json")
    assert done.exit_code == 1
    said = {one["delivery_id"]: one["reason"] for one in json.loads(done.stdout)}
    assert said == {"M1@ris": "", "M2@gone": "there is no [destinations.gone] any more"}


def test_a_person_must_say_which(site: Path) -> None:
    for words in (["retry"], ["retry", "M1", "--all"], ["drop", "--reason", "x"]):
        assert _run(site, *words).exit_code == 1
    assert _run(site, "drop", "M1").exit_code == 2
    assert len(json.loads(_run(site, "list", "--json").stdout)) == 2
