"""The colour scale of heat maps: dark violet, red, orange, yellow, in equal steps of lightness.

Lightness rises evenly from cold to hot, so that the scale reads the same in grey, in print and to
eyes that do not tell red from green; and no step looks like an edge that is not in the heat.
"""

import functools

import numpy as np
import numpy.typing as npt

from node.domain.volume import Heat

__all__ = ["SEE_THROUGH_BELOW", "blend", "colour_of"]

SEE_THROUGH_BELOW = 0.2
"""Heat below this is not drawn, so that anatomy stays visible."""
MOST_OPAQUE = 0.45
STEPS = 256

# CIE L*C*h(ab): lightness, chroma and hue (degrees) at heat 0, 1/4, 1/2, 3/4, 1; chosen inside sRGB
LIGHTNESS = (21.0, 37.0, 53.0, 69.0, 85.0)
CHROMA = (40.0, 62.0, 76.0, 74.0, 80.0)
HUE = (305.0, 360.0, 400.0, 428.0, 454.0)
WHITE_D65 = np.array([0.95047, 1.0, 1.08883])  # CIE 15, 2 degree observer
XYZ_TO_SRGB = np.array(  # IEC 61966-2-1
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)


def colour_of(heat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Colour of each heat, 0 to 1.

    Returns
    -------
    ``float32[..., 3]``, sRGB 0 to 255.
    """
    index = np.clip(np.nan_to_num(heat) * (STEPS - 1) + 0.5, 0, STEPS - 1).astype(np.intp)
    colours: npt.NDArray[np.float32] = _table()[index]
    return colours


def blend(background: Heat, heat: Heat) -> npt.NDArray[np.uint8]:
    """Lay heat over an image.

    Parameters
    ----------
    background, heat
        ``float32[row, column]``, 0 to 1, same grid.

    Returns
    -------
    ``uint8[row, column, 3]``. Opacity is zero below heat 0.2 and rises with it to 0.45.
    """
    alpha = np.clip((heat - SEE_THROUGH_BELOW) / (1.0 - SEE_THROUGH_BELOW), 0.0, 1.0) * MOST_OPAQUE
    grey = np.clip(background, 0.0, 1.0) * 255.0
    mixed = grey[..., None] * (1.0 - alpha[..., None]) + colour_of(heat) * alpha[..., None]
    blended: npt.NDArray[np.uint8] = (mixed + 0.5).astype(np.uint8)
    return blended


@functools.cache
def _table() -> npt.NDArray[np.float32]:
    """The scale as ``float32[256, 3]``: CIE L*C*h(ab) to XYZ (CIE 15) to sRGB (IEC 61966-2-1)."""
    at, knots = np.linspace(0.0, 1.0, STEPS), np.linspace(0.0, 1.0, len(LIGHTNESS))
    lightness, chroma = np.interp(at, knots, LIGHTNESS), np.interp(at, knots, CHROMA)
    hue = np.radians(np.interp(at, knots, HUE))
    y = (lightness + 16.0) / 116.0
    scaled = np.stack([y + chroma * np.cos(hue) / 500.0, y, y - chroma * np.sin(hue) / 200.0], axis=1)
    xyz = np.where(scaled > 6.0 / 29.0, scaled**3, 3.0 * (6.0 / 29.0) ** 2 * (scaled - 4.0 / 29.0)) * WHITE_D65
    linear = np.clip(xyz @ XYZ_TO_SRGB.T, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055)
    table: npt.NDArray[np.float32] = (srgb * 255.0).astype(np.float32)
    return table
