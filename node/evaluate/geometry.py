"""Where findings and labelled lesions lie, brought together: on one image in pixels, in the patient in LPS mm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.dicom.elements import number
from node.dicom.frames import Frame, frames_of
from node.dicom.pixels import read_image
from node.dicom.read import read_dataset
from node.domain.findings import Finding, Region
from node.domain.study import Instance, Study
from node.domain.volume import Mask
from node.errors import EvaluationError, PixelError
from node.evaluate.labels import MILLIMETRES, ImageBox, Lesion, SpaceBox

__all__ = ["Extent", "Plane", "extent_of", "in_pixels", "is_hit", "overlap", "planes_of", "truth_on"]

_Vector = npt.NDArray[np.float64]
PlaneKey = tuple[str, int | None]
"""SOP Instance UID, and the frame (None for an image with one)."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One image or frame with its size; `to_lps` takes (column, row, 1) of SCOORD to LPS mm, None where unknown.

    `half_mm` is half a slice along the normal, as a vector.
    """

    rows: int
    columns: int
    instance: Instance
    to_lps: npt.NDArray[np.float64] | None = None
    half_mm: _Vector | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Extent:
    """Where a finding lies: its box on each image it has an outline on, and its box in the patient if that is known."""

    on_images: Mapping[PlaneKey, tuple[float, float, float, float]]
    in_space: SpaceBox | None


def planes_of(study: Study) -> dict[PlaneKey, Plane]:
    """Every image of a study with its place, by header alone."""
    found: dict[PlaneKey, Plane] = {}
    for instance in study.instances:
        ds = read_dataset(instance.path)
        rows, columns = (int(number(ds, keyword) or 0) for keyword in ("Rows", "Columns"))
        count = int(number(ds, "NumberOfFrames") or 1)
        frames = frames_of(ds)
        if count > 1 and len(frames) == 1:
            frames = tuple(Frame(index, (), (), (), ds) for index in range(1, count + 1))
        for frame in frames:
            to_lps, half_mm = _placed(frame)
            found[instance.sop_instance_uid, frame.number] = Plane(rows, columns, instance, to_lps, half_mm)
    return found


def _placed(frame: Frame) -> tuple[npt.NDArray[np.float64] | None, _Vector | None]:
    """PS3.3 C.7.6.2.1.1; SCOORD counts from the corner of the first pixel, its centre is (0.5, 0.5)."""
    if len(frame.position) != 3 or len(frame.orientation) != 6 or len(frame.spacing) != 2:
        return None, None
    across, down = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    column_step, row_step = across * frame.spacing[1], down * frame.spacing[0]
    origin = np.array(frame.position) - 0.5 * (column_step + row_step)
    return np.stack([column_step, row_step, origin], axis=1), np.cross(across, down) * (frame.thickness_mm or 1.0) / 2


def extent_of(finding: Finding, planes: Mapping[PlaneKey, Plane]) -> Extent:
    """Where a finding lies, from all its outlines."""
    boxes: dict[PlaneKey, tuple[float, float, float, float]] = {}
    corners: list[_Vector] = []
    for region in finding.regions:
        key = region.sop_instance_uid, region.frame_number
        boxes[key] = _united(boxes.get(key), region)
        plane = planes.get(key)
        if plane is not None and plane.to_lps is not None and plane.half_mm is not None:
            points = np.array([(*point, 1.0) for point in region.points]) @ plane.to_lps.T
            corners += [points + plane.half_mm, points - plane.half_mm]
    if not corners:
        return Extent(boxes, None)
    every = np.concatenate(corners)
    low, high = every.min(axis=0), every.max(axis=0)
    return Extent(boxes, SpaceBox(_triple(low), _triple(high)))


def _united(box: tuple[float, float, float, float] | None, region: Region) -> tuple[float, float, float, float]:
    columns, rows = zip(*region.points, strict=True)
    own = min(columns), min(rows), max(columns), max(rows)
    if box is None:
        return own
    return min(box[0], own[0]), min(box[1], own[1]), max(box[2], own[2]), max(box[3], own[3])


def in_pixels(lesion: ImageBox, planes: Mapping[PlaneKey, Plane]) -> tuple[PlaneKey, tuple[float, ...]]:
    """The image a labelled box is on, and the box in its pixels.

    Raises
    ------
    EvaluationError
        If the image is not in the study or not named where there are several, or has no spacing for mm.
    """
    keys = [key for key in planes if lesion.sop_instance_uid in ("", key[0]) and lesion.frame in (None, key[1])]
    if len(keys) != 1:
        raise EvaluationError(f"a labelled box must name one image of its study by sop_instance_uid, {len(keys)} fit")
    if lesion.unit != MILLIMETRES:
        return keys[0], lesion.box
    row_mm, column_mm = _spacing_mm(planes[keys[0]])
    left, top, right, bottom = lesion.box
    return keys[0], (left / column_mm, top / row_mm, right / column_mm, bottom / row_mm)


def _spacing_mm(plane: Plane) -> tuple[float, float]:
    if plane.to_lps is not None:
        column_mm, row_mm = np.linalg.norm(plane.to_lps[:, :2], axis=0)
        return float(row_mm), float(column_mm)
    try:
        spacing_mm = read_image(plane.instance).spacing_mm
    except PixelError:
        spacing_mm = None
    if spacing_mm is None:
        raise EvaluationError("a labelled box is in mm, but its image has no spacing that may be believed")
    return spacing_mm


def is_hit(extent: Extent, lesion: Lesion, planes: Mapping[PlaneKey, Plane]) -> bool:
    """Whether the middle of a finding lies in the labelled box."""
    if isinstance(lesion, SpaceBox):
        if extent.in_space is None:
            return False
        middle = (np.array(extent.in_space.low) + extent.in_space.high) / 2
        return bool((middle >= lesion.low).all() and (middle <= lesion.high).all())
    key, (left, top, right, bottom) = in_pixels(lesion, planes)
    box = extent.on_images.get(key)
    if box is None:
        return False
    return left <= (box[0] + box[2]) / 2 <= right and top <= (box[1] + box[3]) / 2 <= bottom


def overlap(extent: Extent, lesion: Lesion, planes: Mapping[PlaneKey, Plane]) -> float:
    """Intersection over union of the two boxes."""
    if isinstance(lesion, SpaceBox):
        space = extent.in_space
        return 0.0 if space is None else _iou(space.low, space.high, lesion.low, lesion.high)
    key, box = in_pixels(lesion, planes)
    own = extent.on_images.get(key)
    return 0.0 if own is None else _iou(own[:2], own[2:], box[:2], box[2:])


def _iou(low: Sequence[float], high: Sequence[float], other_low: Sequence[float], other_high: Sequence[float]) -> float:
    common = np.minimum(high, other_high) - np.maximum(low, other_low)
    inside = float(np.prod(np.maximum(common, 0.0)))
    both = float(np.prod(np.subtract(high, low)) + np.prod(np.subtract(other_high, other_low)))
    return inside / (both - inside) if both > inside else 0.0


def truth_on(key: PlaneKey, lesions: Sequence[Lesion], planes: Mapping[PlaneKey, Plane]) -> Mask:
    """``bool[row, column]`` of one image: pixels whose centre lies in a labelled lesion."""
    plane = planes[key]
    columns, rows = np.meshgrid(np.arange(plane.columns) + 0.5, np.arange(plane.rows) + 0.5)
    inside = np.zeros((plane.rows, plane.columns), np.bool_)
    for lesion in lesions:
        if isinstance(lesion, ImageBox):
            on, (left, top, right, bottom) = in_pixels(lesion, planes)
            if on == key:
                inside |= (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
        elif plane.to_lps is not None:
            places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ plane.to_lps.T
            inside |= ((places >= lesion.low) & (places <= lesion.high)).all(axis=-1)
    return inside


def _triple(vector: _Vector) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
