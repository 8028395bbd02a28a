"""Grey levels of MR on one scale: an MR value means nothing by itself, its rank among the tissue's does.

Nyul & Udupa, Magn Reson Med 1999;42:1072; Nyul, Udupa & Zhang, IEEE Trans Med Imaging 2000;19:143 (landmarks at
the deciles, linear between them).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from node.domain.volume import Mask, Pixels

__all__ = ["LANDMARKS", "learn_scale", "mr_percentiles", "normalised_mr"]

Landmarks = npt.NDArray[np.float64]

LANDMARKS = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Percentiles of the tissue's values that are its landmarks; the ends leave out noise and vessels (Nyul 1999)."""


def mr_percentiles(values: Pixels, mask: Mask | None = None) -> Landmarks:
    """The landmarks of an MR image's grey levels.

    Parameters
    ----------
    values
        Any shape.
    mask
        The tissue; without it, what is brighter than the mean of the whole image counts (Nyul 1999), so that air
        is left out.

    Returns
    -------
    ``float64[11]``, the values at `LANDMARKS`.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    tissue = values[mask] if mask is not None else values[values > values.mean(dtype=np.float64)]
    if not tissue.size:
        tissue = values.ravel() if mask is None else tissue  # all alike
    if not tissue.size:
        raise ValueError("expected a mask with at least one pixel")
    return np.asarray(np.percentile(tissue, LANDMARKS), np.float64)


def normalised_mr(values: Pixels, mask: Mask | None = None, *, scale: Sequence[float] | None = None) -> Pixels:
    """Put the grey levels of an MR image on a common scale.

    Parameters
    ----------
    values, mask
        As for `mr_percentiles`.
    scale
        What each of `LANDMARKS` becomes, as `learn_scale` learnt it; linear between and beyond them. Without it, the
        first becomes 0, the last 1, and all is linear: contrast is kept as it was.

    Returns
    -------
    ``float32``, not cut at the ends. Any rescaling of the input that keeps its order linear gives the same output.
    """
    landmarks = mr_percentiles(values, mask)
    if scale is None:
        landmarks, targets = landmarks[[0, -1]], np.array([0.0, 1.0])
    else:
        targets = np.asarray(scale, np.float64)
    if len(targets) not in {2, len(LANDMARKS)} or (np.diff(targets) < 0).any():
        raise ValueError(f"expected a scale of {len(LANDMARKS)} rising values, one for each landmark")
    landmarks, targets = _distinct(landmarks, targets)
    if len(landmarks) < 2:
        return np.full(values.shape, targets[0], np.float32)
    slopes = np.diff(targets) / np.diff(landmarks)
    # Which stretch a value lies in; the outermost ones go on for ever.
    stretch = np.clip(np.searchsorted(landmarks, values) - 1, 0, len(slopes) - 1)
    return (targets[stretch] + (values - landmarks[stretch]) * slopes[stretch]).astype(np.float32)


def learn_scale(landmarks: Sequence[Landmarks]) -> Landmarks:
    """Learn the common scale of several images of one sequence: their landmarks, each put on 0 to 1, averaged."""
    if not len(landmarks) or any(found[-1] <= found[0] for found in landmarks):
        raise ValueError("expected the landmarks of at least one image, the last above the first")
    return np.asarray(np.mean([(found - found[0]) / (found[-1] - found[0]) for found in landmarks], axis=0), np.float64)


def _distinct(landmarks: Landmarks, targets: Landmarks) -> tuple[Landmarks, Landmarks]:
    """Landmarks that fall together (few grey levels) count once."""
    kept = np.concatenate([[True], np.diff(landmarks) > 0])
    return landmarks[kept], targets[kept]
