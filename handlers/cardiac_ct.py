"""Calcium on a CT of the heart without contrast: Agatston, volume and mass score by their definitions.

The scores are exact; where they may be taken is not. By rule only the region of the heart is found, not the coronary
arteries. So what is reported are candidates, whose sum is no coronary score and gets no category. Where masks of the
arteries can be had, `describe` takes them and reports the coronary score, its category and each vessel.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.api import (
    CALCIUM_HU,
    Basis,
    CalciumScore,
    Finding,
    GeometryError,
    Handler,
    HeartRegion,
    HeatMap,
    Mask,
    Measurement,
    Model,
    NotEvaluableError,
    PixelError,
    Reading,
    Region,
    Segmentation,
    Series,
    Study,
    Terms,
    Volume,
    cac_drs_category,
    density_weights,
    find_heart_region,
    header_number,
    header_texts,
    header_words,
    is_axial,
    passing_series,
    region_of_slice,
    score_calcium,
    score_vessels,
    stack,
)

__all__ = ["analyse", "describe", "handler"]

Pixels = npt.NDArray[np.float32]

MIN_SLICES = 25
THICKNESS_MM = (2.5, 3.0)  # the score is defined on these (CAC-DRS, Hecht et al. 2018)
KVP = 120.0  # 130 HU marks calcium at this voltage only (SCCT guideline, Voros et al. 2011)
MAX_PIXEL_MM = 1.0
MIN_HEIGHT_MM = 75.0  # of the heart; a whole one has 90 to 140 mm
BLOOD_HU = (10.0, 85.0)  # median of blood and muscle without contrast; with contrast 150 and more
MAX_DENSE_SHARE = 0.1  # of blood and muscle at 130 HU or more: noise, or contrast in one chamber
MAX_NOISE_HU = 35.0  # above it noise itself reaches 130 HU; SCCT asks for 20 to 23 HU
MIN_NOISE_HU = 1.0
METAL_HU = 2000.0  # denser than calcium gets: stents, clips, leads
MOST_OUTLINES = 20
MOST_KEY_IMAGES = 5
FULL_WEIGHT = 4.0
WINDOW_HU = (-135.0, 265.0)  # centre 65, width 400

HEART_WORDS = re.compile(r"heart|cardi|coron|calcium|\bca ?sc|\bcac\b|chest|thora|lung|心|冠|钙|胸|肺")
OTHER_BODY_WORDS = re.compile(
    r"head|brain|skull|neck|sinus|orbit|abdom|liver|pancrea|kidney|renal|pelvi|colon|spine|lumbar|cervical|shoulder|"
    r"elbow|wrist|hand|hip\b|knee|ankle|foot|头|颅|脑|颈|腹|肝|胰|肾|盆|脊|椎|肩|肘|腕|髋|膝|踝"
)
CONTRAST_WORDS = re.compile(r"\bpost\b|\bce\b|with contrast|\bcta\b|angio|增强|强化|造影")
GATING_WORDS = re.compile(r"gated|gating|\becg\b|\bekg\b|calcium|\bca ?sc|\bcac\b|门控|钙化积分")
GATING_KEYWORDS = ("CardiacSynchronizationTechnique", "HeartRate", "TriggerTime", "NominalPercentageOfCardiacPhase")
SHARP_KERNEL = re.compile(r"^(b[5-9]\d|i[5-9]\d|[bqu][rvh][5-9]\d|lung|bone|edge|detail|fc[358]\d|yd|yc)", re.I)
NOT_SLICES = frozenset({"LOCALIZER", "MIP", "MINIP", "PROJECTION IMAGE", "VOLUME RENDERED", "3D", "MPR"})

SLICE_FACTOR = "area by density weight 1 to 4 on each slice, times slice distance by 3 mm"


def analyse(study: Study, models: Mapping[str, Model]) -> Reading:  # noqa: ARG001  # it needs none
    """Mark calcium candidates in the region of the heart and score them.

    Raises
    ------
    NotEvaluableError
        If no Series is CT of the heart without contrast at 120 kVp in slices of 2.5 to 3 mm, or too noisy.
    """
    accepted = passing_series(study.series, _check_header)
    series = max(accepted, key=lambda each: (_is_gated(each), each.image_count))
    volume = _read(series)
    heart = _heart(volume)
    thickness_mm = header_number(series, "SliceThickness")
    return describe(volume, heart.mask, slice_thickness_mm=thickness_mm, is_gated=_is_gated(series))


def describe(
    volume: Volume,
    region: Mask,
    *,
    slice_thickness_mm: float,
    is_gated: bool,
    vessels: Mapping[str, Mask] | None = None,
    calibration_mg_per_ml_hu: float | None = None,
) -> Reading:
    """Report the calcium in a region, or in the coronary arteries where their masks are given.

    Parameters
    ----------
    volume
        In HU; gates have let it pass.
    region
        Of the heart; used only without `vessels`.
    vessels
        Masks by name: ``lm``, ``lad``, ``lcx`` or ``rca``. A segmentation object or a model gives them; the handler has
        neither yet.
    calibration_mg_per_ml_hu
        As `score_calcium`: without it no mass is stated.
    """
    where = np.logical_or.reduce(list(vessels.values())) if vessels else region
    score = score_calcium(
        volume, where, slice_thickness_mm=slice_thickness_mm, calibration_mg_per_ml_hu=calibration_mg_per_ml_hu
    )
    if score.lesions.any() and float(volume.array[score.lesions].max()) > METAL_HU:
        raise NotEvaluableError("there is metal in the region of the heart", key="metal")
    qualities = () if is_gated else ("not_gated",)
    if vessels:
        each = score_vessels(volume, vessels, slice_thickness_mm=slice_thickness_mm)
        category = cac_drs_category(score.agatston, sum(one.agatston > 0 for one in each.values()))
        kind, qualities = "coronary_calcium", (_quality(category), *qualities)
        of_vessels = tuple(_of_vessel(volume, name, one) for name, one in each.items() if one.agatston > 0)
    else:
        kind, of_vessels = "calcium_candidates", ()
    shown = _slices_shown(volume, score)
    outlines = _outlines(volume, score, shown)
    total = Finding(
        "calcium-1", kind, _measurements(score), outlines, is_abnormal=score.agatston > 0, qualities=qualities
    )
    uids, frames = volume.sop_instance_uids, volume.frame_numbers
    segmentations = (
        (Segmentation("calcium", score.lesions, volume.affine, uids, total.finding_id, frames),)
        if score.lesions.any()
        else ()
    )
    heat_maps = tuple(_heat_map(volume, index, score, outlines) for index in shown[:MOST_KEY_IMAGES])
    return Reading(tuple(dict.fromkeys(uids)), (total, *of_vessels), heat_maps, segmentations)


def _check_header(series: Series) -> None:
    """Refuse what the header says is no calcium scan; where a number of the definition is not said, that too."""
    if series.modality != "CT":
        raise NotEvaluableError(f"the modality is {series.modality or 'unknown'}, not CT", key="not_cardiac_ct")
    body_part = header_words(series, "BodyPartExamined")
    names = header_words(series, "SeriesDescription", "ProtocolName")
    for said in (names, body_part, header_words(series, "StudyDescription")):
        if HEART_WORDS.search(said):
            break
        if OTHER_BODY_WORDS.search(said):
            raise NotEvaluableError("the header names another part of the body than the heart", key="not_cardiac_ct")
    if {value.upper() for value in header_texts(series, "ImageType")[2:]} & NOT_SLICES:
        raise NotEvaluableError("the header names a localizer or a derived image, not original slices", key="derived")
    if header_words(series, "ContrastBolusAgent") not in {"", "none", "no"} or CONTRAST_WORDS.search(names):
        raise NotEvaluableError("a contrast agent is named", key="contrast")
    kvp = header_number(series, "KVP")
    if abs(kvp - KVP) > 0.5:
        found = f"{kvp:g} kVp" if kvp else "no tube voltage in the header"
        raise NotEvaluableError(f"the score is defined at 120 kVp, found {found}", key="kvp")
    thickness_mm = header_number(series, "SliceThickness")
    if not THICKNESS_MM[0] - 0.01 <= thickness_mm <= THICKNESS_MM[1] + 0.01:
        raise NotEvaluableError(
            f"the score is defined on slices 2.5 to 3 mm thick, found {thickness_mm:g} mm", key="thickness"
        )
    if SHARP_KERNEL.match(next(iter(header_texts(series, "ConvolutionKernel")), "")):
        raise NotEvaluableError("the images were made with a sharp kernel", key="kernel")
    if series.image_count < MIN_SLICES:
        raise NotEvaluableError(
            f"a whole heart needs at least {MIN_SLICES} slices, there are {series.image_count}", key="too_few_slices"
        )


def _is_gated(series: Series) -> bool:
    """True if the header says that the heart beat was followed."""
    technique = header_words(series, "CardiacSynchronizationTechnique")
    if technique == "none":
        return False
    has_value = any(header_texts(series, keyword) for keyword in GATING_KEYWORDS)
    said = header_words(series, "SeriesDescription", "ProtocolName", "ScanOptions")
    return has_value or GATING_WORDS.search(said) is not None


def _read(series: Series) -> Volume:
    try:
        volume = stack(series)
    except (GeometryError, PixelError) as error:
        raise NotEvaluableError(f"the images do not form one volume: {error}", key="geometry") from error
    if volume.unit != "HU":
        raise NotEvaluableError("the values are not in HU", key="not_hu")
    if not is_axial(volume):
        raise NotEvaluableError("the slices are not axial", key="not_axial")
    distance_mm, row_mm, column_mm = volume.spacing_mm
    if distance_mm > header_number(series, "SliceThickness") + 0.05:
        raise NotEvaluableError("there are gaps between the slices", key="geometry")
    if max(row_mm, column_mm) > MAX_PIXEL_MM:
        raise NotEvaluableError("the pixels are too wide for lesions of 1 mm2", key="geometry")
    return volume


def _heart(volume: Volume) -> HeartRegion:
    """Find the region of the heart, and refuse contrast, noise and what is none."""
    heart = find_heart_region(volume)
    if heart is None or heart.height_mm < MIN_HEIGHT_MM or not heart.core.any():
        raise NotEvaluableError("a whole heart between two lungs was not found", key="heart_not_found")
    blood = volume.array[heart.core]
    median_hu, dense = float(np.median(blood)), float((blood >= CALCIUM_HU).mean())
    noise_hu = _noise_hu(volume, heart.core)
    if noise_hu < MIN_NOISE_HU:
        raise NotEvaluableError("the values have no noise: these are no images of a scanner", key="heart_not_found")
    if noise_hu > MAX_NOISE_HU:
        raise NotEvaluableError(f"the noise of {noise_hu:.0f} HU is too high", key="noise")
    if median_hu > BLOOD_HU[1] or dense > MAX_DENSE_SHARE:
        raise NotEvaluableError("blood is as bright as with a contrast agent", key="contrast")
    if median_hu < BLOOD_HU[0]:
        raise NotEvaluableError("a heart of blood and muscle was not found", key="heart_not_found")
    return heart


def _noise_hu(volume: Volume, core: Mask) -> float:
    """Standard deviation of what is left when slow changes are taken away, deep in the heart (by the median)."""
    index = int(np.argmax(core.sum(axis=(1, 2))))
    plane = volume.array[index]
    fine = plane - ndimage.uniform_filter(plane, 7)
    return 1.4826 * float(np.median(np.abs(fine[core[index]])))


def _measurements(score: CalciumScore) -> tuple[Measurement, ...]:
    found = [
        Measurement("agatston", score.agatston, "1", SLICE_FACTOR),
        Measurement("calcium_volume", score.volume_mm3, "mm3", "voxels of the lesions times the volume of one"),
        Measurement("lesion_count", float(score.lesion_count), "1", "connected at 130 HU, at least 1 mm2 on a slice"),
    ]
    if score.mass_mg is not None:
        found.append(Measurement("calcium_mass", score.mass_mg, "mg", "mean HU times volume times calibration"))
    return tuple(found)


def _quality(category: str) -> str:
    """The key of a CAC-DRS category's words; how many vessels are told by their own findings."""
    return f"cac_drs_{category.partition('/')[0].lower()}"


