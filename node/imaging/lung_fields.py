"""The two lung fields of a frontal chest radiograph: where they are, and whether they may be read at all.

A network gives the outline (`models/lung_fields`); the rules here decide whether to believe it. A network
answers to anything and completes what is not there, so a picture is refused unless both lungs are seen, whole,
upright, apart, of a likely shape, and darker than what lies between and below them.

The lungs go on behind the heart, as they were drawn: good as a region, never for an area or a ratio of widths.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Mask, Pixels
from node.errors import NotEvaluableError
from node.imaging.components import largest_component

__all__ = ["LungFields", "find_lung_fields"]

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""``float32[picture, 1, 128, 128]`` in, ``float32[picture, 2, 128, 128]`` back: the image's left lung, its right."""

SIZE_PX = 128
MOST_LOWER = 0.12  # of the height of the lungs: how much deeper one may reach than the other
STRAND_PX = 7  # narrower parts of a lung are none
SHOWN_PERCENTILES = (0.5, 99.5)  # beyond them lie markers, metal and the bare detector

# Gates; set on real films, their crops, turns and inversions, and on other pictures: see the model's card.
LEAST_AREA, MOST_AREA = 0.025, 0.40  # of one lung, of the picture
LEAST_RATIO = 0.35  # of the smaller lung to the larger
LEAST_CONFIDENCE = 0.85  # mean probability inside
MOST_UNSURE = 0.40  # pixels between 0.2 and 0.8, of those of the lung
MOST_OFFSET = 0.16  # between the centres' rows, of the picture
LEAST_APART = 0.15  # between the centres' columns
EDGE_PX = 4  # what ends so near the edge is cut by it
MOST_CUT = 0.30  # of a lung's width that may lie at the upper or lower edge, of its height at the outer one
APEX, WIDEST_APEX = 0.06, 0.55  # so much of its height from the top, a whole lung is at most so much of its width
MOST_UPSIDE_DOWN = 0.6  # of the lung still seen when the picture stands on its head
LEAST_CONTRAST = 0.10  # in grey-level ranks, to what lies between and below


@dataclass(frozen=True, slots=True, eq=False)
class LungFields:
    """Two lungs on the grid of the picture they were found on.

    Parameters
    ----------
    at_left, at_right
        ``bool[row, column]``: the lung at the image's left, which is the patient's right one on a usual film, and
        the other.
    """

    at_left: Mask
    at_right: Mask

    @property
    def both(self) -> Mask:
        """Either lung."""
        return self.at_left | self.at_right

    @property
    def width_px(self) -> int:
        """Columns from the outer edge of one lung to that of the other."""
        return int(np.ptp(np.flatnonzero(self.both.any(axis=0)))) + 1


def find_lung_fields(picture: Pixels, run: Run) -> LungFields:
    """Find both lungs, or refuse the picture.

    Parameters
    ----------
    picture
        ``float32[row, column]``, brighter is denser (MONOCHROME1 inverted before), any size and level.
    run
        The network of `models/lung_fields`.

    Raises
    ------
    NotEvaluableError
        With the key ``lungs_not_found``, or ``inverted`` if they would be found with black and white exchanged.
    """
    low, high = np.percentile(picture, SHOWN_PERCENTILES)
    if not high > low:
        raise _not_found("the picture is empty")
    small = _resized(np.clip((picture - low) / (high - low), 0.0, 1.0), (SIZE_PX, SIZE_PX))
    try:
        lungs, masks = _believed_lungs(small, run)
    except NotEvaluableError as refused:
        if _has_lungs(1.0 - small, run):
            raise NotEvaluableError("the grey scale of the image is inverted", key="inverted") from refused
        raise
    edged = np.where(masks, np.maximum(lungs, 0.501), np.minimum(lungs, 0.499)).astype(np.float32)
    at_left, at_right = (_enlarged(lung, picture.shape) for lung in edged)
    return LungFields(at_left & ~at_right, at_right)


def _believed_lungs(small: Pixels, run: Run) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Probabilities and masks of both lungs, or a refusal."""
    upright = small - small.mean()
    upright /= small.std() + np.float32(1e-3)
    found = run(np.stack([upright, upright[:, ::-1], upright[::-1]])[:, None].astype(np.float32))
    lungs = (found[0] + found[1, ::-1, :, ::-1]) / 2.0  # the mirrored picture has its left lung at the right
    masks = _masks(lungs)
    _check_lungs(lungs, masks)
    _check_edges(masks)
    if float(found[2].max(axis=0).sum()) > MOST_UPSIDE_DOWN * float(lungs.max(axis=0).sum()):
        raise _not_found("the picture may stand on its head")
    _check_contrast(small, masks)
    return lungs, masks


def _has_lungs(small: Pixels, run: Run) -> bool:
    try:
        _believed_lungs(small, run)
    except NotEvaluableError:
        return False
    return True


def _masks(lungs: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """The largest part of each lung without its hollows and without thin strands, such as leak into a stomach's gas."""
    masks = np.zeros(lungs.shape, dtype=np.bool_)
    for lung, mask in zip(lungs, masks, strict=True):
        mask[:] = largest_component(_opened(ndimage.binary_fill_holes(largest_component(lung > 0.5))))
        if not mask.any():
            raise _not_found("a lung is missing")
    masks[0] &= ~masks[1]
    lowest = [int(np.flatnonzero(mask.any(axis=1))[-1]) for mask in masks]
    height = min(lowest) - int(np.flatnonzero(masks.any(axis=(0, 2)))[0])
    masks[:, min(lowest) + max(1, round(MOST_LOWER * height)) :] = False  # what goes on is bowel under a dome
    return masks


