"""Builds a Volume from the slices of one Series, or says why they are none.

A wrong order, a missing slice or a tilt that nobody noticed turns every volume, length and side
that is read off it into a wrong number. So the place of a slice is taken from its position and
orientation in the patient alone, never from Instance Number or the order of arrival.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from node.dicom.elements import number, text
from node.dicom.frames import Frame, frames_of, is_localizer
from node.dicom.pixels import frame_values, slice_values
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
    """One single-frame image, or one frame of an enhanced one, with its place in the patient, LPS mm.

    `rescale` is what holds its Modality LUT.
    """

    ds: Dataset
    uid: str
    frame: int | None
    rescale: Dataset
    size: tuple[int, int]
    position: _Vector
    row_step: _Vector
    column_step: _Vector

    @property
    def name(self) -> str:
        """What an error calls it."""
        return _name(self.uid, self.frame)


def stack(series: Series) -> Volume:
    """Stack the slices of a Series by their place in the patient.

    Frames of an enhanced image count as slices. Localizers are left out. Of two identical images in
    one place the one with the lower SOP Instance UID is kept. Slices are sorted along the normal of
    their plane (the direction of rows crossed with that of columns), so the same images give the same
    Volume in whatever order they came.

    Returns
    -------
    Volume, its unit ``HU`` for CT unless the header names another one. `spacing_mm` is the distance
    of slices, not Slice Thickness.

    Raises
    ------
    GeometryError
        If fewer than two slices are left, or they differ in size, spacing, orientation or Frame of
        Reference, two different images share a place, a slice is missing, or the stack is tilted; or
        if an enhanced image holds several stacks or several volumes in time.
    PixelError
        If the pixels of a slice cannot be decoded.
    UnreadableInstanceError
        If a file cannot be parsed.

    References
    ----------
    PS3.3 C.7.6.2.1.1 (Image Position and Orientation), C.7.6.3.1.1 (Rows, Columns), 10.7.1.3 (Pixel Spacing),
    C.7.6.16 (functional groups of enhanced images).
    """
    slices = [found for instance in series.instances for found in _read_slices(instance)]
    if len(slices) < 2:
        raise GeometryError(f"expected at least 2 slices in series {series.series_instance_uid}, found {len(slices)}")
    _check_alike(slices)
    normal = _normal(slices[0])
    places = {found.name: float(found.position @ normal) for found in slices}
    slices = _without_duplicates(sorted(slices, key=lambda found: (places[found.name], found.name)), places)
    _check_even([places[found.name] for found in slices])
    affine = _affine(slices, normal)
    if len(slices) * slices[0].size[0] * slices[0].size[1] > MAX_VOXELS:
        raise GeometryError(f"expected at most {MAX_VOXELS} voxels, found {len(slices)} slices of {slices[0].size}")
    unit = _unit(slices[0])
    frame_of_reference_uid = text(slices[0].ds, "FrameOfReferenceUID")
    uids = tuple(found.uid for found in slices)
    frames = tuple(found.frame for found in slices)
    return Volume(_decode(slices), affine, unit, uids, frame_of_reference_uid, frames)


def _read_slices(instance: Instance) -> Iterator[_Slice]:
    """Read one image and its place, or every frame and its; nothing of a localizer."""
    ds = read_dataset(instance.path, with_pixels=True)
    if is_localizer(ds):
        return
    frames = [frame for frame in frames_of(ds) if not frame.is_localizer]
    _check_one_volume(instance.sop_instance_uid, frames)
    yield from (_slice(ds, instance.sop_instance_uid, frame) for frame in frames)


def _slice(ds: Dataset, uid: str, frame: Frame) -> _Slice:
    name, spacing = _name(uid, frame.number), frame.spacing
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
    return _Slice(ds, uid, frame.number, frame.rescale, size, np.array(frame.position), row_step, column_step)


def _name(uid: str, frame: int | None) -> str:
    return uid if frame is None else f"{uid} frame {frame}"


def _check_one_volume(uid: str, frames: Sequence[Frame]) -> None:
    """Refuse what is several volumes by its own word, wherever they lie (PS3.3 C.7.6.16.2.2)."""
    stacks = {frame.stack_id for frame in frames}
    if len(stacks) > 1:
        raise GeometryError(f"{uid}: expected frames of one stack, found {len(stacks)} stacks")
    times = {frame.temporal_position for frame in frames}
    if len(times) > 1:
        raise GeometryError(f"{uid}: expected frames of one time, found {len(times)}: several volumes")


def _check_alike(slices: Sequence[_Slice]) -> None:
    first = slices[0]
    frame_of_reference_uid = text(first.ds, "FrameOfReferenceUID")
    for other in slices[1:]:
        if other.size != first.size:
            raise GeometryError(f"{other.name}: expected {first.size} rows and columns, found {other.size}")
        for name in ("row_step", "column_step"):
            mine, expected = getattr(other, name), getattr(first, name)
            length, expected_length = np.linalg.norm(mine), np.linalg.norm(expected)
            if abs(length - expected_length) > SPACING_TOLERANCE_MM:
                raise GeometryError(f"{other.name}: PixelSpacing differs from that of {first.name}")
            if np.linalg.norm(mine / length - expected / expected_length) > COSINE_TOLERANCE:
                raise GeometryError(f"{other.name}: ImageOrientationPatient differs from that of {first.name}")
        if text(other.ds, "FrameOfReferenceUID") != frame_of_reference_uid:
            raise GeometryError(f"{other.name}: FrameOfReferenceUID differs from that of {first.name}")


def _normal(found: _Slice) -> _Vector:
    normal = np.cross(found.column_step, found.row_step)
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def _without_duplicates(slices: Sequence[_Slice], places: dict[str, float]) -> list[_Slice]:
    """Keep one of identical images in one place; refuse different ones (echoes, phases, time points)."""
    kept = [slices[0]]
    for found in slices[1:]:
        last = kept[-1]
        if np.linalg.norm(found.position - last.position) > SAME_PLACE_MM and (
            places[found.name] - places[last.name] > SAME_PLACE_MM
        ):
            kept.append(found)
        elif found.frame is not None or found.ds.get("PixelData") != last.ds.get("PixelData"):
            raise GeometryError(f"{last.name} and {found.name} are different images in one place: several volumes")
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


def _unit(found: _Slice) -> str:
    """Return ``HU`` for CT values; PS3.3 C.11.1.1.2: Rescale Type, HU where CT does not say."""
    is_hu = text(found.ds, "Modality") == "CT" and text(found.rescale, "RescaleType") in {"", "HU"}
    return "HU" if is_hu else "arbitrary"


def _decode(slices: list[_Slice]) -> Pixels:
    """Decode slice by slice; each encoded image is let go as soon as it has been decoded."""
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
