"""Programs of other makers that judge the result objects: dciodvfy, dsrdump, tid1500reader."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ALLOWED_WARNING", "dciodvfy", "dsrdump", "tid1500reader"]

# IHE AI Results 6.5.3.1 asks for a Device UID in Contributing Equipment; dciodvfy's table of 2024 does not know it.
ALLOWED_WARNING = "Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID"
ITS_CONSEQUENCE = "this is a Standard Extended SOP Class"


def dciodvfy(path: Path) -> list[str]:
    """What dciodvfy has against a file, without the one allowed warning; empty if nothing."""
    done = subprocess.run([_program("dciodvfy"), str(path)], capture_output=True, text=True, timeout=60, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    complaints = [line for line in lines if line.startswith(("Error", "Warning"))]
    others = [line for line in complaints if ALLOWED_WARNING not in line]
    if len(others) < len(complaints):
        others = [line for line in others if not line.endswith(ITS_CONSEQUENCE)]
    return others + ([f"exit {done.returncode}"] if done.returncode else [])


def dsrdump(path: Path) -> str:
    """The document as DCMTK prints it, long texts whole; fails the test if DCMTK cannot read it."""
    command = [_program("dsrdump"), "+Pl", "+U8", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8")


def tid1500reader(path: Path, out: Path) -> dict[str, Any]:
    """The measurements as dcmqi reads them."""
    command = [_program("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    content: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return content


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
