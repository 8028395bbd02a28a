"""A site with one small application, and studies whose truth is known: bright squares on films, a ball in a CT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from node.dicom.uid import derive_uid
from tests.phantoms import ct_slice, write_cr

BRIGHT = """
import numpy as np
from scipy import ndimage
from node.api import (Basis, Finding, Handler, HeatMap, Measurement, NotEvaluableError, Reading, Region, Segmentation,
                      Terms, read_image, stack)

THRESHOLD = {threshold}

def analyse(study, models):
    series = study.series[0]
    if series.header.get("BodyPartExamined") != "CHEST":
        raise NotEvaluableError("this is not a chest", key="not_chest")
    if series.header.get("SeriesDescription") == "broken":
        raise ValueError("a fault of the handler")
    return film(series.instances[0]) if series.modality == "CR" else volume(series)

def film(instance):
    image = read_image(instance)
    shown = image.array / 4095.0
    labels, count = ndimage.label(shown > THRESHOLD)
    findings = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = ((columns.start, rows.start), (columns.stop, rows.start), (columns.stop, rows.stop),
               (columns.start, rows.stop))
        points = tuple((float(x), float(y)) for x, y in box)
        region = Region(instance.sop_instance_uid, points)
        score = float(shown[rows, columns].max())
        findings.append(Finding(f"bright-{{number}}", "bright", regions=(region,), score=score))
    heat = np.clip(shown - 0.3, 0, 1).astype(np.float32)
    heat_map = HeatMap(instance.sop_instance_uid, heat, image.display, "brightness", float(shown.max()), THRESHOLD)
    return Reading((instance.sop_instance_uid,), tuple(findings), (heat_map,))

def volume(series):
    found = stack(series)
    mask = found.array > 50
    ml = float(mask.sum() * abs(np.linalg.det(found.affine[:3, :3])) / 1000)
    finding = Finding("ball-1", "ball", measurements=(Measurement("volume", ml, "ml"),), is_abnormal=False)
    part = Segmentation("ball", mask, found.affine, found.sop_instance_uids, "ball-1")
    return Reading(found.sop_instance_uids, (finding,), (), (part,))

handler = Handler(
    name="bright", version="{version}", manufacturer="Physics", basis=Basis.LEARNED, template="bright",
    terms=Terms(modalities=("CR", "CT")), analyse=analyse, parameters=(("threshold", str(THRESHOLD)),),
    time_limit_s=60.0, memory_limit_mb=4096,
)
"""
SIDE = 96
SQUARE = 12


def write_site(folder: Path, *, version: str = "1.0", threshold: float = 0.6) -> Path:
    (folder / "handlers").mkdir(parents=True)
    (folder / "models").mkdir()
    text = BRIGHT.format(version=version, threshold=threshold)
    (folder / "handlers" / "bright.py").write_text(text, encoding="utf-8")
    return folder


def write_film(
    folder: Path, name: str, squares: Sequence[tuple[int, int, float]] = (), *, seed: int = 0, **header: object
) -> str:
    """A film with bright squares, each as (row, column, brightness); gives its Study Instance UID."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = 0.3 + np.random.default_rng(seed).normal(0, 0.01, (SIDE, SIDE))
    for row, column, brightness in squares:
        picture[row : row + SQUARE, column : column + SQUARE] = brightness
    uid = derive_uid("film", name)
    stored = (np.clip(picture, 0, 1) * 4095).astype(np.uint16)
    attributes = {"StudyInstanceUID": uid, "PatientID": f"CANARY-{name}", "ManufacturerModelName": "One"} | header
    write_cr(stored, folder / f"{name}.dcm", **attributes)
    return uid


def box_of(row: int, column: int) -> str:
    return f"{column} {row} {column + SQUARE} {row + SQUARE}"


def write_ball(folder: Path, name: str, *, radius_mm: float = 20.0) -> tuple[str, np.ndarray]:
    """A ball of 100 HU in a CT of 16 slices, 5 mm apart, 64 x 64 pixels of 1 mm; its UID and its mask."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = derive_uid("ball", name)
    slices, rows, columns = np.mgrid[:16, :64, :64]
    mask = (((slices - 7.5) * 5) ** 2 + (rows - 31.5) ** 2 + (columns - 31.5) ** 2) < radius_mm**2
    for number in range(16):
        values = np.where(mask[number], 100, 0).astype(np.int16)
        ct_slice(folder / f"{name}-{number:02d}.dcm", number=number, values_hu=values, StudyInstanceUID=uid,
                 PatientID=f"CANARY-{name}", BodyPartExamined="CHEST")  # fmt: skip
    return uid, mask
