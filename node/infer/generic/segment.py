"""Segmentation: outlines, sizes and masks of every label, in two and in three dimensions.

The model's scores are kept on its own grid, for all labels at once; one label after the other is put back onto the
stored slices, which are much finer. A model for images sees a volume slice by slice, and its slices are one mask.
"""

from collections.abc import Sequence

import numpy as np

from node.api import Model, Reading
from node.domain.findings import Finding, HeatMap, Measurement, Region, Segmentation
from node.domain.models import ModelCard, Preparation
from node.domain.volume import Affine, Mask, Pixels, voxel_volume_ml
from node.imaging.components import AXES_BASIS, Component, find_components
from node.imaging.outlines import confined, outline_largest
from node.imaging.tiles import slide
from node.infer.generic.attention import resized
from node.infer.generic.grid import Grid, grid_of, turn_of
from node.infer.generic.network import plane_scores, raw_outputs
from node.infer.generic.pictures import Picture
from node.infer.generic.say import finding_of, heat_map_of, reported

__all__ = ["BASIS", "segment"]

BASIS = "segmentation score"
MOST_PARTS = 8  # of one label; the mask holds all of them
SMALLEST = {2: 4, 3: 8}  # pixels or voxels: fewer are noise
VOLUME_METHOD = "voxels at or above the threshold, connected part"
ANATOMY_METHOD = "all voxels at or above the threshold"
AREA_METHOD = "pixels at or above the threshold, connected part"


def segment(model: Model, pictures: list[Picture], preparation: Preparation) -> Reading:
    """Outline and measure what reaches the threshold; the largest eight parts of each label are findings."""
    findings: list[Finding] = []
    heat_maps: list[HeatMap] = []
    segmentations: list[Segmentation] = []
    for picture in pictures:
        scores, grid = _scores(model, picture, preparation)
        empty: list[HeatMap] = []
        for label in reported(model.card):
            on_source = grid.put_back(scores[label]) if len(preparation.size) == 3 else _put_back(grid, scores[label])
            said = _one_label(model.card, picture, label, on_source, findings)
            findings += said[0]
            heat_maps += said[1]
            segmentations += said[2]
            if not said[0]:
                empty.append(_empty_heat_map(model.card, picture, on_source))
        if len(empty) == len(reported(model.card)):
            heat_maps.append(max(empty, key=lambda heat_map: heat_map.score))
    uids = dict.fromkeys(uid for picture in pictures for uid in picture.sop_instance_uids)
    return Reading(tuple(uids), tuple(findings), tuple(heat_maps), tuple(segmentations))


def _scores(model: Model, picture: Picture, preparation: Preparation) -> tuple[Pixels, Grid]:
    """Scores of all labels on the model's grid: ``[label, slice, row, column]``."""
    spacing = picture.spacing_mm
    if len(preparation.size) == 3:
        turn = turn_of(picture.affine, preparation.axes) if preparation.axes and picture.affine is not None else None
        grid = grid_of(picture.values.shape, spacing, preparation, turn)
        return _answer(model, grid.take(picture.values, picture.fill), preparation), grid
    grid = grid_of(picture.values.shape[1:], None if spacing is None else spacing[1:], preparation)
    planes = [_answer(model, grid.take(plane, picture.fill), preparation) for plane in picture.values]
    return np.stack(planes, axis=1), grid


def _answer(model: Model, values: Pixels, preparation: Preparation) -> Pixels:
    def run(tile: Pixels) -> Pixels:
        output = raw_outputs(model, tile, preparation)[model.card.outputs[0].name]
        scores = plane_scores(model.card, output, preparation)
        return scores if scores.shape[1:] == tile.shape else np.stack([resized(one, tile.shape) for one in scores])

    return slide(values, preparation.size, preparation.overlap, run)


def _put_back(grid: Grid, planes: Pixels) -> Pixels:
    return np.stack([grid.put_back(plane) for plane in planes])


def _one_label(
    card: ModelCard, picture: Picture, label: int, scores: Pixels, earlier: Sequence[Finding]
) -> tuple[list[Finding], list[HeatMap], list[Segmentation]]:
    name = card.labels[label]
    mask: Mask = scores >= card.threshold
    affine = _affine_of(picture)
    smallest_ml = SMALLEST[3 if len(mask) > 1 else 2] * voxel_volume_ml(affine)
    parts = find_components(mask, affine, least_ml=smallest_ml, most=MOST_PARTS)
    if not parts:
        return [], [], []
    if name in card.anatomy_labels:
        parts = parts[:1]
    first = sum(finding.kind == name for finding in earlier) + 1
    findings = [
        _finding(card, picture, part, mask=mask, scores=scores, name=name, number=number)
        for number, part in enumerate(parts, start=first)
    ]
    heat_maps = [_heat_map(card, picture, parts[0].slice_index, scores, findings)]
    if picture.affine is None:
        return findings, heat_maps, []
    owner = findings[0].finding_id if len(findings) == 1 else ""
    segmentation = Segmentation(name, mask, picture.affine, picture.sop_instance_uids, owner, picture.frame_numbers)
    return findings, heat_maps, [segmentation]


def _affine_of(picture: Picture) -> Affine:
    """The picture's own; of an image one that has its spacing, 1 where there is none."""
    if picture.affine is not None:
        return picture.affine
    return np.diag([*(picture.spacing_mm or (1.0, 1.0, 1.0)), 1.0])


def _finding(
    card: ModelCard, picture: Picture, part: Component, *, mask: Mask, scores: Pixels, name: str, number: int
) -> Finding:
    inside = part.mask(mask.shape)
    is_anatomy = name in card.anatomy_labels
    plane = confined(scores[part.slice_index], inside[part.slice_index], card.threshold)
    points = outline_largest(plane, card.threshold * 0.9999)
    region = Region(picture.sop_instance_uids[part.slice_index], points, picture.frame_numbers[part.slice_index])
    return finding_of(
        card,
        name,
        number,
        float(scores[inside].max()),
        measurements=_measurements(picture, part, mask if is_anatomy else inside, is_anatomy=is_anatomy),
        regions=(region,) if points else (),
    )


def _measurements(picture: Picture, part: Component, mask: Mask, *, is_anatomy: bool) -> list[Measurement]:
    if picture.spacing_mm is None:
        return []
    if picture.affine is None:
        area_mm2 = float(mask.sum() * picture.spacing_mm[1] * picture.spacing_mm[2])
        found = [Measurement("area", area_mm2, "mm2", AREA_METHOD)]
    else:
        volume_ml = float(mask.sum()) * voxel_volume_ml(picture.affine)
        found = [Measurement("volume", volume_ml, "ml", ANATOMY_METHOD if is_anatomy else VOLUME_METHOD)]
    return found if is_anatomy else [*found, Measurement("long_axis", part.axes.long_mm, "mm", AXES_BASIS)]


def _heat_map(card: ModelCard, picture: Picture, index: int, scores: Pixels, findings: Sequence[Finding]) -> HeatMap:
    uid, frame = picture.sop_instance_uids[index], picture.frame_numbers[index]
    regions = [
        (region, finding.finding_id)
        for finding in findings
        for region in finding.regions
        if (region.sop_instance_uid, region.frame_number) == (uid, frame)
    ]
    return heat_map_of(
        card, picture, index, scores[index], basis=BASIS, score=float(scores[index].max()), regions=regions
    )


def _empty_heat_map(card: ModelCard, picture: Picture, scores: Pixels) -> HeatMap:
    index = int(np.argmax(scores.max(axis=(1, 2))))
    return _heat_map(card, picture, index, scores, ())
