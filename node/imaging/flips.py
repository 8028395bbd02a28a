"""How far a score moves when the same image is shown in another way: the cheapest sign that a model is not sure."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["over_flips"]

Array = npt.NDArray[np.float32]


def over_flips(
    predict: Callable[[Array], Array], image: Array, *, axes: Sequence[tuple[int, ...]], is_map: bool
) -> tuple[Array, Array]:
    """Ask a model once for the image and once for each way of mirroring it.

    Parameters
    ----------
    predict
        Takes the image as the model is given it, gives scores.
    axes
        The axes that are mirrored, one tuple for each further question, such as ``[(-1,)]`` for left and right. Only
        what leaves the truth as it is: a mirrored chest has its heart on the other side.
    is_map
        True if the scores lie on the axes of the image and have to be mirrored back.

    Returns
    -------
    The mean of the scores, and how far they reach beside it: half the way from the least to the greatest. That is the
    `spread` of `node.api.certainty_of`.

    References
    ----------
    Wang et al., Neurocomputing 2019;338:34 (test-time augmentation as a sign of uncertainty).
    """
    answers = [np.asarray(predict(image), np.float32)]
    for flipped in axes:
        answer = np.asarray(predict(np.ascontiguousarray(np.flip(image, flipped))), np.float32)
        answers.append(np.flip(answer, flipped) if is_map else answer)
    every = np.stack(answers)
    return every.mean(axis=0, dtype=np.float32), np.asarray(np.ptp(every, axis=0) / 2.0, np.float32)
