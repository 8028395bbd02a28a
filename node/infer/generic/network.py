"""A model asked in its own layout: numbers on its grid go in, scores from 0 to 1 for each label come out."""

import numpy as np

from node.api import Model
from node.domain.models import ModelCard, Preparation
from node.domain.volume import Pixels
from node.errors import ModelError, ModelOutputError

__all__ = ["boxes_of", "class_scores", "plane_scores", "prepared", "raw_outputs"]

ALMOST = 1e-4  # of a sum of float32 that should be 1
BOX = 6  # x1, y1, x2, y2, score, label


def prepared(values: Pixels, preparation: Preparation) -> Pixels:
    """Make the input of a model from numbers on its grid: mean and standard deviation, channels, layout."""
    channels = preparation.channels
    means = np.array(preparation.channel_means or (preparation.mean,) * channels, np.float32)
    stds = np.array(preparation.channel_stds or (preparation.std,) * channels, np.float32)
    sides = (1,) * values.ndim
    tensor = (values[None] - means.reshape(-1, *sides)) / stds.reshape(-1, *sides)
    if preparation.layout.endswith("C"):
        tensor = np.moveaxis(tensor, 0, -1)
    return np.ascontiguousarray(tensor[None], np.float32)


def raw_outputs(model: Model, values: Pixels, preparation: Preparation) -> dict[str, Pixels]:
    """Every output of one run, by name; the first alone if the card has no other."""
    tensor = prepared(values, preparation)
    if len(model.card.outputs) == 1:
        return {model.card.outputs[0].name: model.run(tensor)}
    return dict(model.run_all({model.card.inputs[0].name: tensor}))


def class_scores(card: ModelCard, output: Pixels) -> Pixels:
    """Scores of one image, ``float32[label]``.

    Raises
    ------
    ModelOutputError
        If the output has not one number for each label, or they are no scores from 0 to 1.
    """
    if output.size != len(card.labels):
        raise ModelOutputError(f"{card.name}: expected {len(card.labels)} scores, found {list(output.shape)}")
    return _activated(card, output.reshape(-1))


def plane_scores(card: ModelCard, output: Pixels, preparation: Preparation) -> Pixels:
    """Scores of every pixel or voxel, ``float32[label, ...]``, on the output's own grid.

    Raises
    ------
    ModelOutputError
        As `class_scores`.
    """
    sides = len(preparation.size)
    scores = output[0] if output.ndim > sides else output
    if scores.ndim == sides:
        scores = scores[None]
    elif preparation.layout.endswith("C"):
        scores = np.moveaxis(scores, -1, 0)
    if scores.ndim != sides + 1 or len(scores) != len(card.labels):
        raise ModelOutputError(
            f"{card.name}: expected scores of {len(card.labels)} labels for each of {sides} axes, "
            f"found {list(output.shape)}"
        )
    return _activated(card, scores)


def boxes_of(card: ModelCard, output: Pixels) -> Pixels:
    """Boxes as ``float32[box, 6]``: x1, y1, x2, y2, score and label; those of no score are left out.

    Raises
    ------
    ModelOutputError
        If they are not such rows, or name a label that is not in the card.
    """
    if output.shape[-1] != BOX:
        raise ModelOutputError(f"{card.name}: expected boxes of {BOX} numbers, found {list(output.shape)}")
    boxes = output.reshape(-1, BOX).copy()
    if card.activation == "sigmoid":
        boxes[:, 4] = 1.0 / (1.0 + np.exp(-boxes[:, 4]))
    boxes = boxes[boxes[:, 4] >= card.threshold]
    numbers = np.rint(boxes[:, 5])
    if ((numbers < 0) | (numbers >= len(card.labels))).any() or (boxes[:, 4] > 1.0 + ALMOST).any():
        raise ModelOutputError(f"{card.name}: a box has no score from 0 to 1 or a label that the card does not name")
    boxes[:, 5] = numbers
    boxes[:, 4] = np.minimum(boxes[:, 4], 1.0)
    return boxes


def _activated(card: ModelCard, raw: Pixels) -> Pixels:
    """Scores from 0 to 1; labels are the first axis."""
    if card.activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(raw, -60.0, 60.0))), np.float32)
    if card.activation == "softmax":
        powers = np.exp(raw - raw.max(axis=0))
        return np.asarray(powers / powers.sum(axis=0), np.float32)
    if card.activation != "none":
        raise ModelError(f"{card.name}: activation {card.activation!r} is not known")
    if raw.min() < -ALMOST or raw.max() > 1.0 + ALMOST:
        raise ModelOutputError(
            f"{card.name}: expected scores from 0 to 1, found others: should activation be sigmoid or softmax?"
        )
    return np.clip(raw, 0.0, 1.0)