def _of_vessel(volume: Volume, name: str, score: CalciumScore) -> Finding:
    outlines = _outlines(volume, score, _slices_shown(volume, score))
    return Finding(f"calcium-{name}", f"calcium_{name}", _measurements(score), outlines)


def _slices_shown(volume: Volume, score: CalciumScore) -> list[int]:
    """Slices with calcium, those that weigh most first."""
    weights = {
        int(index): float(density_weights(volume, int(index), score.lesions).sum())
        for index in np.flatnonzero(score.lesions.any(axis=(1, 2)))
    }
    return sorted(weights, key=lambda index: (-weights[index], index))


def _outlines(volume: Volume, score: CalciumScore, shown: Sequence[int]) -> tuple[Region, ...]:
    """Outline lesions slice by slice, largest first on each."""
    regions: list[Region] = []
    for index in shown:
        labels, count = ndimage.label(score.lesions[index], np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        for number in np.argsort(-sizes, kind="stable")[:count]:
            regions.append(region_of_slice(volume, index, labels == number + 1))
            if len(regions) == MOST_OUTLINES:
                return tuple(regions)
    return tuple(regions)


def _heat_map(volume: Volume, index: int, score: CalciumScore, outlines: Sequence[Region]) -> HeatMap:
    low, high = WINDOW_HU
    uid, frame = volume.sop_instance_uids[index], volume.frame_number(index)
    heat = density_weights(volume, index, score.lesions) / FULL_WEIGHT
    drawn = [region for region in outlines if (region.sop_instance_uid, region.frame_number) == (uid, frame)]
    return HeatMap(
        sop_instance_uid=uid,
        heat=heat.astype(np.float32),
        background=np.clip((volume.array[index] - low) / (high - low), 0.0, 1.0).astype(np.float32),
        basis="density weight of calcium, 0.25 to 1",
        score=float(heat.max()),
        threshold=1.0 / FULL_WEIGHT,
        regions=tuple((region, str(number + 1)) for number, region in enumerate(drawn)),
        slice_label=f"slice {index + 1}/{len(volume.array)}",
        spacing_mm=volume.spacing_mm[1:],
        frame_number=frame,
    )


handler = Handler(
    name="cardiac_ct",
    version="1.0.0",
    manufacturer="Wetread",
    basis=Basis.RULE_BASED,
    template="cardiac_ct",
    terms=Terms(modalities=("CT",)),
    analyse=analyse,
    parameters=(
        ("threshold", "130 HU"),
        ("least area", "1 mm2 on a slice"),
        ("slices", "2.5 to 3 mm, scaled by distance / 3 mm"),
        ("tube voltage", "120 kVp"),
    ),
    not_looked_at=(
        "arteries", "category", "vessels", "mass", "stenosis", "soft_plaque", "lung", "change",
    ),
    time_limit_s=180.0,
)  # fmt: skip
