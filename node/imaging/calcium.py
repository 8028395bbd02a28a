"""Scores of calcium on CT without contrast, by their published definitions: Agatston, volume, mass, category.

Agatston et al., J Am Coll Cardiol 1990;15:827. Callister et al., Radiology 1998;208:807 (volume; here without its
interpolation). McCollough et al., Radiology 2007;243:527 (mass). Hecht et al., J Cardiovasc Comput Tomogr 2018;12:185
(CAC-DRS).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.domain.volume import Mask, Pixels, Volume
from node.errors import GeometryError

__all__ = ["CALCIUM_HU", "CalciumScore", "cac_drs_category", "density_weights", "score_calcium", "score_vessels"]

CALCIUM_HU = 130.0  # at or above it; Agatston 1990
LEAST_AREA_MM2 = 1.0  # of a lesion on one slice, this or more; Agatston 1990
WEIGHT_FROM_HU = (130.0, 200.0, 300.0, 400.0)  # weights 1 to 4 by the maximum of a lesion on a slice; Agatston 1990
DEFINED_MM = 3.0  # thickness of the slices the score was defined on, side by side
SLICES_MM = (2.5, 3.0)  # what it may be computed on; Hecht 2018
AREA_TOLERANCE = 1e-6  # of rounding in Pixel Spacing
CATEGORY_FROM = ((300.0, "A3"), (100.0, "A2"))  # Hecht 2018: A1 1 to 99, A2 100 to 299, A3 300 and above


@dataclass(frozen=True, slots=True, eq=False)
class CalciumScore:
    """What calcium was found.

    Parameters
    ----------
    agatston
        Sum of area times weight, times distance of slices by 3 mm: slices of 2.5 mm count 2.5/3, and slices that
        overlap are not counted twice.
    agatston_unscaled
        The same sum without the factor, as some scanners print it; equal to `agatston` for slices 3 mm apart.
    volume_mm3
        Voxels of the lesions times the volume of one.
    mass_mg
        Mean HU times volume times calibration; None without a calibration.
    lesion_count
        Lesions, connected across slices by faces, edges or corners.
    lesions
        ``bool[slice, row, column]``: voxels that were counted.
    """

    agatston: float
    agatston_unscaled: float
    volume_mm3: float
    mass_mg: float | None
    lesion_count: int
    lesions: Mask


def score_calcium(
    volume: Volume, region: Mask, *, slice_thickness_mm: float, calibration_mg_per_ml_hu: float | None = None
) -> CalciumScore:
    """Score calcium inside a region.

    A lesion on one slice is a set of voxels of 130 HU or more that touch by an edge or corner in the plane, 1 mm2 or
    more in area. Its weight is 1 up to 199 HU, 2 up to 299, 3 up to 399 and 4 above, by its maximum on that slice.

    Parameters
    ----------
    volume
        ``float32[slice, row, column]`` in HU, without contrast, at 120 kVp.
    region
        Same grid; True where calcium counts. The score is a coronary one only if it is the coronary arteries.
    slice_thickness_mm
        Slice Thickness of the images.
    calibration_mg_per_ml_hu
        Calcium hydroxyapatite per HU, from a calibration phantom scanned on this scanner with this protocol.

    Returns
    -------
    All 0 if no lesion reaches 1 mm2.

    Raises
    ------
    GeometryError
        If slices are not 2.5 to 3 mm thick or leave gaps; the score is defined for those only.
    """
    distance_mm = volume.spacing_mm[0]
    if not SLICES_MM[0] - 0.01 <= slice_thickness_mm <= SLICES_MM[1] + 0.01 or distance_mm > slice_thickness_mm + 0.05:
        raise GeometryError(
            f"expected slices 2.5 to 3 mm thick without gaps, found {slice_thickness_mm:g} mm, {distance_mm:g} mm apart"
        )
    pixel_mm2 = volume.spacing_mm[1] * volume.spacing_mm[2]
    calcium = region & (volume.array >= CALCIUM_HU)
    lesions = np.zeros(calcium.shape, np.bool_)
    total = 0.0
    for index in np.flatnonzero(calcium.any(axis=(1, 2))):
        weights, areas, labels = _on_slice(volume.array[index], calcium[index], pixel_mm2)
        is_lesion = areas >= LEAST_AREA_MM2 - AREA_TOLERANCE
        total += float((areas * weights)[is_lesion].sum())
        lesions[index] = np.concatenate([[False], is_lesion])[labels]
    volume_mm3 = float(lesions.sum()) * pixel_mm2 * distance_mm
    mass_mg = None
    if calibration_mg_per_ml_hu is not None:
        mean_hu = float(volume.array[lesions].mean()) if lesions.any() else 0.0
        mass_mg = calibration_mg_per_ml_hu * mean_hu * volume_mm3 / 1000.0
    _, count = ndimage.label(lesions, np.ones((3, 3, 3)))
    return CalciumScore(total * distance_mm / DEFINED_MM, total, volume_mm3, mass_mg, int(count), lesions)


def score_vessels(
    volume: Volume, vessels: Mapping[str, Mask], *, slice_thickness_mm: float
) -> Mapping[str, CalciumScore]:
    """Score each vessel by itself; parameters as `score_calcium`.

    A lesion that crosses from one mask into another is cut in two, so the scores may add up to less than that of both.
    """
    return {name: score_calcium(volume, mask, slice_thickness_mm=slice_thickness_mm) for name, mask in vessels.items()}


def cac_drs_category(agatston: float, vessel_count: int | None = None) -> str:
    """CAC-DRS category of a coronary score, such as ``A2/N3``; without ``/N`` if no vessel was told apart."""
    if agatston <= 0.0:
        return "A0"
    category = next((name for least, name in CATEGORY_FROM if agatston >= least), "A1")
    return category if vessel_count is None else f"{category}/N{vessel_count}"


def density_weights(volume: Volume, index: int, lesions: Mask) -> Pixels:
    """Weight, 1 to 4, of the lesion each pixel of a slice belongs to; 0 outside."""
    pixel_mm2 = volume.spacing_mm[1] * volume.spacing_mm[2]
    weights, _, labels = _on_slice(volume.array[index], lesions[index], pixel_mm2)
    return np.concatenate([[0.0], weights])[labels].astype(np.float32)


def _on_slice(
    values: Pixels, calcium: Mask, pixel_mm2: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Weight and area in mm2 of each connected part of one slice, and the number of each pixel's part."""
    labels, count = ndimage.label(calcium, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    maxima = np.asarray(ndimage.maximum(values, labels, numbers), np.float64).reshape(-1)
    weights = np.searchsorted(WEIGHT_FROM_HU, maxima, side="right").astype(np.float64)
    areas = np.asarray(np.bincount(labels.ravel(), minlength=count + 1)[1:] * pixel_mm2, np.float64)
    return weights, areas, np.asarray(labels, np.intp)
