"""Detection: boxes with a score, on each image or slice, those of one thing put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from node.api import Model, Reading
from node.domain.findings import Finding, HeatMap, Measurement, Region
from node.domain.models import ModelCard, Preparation
from node.domain.volume import Pixels
from node.imaging.outlines import box_points
from node.imaging.tiles import tile_places
from node.infer.generic.grid import Grid, grid_of
from node.infer.generic.network import boxes_of, raw_outputs
from node.infer.generic.pictures import Picture
from node.infer.generic.say import finding_of, heat_map_of

__all__ = ["BASIS", "SIDE_METHOD", "detect"]

BASIS = "score of boxes"
SIDE_METHOD = "longer side of the box"
SAME_PLACE = 0.5  # intersection over union from which two boxes of one label are one (Girshick et al., CVPR 2014)
SAME_THING = 0.3  # the same, on neighbouring slices
MOST_BOXES = 20
LEAST_SIDE = 1.0  # pixels


@dataclass(frozen=True, slots=True)
class _Box:
    """A box on slice `index`: (x1, y1, x2, y2) in SCOORD's coordinates of the stored image."""

    index: int
    corners: tuple[float, float, float, float]
    score: float
    label: int


def detect(model: Model, pictures: list[Picture], preparation: Preparation) -> Reading:
    """Box what reaches the threshold, best first, at most twenty a picture."""
    findings: list[Finding] = []
    heat_maps: list[HeatMap] = []
    for picture in pictures:
        spacing = None if picture.spacing_mm is None else picture.spacing_mm[1:]
        grid = grid_of(picture.values.shape[1:], spacing, preparation)
        found = [
            box
            for index in range(len(picture.values))
            for box in _boxes(model, picture, index, grid, preparation)
            if model.card.labels[box.label] not in model.card.ignored_labels
        ]
        boxes = _one_of_each(found)[:MOST_BOXES]
        stated = [_finding(model.card, picture, box, findings, number) for number, box in enumerate(boxes)]
        findings += stated
        heat_maps += _heat_maps(model.card, picture, boxes, stated)
    uids = dict.fromkeys(uid for picture in pictures for uid in picture.sop_instance_uids)
    return Reading(tuple(uids), tuple(findings), tuple(heat_maps))


def _boxes(model: Model, picture: Picture, index: int, grid: Grid, preparation: Preparation) -> list[_Box]:
    values = grid.take(picture.values[index], picture.fill)
    rows, columns = picture.values.shape[1:]
    found: list[_Box] = []
    for place in tile_places(values.shape, preparation.size, preparation.overlap):
        rows_of_boxes = boxes_of(model.card, raw_outputs(model, values[place], preparation)[model.card.outputs[0].name])
        corner = np.array([place[1].start, place[0].start], np.float64)
        for x1, y1, x2, y2, score, label in rows_of_boxes.astype(np.float64):
            ends = np.array([[y1, x1], [y2, x2]]) + corner[::-1]
            (top, left), (bottom, right) = np.clip(grid.points(ends), 0.0, (rows, columns)).tolist()
            if right - left >= LEAST_SIDE and bottom - top >= LEAST_SIDE:
                found.append(_Box(index, (left, top, right, bottom), float(score), int(label)))
    return found


def _one_of_each(boxes: Sequence[_Box]) -> list[_Box]:
    """Keep the best of boxes that show one thing: on one slice, or from slice to slice without a gap."""
    groups: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: (-box.score, box.index, box.corners)):
        same = [group for group in groups if any(_is_same(box, other) for other in group)]
        if not same:
            groups.append([box])
            continue
        same[0].append(box)
        for group in same[1:]:  # it is what was missing between two
            same[0].extend(group)
            groups.remove(group)
    return [max(group, key=lambda box: box.score) for group in groups]


def _is_same(one: _Box, other: _Box) -> bool:
    if one.label != other.label or abs(one.index - other.index) > 1:
        return False
    return _overlap(one.corners, other.corners) > (SAME_PLACE if one.index == other.index else SAME_THING)


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / max(both - shared, 1e-9)


def _finding(card: ModelCard, picture: Picture, box: _Box, earlier: Sequence[Finding], number: int) -> Finding:
    left, top, right, bottom = box.corners
    centre, size = ((top + bottom) / 2.0 - 0.5, (left + right) / 2.0 - 0.5), (bottom - top, right - left)
    points = box_points(centre, size, picture.values.shape[1:])
    region = Region(picture.sop_instance_uids[box.index], points, picture.frame_numbers[box.index])
    measured: list[Measurement] = []
    if picture.spacing_mm is not None:
        longer_mm = max(size[0] * picture.spacing_mm[1], size[1] * picture.spacing_mm[2])
        measured = [Measurement("long_axis", longer_mm, "mm", SIDE_METHOD)]
    at = len(earlier) + number + 1
    return finding_of(card, card.labels[box.label], at, box.score, measurements=measured, regions=(region,))


def _heat_maps(card: ModelCard, picture: Picture, boxes: Sequence[_Box], stated: Sequence[Finding]) -> list[HeatMap]:
    """One for each slice with a box; of an image without any, one that is cold."""
    indices = sorted({box.index for box in boxes}) or [len(picture.values) // 2]
    maps = []
    for index in indices:
        here = [(box, finding) for box, finding in zip(boxes, stated, strict=True) if box.index == index]
        heat = np.zeros(picture.values.shape[1:], np.float32)
        for box, _ in here:
            np.maximum(heat, _glow(heat.shape, box), out=heat)
        regions = [(finding.regions[0], finding.finding_id) for _, finding in here]
        score = max((box.score for box, _ in here), default=0.0)
        maps.append(heat_map_of(card, picture, index, heat, basis=BASIS, score=score, regions=regions))
    return maps


def _glow(shape: tuple[int, ...], box: _Box) -> Pixels:
    """The box's score in its middle, falling off to its border (two standard deviations)."""
    left, top, right, bottom = box.corners
    rows, columns = (np.arange(side) + 0.5 for side in shape)
    down = ((rows - (top + bottom) / 2.0) / ((bottom - top) / 4.0)) ** 2
    across = ((columns - (left + right) / 2.0) / ((right - left) / 4.0)) ** 2
    return np.asarray(box.score * np.exp(-0.5 * (down[:, None] + across[None])), np.float32)
