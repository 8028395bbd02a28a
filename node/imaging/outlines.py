"""Outlines of masks and score maps as Regions that any viewer draws where they belong.

Points are (column, row) in SCOORD's coordinates: (0, 0) is the top left corner of the top left pixel, whose
centre is (0.5, 0.5) (PS3.3 C.18.6.1.1).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from skimage.measure import find_contours

from node.domain.findings import Region
from node.domain.volume import Mask, Pixels, Volume
from node.imaging.thinning import thinned

__all__ = ["box_points", "confined", "outline_all", "outline_largest", "region_of_slice"]

Points = tuple[tuple[float, float], ...]

MOST_POINTS = 400
FIRST_TOLERANCE = 0.2  # pixels


def outline_largest(plane: Pixels | Mask, level: float = 0.5, *, most_points: int = MOST_POINTS) -> Points:
    """Outline the largest part of one slice that is above a level.

    Parameters
    ----------
    plane
        ``[row, column]``: a mask, or a score whose outline then runs between the pixels at `level`.
    level
        Inside is above it; above 0.
    most_points
        A longer outline is thinned until it has no more, first by 0.2 pixels.

    Returns
    -------
    (column, row) of the outer outline; the first point is not repeated. Empty if nothing is above the level.
    """
    contours = _outer(plane, level)
    return _points(max(contours, key=lambda contour: abs(_area(contour))), plane.shape, most_points) if contours else ()


def outline_all(
    plane: Pixels | Mask, level: float = 0.5, *, most_points: int = MOST_POINTS, most: int = 20
) -> tuple[Points, ...]:
    """Outline every part of one slice that is above a level, largest first; parameters as `outline_largest`.

    Hollows have no outline of their own.
    """
    contours = sorted(_outer(plane, level), key=lambda contour: -abs(_area(contour)))
    return tuple(_points(contour, plane.shape, most_points) for contour in contours[:most])


def region_of_slice(volume: Volume, index: int, plane: Pixels | Mask, level: float = 0.5) -> Region:
    """Outline the largest part on slice `index` as a Region that names its image and frame.

    Raises
    ------
    ValueError
        If nothing on `plane` is above `level`.
    """
    points = outline_largest(plane, level)
    if not points:
        raise ValueError(f"nothing on slice {index} is above {level}")
    return Region(volume.sop_instance_uids[index], points, volume.frame_number(index))


def confined(scores: Pixels, mask: Mask, level: float) -> Pixels:
    """Scores with everything outside the mask pressed below the level, so that only the mask makes an outline."""
    return np.where(mask, scores, np.minimum(scores, level * 0.999)).astype(np.float32)


def box_points(centre: Sequence[float], size: Sequence[float], shape: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """The corners of a box, cut at the border of the image.

    Parameters
    ----------
    centre
        (row, column) as an array index: pixel centres are whole numbers.
    size
        (rows, columns) in pixels.
    shape
        Rows and columns of the image.
    """
    middle, half = np.asarray(centre, np.float64) + 0.5, np.asarray(size, np.float64) / 2.0
    top, left = (float(value) for value in np.clip(middle - half, 0.0, shape))
    bottom, right = (float(value) for value in np.clip(middle + half, 0.0, shape))
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _outer(plane: Pixels | Mask, level: float) -> list[npt.NDArray[np.float64]]:
    """Closed outlines around what is high; one row and column of zeros all around closes those at the border."""
    contours = find_contours(np.pad(plane.astype(np.float32), 1), level)  # type: ignore[no-untyped-call]
    return [contour for contour in contours if _area(contour) < 0]  # skimage: counter-clockwise around what is high


def _points(contour: npt.NDArray[np.float64], shape: Sequence[int], most_points: int) -> Points:
    tolerance, points = FIRST_TOLERANCE, contour
    while len(points) > most_points + 1:
        points = thinned(contour, tolerance)
        tolerance *= 1.5
    rows, columns = np.clip(points[:-1] - 1 + 0.5, 0, shape).T
    return tuple((float(column), float(row)) for row, column in zip(rows, columns, strict=True))


def _area(points: npt.NDArray[np.float64]) -> float:
    """Area inside a closed outline (shoelace formula), its sign the direction."""
    rows, columns = points.T
    return float(np.dot(rows[:-1], columns[1:]) - np.dot(rows[1:], columns[:-1])) / 2.0
