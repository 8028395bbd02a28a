"""Builds a Volume from what fits of a Series, and says of every image that was left out why.

For applications to which a part of the stack is worth something and that say which part it was: a nodule is where it
is though a scout lies among the slices. Nothing is invented: a missing slice is never filled in. What a reader would
have to decide (which of two different images in one place, which time) is still refused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from node.dicom.elements import text
from node.dicom.frames import Frame
from node.dicom.slices import (
    MAX_VOXELS,
    UNEVEN_SHARE,
    Slice,
    decode,
    difference,
    frames_with_place,
    is_same_image,
    is_same_place,
    normal_of,
    slice_of,
    unit_of,
)
from node.domain.study import Instance, Series
from node.domain.volume import Affine, Volume
from node.errors import GeometryError, PixelError, UnreadableInstanceError

__all__ = ["LeftOut", "PartialVolume", "stack_part"]

MOST_TILT_DEGREES = 45.0  # as node/imaging/tilt.py


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image, or the named frame of one, that is not in the Volume.

    `reason` is ``unreadable``, ``localizer``, ``no_place``, ``unlike``, ``repeated`` or ``beyond_gap``; `detail` is one
    English sentence.
    """

    sop_instance_uid: str
    reason: str
    detail: str
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PartialVolume:
    """What fits, and what does not.

    Where the gantry was tilted the `affine` is slanted: `node.api.tilt_degrees` says how much and
    `node.api.straightened` resamples it.
    """

    volume: Volume
    left_out: tuple[LeftOut, ...]


def stack_part(series: Series) -> PartialVolume:
    """Stack the largest group of slices that form an even stack.

    In this order: images that cannot be read or decoded, localizers, slices without a place, all but the largest group
    of slices of one size, spacing, orientation, Frame of Reference and stack, repeated images, and all but the longest
    run without a gap are left out. Of equal groups the one with the lowest UID stays, of equal runs the lower one.

    Raises
    ------
    GeometryError
        If fewer than two slices are left; two different images share a place or an enhanced image holds several volumes
        in time; slices are not stacked along a line, or are tilted by 45 degrees or more.

    References
    ----------
    PS3.3 C.7.6.2.1.1, C.8.2.1.1.1.3, C.7.6.16.2.2 (stacks of frames).
    """
    left_out: list[LeftOut] = []
    groups = _groups([one for instance in series.instances for one in _read(instance, left_out)])
    if not groups:
        raise GeometryError(f"expected at least 2 slices in series {series.series_instance_uid}, found none")
    slices = [one for one, _ in groups[0]]
    _check_one_time(frame for _, frame in groups[0])
    for one, _ in (pair for group in groups[1:] for pair in group):
        left_out.append(_left_out(one, "unlike", difference(one, slices[0]) or "it is of another stack"))
    while True:
        chosen, beyond = _even_run(_without_repeats(slices, left_out))
        volume = _volume(chosen)
        if volume is not None:
            break
        bad = [one for one in chosen if not _is_decodable(one)]
        left_out += [_left_out(one, "unreadable", "its pixels cannot be decoded") for one in bad]
        slices = [one for one in slices if all(one is not other for other in bad)]
    left_out += [_left_out(one, "beyond_gap", "a slice is missing between it and the longest run") for one in beyond]
    return PartialVolume(volume, tuple(dict.fromkeys(left_out)))


def _read(instance: Instance, left_out: list[LeftOut]) -> Iterable[tuple[Slice, Frame]]:
    """Read one image; what of it cannot be placed is left out."""
    uid = instance.sop_instance_uid
    try:
        ds, frames = frames_with_place(instance)
    except (UnreadableInstanceError, GeometryError) as error:
        left_out.append(LeftOut(uid, "unreadable", str(error)))
        return
    if not frames:
        left_out.append(LeftOut(uid, "localizer", "its image type says localizer"))
    for frame in frames:
        try:
            found = slice_of(ds, uid, frame)
        except GeometryError as error:
            left_out.append(LeftOut(uid, "no_place", str(error), frame.number))
        else:
            yield found, frame


def _groups(found: Sequence[tuple[Slice, Frame]]) -> list[list[tuple[Slice, Frame]]]:
    """Part slices into groups that are alike, the largest first."""
    groups: list[list[tuple[Slice, Frame]]] = []
    for one, frame in sorted(found, key=lambda pair: pair[0].name):
        for group in groups:
            first, first_frame = group[0]
            if frame.stack_id == first_frame.stack_id and not difference(one, first):
                group.append((one, frame))
                break
        else:
            groups.append([(one, frame)])
    return sorted(groups, key=len, reverse=True)


