"""Readers of other makers that show or walk result objects: dcmjs, and DCMTK's presentation states."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from pydicom.datadict import dictionary_VR

__all__ = ["faults_of_presentation", "shown_with", "walk_with_dcmjs"]

WALK = Path(__file__).parent / "js" / "walk.js"
NPM_PACKAGES = Path(sys.prefix) / "peers" / "node_modules"  # tools/npm_packages.sh puts them there
LIMIT_S = 60.0


def walk_with_dcmjs(files: Sequence[Path]) -> list[dict[str, Any]]:
    """What dcmjs finds in each file, with every content item of a report."""
    if shutil.which("node") is None or not (NPM_PACKAGES / "dcmjs").is_dir():
        pytest.skip("dcmjs is not installed (tools/npm_packages.sh)")
    environment = {**os.environ, "NODE_PATH": str(NPM_PACKAGES)}
    said = _run("node", WALK, *files, environment=environment)
    found: list[dict[str, Any]] = json.loads(said.strip("\n").split("\n")[-1])
    return found


def faults_of_presentation(state: Path) -> set[str]:
    """Attributes of a presentation state in which DCMTK finds a fault.

    Its check of 3.6.7 knows neither UTF-8 nor an offset to UTC in a DT, which PS3.5 6.2 both allow.
    """
    said = _run("dcmpschk", state)
    named = set(re.findall(r"Affected attribute: (\w+)", said))
    assert named or "Test passed" in said, said
    return {keyword for keyword in named if dictionary_VR(keyword) not in ("PN", "LO", "ST", "DT")}


def shown_with(state: Path, image: Path, out: Path) -> npt.NDArray[np.uint8]:
    """The grey image as DCMTK shows it by a presentation state, without its outlines."""
    _run("dcmp2pgm", "-p", state, image, out)
    with Pillow.open(out) as picture:
        return np.asarray(picture.convert("L"))


def _run(name: str, *words: object, environment: dict[str, str] | None = None) -> str:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    command = [program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False, env=environment)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
