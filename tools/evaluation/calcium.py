"""Hearts with even boxes of calcium, whose Agatston score, volume and mask are known by hand; some without."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from node.dicom.uid import derive_uid
from tests.phantoms_ct import heart, write_ct
from tests.phantoms_head import ct_head
from tools.evaluation.labels import Row, write_mask

__all__ = ["make"]

WITH_CALCIUM, WITHOUT = 9, 3
KIND = "calcium_candidates"
PLACES = ((-5, 60), (-3, 40), (0, 25), (3, 50), (10, 30), (14, 20))  # slice from the middle, column from the spine
HEADER: dict[str, Any] = {"BodyPartExamined": "HEART", "HeartRate": 62}


def make(folder: Path) -> Iterator[Row]:
    """Write the studies and masks; boxes lie on one slice each, so that the sum can be made by hand."""
    for number in range(WITH_CALCIUM + WITHOUT):
        random = np.random.default_rng(200 + number)
        patient = f"heart-{number + 1}"
        boxes = _boxes(random) if number < WITH_CALCIUM else ()
        grid, agatston = heart(boxes, seed=200 + number)
        uid = derive_uid("evaluation", "calcium", patient)
        write_ct(grid, folder / "studies" / patient, PatientID=patient, StudyInstanceUID=uid, **HEADER)
        volume = sum(rows * columns * 3.0 for _, _, rows, columns, _ in boxes)
        yield Row(uid, patient, KIND, label="1" if boxes else "0")
        yield Row(uid, patient, KIND, quantity="agatston", value=f"{agatston:.3f}", value_unit="1")
        yield Row(uid, patient, KIND, quantity="calcium_volume", value=f"{volume:.3f}", value_unit="mm3")
        yield Row(uid, patient, KIND, quantity="lesion_count", value=str(len(boxes)), value_unit="1")
        if boxes:
            # The boxes are the only voxels that differ from the same heart without them.
            truth = grid.array != heart((), seed=200 + number)[0].array
            mask = write_mask(truth, grid.volume().affine, folder / f"{patient}.npz")
            yield Row(uid, patient, KIND, mask=mask, segment="calcium")
    _write_others(folder / "others")


def _boxes(random: np.random.Generator) -> tuple[tuple[int, int, int, int, float], ...]:
    """One to five boxes of every density class on slices of their own."""
    chosen = random.permutation(len(PLACES))[: int(random.integers(1, 6))]
    return tuple(
        (*PLACES[place], int(random.integers(1, 7)), int(random.integers(1, 7)), float(random.integers(131, 900)))
        for place in chosen
    )


def _write_others(folder: Path) -> None:
    """What has no score by the definition: blood with contrast, too much noise, metal, and a head called a heart."""
    spoilt = {
        "contrast": heart((), blood_hu=300.0)[0],
        "noise": heart((), noise_hu=60.0)[0],
        "metal": heart([(0, 50, 3, 3, 2800.0)])[0],
    }
    for name, grid in spoilt.items():
        uid = derive_uid("evaluation", "no calcium scan", name)
        write_ct(grid, folder / name, PatientID=name, StudyInstanceUID=uid, **HEADER)
    uid = derive_uid("evaluation", "no calcium scan", "head")
    ct_head(folder / "head", slice_mm=3.0, PatientID="head", StudyInstanceUID=uid, **HEADER)
