"""Thoraxes with one solid, one ground glass and one part-solid nodule each, and some with vessels only."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.dicom.uid import derive_uid
from tests.phantoms_ct import LUNG, SOFT, Grid, Nodule, thorax, write_ct
from tests.phantoms_head import ct_head
from tools.evaluation.labels import Row, box_around, write_mask

__all__ = ["make"]

SPACING_MM = (1.5, 1.2, 1.2)
WITH_NODULES, WITHOUT = 6, 2
KINDS = ("solid_nodule", "ground_glass_nodule", "part_solid_nodule")
APART_MM, FROM_WALL_MM = 45.0, 4.0


def make(folder: Path) -> Iterator[Row]:
    """Write the studies and masks; truth is position, volume and diameter of every ball that was drawn."""
    places, depths_mm = _lung_places()
    for number in range(WITH_NODULES + WITHOUT):
        random = np.random.default_rng(100 + number)
        nodules = _nodules(random, places, depths_mm) if number < WITH_NODULES else ()
        patient = f"chest-{number + 1}"
        grid = thorax(nodules, spacing_mm=SPACING_MM, seed=100 + number)
        uid = derive_uid("evaluation", "chest_ct", patient)
        write_ct(grid, folder / "studies" / patient, PatientID=patient, StudyInstanceUID=uid)
        for kind in ("", *KINDS):
            if not nodules:
                yield Row(uid, patient, kind, label="0")
        for kind, nodule in zip(KINDS, nodules, strict=False):
            box = box_around(nodule.centre, nodule.diameter_mm / 2.0)
            yield Row(uid, patient, label="1", box=box, box_unit="mm")
            yield Row(uid, patient, kind, label="1", box=box, box_unit="mm")
            volume, axis = f"{1000.0 * nodule.volume_ml:.2f}", f"{nodule.diameter_mm:.2f}"
            yield Row(uid, patient, kind, quantity="volume", value=volume, value_unit="mm3")
            yield Row(uid, patient, kind, quantity="long_axis", value=axis, value_unit="mm")
        if nodules:
            mask = write_mask(_mask(grid, nodules), grid.volume().affine, folder / f"{patient}.npz")
            yield Row(uid, patient, mask=mask, segment="nodules")
    _write_others(folder / "others")


def _lung_places() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """LPS mm of places in the lungs, and how deep they lie."""
    empty = thorax((), spacing_mm=(4.0, 4.0, 4.0), noise_hu=0.0, has_vessels=False)
    depth_mm = 4.0 * ndimage.distance_transform_edt(np.abs(empty.array - LUNG) < 1.0)
    found = np.argwhere(depth_mm > 0)
    return found[:, ::-1] * 4.0 + np.array(empty.origin), depth_mm[depth_mm > 0]


def _nodules(
    random: np.random.Generator, places: npt.NDArray[np.float64], depths_mm: npt.NDArray[np.float64]
) -> tuple[Nodule, ...]:
    """One of each density at random, away from the wall and from each other."""
    found: list[Nodule] = []
    sizes = random.uniform(5.0, 14.0), random.uniform(9.0, 20.0), random.uniform(12.0, 22.0)
    for kind, diameter_mm in zip(KINDS, sizes, strict=True):
        fits = depths_mm > diameter_mm / 2.0 + FROM_WALL_MM
        for other in found:
            fits &= np.linalg.norm(places - np.array(other.centre), axis=1) > APART_MM
        chosen = places[random.choice(np.flatnonzero(fits))] + random.uniform(-1.5, 1.5, 3)
        x, y, z = (float(at) for at in chosen)
        is_solid, core_mm = kind == "solid_nodule", diameter_mm * 0.45 if kind == "part_solid_nodule" else 0.0
        found.append(Nodule((x, y, z), float(diameter_mm), SOFT if is_solid else -620.0, core_mm))
    return tuple(found)


def _mask(grid: Grid, nodules: tuple[Nodule, ...]) -> npt.NDArray[np.bool_]:
    z, y, x = grid.axes()
    mask = np.zeros(grid.array.shape, np.bool_)
    for nodule in nodules:
        left, back, up = nodule.centre
        mask |= (x - left) ** 2 + (y - back) ** 2 + (z - up) ** 2 <= (nodule.diameter_mm / 2.0) ** 2
    return mask


def _write_others(folder: Path) -> None:
    """What is no chest though its header says so: a head, and a thorax without its top and without its bottom."""
    uid = derive_uid("evaluation", "not a chest", "head")
    ct_head(folder / "head", slice_mm=2.5, PatientID="head", StudyInstanceUID=uid, BodyPartExamined="CHEST")
    whole = thorax((), spacing_mm=(2.5, 1.2, 1.2), seed=7)
    for name, part in (("top", slice(0, 66)), ("bottom", slice(50, 116))):
        low = (whole.origin[0], whole.origin[1], whole.origin[2] + part.start * 2.5)
        cut = Grid(whole.array[part].copy(), whole.spacing_mm, low)
        uid = derive_uid("evaluation", "not a chest", name)
        write_ct(cut, folder / f"without-{name}", PatientID=f"without-{name}", StudyInstanceUID=uid)
