"""The commands, run as a person runs them, on a node that really runs."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from node.demo.pacs import SmallPacs
from node.demo.ris import DemoRis
from node.demo.run import demo_site

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(200)


def _run(*words: str, code: int = 0, cwd: Path = ROOT, path: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from node.cli import main; main()", *words],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": str(path), "COLUMNS": "200", **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def _json(*words: str) -> Any:
    return json.loads(_run(*words, "--json"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("cli")
    pacs = SmallPacs(folder / "pacs")
    pacs.start()
    with DemoRis(folder / "ris") as ris:
        made = demo_site(folder / "site", pacs_port=pacs.port, pacs_ae=pacs.ae_title, ris_port=ris.port)
        yield str(made)
        _run("stop", "--site", str(made))
    pacs.stop()


def test_a_study_is_sent_explained_and_audited_by_the_commands(site: str, tmp_path: Path) -> None:
    assert "port_is_free" in _json("check", "--site", site)
    assert "Running as WETREAD" in _run("start", "--site", site)
    assert "already runs" in _run("start", "--site", site, code=1)

    (tmp_path / "notes.txt").write_text("no DICOM file", encoding="utf-8")
    (tmp_path / "rg1.dcm").write_bytes(Path(str(get_testdata_file("RG1_UNCR.dcm", download=False))).read_bytes())
    assert _json("send", str(tmp_path), "--site", site) == {"sent": 1, "refused": []}
    assert "1 of 1 were taken" in _run("send", str(tmp_path), "--site", site)

    deadline_polls = 400
    for _ in range(deadline_polls):
        health = _json("status", "--site", site)
        if health["assignments"].get("reported") and not any(one["pending"] for one in health["destinations"]):
            break
    assert {one["name"]: one["accepted"] for one in health["destinations"]} == {"pacs": 3, "ris": 1}
    assert all(health["processes"].values())

    (events,) = _json("explain", "9RG1", "--site", site).values()
    assert events[0]["stage"] == "receive"
    assert "ris took oru" in _run("explain", "9RG1", "--site", site)
    assert "no study has this" in _run("explain", "nobody", "--site", site, code=1)
    assert _json("audit", "verify", "--site", site)["count"] >= 8
    assert "Stopped." in _run("stop", "--site", site)
    assert "No node was running." in _run("stop", "--site", site)
    assert not any(_json("status", "--site", site)["processes"].values())


def test_a_refused_file_gives_exit_code_1_and_its_status(site: str, tmp_path: Path) -> None:
    whole = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-1000])
    _run("start", "--site", site)
    assert "0xC000" in _run("send", str(tmp_path), "--site", site, code=1)
    _run("stop", "--site", site)
    assert "cannot be reached" in _run("send", str(tmp_path), "--site", site, "--port", "1", code=1)


def test_models_are_listed_and_a_wrong_file_is_named(site: str) -> None:
    models = _json("models", "list", "--site", site)
    assert [model["name"] for model in models] == ["brain_extraction", "lung_fields"]
    path = Path(site) / "models" / "brain_extraction" / "model.onnx"
    kept = path.read_bytes() if path.exists() else b""
    path.write_bytes(b"not a model")
    try:
        assert "wrong" in _run("models", "verify", "--site", site, code=1)
        assert "models fetch" in _run("check", "--site", site, code=1)
    finally:
        path.write_bytes(kept)


def test_a_mistake_in_the_site_is_one_line_with_its_place(tmp_path: Path) -> None:
    _run("init", str(tmp_path / "site"))
    config = tmp_path / "site" / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("quiet_s = 60.0", "quit_s = 60.0"), encoding="utf-8")
    said = _run("check", "--site", str(tmp_path / "site"), code=1)
    assert "no key 'quit_s'" in said
    assert "config.toml, line " in said
    assert "Traceback" not in said
    assert "already holds" in _run("init", str(tmp_path / "site"), code=1)
    assert "no config.toml" in _run("check", "--site", str(tmp_path), code=1)
    assert "names no table" in _run("check", code=1, WETREAD_DICON__PORT="1")


def test_the_wheel_carries_the_site_and_nothing_at_the_top(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert {name.split("/")[0] for name in names if not name.startswith("wetread-")} == {"node"}
    tracked = subprocess.run(
        ["git", "ls-files", "config.toml", "handlers", "models", "sr_templates"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    carried = {name.removeprefix("node/_site/") for name in names if name.startswith("node/_site/")}
    assert carried == set(tracked)
    _run("init", str(tmp_path / "site"), cwd=tmp_path, path=tmp_path / "installed")
    assert (tmp_path / "site" / "sr_templates" / "brain_mr.toml").is_file()


def test_a_check_names_a_secret_that_is_not_there(tmp_path: Path) -> None:
    _run("init", str(tmp_path / "site"))
    config = tmp_path / "site" / "config.toml"
    lines = ("[destinations.web]", 'kind = "http"', 'url = "https://127.0.0.1:1/x"', 'secret_variable = "NOT_THERE"')
    text = config.read_text(encoding="utf-8").replace("[[holds]]", "\n".join((*lines, "", "[[holds]]")), 1)
    config.write_text(text, encoding="utf-8")
    assert "NOT_THERE" in _run("check", "--site", str(tmp_path / "site"), code=1)
