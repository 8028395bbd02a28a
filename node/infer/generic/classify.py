"""Classification: which labels an image has, and where the model looked for each.

Of the slices of a volume that are shown to a model for images, the one with the highest score speaks for a label.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from node.api import Model, Reading
from node.domain.findings import Finding, HeatMap
from node.domain.models import ModelCard, Preparation
from node.domain.volume import Pixels
from node.infer.generic.attention import BASES, attention
from node.infer.generic.grid import Grid, grid_of, turn_of
from node.infer.generic.network import class_scores, raw_outputs
from node.infer.generic.pictures import Picture
from node.infer.generic.say import finding_of, heat_map_of, reported

__all__ = ["classify"]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One run: `index` is the slice, None for a whole volume."""

    picture: Picture
    index: int | None
    values: Pixels
    grid: Grid
    outputs: Mapping[str, Pixels]
    scores: Pixels


def classify(model: Model, pictures: list[Picture], preparation: Preparation) -> Reading:
    """State every label whose best score reaches the threshold; a heat map for each, of the best label if none does."""
    card = model.card
    best: dict[int, _Seen] = {}
    for seen in _runs(model, pictures, preparation):
        for label in reported(card):
            if label not in best or seen.scores[label] > best[label].scores[label]:
                best[label] = seen
    ranked = sorted(best, key=lambda label: -float(best[label].scores[label]))
    stated = [label for label in ranked if best[label].scores[label] >= card.threshold]
    findings: list[Finding] = []
    heat_maps: list[HeatMap] = []
    for label in stated or ranked[:1]:
        seen = best[label]
        if label in stated:
            findings.append(finding_of(card, card.labels[label], 1, float(seen.scores[label])))
        heat_maps.append(_heat_map(model, seen, label, preparation))
    uids = dict.fromkeys(uid for picture in pictures for uid in picture.sop_instance_uids)
    return Reading(tuple(uids), tuple(findings), tuple(heat_maps))


def _runs(model: Model, pictures: list[Picture], preparation: Preparation) -> Iterator[_Seen]:
    for picture in pictures:
        if len(preparation.size) == 3:
            turn = (
                turn_of(picture.affine, preparation.axes) if preparation.axes and picture.affine is not None else None
            )
            grid = grid_of(picture.values.shape, picture.spacing_mm, preparation, turn)
            yield _run(model, picture, None, grid, preparation)
            continue
        spacing = None if picture.spacing_mm is None else picture.spacing_mm[1:]
        grid = grid_of(picture.values.shape[1:], spacing, preparation)
        for index in range(len(picture.values)):
            yield _run(model, picture, index, grid, preparation)


def _run(model: Model, picture: Picture, index: int | None, grid: Grid, preparation: Preparation) -> _Seen:
    values = grid.take(picture.values if index is None else picture.values[index], picture.fill)
    outputs = raw_outputs(model, values, preparation)
    return _Seen(picture, index, values, grid, outputs, class_scores(model.card, outputs[model.card.outputs[0].name]))


def _heat_map(model: Model, seen: _Seen, label: int, preparation: Preparation) -> HeatMap:
    card: ModelCard = model.card

    def score_of(values: Pixels) -> float:
        output = raw_outputs(model, values, preparation)[card.outputs[0].name]
        return float(class_scores(card, output)[label])

    score = float(seen.scores[label])
    heat = attention(card, seen.values, seen.outputs, label=label, score_of=score_of, fill=seen.picture.fill) * score
    on_source = seen.grid.put_back(heat)
    index = seen.index
    if index is None:
        index = int(np.argmax(on_source.sum(axis=(1, 2))))
        on_source = on_source[index]
    return heat_map_of(card, seen.picture, index, on_source, basis=BASES[card.heat_map_method], score=score)
