"""Builds a Volume from the slices of one Series, or says why they are none.

A wrong order, a missing slice or a tilt that nobody noticed turns every volume, length and side
that is read off it into a wrong number. So the place of a slice is taken from its position and
orientation in the patient alone, never from Instance Number or the order of arrival.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from node.dicom.elements import text
from node.dicom.frames import Frame
from node.dicom.slices import (
    MAX_VOXELS,
    SAME_PLACE_MM,
    UNEVEN_SHARE,
    Slice,
    Vector,
    decode,
    difference,
    frames_with_place,
    is_same_image,
    normal_of,
    slice_of,
    unit_of,
)
from node.domain.study import Instance, Series
from node.domain.volume import Affine, Volume
from node.errors import GeometryError

__all__ = ["stack"]

TILT_SHARE = 0.02  # sideways per distance along the normal: 1.1 degrees


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
    normal = normal_of(slices[0])
    places = {found.name: float(found.position @ normal) for found in slices}
    slices = _without_duplicates(sorted(slices, key=lambda found: (places[found.name], found.name)), places)
    _check_even([places[found.name] for found in slices])
    affine = _affine(slices, normal)
    if len(slices) * slices[0].size[0] * slices[0].size[1] > MAX_VOXELS:
        raise GeometryError(f"expected at most {MAX_VOXELS} voxels, found {len(slices)} slices of {slices[0].size}")
    unit = unit_of(slices[0])
    frame_of_reference_uid = text(slices[0].ds, "FrameOfReferenceUID")
    uids = tuple(found.uid for found in slices)
    frames = tuple(found.frame for found in slices)
    return Volume(decode(slices), affine, unit, uids, frame_of_reference_uid, frames)


def _read_slices(instance: Instance) -> Iterator[Slice]:
    """Read one image and its place, or every frame and its; nothing of a localizer."""
    ds, frames = frames_with_place(instance)
    _check_one_volume(instance.sop_instance_uid, frames)
    yield from (slice_of(ds, instance.sop_instance_uid, frame) for frame in frames)


def _check_one_volume(uid: str, frames: Sequence[Frame]) -> None:
    """Refuse what is several volumes by its own word, wherever they lie (PS3.3 C.7.6.16.2.2)."""
    stacks = {frame.stack_id for frame in frames}
    if len(stacks) > 1:
        raise GeometryError(f"{uid}: expected frames of one stack, found {len(stacks)} stacks")
    times = {frame.temporal_position for frame in frames}
    if len(times) > 1:
        raise GeometryError(f"{uid}: expected frames of one time, found {len(times)}: several volumes")


def _check_alike(slices: Sequence[Slice]) -> None:
    for other in slices[1:]:
        if unlike := difference(other, slices[0]):
            raise GeometryError(f"{other.name}: {unlike}")


def _without_duplicates(slices: Sequence[Slice], places: dict[str, float]) -> list[Slice]:
    """Keep one of identical images in one place; refuse different ones (echoes, phases, time points)."""
    kept = [slices[0]]
    for found in slices[1:]:
        last = kept[-1]
        if np.linalg.norm(found.position - last.position) > SAME_PLACE_MM and (
            places[found.name] - places[last.name] > SAME_PLACE_MM
        ):
            kept.append(found)
        elif not is_same_image(last, found):
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


def _affine(slices: Sequence[Slice], normal: Vector) -> Affine:
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
