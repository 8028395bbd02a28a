"""Outlines with fewer points that stay where they were.

References
----------
Douglas, Peucker, Cartographica 1973;10:112.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["thinned"]

Line = npt.NDArray[np.float64]


def thinned(line: Line, tolerance: float) -> Line:
    """Leave out the points of a line from which the line without them is no farther than `tolerance`.

    Parameters
    ----------
    line
        ``[point, axis]``; the first and the last point stay, also when they are the same.

    Notes
    -----
    As scikit-image's ``approximate_polygon``, which loads its signal processing first: that takes longer than most
    analyses.
    """
    stays = np.zeros(len(line), np.bool_)
    stays[[0, -1]] = True
    waiting = [(0, len(line) - 1)]
    while waiting:
        first, last = waiting.pop()
        between = _distances(line[first + 1 : last], line[first], line[last])
        if between.size and between.max() > tolerance:
            middle = first + 1 + int(between.argmax())
            stays[middle] = True
            waiting += [(first, middle), (middle, last)]
    return line[stays]


def _distances(points: Line, start: Line, end: Line) -> Line:
    """Distance of each point from the stretch between two others."""
    along = end - start
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0.0, 1.0) if length else np.zeros(len(points))
    return np.asarray(np.linalg.norm(points - (start + share[:, None] * along), axis=1), np.float64)
