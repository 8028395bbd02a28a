"""One real head, Colin27, stored as a scanner may store it, four times, with the brain mask that comes with it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from node.demo.colin27 import AXIAL, CORONAL, FLIPPED, SAGITTAL, TEMPLATES, load_colin27, reorient, write_mr_series
from node.dicom.uid import derive_uid
from tests.phantoms_ct import thorax
from tools.evaluation.labels import Row, write_mask

__all__ = ["make"]

KIND = "brain_volume"
STORED = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "flipped": FLIPPED}
NOT_T1: dict[str, object] = {"SeriesDescription": "T2 TSE", "ProtocolName": "t2_tse"}


def make(folder: Path) -> Iterator[Row]:
    """Write the studies and the mask; all four are one patient, so that no interval pretends to more heads."""
    if not (TEMPLATES / "ch2bet.nii.gz").is_file():
        raise SystemExit(f"{TEMPLATES} is not there: it is the package mricron-data of Debian and Ubuntu")
    head, affine = load_colin27()
    brain, brain_affine = load_colin27("ch2bet")
    mask = write_mask(brain > 0, brain_affine, folder / "brain.npz")
    volume_ml = float((brain > 0).sum()) * abs(float(np.linalg.det(brain_affine[:3, :3]))) / 1000.0
    for name, storage in STORED.items():
        uid = derive_uid("evaluation", "brain", name)
        stored, place = reorient(head, affine, storage)
        _write(stored, place, folder / "studies" / name, uid)
        yield Row(uid, "colin27", KIND, mask=mask, segment="brain")
        yield Row(uid, "colin27", KIND, quantity="volume", value=f"{volume_ml:.2f}", value_unit="ml")
    others = folder / "others"
    _write(brain, brain_affine, others / "stripped", derive_uid("evaluation", "no head", "stripped"))
    _write(head[:110], affine, others / "cut", derive_uid("evaluation", "no head", "cut"))
    _write(head[:, :130], affine, others / "half", derive_uid("evaluation", "no head", "half"))
    _write(head, affine, others / "t2", derive_uid("evaluation", "no head", "t2"), **NOT_T1)
    chest = thorax((), spacing_mm=(3.0, 3.0, 3.0), noise_hu=0.0)
    grey = np.clip(chest.array + 1000.0, 0.0, 1500.0)
    _write(grey, chest.volume().affine, others / "thorax", derive_uid("evaluation", "no head", "thorax"))


def _write(
    array: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
    affine: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    folder: Path,
    uid: str,
    **header: object,
) -> None:
    write_mr_series(
        array, affine, folder, StudyInstanceUID=uid, PatientID="colin27", AccessionNumber=uid[-8:], **header
    )