def _opened(mask: Mask) -> Mask:
    """Without what is narrower than `STRAND_PX`; the edge of the picture counts as lung, so nothing is lost there."""
    padded = np.pad(mask, STRAND_PX, mode="edge")
    core = ndimage.distance_transform_edt(padded) > STRAND_PX / 2
    opened = ndimage.distance_transform_edt(~core) <= STRAND_PX / 2
    return np.asarray(opened[STRAND_PX:-STRAND_PX, STRAND_PX:-STRAND_PX] & mask, dtype=np.bool_)


def _check_lungs(lungs: npt.NDArray[np.float32], masks: npt.NDArray[np.bool_]) -> None:
    """Refuse what two whole lungs cannot look like."""
    areas = masks.mean(axis=(1, 2))
    if not (areas.min() >= LEAST_AREA and areas.max() <= MOST_AREA and areas.min() >= LEAST_RATIO * areas.max()):
        raise _not_found("the lungs have unlikely sizes")
    for lung, mask in zip(lungs, masks, strict=True):
        unsure = ((lung > 0.2) & (lung < 0.8)).sum() / mask.sum()
        if lung[mask].mean() < LEAST_CONFIDENCE or unsure > MOST_UNSURE:
            raise _not_found("the outline of a lung is uncertain")
    (row, column), (other_row, other_column) = (ndimage.center_of_mass(mask) for mask in masks)
    if abs(row - other_row) > MOST_OFFSET * SIZE_PX or other_column - column < LEAST_APART * SIZE_PX:
        raise _not_found("the lungs do not lie side by side")


def _check_edges(masks: npt.NDArray[np.bool_]) -> None:
    """Refuse lungs that end at the edge of the picture, or in a straight line at the top as cut lungs do."""
    for mask, outer in zip(masks, (slice(0, EDGE_PX), slice(SIZE_PX - EDGE_PX, SIZE_PX)), strict=True):
        rows, columns = np.nonzero(mask)
        height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
        ends = [mask[:EDGE_PX].any(axis=0).sum(), mask[-EDGE_PX:].any(axis=0).sum()]
        if max(ends) > MOST_CUT * width or mask[:, outer].all(axis=1).sum() > MOST_CUT * height:
            raise _not_found("a lung is cut by the edge of the picture")
        inner = mask[:, -1] if outer.start == 0 else mask[:, 0]
        apex = mask[: rows.min() + max(2, round(APEX * height))].any(axis=0).sum()
        if inner.any() or apex > WIDEST_APEX * width:
            raise _not_found("a lung does not end in an apex")


def _check_contrast(small: Pixels, masks: npt.NDArray[np.bool_]) -> None:
    """Refuse lungs that are not darker than what lies between and below them."""
    order = np.argsort(small, axis=None, kind="stable")
    ranks = np.empty(small.shape, dtype=np.float32)
    ranks.ravel()[order] = np.linspace(0.0, 1.0, small.size)
    around = _between(masks) | _below(masks)
    if not around.any():
        raise _not_found("nothing is seen between and below the lungs")
    step = float(np.median(ranks[around]) - np.median(ranks[masks[0] | masks[1]]))
    if step < LEAST_CONTRAST:
        raise _not_found("the lungs are not darker than their surroundings")


def _between(masks: npt.NDArray[np.bool_]) -> Mask:
    """What lies between the lungs, row by row."""
    right_of_one = np.maximum.accumulate(masks[0], axis=1)
    left_of_other = np.maximum.accumulate(masks[1][:, ::-1], axis=1)[:, ::-1]
    return np.asarray(right_of_one & left_of_other & ~(masks[0] | masks[1]), dtype=np.bool_)


def _below(masks: npt.NDArray[np.bool_]) -> Mask:
    """What lies up to a fifth of their height under the lungs."""
    both = masks[0] | masks[1]
    reach = max(1, int(0.2 * np.ptp(np.flatnonzero(both.any(axis=1)))))
    under = np.maximum.accumulate(both, axis=0)
    lowered = np.zeros_like(both)
    lowered[reach:] = both[:-reach]
    near = np.zeros_like(both)
    near[3:] = under[:-3] & ~both[3:]  # not the blurred edge itself
    return np.asarray(near & np.flip(np.maximum.accumulate(np.flip(lowered, 0), axis=0), 0), dtype=np.bool_)


def _resized(picture: Pixels, shape: tuple[int, int]) -> Pixels:
    """Put a picture on another grid by means over areas: first whole blocks, then a blur and straight lines."""
    blocks = [max(1, side // (2 * wanted)) for side, wanted in zip(picture.shape, shape, strict=True)]
    rows, columns = (side // block * block for side, block in zip(picture.shape, blocks, strict=True))
    coarse = picture[:rows, :columns].reshape(rows // blocks[0], blocks[0], columns // blocks[1], blocks[1])
    coarse = coarse.mean(axis=(1, 3))
    steps = np.array(coarse.shape) / shape
    smooth = ndimage.gaussian_filter(coarse, np.maximum((steps - 1.0) / 2.0, 0.0), mode="nearest")
    return np.asarray(
        ndimage.affine_transform(smooth, steps, steps / 2.0 - 0.5, shape, np.float32, order=1, mode="nearest")
    )


def _enlarged(probability: Pixels, shape: tuple[int, ...]) -> Mask:
    steps = np.array(probability.shape) / shape
    fine = ndimage.affine_transform(probability, steps, steps / 2.0 - 0.5, shape, np.float32, order=1, mode="nearest")
    return np.asarray(fine > 0.5, dtype=np.bool_)


def _not_found(reason: str) -> NotEvaluableError:
    return NotEvaluableError(f"two whole, upright lung fields were not found: {reason}", key="lungs_not_found")
