"""Rows of a labels file as docs/evaluation.md describes them, and mask files beside it."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from node.domain.volume import Affine

__all__ = ["Row", "box_around", "write_labels", "write_mask"]

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a study, what is there or not, and one box, mask or number of it; empty where not said."""

    study_uid: str
    patient: str
    kind: str = ""
    label: str = ""
    box: str = ""
    box_unit: str = ""
    mask: str = ""
    segment: str = ""
    quantity: str = ""
    value: str = ""
    value_unit: str = ""


def write_labels(rows: Iterable[Row], path: Path) -> None:
    """Write the labels file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def write_mask(mask: npt.NDArray[np.bool_], affine: Affine, path: Path) -> str:
    """Write ``mask[slice, row, column]`` with its place in LPS mm; the name that a row gives it."""
    np.savez_compressed(path, mask=mask.astype(np.uint8), affine=affine)
    return path.name


def box_around(middle: Sequence[float], half_mm: float) -> str:
    """Two corners, LPS mm."""
    return " ".join(f"{at + way * half_mm:.2f}" for way in (-1, 1) for at in middle)
