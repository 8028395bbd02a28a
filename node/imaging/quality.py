"""Whether an image is good enough to be read at all, and if not, why: the first gate of a handler.

It finds what can be told from the pixels of one image or Volume: nothing there, too small, a field of view that
cannot hold the organ, grey levels that were cut off, too few of them, noise that drowns the contrast, an object cut
by the border, values that are no HU. It does not tell motion, position, or the wrong part of the body.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Image, Pixels, Volume
from node.errors import NotEvaluableError
from node.imaging.tissue import tissue_mask

__all__ = ["Demands", "Reason", "border_shares", "noise_per_contrast", "quality", "require_quality"]

CONTRAST_PERCENTILES = (1.0, 99.0)
IMMERKAER = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
ABSOLUTE_TO_SIGMA = np.sqrt(np.pi / 2.0)  # mean absolute value of a normal distribution
GAIN = 6.0  # of the kernel: root of the sum of its squares
PLAIN_SHARE = 0.5  # noise is judged on the half of the image with the least gradient; edges are no noise
TISSUE_HU = (-250.0, 350.0)
DARK_HU = -50.0  # fat is darker, lung and air are by far
LEAST_TISSUE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an image cannot be read: `key` in the report template's ``[reasons]`` and one English sentence."""

    key: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Demands:
    """What an application needs of an image; None asks for nothing.

    Parameters
    ----------
    least_side
        Pixels along the shorter side of an image or slice. Key ``too_small``.
    least_field_mm, most_field_mm
        Field of view: (rows, columns) of an Image, (slices, rows, columns) of a Volume. Where an Image has no real
        spacing this is not judged. Key ``field_of_view``.
    least_levels
        Different values. A picture of 8 bits has up to 256; below 32 steps show. Key ``few_grey_levels``.
    most_saturated
        Share of pixels at the very highest value, among those above the lowest. Key ``saturated``.
    most_noise
        Standard deviation of the noise per contrast, see `noise_per_contrast`. Pure noise has about 0.2, real
        radiographs, CT and MR 0.0003 to 0.011 (tests/unit/imaging/test_quality_real.py). Key ``noise``.
    most_on_border
        Share of the border (rows and columns, not the first and last slice) that tissue may touch, for organs that
        must be whole. Key ``cut_off``.
    is_hu
        Values must be HU: some as soft tissue has them, some as dark as fat or air. Key ``not_hu``.
    """

    least_side: int | None = 64
    least_field_mm: tuple[float, ...] | None = None
    most_field_mm: tuple[float, ...] | None = None
    least_levels: int | None = 32
    most_saturated: float | None = 0.25
    most_noise: float | None = 0.12
    most_on_border: float | None = None
    is_hu: bool = False


def quality(image: Image | Volume, demands: Demands | None = None) -> tuple[Reason, ...]:
    """Say everything that is wrong with an image, the gravest first; nothing if it is good enough.

    An image that is blank (one value throughout) gives the one reason ``blank``.
    """
    demands = demands or Demands()
    values = image.array
    if not np.isfinite(values).all() or not values.max() > values.min():
        return (Reason("blank", "the image is blank"),)
    reasons = [*_of_size(image, demands), *_of_levels(values, demands)]
    if demands.is_hu:
        reasons += _of_hu(image)
    if demands.most_noise is not None and (noise := noise_per_contrast(values)) > demands.most_noise:
        reasons.append(
            Reason("noise", f"noise is {noise:.0%} of the contrast, at most {demands.most_noise:.0%} is read")
        )
    if (
        demands.most_on_border is not None
        and (share := max(border_shares(tissue_mask(values)))) > demands.most_on_border
    ):
        reasons.append(Reason("cut_off", f"tissue covers {share:.0%} of a border: the field of view cuts through it"))
    return tuple(reasons)


def require_quality(image: Image | Volume, demands: Demands | None = None) -> None:
    """Refuse an image that is not good enough.

    Raises
    ------
    NotEvaluableError
        With the first reason's key and all reasons' sentences.
    """
    reasons = quality(image, demands)
    if reasons:
        raise NotEvaluableError("; ".join(reason.sentence for reason in reasons), key=reasons[0].key)


