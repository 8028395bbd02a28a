"""What the documents say is so: links lead somewhere, commands exist, the example handler runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread

from node.api import Reading
from node.domain.study import Instance, Series
from node.infer import load_handler, load_handlers
from node.report import load_templates
from tests.phantoms_mr import as_study

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.parts[1:]))
DOCUMENTS = [path for path in DOCUMENTS if "demo" not in path.relative_to(ROOT).parts]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from node.cli import main; main()", "--help"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    for command in set(re.findall(r"wetread ([a-z]+)", text)):
        assert re.search(rf"\b{command}\b", done.stdout), command
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) <= set(targets)


def test_the_example_handler_is_whole_and_reads_a_real_image(tmp_path: Path) -> None:
    text = (ROOT / "handlers" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "bright_part.py").write_text(code, encoding="utf-8")
    handler = load_handler(tmp_path, "bright_part")
    path = Path(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    ds = dcmread(path, stop_before_pixels=True)
    instance = Instance(
        ds.SOPInstanceUID, ds.SOPClassUID, ds.file_meta.TransferSyntaxUID, ds.SeriesInstanceUID, path, 1, "0" * 64
    )
    series = Series(ds.SeriesInstanceUID, "CR", (instance,), {"StudyInstanceUID": ds.StudyInstanceUID})
    reading = handler.analyse(as_study(series), {})
    assert isinstance(reading, Reading)
    assert len(reading.findings[0].regions[0].points) == 4


def test_every_shipped_handler_has_its_template() -> None:
    templates = load_templates(ROOT / "sr_templates")
    for handler in load_handlers(ROOT / "handlers").values():
        assert handler.template in templates


def test_the_readme_picture_is_a_drawing_without_outside_references() -> None:
    text = (ROOT / "docs" / "flow.svg").read_text(encoding="utf-8")
    assert "<title>" in text
    assert not re.findall(r"(?:href|src)=", text)
