"""Handler files are loaded strictly, and a bad one is named with its line."""

from pathlib import Path

import pytest

from node.errors import HandlerError
from node.infer.handlers import load_handler, load_handlers
from tests.unit.infer.sites import write_handler


def test_every_file_of_the_folder_is_a_handler_by_its_name(tmp_path: Path) -> None:
    write_handler(tmp_path, "chest")
    write_handler(tmp_path, "brain")
    (tmp_path / "handlers" / "_draft.py").write_text("this is not Python", encoding="utf-8")
    (tmp_path / "handlers" / "README.md").write_text("words", encoding="utf-8")
    handlers = load_handlers(tmp_path / "handlers")
    assert list(handlers) == ["brain", "chest"]
    assert handlers["chest"].version == "1.2"


def test_one_handler_is_loaded_without_running_the_others(tmp_path: Path) -> None:
    write_handler(tmp_path, "good")
    (tmp_path / "handlers" / "bad.py").write_text("1 / 0\n", encoding="utf-8")
    assert load_handler(tmp_path / "handlers", "good").name == "good"
    with pytest.raises(HandlerError, match=r"no handler 'absent'"):
        load_handler(tmp_path / "handlers", "absent")


@pytest.mark.parametrize(
    "statement",
    [
        "import node",
        "import node.settings",
        "import node.api, node.errors as e",
        "from node import settings",
        "from node import *",
        "from node.dicom.read import read_dataset",
        "from node.api.inner import x",
        "from . import neighbour",
        "from .neighbour import x",
        "def late():\n    import node.store.files",
    ],
)
def test_a_handler_that_imports_more_of_ours_than_the_api_is_refused(tmp_path: Path, statement: str) -> None:
    path = write_handler(tmp_path, "greedy")
    path.write_text(path.read_text(encoding="utf-8") + statement + "\n", encoding="utf-8")
    with pytest.raises(HandlerError, match=r"greedy\.py, line 1\d: imports .*node\.api and nothing else"):
        load_handlers(tmp_path / "handlers")


@pytest.mark.parametrize(
    "statement", ["import node.api", "from node import api", "import numpy, nodeless_module_is_lazy"]
)
def test_the_api_and_foreign_packages_may_be_imported(tmp_path: Path, statement: str) -> None:
    path = write_handler(tmp_path, "modest")
    guarded = f"def later():\n    {statement}\n"
    path.write_text(path.read_text(encoding="utf-8") + guarded, encoding="utf-8")
    assert list(load_handlers(tmp_path / "handlers")) == ["modest"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def (", r"line 1: not Python"),
        ("x = 1\n", r"expected a Handler named 'handler', found none"),
        ("handler = 3\n", r"expected a Handler named 'handler', found int"),
        ("import sys\n\nsys.exit(0)\n", r"line 3: SystemExit when loaded"),
        ("\nx = 1 / 0\n", r"line 2: ZeroDivisionError when loaded"),
        ("import a_package_nobody_has\n", r"line 1: ModuleNotFoundError when loaded"),
        ("x = '\x00'\n", r"not Python"),
    ],
)
def test_a_file_that_is_no_handler_is_named_with_what_was_expected(tmp_path: Path, content: str, said: str) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "broken.py").write_text(content, encoding="utf-8")
    with pytest.raises(HandlerError, match=rf"broken\.py.*{said}"):
        load_handlers(folder)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name="odd"', 'name="other"', "name must be 'odd'"),
        ('version="1.2"', 'version=""', "version, manufacturer and template"),
        ("basis=Basis.LEARNED", 'basis="guess"', "basis must be a Basis"),
        ("models=()", 'models="lung_fields"', "models must be a tuple"),
        ('("bones",)', '"bones"', "not_looked_at must be a tuple"),
        ('"0.5"', "0.5", "parameters must be pairs of texts"),
        ('"0.5"', '"5" * 65', "at most 64 characters"),
        ('modalities=("CT",)', 'modalities="CT"', "modalities must be a tuple"),
        ("time_limit_s=60.0", "time_limit_s=0", "time_limit_s must be positive"),
        ("memory_limit_mb=4096", "memory_limit_mb=0", "memory_limit_mb must be positive"),
        ("analyse=analyse", "analyse=None", "analyse must be a function"),
    ],
)
def test_a_record_with_a_wrong_field_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = write_handler(tmp_path, "odd")
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(HandlerError, match=said):
        load_handlers(tmp_path / "handlers")


def test_a_site_without_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match="expected a folder of handlers"):
        load_handlers(tmp_path / "handlers")


def publish(packages: Path, name: str, content: str) -> None:
    """An installed package that publishes a handler, as `importlib.metadata` sees one."""
    (packages / f"{name}_package.py").write_text(content, encoding="utf-8")
    info = packages / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[node.handlers]\n{name} = {name}_package:handler\n", encoding="utf-8")


def test_a_package_may_publish_a_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, packages = tmp_path / "site", tmp_path / "packages"
    packages.mkdir()
    content = write_handler(site, "bought").read_text(encoding="utf-8")
    (site / "handlers" / "bought.py").unlink()
    publish(packages, "bought", content)
    monkeypatch.syspath_prepend(packages)
    assert list(load_handlers(site / "handlers")) == ["bought"]
    assert load_handler(site / "handlers", "bought").name == "bought"
    write_handler(site, "bought")
    with pytest.raises(HandlerError, match="of that name already"):
        load_handlers(site / "handlers")


def test_a_published_handler_is_held_to_the_same_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "handlers").mkdir()
    publish(tmp_path, "reaching", "import node.settings\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HandlerError, match=r"reaching_package\.py, line 1: imports node\.settings"):
        load_handlers(tmp_path / "handlers")
