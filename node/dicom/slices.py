"""The slices of a Series with their place in the patient, classic images and frames of enhanced ones alike.

What is stacked from them, and what is refused, stands in node/dicom/stack.py and node/dicom/part.py.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from node.dicom.elements import number, text
from node.dicom.frames import Frame, frames_of, is_localizer
from node.dicom.pixels import frame_values, slice_values
from node.dicom.read import read_dataset
from node.domain.study import Instance
from node.domain.volume import Pixels
from node.errors import GeometryError

__all__ = [
    "MAX_VOXELS",
    "SAME_PLACE_MM",
    "UNEVEN_SHARE",
    "Slice",
    "Vector",
    "decode",
    "difference",
    "frames_with_place",
    "is_same_image",
    "is_same_place",
    "name_of",
    "normal_of",
    "slice_of",
    "unit_of",
]

Vector = npt.NDArray[np.float64]

MAX_VOXELS = 1 << 30  # 4 GiB as float32: 1024 slices of 1024 x 1024
COSINE_TOLERANCE = 1e-3  # 0.06 degrees; direction cosines are often written with 4 digits
SPACING_TOLERANCE_MM = 1e-3
SAME_PLACE_MM = 0.01  # closer slices are the same slice: none is thinner
UNEVEN_SHARE = 0.1  # of the slice distance: positions are rounded, and tables move in steps


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One single-frame image, or one frame of an enhanced one, with its place in the patient, LPS mm.

    `rescale` is what holds its Modality LUT.
    """

    ds: Dataset
    uid: str
    frame: int | None
    rescale: Dataset
    size: tuple[int, int]
    position: Vector
    row_step: Vector
    column_step: Vector

    @property
    def name(self) -> str:
        """What an error calls it."""
        return name_of(self.uid, self.frame)


def frames_with_place(instance: Instance) -> tuple[Dataset, tuple[Frame, ...]]:
    """Read one image and what is said of the place of each of its frames; no frames of a localizer."""
    ds = read_dataset(instance.path, with_pixels=True)
    if is_localizer(ds):
        return ds, ()
    return ds, tuple(frame for frame in frames_of(ds) if not frame.is_localizer)


def slice_of(ds: Dataset, uid: str, frame: Frame) -> Slice:
    """A frame as a slice.

    Raises
    ------
    GeometryError
        If its place, orientation or spacing is missing or impossible.
    """
    name, spacing = name_of(uid, frame.number), frame.spacing
    if len(frame.orientation) != 6 or len(frame.position) != 3 or len(spacing) != 2 or min(spacing) <= 0:
        raise GeometryError(
            f"{name}: expected a frame with ImageOrientationPatient, ImagePositionPatient and PixelSpacing over 0"
        )
    along_row, along_column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    lengths = np.array([along_row @ along_row, along_column @ along_column])
    if np.abs(lengths - 1.0).max() > 2 * COSINE_TOLERANCE or abs(along_row @ along_column) > COSINE_TOLERANCE:
        raise GeometryError(f"{name}: expected two perpendicular unit vectors in ImageOrientationPatient")
    size = int(number(ds, "Rows") or 0), int(number(ds, "Columns") or 0)
    # The first value of Pixel Spacing parts rows, so it goes with the direction of columns, and vice versa.
    row_step, column_step = along_column * spacing[0], along_row * spacing[1]
    return Slice(ds, uid, frame.number, frame.rescale, size, np.array(frame.position), row_step, column_step)


def name_of(uid: str, frame: int | None) -> str:
    """What an error calls an image, or a frame of one."""
    return uid if frame is None else f"{uid} frame {frame}"


def difference(found: Slice, expected: Slice) -> str:
    """Say why two slices cannot be of one stack; nothing if they can."""
    if found.size != expected.size:
        return f"expected {expected.size} rows and columns, found {found.size}"
    for name in ("row_step", "column_step"):
        mine, other = getattr(found, name), getattr(expected, name)
        length, expected_length = np.linalg.norm(mine), np.linalg.norm(other)
        if abs(length - expected_length) > SPACING_TOLERANCE_MM:
            return f"PixelSpacing differs from that of {expected.name}"
        if np.linalg.norm(mine / length - other / expected_length) > COSINE_TOLERANCE:
            return f"ImageOrientationPatient differs from that of {expected.name}"
    if text(found.ds, "FrameOfReferenceUID") != text(expected.ds, "FrameOfReferenceUID"):
        return f"FrameOfReferenceUID differs from that of {expected.name}"
    return ""


def normal_of(found: Slice) -> Vector:
    """Unit vector at right angles to a slice, along which slices are sorted."""
    normal = np.cross(found.column_step, found.row_step)
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def is_same_place(one: Slice, other: Slice, normal: Vector) -> bool:
    """True if two slices lie in one plane, or at one position whatever the plane."""
    apart = other.position - one.position
    return bool(np.linalg.norm(apart) <= SAME_PLACE_MM or abs(float(apart @ normal)) <= SAME_PLACE_MM)


def is_same_image(one: Slice, other: Slice) -> bool:
    """True if two classic images hold the same pixels; frames of enhanced images are never taken to."""
    return other.frame is None and other.ds.get("PixelData") == one.ds.get("PixelData")


def unit_of(found: Slice) -> str:
    """Return ``HU`` for CT values; PS3.3 C.11.1.1.2: Rescale Type, HU where CT does not say."""
    is_hu = text(found.ds, "Modality") == "CT" and text(found.rescale, "RescaleType") in {"", "HU"}
    return "HU" if is_hu else "arbitrary"


def decode(slices: list[Slice]) -> Pixels:
    """Decode slice by slice and empty the list: each encoded image is let go as soon as it has been decoded."""
    array = np.empty((len(slices), *slices[0].size), np.float32)
    enhanced: dict[str, tuple[Dataset, dict[int, tuple[int, Dataset]]]] = {}
    for index in reversed(range(len(slices))):
        found = slices.pop()
        if found.frame is None:
            array[index] = slice_values(found.ds)
        else:
            enhanced.setdefault(found.uid, (found.ds, {}))[1][found.frame] = index, found.rescale
    for ds, frames in enhanced.values():
        rescales = {frame: rescale for frame, (_, rescale) in frames.items()}
        for frame, values in frame_values(ds, rescales):
            array[frames[frame][0]] = values
    return array