def noise_per_contrast(values: Pixels) -> float:
    """Standard deviation of pixel noise by the range from the 1st to the 99th percentile; of a Volume the median slice.

    Only the plainer half of the image counts, leaving out where it is at its lowest or highest value.

    References
    ----------
    Immerkaer, Comput Vis Image Underst 1996;64:300.
    """
    planes = values if values.ndim == 3 else values[None]
    low, high = np.percentile(values, CONTRAST_PERCENTILES)
    if not high > low or min(planes.shape[1:]) < 8:
        return 0.0
    chosen = planes[np.unique(np.linspace(0, len(planes) - 1, min(len(planes), 9)).round().astype(int))]
    return float(np.median([_noise(plane, float(low), float(high)) for plane in chosen]) / (high - low))


def border_shares(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Share of the first and last row and the first and last column that a mask covers; of a Volume over all slices."""
    planes = mask if mask.ndim == 3 else mask[None]
    borders = (planes[:, 0], planes[:, -1], planes[:, :, 0], planes[:, :, -1])
    top, bottom, left, right = (float(border.mean()) for border in borders)
    return top, bottom, left, right


def _noise(plane: Pixels, low: float, high: float) -> float:
    inner = (slice(1, -1), slice(1, -1))
    residual = np.abs(ndimage.convolve(plane, IMMERKAER.astype(np.float32), mode="nearest"))[inner]
    smooth = ndimage.gaussian_filter(plane, 1.5, mode="nearest")
    gradient = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))[inner]
    is_image = ((plane > low) & (plane < high))[inner]
    if is_image.sum() < 64:
        return 0.0
    is_plain = is_image & (gradient <= np.quantile(gradient[is_image], PLAIN_SHARE))
    return float(residual[is_plain].mean() * ABSOLUTE_TO_SIGMA / GAIN)


def _of_size(image: Image | Volume, demands: Demands) -> list[Reason]:
    reasons = []
    side = min(image.array.shape[-2:])
    if demands.least_side is not None and side < demands.least_side:
        reasons.append(
            Reason("too_small", f"the shorter side is {side} pixels, at least {demands.least_side} are needed")
        )
    spacing_mm = image.spacing_mm
    if spacing_mm is None:
        return reasons
    field_mm = [side * step for side, step in zip(image.array.shape, spacing_mm, strict=True)]
    said = " x ".join(f"{length:.0f}" for length in field_mm)
    least, most = demands.least_field_mm, demands.most_field_mm
    if least is not None and any(have < need for have, need in zip(field_mm, least, strict=True)):
        reasons.append(Reason("field_of_view", f"the field of view of {said} mm is too small"))
    if most is not None and any(have > need for have, need in zip(field_mm, most, strict=True)):
        reasons.append(Reason("field_of_view", f"the field of view of {said} mm is too large"))
    return reasons


def _of_levels(values: Pixels, demands: Demands) -> list[Reason]:
    reasons = []
    sample = values.ravel()[:: max(1, values.size // 4_000_000)]  # enough to count by, and quick
    levels = len(np.unique(sample))
    if demands.least_levels is not None and levels < demands.least_levels:
        sentence = f"there are {levels} grey levels, at least {demands.least_levels} are needed"
        reasons.append(Reason("few_grey_levels", sentence))
    above = sample[sample > sample.min()]
    saturated = float((above == sample.max()).mean()) if len(above) else 1.0
    if demands.most_saturated is not None and saturated > demands.most_saturated:
        reasons.append(
            Reason("saturated", f"{saturated:.0%} of the image is at the highest value: grey levels are cut off")
        )
    return reasons


def _of_hu(image: Image | Volume) -> list[Reason]:
    """Judge HU by water and air: air at -1000 in or around the patient, soft tissue near 0 (PS3.3 C.8.2.1, Rescale)."""
    if isinstance(image, Volume) and image.unit != "HU":
        return [Reason("not_hu", f"values are in {image.unit} units, not in HU")]
    values = image.array
    has_tissue = bool(((values > TISSUE_HU[0]) & (values < TISSUE_HU[1])).mean() >= LEAST_TISSUE_SHARE)
    lowest = float(np.percentile(values, 0.5))
    if not has_tissue:
        return [Reason("not_hu", "hardly any value is that of soft tissue: these are no HU, or there is no patient")]
    if lowest > DARK_HU:
        return [Reason("not_hu", "nothing is as dark as fat or air: these are no HU")]
    return []
