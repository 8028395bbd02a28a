"""Heads with one dense collection of known volume or none, and a midline moved by known millimetres."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from node.dicom.uid import derive_uid
from node.domain.volume import Affine
from tests.phantoms_ct import thorax, write_ct
from tests.phantoms_head import Blob, ct_head
from tools.evaluation.labels import Row, write_mask

__all__ = ["make"]

KIND, SHIFTED, LEAST_MM = "hyperdense_collection", "midline_shift", 5.0
COLLECTIONS = (
    Blob.ellipsoid((-32.0, 10.0, 20.0), (15.0, 12.0, 10.0), 65.0),
    Blob.ellipsoid((34.0, -20.0, 5.0), (9.0, 9.0, 9.0), 80.0),
    Blob.ellipsoid((30.0, 30.0, 30.0), (7.0, 7.0, 7.0), 60.0),
    Blob.ellipsoid((-28.0, -35.0, 12.0), (22.0, 17.0, 15.0), 70.0),
    Blob.lens("R", 22.0, 65.0),
    Blob.lens("L", 28.0, 75.0),
    Blob.crescent("L", 12.0, 65.0),
    Blob.crescent("R", 8.0, 70.0),
)
SHIFTS_MM = (0.0, 3.0, -4.0, 6.5, 7.0, 0.0, -8.0, 12.0, 0.0, 2.0, -6.0, 10.0)
"""One for each head, to the left positive; those beyond the collections have none."""


def make(folder: Path) -> Iterator[Row]:
    """Write the studies and masks; truth is what was drawn; a voxel is in the mask if half of it is."""
    for number, shift_mm in enumerate(SHIFTS_MM):
        patient = f"head-{number + 1}"
        blob = COLLECTIONS[number] if number < len(COLLECTIONS) else None
        uid = derive_uid("evaluation", "head_ct", patient)
        paths = ct_head(
            folder / "studies" / patient, [blob] if blob else [], shift_mm=shift_mm, seed=300 + number,
            PatientID=patient, StudyInstanceUID=uid,
        )  # fmt: skip
        yield Row(uid, patient, SHIFTED, label="1" if abs(shift_mm) >= LEAST_MM else "0")
        yield Row(uid, patient, quantity="shift", value=f"{abs(shift_mm):.2f}", value_unit="mm")
        yield Row(uid, patient, KIND, label="1" if blob else "0")
        if blob:
            inside, affine = _drawn(blob, paths)
            mask = write_mask(inside, affine, folder / f"{patient}.npz")
            yield Row(uid, patient, KIND, box=_box(inside, affine), box_unit="mm")
            yield Row(uid, patient, KIND, mask=mask, segment="collection")
            yield Row(uid, patient, KIND, quantity="volume", value=f"{blob.volume_ml:.3f}", value_unit="ml")
            yield Row(uid, patient, KIND, quantity="mean_hu", value=f"{blob.hu:.1f}", value_unit="[hnsf'U]")
    _write_others(folder / "others")


def _drawn(blob: Blob, paths: list[Path]) -> tuple[npt.NDArray[np.bool_], Affine]:
    """The collection on the grid of the slices, and where that lies in LPS mm."""
    first, second = (dcmread(path, stop_before_pixels=True) for path in paths[:2])
    low, step_mm = np.array(first.ImagePositionPatient, np.float64), float(first.PixelSpacing[0])
    up = np.array(second.ImagePositionPatient, np.float64) - low
    affine = np.eye(4)
    affine[:3, :3] = np.array([up, [0.0, step_mm, 0.0], [step_mm, 0.0, 0.0]]).T
    affine[:3, 3] = low
    z, y, x = np.meshgrid(
        low[2] + up[2] * np.arange(len(paths)),
        low[1] + step_mm * np.arange(first.Rows),
        low[0] + step_mm * np.arange(first.Columns),
        indexing="ij",
    )
    share = np.mean([blob.holds(x, y, z + part * up[2]) for part in (-0.4, -0.2, 0.0, 0.2, 0.4)], axis=0)
    return share >= 0.5, affine


def _box(inside: npt.NDArray[np.bool_], affine: Affine) -> str:
    """Two corners around the whole collection: a thin crescent falls apart on a grid and is one all the same."""
    found = np.argwhere(inside)
    corners = [affine[:3] @ (*end, 1.0) for end in (found.min(axis=0) - 0.5, found.max(axis=0) + 0.5)]
    return " ".join(f"{at:.2f}" for corner in corners for at in corner)


def _write_others(folder: Path) -> None:
    """What cannot be read: half a head, a noisy one, one with something as bright as contrast agent, and a thorax."""
    bright = Blob.ellipsoid((20.0, 0.0, 20.0), (14.0, 14.0, 14.0), 180.0)
    heads: dict[str, tuple[tuple[Blob, ...], slice, float]] = {
        "half": ((), slice(16, None), 4.0),
        "noise": ((), slice(None), 25.0),
        "contrast": ((bright,), slice(None), 4.0),
    }
    for name, (blobs, part, noise_hu) in heads.items():
        uid = derive_uid("evaluation", "no plain head", name)
        ct_head(folder / name, blobs, part=part, noise_hu=noise_hu, PatientID=name, StudyInstanceUID=uid)
    uid = derive_uid("evaluation", "no plain head", "thorax")
    write_ct(
        thorax((), spacing_mm=(5.0, 1.2, 1.2), seed=9), folder / "thorax",
        PatientID="thorax", StudyInstanceUID=uid, BodyPartExamined="HEAD",
    )  # fmt: skip
