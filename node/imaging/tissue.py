"""Where the patient is: tissue apart from the air around it, on MR by its grey levels, on CT by its HU."""

import numpy as np
from scipy import ndimage

from node.domain.volume import Mask, Pixels, Volume
from node.imaging.components import largest_component

__all__ = ["body_mask", "tissue_mask"]

SKIN_HU = -300.0  # midway between air and fat, soft tissue being above; no lung is outside the skin
GREY_LEVELS = 256
TABLE_MM = 6.0  # a table top or a blanket thinner than twice this does not stay joined to the body


def tissue_mask(values: Pixels) -> Mask:
    """Tissue on an MR image: the largest part that is brighter than half of Otsu's threshold, its hollows filled.

    Half, because Otsu parts bright fat from dark muscle where fat is very bright. All False if the image is even.

    References
    ----------
    Otsu, IEEE Trans Syst Man Cybern 1979;9:62.
    """
    if not values.max() > values.min():
        return np.zeros(values.shape, np.bool_)
    low = float(values.min())
    level = low + (_otsu_threshold(values) - low) / 2.0
    return _without_hollows(largest_component(np.asarray(values > level, np.bool_)))


def body_mask(volume: Volume) -> Mask:
    """The body on CT, lungs and bowel gas included, without the table.

    Parameters
    ----------
    volume
        In HU; slices about axial.

    Returns
    -------
    ``bool[slice, row, column]``, all False if there is nothing above -300 HU.
    """
    dense = np.asarray(volume.array > SKIN_HU, np.bool_)
    spacing_mm = np.array(volume.spacing_mm[1:])
    reach = np.maximum(np.rint(TABLE_MM / spacing_mm / 2.0), 1).astype(int)
    rows, columns = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    disc = ((rows / reach[0]) ** 2 + (columns / reach[1]) ** 2 <= 1.0)[None]
    filled = _without_hollows(dense)
    opened = np.asarray(ndimage.binary_opening(filled, disc), np.bool_)
    return largest_component(opened)


def _otsu_threshold(values: Pixels) -> float:
    """The level between dark and bright that parts their means best; as scikit-image's, which takes seconds to load."""
    counts, edges = np.histogram(values, GREY_LEVELS)
    centres = (edges[1:] + edges[:-1]) / 2.0
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / below
    mean_above = (np.cumsum((counts * centres)[::-1]) / above[::-1])[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[int(np.argmax(between))])


def _without_hollows(mask: Mask) -> Mask:
    """Fill what is closed in on its slice."""
    planes = mask if mask.ndim == 3 else mask[None]
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in planes])
    return np.asarray(filled if mask.ndim == 3 else filled[0], np.bool_)
