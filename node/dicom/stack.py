"""Builds a Volume from the slices of one Series, or says why they are none.

A wrong order, a missing slice or a tilt that nobody noticed turns every volume, length and side
that is read off it into a wrong number. So the place of a slice is taken from its position and
orientation in the patient alone, never from Instance Number or the order of arrival.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from node.dicom.elements import number, numbers, text, values
from node.dicom.pixels import slice_values
from node.dicom.read import read_dataset
from node.domain.study import Instance, Series
from node.domain.volume import Affine, Pixels, Volume
from node.errors import GeometryError

__all__ = ["stack"]

_Vector = npt.NDArray[np.float64]

MAX_VOXELS = 1 << 30  # 4 GiB as float32: 1024 slices of 1024 x 1024
COSINE_TOLERANCE = 1e-3  # 0.06 degrees; direction cosines are often written with 4 digits
SPACING_TOLERANCE_MM = 1e-3
SAME_PLACE_MM = 0.01  # closer slices are the same slice: none is thinner
UNEVEN_SHARE = 0.1  # of the slice distance: positions are rounded, and tables move in steps
TILT_SHARE = 0.02  # sideways per distance along the normal: 1.1 degrees


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """One single-frame image with its place in the patient, LPS mm."""

    ds: Dataset
    uid: str
    size: tuple[int, int]
    position: _Vector
    row_step: _Vector
    column_step: _Vector


def stack(series: Series) -> Volume:
    """Stack the slices of a Series by their place in the patient.

    Localizers are left out. Of two identical images in one place the one with the lower SOP
    Instance UID is kept. Slices are sorted along the normal of their plane (the direction of rows
    crossed with that of columns), so the same images give the same Volume in whatever order they came.

    Returns
    -------
    Volume, its unit ``HU`` for CT unless the header names another one. `spacing_mm` is the distance
    of slices, not Slice Thickness.

    Raises
    ------
    GeometryError
        If fewer than two slices are left, or they differ in size, spacing, orientation or Frame of
        Reference, two different images share a place, a slice is missing, or the stack is tilted.
    PixelError
        If the pixels of a slice cannot be decoded.
    UnreadableInstanceError
        If a file cannot be parsed.

    References
    ----------
    PS3.3 C.7.6.2.1.1 (Image Position and Orientation), C.7.6.3.1.1 (Rows, Columns), 10.7.1.3 (Pixel Spacing).
    """
    slices = [found for instance in series.instances if (found := _read_slice(instance))]
    if len(slices) < 2:
        raise GeometryError(f"expected at least 2 slices in series {series.series_instance_uid}, found {len(slices)}")
    _check_alike(slices)
    normal = _normal(slices[0])
    places = {found.uid: float(found.position @ normal) for found in slices}
    slices = _without_duplicates(sorted(slices, key=lambda found: (places[found.uid], found.uid)), places)
    _check_even([places[found.uid] for found in slices])
    affine = _affine(slices, normal)
    if len(slices) * slices[0].size[0] * slices[0].size[1] > MAX_VOXELS:
        raise GeometryError(f"expected at most {MAX_VOXELS} voxels, found {len(slices)} slices of {slices[0].size}")
    unit = _unit(slices[0].ds)
    frame_of_reference_uid = text(slices[0].ds, "FrameOfReferenceUID")
    uids = tuple(found.uid for found in slices)
    return Volume(_decode(slices), affine, unit, uids, frame_of_reference_uid)


def _read_slice(instance: Instance) -> _Slice | None:
    """Read one image and its place; None for a localizer."""
    ds = read_dataset(instance.path, with_pixels=True)
    uid = instance.sop_instance_uid
    if _is_localizer(ds):
        return None
    orientation = np.array(numbers(ds, "ImageOrientationPatient"))
    position = np.array(numbers(ds, "ImagePositionPatient"))
    spacing = numbers(ds, "PixelSpacing")
    if orientation.shape != (6,) or position.shape != (3,) or len(spacing) != 2 or min(spacing) <= 0:
        raise GeometryError(
            f"{uid}: expected one frame with ImageOrientationPatient, ImagePositionPatient and PixelSpacing over 0"
        )
    along_row, along_column = orientation[:3], orientation[3:]
    lengths = np.array([along_row @ along_row, along_column @ along_column])
    if np.abs(lengths - 1.0).max() > 2 * COSINE_TOLERANCE or abs(along_row @ along_column) > COSINE_TOLERANCE:
        raise GeometryError(f"{uid}: expected two perpendicular unit vectors in ImageOrientationPatient")
    size = int(number(ds, "Rows") or 0), int(number(ds, "Columns") or 0)
    # The first value of Pixel Spacing parts rows, so it goes with the direction of columns, and vice versa.
    return _Slice(ds, uid, size, position, along_column * spacing[0], along_row * spacing[1])


def _is_localizer(ds: Dataset) -> bool:
    if "ImageType" not in ds:
        return False
    image_type = values(ds.get_item("ImageType"), "CS", str) or ()
    return "LOCALIZER" in image_type[2:]  # PS3.3 C.8.2.1.1.1, C.8.3.1.1.1: value 3


def _check_alike(slices: Sequence[_Slice]) -> None:
    first = slices[0]
    frame_of_reference_uid = text(first.ds, "FrameOfReferenceUID")
    for other in slices[1:]:
        if other.size != first.size:
            raise GeometryError(f"{other.uid}: expected {first.size} rows and columns, found {other.size}")
        for name in ("row_step", "column_step"):
            mine, expected = getattr(other, name), getattr(first, name)
            length, expected_length = np.linalg.norm(mine), np.linalg.norm(expected)
            if abs(length - expected_length) > SPACING_TOLERANCE_MM:
                raise GeometryError(f"{other.uid}: PixelSpacing differs from that of {first.uid}")
            if np.linalg.norm(mine / length - expected / expected_length) > COSINE_TOLERANCE:
                raise GeometryError(f"{other.uid}: ImageOrientationPatient differs from that of {first.uid}")
        if text(other.ds, "FrameOfReferenceUID") != frame_of_reference_uid:
            raise GeometryError(f"{other.uid}: FrameOfReferenceUID differs from that of {first.uid}")


def _normal(found: _Slice) -> _Vector:
    normal = np.cross(found.column_step, found.row_step)
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def _without_duplicates(slices: Sequence[_Slice], places: dict[str, float]) -> list[_Slice]:
    """Keep one of identical images in one place; refuse different ones (echoes, phases, time points)."""
    kept = [slices[0]]
    for found in slices[1:]:
        last = kept[-1]
        if np.linalg.norm(found.position - last.position) > SAME_PLACE_MM and (
            places[found.uid] - places[last.uid] > SAME_PLACE_MM
        ):
            kept.append(found)
        elif found.ds.get("PixelData") != last.ds.get("PixelData"):
            raise GeometryError(f"{last.uid} and {found.uid} are different images in one place: several volumes")
    if len(kept) < 2:
        raise GeometryError(f"expected at least 2 slices in different places, found {len(kept)}")
    return kept


def _check_even(places: Sequence[float]) -> None:
    """Refuse a stack with a gap: every slice must be where even steps put it."""
    steps = np.diff(places)
    usual = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - usual)))
    if abs(steps[worst] - usual) > UNEVEN_SHARE * usual:
        raise GeometryError(
            f"expected {usual:.2f} mm between slices, found {steps[worst]:.2f} mm after slice {worst + 1} "
            f"of {len(places)}: slices are missing or unevenly spaced"
        )
    drift = np.abs(places - np.linspace(places[0], places[-1], len(places))).max()
    if drift > UNEVEN_SHARE * usual:
        raise GeometryError(f"expected slices {usual:.2f} mm apart, found one {drift:.2f} mm out of its place")


def _affine(slices: Sequence[_Slice], normal: _Vector) -> Affine:
    """Map (slice, row, column, 1) of a voxel centre to LPS mm; refuse a tilted stack."""
    first, last = slices[0], slices[-1]
    step = (last.position - first.position) / (len(slices) - 1)
    distance = float(step @ normal)
    grid = first.position + np.arange(len(slices))[:, None] * (distance * normal)
    sideways = np.array([found.position for found in slices]) - grid
    sideways -= np.outer(sideways @ normal, normal)
    drift = np.linalg.norm(sideways, axis=1)
    allowed = np.maximum(TILT_SHARE * distance * np.arange(len(slices)), UNEVEN_SHARE * distance)
    if (drift > allowed).any():
        raise GeometryError(
            f"expected slices stacked at right angles, found one {drift.max():.1f} mm to the side: "
            "tilted gantry, rotating planes or mixed stacks"
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = step, first.row_step, first.column_step, first.position
    return affine


def _unit(ds: Dataset) -> str:
    """Return ``HU`` for CT values; PS3.3 C.11.1.1.2: Rescale Type, HU where CT does not say."""
    return "HU" if text(ds, "Modality") == "CT" and text(ds, "RescaleType") in {"", "HU"} else "arbitrary"


def _decode(slices: list[_Slice]) -> Pixels:
    """Decode slice by slice; each encoded image is let go as soon as it has been decoded."""
    array = np.empty((len(slices), *slices[0].size), np.float32)
    for index in reversed(range(len(slices))):
        array[index] = slice_values(slices.pop().ds)
    return array
