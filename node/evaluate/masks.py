"""Reference masks from NIfTI, NPZ and DICOM SEG files, brought onto the grid of the application's own mask."""

import importlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt
from pydicom.errors import InvalidDicomError
from scipy import ndimage

from node.dicom.elements import PARSE_FAULTS
from node.domain.findings import Segmentation
from node.domain.volume import Affine, Mask
from node.errors import EvaluationError
from node.evaluate.geometry import Plane, PlaneKey
from node.evaluate.labels import ReferenceMask, SpaceBox

__all__ = ["Reference", "lesions_of", "on_grid", "read_mask"]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
FAULTS = (*PARSE_FAULTS, RuntimeError, InvalidDicomError, zipfile.BadZipFile, zlib.error)
MOST_LESIONS = 200  # more parts than that is noise in the mask, or the wrong file


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A mask and where it lies: `affine` takes its own index (three numbers and 1) to LPS mm.

    `sop_instance_uids` names the image of each slice where the file says that instead.
    """

    mask: Mask
    affine: Affine | None
    sop_instance_uids: tuple[str, ...] = ()


def read_mask(reference: ReferenceMask, planes: Mapping[PlaneKey, Plane]) -> Reference:
    """Read a mask file by its ending.

    Raises
    ------
    EvaluationError
        If it cannot be read, is no mask in three dimensions, or does not say where it lies.
    """
    name = reference.path.name.lower()
    if not reference.path.is_file():
        raise EvaluationError(f"{reference.path}: the mask file is not there")
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _nifti(reference)
        return _npz(reference, planes) if name.endswith(".npz") else _seg(reference)
    except EvaluationError:
        raise
    except FAULTS as error:
        raise EvaluationError(f"{reference.path}: no mask can be read from it: {type(error).__name__}") from error


def _nifti(reference: ReferenceMask) -> Reference:
    nibabel = _extra("nibabel")
    try:
        image = nibabel.load(reference.path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError("no NIfTI image") from error
    array = np.asarray(image.dataobj)
    return Reference(_chosen(array, reference), RAS_TO_LPS @ np.asarray(image.affine, np.float64))


def _npz(reference: ReferenceMask, planes: Mapping[PlaneKey, Plane]) -> Reference:
    """``mask`` in the order (slice, row, column), with ``affine`` (LPS mm) or ``sop_instance_uids``."""
    with np.load(reference.path, allow_pickle=False) as stored:
        mask = _chosen(stored["mask"], reference)
        if "affine" in stored:
            return Reference(mask, np.asarray(stored["affine"], np.float64))
        uids = tuple(str(uid) for uid in stored["sop_instance_uids"])
    if len(uids) != len(mask):
        raise EvaluationError(f"{reference.path}: must name one image for each slice")
    return Reference(mask, _affine_of(uids, planes), uids)


def _affine_of(uids: tuple[str, ...], planes: Mapping[PlaneKey, Plane]) -> Affine | None:
    found = [planes.get((uid, None)) for uid in uids]
    placed = [plane for plane in found if plane is not None and plane.to_lps is not None and plane.half_mm is not None]
    if len(placed) != len(uids):
        return None
    first, last = placed[0], placed[-1]
    assert first.to_lps is not None and last.to_lps is not None and first.half_mm is not None  # noqa: S101, PT018
    starts = [plane.to_lps @ (0.5, 0.5, 1.0) for plane in (first, last) if plane.to_lps is not None]
    step = (starts[1] - starts[0]) / (len(uids) - 1) if len(uids) > 1 else 2.0 * first.half_mm
    affine = np.eye(4)
    affine[:3] = np.stack([step, first.to_lps[:, 1], first.to_lps[:, 0], starts[0]], axis=1)
    return affine


def _seg(reference: ReferenceMask) -> Reference:
    seg = _extra("highdicom").seg.segread(reference.path)
    numbers = list(seg.segment_numbers) if reference.value is None else [reference.value]
    volume = seg.get_volume(segment_numbers=numbers)  # its own axes first, segments last; LPS
    array = np.asarray(volume.array)
    mask = (array > 0).any(axis=-1) if array.ndim == 4 else array > 0
    return Reference(np.asarray(mask, np.bool_), np.asarray(volume.affine, np.float64))


def _chosen(array: npt.NDArray[np.generic], reference: ReferenceMask) -> Mask:
    if array.ndim != 3:
        raise EvaluationError(f"{reference.path}: expected a mask with three axes, found {array.ndim}")
    return np.asarray(array != 0 if reference.value is None else array == reference.value, np.bool_)


def on_grid(reference: Reference, segmentation: Segmentation) -> Mask:
    """The reference on the grid of a mask of the application, each voxel by the nearest of the reference.

    Raises
    ------
    EvaluationError
        If the two have no place in common to be compared by.
    """
    shape = segmentation.mask.shape
    if reference.sop_instance_uids and reference.mask.shape[1:] == shape[1:]:
        slices = dict(zip(reference.sop_instance_uids, reference.mask, strict=True))
        empty = np.zeros(shape[1:], np.bool_)
        return np.stack([slices.get(uid, empty) for uid in segmentation.sop_instance_uids])
    if reference.affine is None:
        raise EvaluationError("a mask file does not say where it lies in the patient")
    to_index = np.linalg.inv(reference.affine) @ segmentation.affine
    return np.asarray(
        ndimage.affine_transform(
            reference.mask.astype(np.uint8),
            to_index[:3, :3],
            to_index[:3, 3],
            output_shape=shape,
            order=0,
            mode="grid-constant",
        ),
        np.bool_,
    )


def lesions_of(reference: Reference) -> list[SpaceBox]:
    """The box of each connected part of a mask, in LPS mm; parts that touch by a corner are one."""
    if reference.affine is None:
        raise EvaluationError("a mask of lesions does not say where it lies in the patient")
    labels, count = ndimage.label(reference.mask, np.ones((3, 3, 3)))
    if count > MOST_LESIONS:
        raise EvaluationError(f"a mask of lesions has {count} parts, more than {MOST_LESIONS}")
    boxes = []
    for place in ndimage.find_objects(labels):
        edges = [(one.start - 0.5, one.stop - 0.5) for one in place]
        corners = np.array([(x, y, z, 1.0) for x in edges[0] for y in edges[1] for z in edges[2]])
        points = (corners @ reference.affine.T)[:, :3]
        low, high = points.min(axis=0), points.max(axis=0)
        boxes.append(
            SpaceBox((float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2])))
        )
    return boxes


def _extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EvaluationError(f"this mask needs {name}: pip install 'wetread[evaluate]'") from error