def _check_one_time(frames: Iterable[Frame]) -> None:
    times = {frame.temporal_position for frame in frames}
    if len(times) > 1:
        raise GeometryError(f"expected frames of one time, found {len(times)}: several volumes")


def _without_repeats(slices: Sequence[Slice], left_out: list[LeftOut]) -> list[Slice]:
    """Sort slices along their normal and keep one of identical images in one place; refuse different ones."""
    normal = normal_of(slices[0])
    kept: list[Slice] = []
    for one in sorted(slices, key=lambda one: (round(float(one.position @ normal), 3), one.name)):
        if not kept or not is_same_place(kept[-1], one, normal):
            kept.append(one)
        elif is_same_image(kept[-1], one):
            left_out.append(_left_out(one, "repeated", f"it is the same image as {kept[-1].name}"))
        else:
            raise GeometryError(f"{kept[-1].name} and {one.name} are different images in one place: several volumes")
    return kept


def _even_run(slices: Sequence[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Find the longest run of slices at the usual distance; the rest lies beyond a gap."""
    if len(slices) < 2:
        raise GeometryError(f"expected at least 2 slices in different places, found {len(slices)}")
    places = np.array([one.position @ normal_of(slices[0]) for one in slices])
    steps = np.diff(places)
    usual = float(np.median(steps))
    is_gap = np.abs(steps - usual) > UNEVEN_SHARE * usual
    starts = [0, *(int(place) + 1 for place in np.flatnonzero(is_gap))]
    ends = [*starts[1:], len(slices)]
    start, end = max(zip(starts, ends, strict=True), key=lambda run: (run[1] - run[0], -run[0]))
    if end - start < 2:
        raise GeometryError("expected at least 2 slices without a gap, found none: slices are unevenly spaced")
    run = places[start:end]
    drift = float(np.abs(run - np.linspace(run[0], run[-1], len(run))).max())
    if drift > UNEVEN_SHARE * usual:
        raise GeometryError(f"expected slices {usual:.2f} mm apart, found one {drift:.2f} mm out of its place")
    return list(slices[start:end]), [*slices[:start], *slices[end:]]


def _affine(slices: Sequence[Slice]) -> Affine:
    """Map (slice, row, column, 1) to LPS mm, slanted if the gantry was tilted; slices must lie along one line."""
    first, last = slices[0], slices[-1]
    step = (last.position - first.position) / (len(slices) - 1)
    line = first.position + np.arange(len(slices))[:, None] * step
    astray = np.linalg.norm(np.array([one.position for one in slices]) - line, axis=1)
    distance = float(step @ normal_of(first))
    if float(astray.max()) > UNEVEN_SHARE * distance:
        raise GeometryError(f"expected slices along one line, found one {astray.max():.1f} mm beside it")
    if np.linalg.norm(step) * np.cos(np.radians(MOST_TILT_DEGREES)) >= distance:
        raise GeometryError(f"expected a tilt below {MOST_TILT_DEGREES:.0f} degrees: mixed stacks or rotating planes")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = step, first.row_step, first.column_step, first.position
    return affine


def _volume(slices: Sequence[Slice]) -> Volume | None:
    """The Volume of a run, None if a classic image of it cannot be decoded."""
    first = slices[0]
    affine = _affine(slices)
    if len(slices) * first.size[0] * first.size[1] > MAX_VOXELS:
        raise GeometryError(f"expected at most {MAX_VOXELS} voxels, found {len(slices)} slices of {first.size}")
    try:
        array = decode(list(slices))
    except PixelError:
        if all(_is_decodable(one) for one in slices):
            raise
        return None
    uids, frames = tuple(one.uid for one in slices), tuple(one.frame for one in slices)
    return Volume(array, affine, unit_of(first), uids, text(first.ds, "FrameOfReferenceUID"), frames)


def _is_decodable(one: Slice) -> bool:
    """Try one classic image; frames of an enhanced image stand or fall together."""
    if one.frame is not None:
        return True
    try:
        decode([one])
    except PixelError:
        return False
    return True


def _left_out(one: Slice, reason: str, detail: str) -> LeftOut:
    return LeftOut(one.uid, reason, detail, one.frame)
