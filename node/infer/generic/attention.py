"""Where a classifier looked: three ways to say it, from the best that its file allows.

Grad-CAM comes out of the model itself, as a second output that was put there when the model was added. Where that
could not be done, Score-CAM tries the model's own features one by one; and where the features cannot be seen either,
parts of the image are hidden and what that costs is drawn.

Selvaraju et al., ICCV 2017; Wang et al., CVPR Workshops 2020 (Score-CAM); Zeiler and Fergus, ECCV 2014 (occlusion).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import ndimage

from node.domain.models import ModelCard
from node.domain.volume import Pixels
from node.errors import ModelOutputError

__all__ = ["BASES", "attention", "resized"]

BASES = {
    "grad_cam": "Grad-CAM, its peak drawn as the score",
    "score_cam": "Score-CAM, its peak drawn as the score",
    "": "loss of score where hidden, its peak drawn as the score",
}
"""What is written on the picture, by `ModelCard.heat_map_method`."""
MOST_FEATURES = 24
HIDDEN_PER_SIDE = {2: 7, 3: 4}  # 49 or 64 runs


def attention(
    card: ModelCard,
    values: Pixels,
    outputs: Mapping[str, Pixels],
    *,
    label: int,
    score_of: Callable[[Pixels], float],
    fill: float,
) -> Pixels:
    """Draw where one label was seen.

    Parameters
    ----------
    values
        The numbers on the model's grid.
    outputs
        What the model gave for them.
    label
        Index of the label.
    score_of
        Runs the model on other numbers and gives the label's score.
    fill
        The number of nothing.

    Returns
    -------
    ``float32`` of the shape of `values`, its peak 1; all 0 where nothing speaks for the label.
    """
    if card.heat_map_method == "grad_cam":
        maps = outputs[card.heat_map_output]
        if maps.ndim != values.ndim + 2 or maps.shape[1] != len(card.labels):
            raise ModelOutputError(f"{card.name}: expected a map for each label, found {list(maps.shape)}")
        found = resized(maps[0, label], values.shape)
    elif card.heat_map_method == "score_cam":
        found = _score_cam(values, outputs[card.heat_map_output][0], score_of, fill)
    else:
        found = _occlusion(values, score_of, fill)
    found = np.maximum(found, 0.0)
    peak = float(found.max())
    return np.asarray(found / peak if peak > 0.0 else found, np.float32)


def _score_cam(values: Pixels, features: Pixels, score_of: Callable[[Pixels], float], fill: float) -> Pixels:
    """Weigh features by the score that is left when only what they show may be seen."""
    spread = features.reshape(len(features), -1).std(axis=1)
    nothing = score_of(np.full_like(values, fill))
    total = np.zeros(values.shape, np.float32)
    for index in np.argsort(-spread, kind="stable")[:MOST_FEATURES]:
        if spread[index] == 0.0:
            break
        feature = resized(features[index], values.shape)
        mask = (feature - feature.min()) / max(float(np.ptp(feature)), 1e-6)
        gain = score_of((fill + mask * (values - fill)).astype(np.float32)) - nothing
        total += max(gain, 0.0) * mask
    return np.asarray(total - total.min(), np.float32)


def _occlusion(values: Pixels, score_of: Callable[[Pixels], float], fill: float) -> Pixels:
    whole = score_of(values)
    total = np.zeros(values.shape, np.float32)
    for weight in _windows(values.shape):
        hidden = (values + weight * (fill - values)).astype(np.float32)
        total += max(whole - score_of(hidden), 0.0) * weight
    return total


def _windows(shape: tuple[int, ...]) -> Iterator[Pixels]:
    """Soft windows, evenly spread, that together cover everything."""
    count = HIDDEN_PER_SIDE[len(shape)]
    profiles = []
    for side in shape:
        centres = (np.arange(count) + 0.5) * side / count - 0.5
        profiles.append(np.exp(-0.5 * ((np.arange(side) - centres[:, None]) / (0.6 * side / count)) ** 2))
    for place in itertools.product(range(count), repeat=len(shape)):
        window = np.ones((), np.float64)
        for axis, index in enumerate(place):
            window = window[..., None] * profiles[axis][index]
        yield window.astype(np.float32)


def resized(plane: Pixels, shape: tuple[int, ...]) -> Pixels:
    """Enlarge edge to edge, linearly."""
    factors = np.array(plane.shape) / np.array(shape)
    first = factors / 2.0 - 0.5
    return np.asarray(ndimage.affine_transform(plane, factors, first, shape, np.float32, order=1, mode="nearest"))
