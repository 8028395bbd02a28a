"""Takes a lesion out of an image: healthy tissue is put in its place, without a seam, as if it had never been there."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from node.domain.volume import Mask

__all__ = ["grown", "heal"]

Values = npt.NDArray[np.float64]
MARGIN_SHARE, MARGIN_PX = 0.15, 2  # of the box: a label seldom holds the whole edge of a lesion
RING_PX = 3


def grown(lesion: Mask) -> Mask:
    """The lesion with a margin around it."""
    rows, columns = np.nonzero(lesion)
    size = max(int(np.ptp(rows)), int(np.ptp(columns))) + 1
    steps = max(MARGIN_PX, round(MARGIN_SHARE * size))
    return np.asarray(ndimage.distance_transform_edt(~lesion) <= steps, np.bool_)


def heal(values: Values, lesion: Mask, unhealthy: Mask) -> Values:
    """Replace the pixels of a lesion by healthy tissue from elsewhere in the image, matched along the edge.

    The tissue is that of the mirrored place, or of a place beside the lesion, whichever fits best at the edge; a smooth
    membrane takes up what difference there is. Where no place is healthy the membrane alone fills the hole.

    Parameters
    ----------
    values
        ``float64[row, column]``, stored values.
    lesion
        What is replaced, its margin included.
    unhealthy
        All lesions of the image: tissue is never taken from one.

    References
    ----------
    Pérez et al., ACM Trans Graph 2003;22:313 (seamless cloning).
    """
    ring = ndimage.binary_dilation(lesion, iterations=RING_PX) & ~lesion
    if not ring.any():
        return values
    best, least = np.zeros_like(values), np.inf
    for source, is_healthy in _sources(values, lesion, ~unhealthy):
        if is_healthy[lesion | ring].all():
            misfit = float(np.std((values - source)[ring]))
            if misfit < least:
                best, least = source, misfit
    return np.where(lesion, best + _membrane(values - best, lesion), values)


def _sources(values: Values, lesion: Mask, healthy: Mask) -> Iterator[tuple[Values, Mask]]:
    """The image mirrored left to right, and moved by the size of the lesion; with where it is there and healthy."""
    yield values[:, ::-1], healthy[:, ::-1]
    rows, columns = (int(np.ptp(places)) + 1 + 2 * RING_PX for places in np.nonzero(lesion))
    for down, across in ((rows, 0), (-rows, 0), (0, columns), (0, -columns)):
        is_there = ndimage.shift(healthy.astype(np.uint8), (down, across), order=0, cval=0).astype(np.bool_)
        yield np.roll(values, (down, across), axis=(0, 1)), is_there


def _membrane(edge: Values, inside: Mask) -> Values:
    """Solve Laplace's equation inside, with the values outside as its edge; the border of the image is free."""
    count = int(inside.sum())
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(count)
    diagonal, known = np.zeros(count), np.zeros(count)
    pairs: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for axis in (0, 1):
        for step in (1, -1):
            beside, value = np.roll(number, step, axis), np.roll(edge, step, axis)
            exists = np.ones(inside.shape, np.bool_)
            first = [slice(None)] * 2
            first[axis] = slice(0, 1) if step == 1 else slice(-1, None)
            exists[tuple(first)] = False
            here, there = exists[inside], beside[inside]
            diagonal += here
            is_edge = here & (there < 0)
            known[is_edge] += value[inside][is_edge]
            linked = here & (there >= 0)
            pairs.append((np.flatnonzero(linked), there[linked]))
    rows, columns = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    matrix = sparse.diags(diagonal) - sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (count, count))
    filled = np.zeros(inside.shape)
    filled[inside] = spsolve(matrix.tocsc(), known)
    return filled
