"""Brain volume on a T1 MR of the head: outlines the brain and gives its volume in ml.

The network answers anything it is shown, a shoulder or a bottle too. So most of this file is gates:
what the header says, what the geometry can hold, and whether the answer has the size and form of a brain.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.filters import threshold_otsu
from skimage.transform import resize

from node.api import (
    Basis,
    Finding,
    GeometryError,
    Handler,
    HeatMap,
    Mask,
    Measurement,
    Model,
    NotEvaluableError,
    PixelError,
    Reading,
    Segmentation,
    Series,
    Study,
    Terms,
    Volume,
    confined,
    largest_component,
    region_of_slice,
    stack,
    voxel_volume_ml,
)

__all__ = ["handler"]

_Array = npt.NDArray[np.float32]
_Scalar = TypeVar("_Scalar", bound=np.generic)

MODEL = "brain_extraction"
GRID = 128  # the network's own grid, models/brain_extraction/card.md
MIN_SLICES = 20
MAX_SLICE_DISTANCE_MM = 7.5  # measured up to 7 mm, card.md

# What a head needs of the field of view: up, back and to the left, in mm.
MIN_FIELD_MM = (120.0, 150.0, 120.0)
MAX_FIELD_MM = (400.0, 400.0, 400.0)

# Sizes of living human brains with their CSF, children of school age to adults, with room to spare.
MIN_VOLUME_ML, MAX_VOLUME_ML = 900.0, 2200.0
MIN_BRAIN_MM = (90.0, 130.0, 100.0)  # height, length, width
MAX_BRAIN_MM = (180.0, 215.0, 180.0)
MIN_HEIGHT_PER_LENGTH = 0.65  # Colin27 0.81; 0.64 with the lowest 40 mm cut away
ELLIPSOID_SHARE = (0.7, 1.2)  # volume per ellipsoid of the same extents: Colin27 0.92, a block 1.9

# A stripped head: Colin27's and MNI152's brains alone hold 1737 and 1887 ml, Colin27's head 3900 ml.
MIN_TISSUE_ML = 2000.0
SCALP_SHELL_MM = (4.0, 20.0)  # distance from the brain in which skull marrow and scalp lie
MIN_TISSUE_IN_SHELL = 0.35  # Colin27 0.8, a brain alone 0

# A cut head. The network is silent in the outermost 4 to 6 of its 128 voxels, so it never says that it was cut.
MAX_TISSUE_ON_BORDER = 0.4  # of the largest cross-section: Colin27 0.05; 0.42 to 0.46 where the brain suffers
SILENT_BORDER = 10  # voxels of the grid
MAX_BRAIN_AT_BOTTOM = 0.25  # of the largest cross-section: Colin27 0.14; 0.34 with the lowest 40 mm cut away

SHOWN_PERCENTILES = (1.0, 99.5)

HEAD_WORDS = re.compile(r"head|brain|skull|crani|头|颅|脑")
OTHER_BODY_WORDS = re.compile(
    r"shoulder|elbow|wrist|hand|finger|knee|hip\b|ankle|foot|femur|thigh|calf|neck|spine|lumbar|cervical|thora|chest|"
    r"breast|heart|cardi|abdom|liver|pancrea|kidney|renal|pelvi|prostat|uterus|rect|"
    r"肩|肘|腕|手|膝|髋|踝|足|股骨|颈|椎|胸|乳|心脏|腹|肝|胰|肾|盆|前列腺|子宫|直肠"
)
T1_WORDS = re.compile(r"t1|mp ?rage|mp2rage|spgr|bravo|\btfl\b")
OTHER_CONTRAST_WORDS = re.compile(
    r"t2|flair|dwi|dti|adc|\bdiff|trace|\bswi|swan|\btof|angio|\bmra\b|\bmrv\b|bold|fmri|perf|\basl\b|\bpd\b|pdw|"
    r"proton|fiesta|ciss|\bepi\b|stir|spectro"
)
NEVER_T1_WORDS = re.compile(r"locali|scout|survey|\bmaps?\b|mapping|\bmip\b|\bphase\b|subtract|\brho\b|t1rho")
NEVER_T1_IMAGE_TYPES = frozenset(
    {"ADC", "MIP", "PHASE MAP", "P", "PROJECTION IMAGE", "LOCALIZER", "SUBTRACTION", "DIFFUSION"}
)

CONTRAST_WORDS = re.compile(r"\bpost\b|\bgd\b|\bgad|\bce\b|with contrast|增强|强化")  # never measured with it

# T1 weighting in ms: short echo, and either a short repetition or an inversion that nulls CSF no more than half.
MAX_ECHO_MS = 40.0
MAX_GRADIENT_ECHO_MS = 12.0  # later, a gradient echo weighs T2*
MAX_REPETITION_MS = 1300.0
MAX_INVERSION_MS = 1500.0  # FLAIR nulls CSF at 1700 ms and more


@dataclass(frozen=True, slots=True)
class _Orientation:
    """How a stored array becomes ``[up, back, left]``, the order the network does best with (card.md)."""

    axes: tuple[int, int, int]
    flipped: tuple[int, ...]

    def apply(self, array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        return np.flip(array.transpose(self.axes), self.flipped)

    def undo(self, array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        return np.flip(array, self.flipped).transpose(tuple(np.argsort(self.axes)))


def analyse(study: Study, models: Mapping[str, Model]) -> Reading:
    """Outline the brain on the T1 Series of a Study and measure its volume.

    Returns
    -------
    One finding ``brain_volume`` in ml with an outline, the mask, and three key images.

    Raises
    ------
    NotEvaluableError
        If no Series is a T1 of a whole head with its scalp, or the answer is no plausible brain.
    """
    volume = _read(_choose(study.series))
    model = models[MODEL]
    orientation = _orient(volume)
    spacing_mm = np.array(volume.spacing_mm)[list(orientation.axes)]
    field_mm = spacing_mm * np.array(volume.array.shape)[list(orientation.axes)]
    _check_field(field_mm, float(volume.spacing_mm[0]))

    image = _resize(np.maximum(orientation.apply(volume.array), 0.0), (GRID, GRID, GRID))
    if not image.max() > image.min():
        raise NotEvaluableError("the images are blank", key="blank")
    tissue = image > threshold_otsu(image) / 2  # type: ignore[no-untyped-call]  # skimage is half typed
    _check_tissue(tissue, field_mm)
    on_grid = model.run((image / image.max())[None, None])[0, 0]
    probability = orientation.undo(_resize(on_grid, orientation.apply(volume.array).shape))
    mask = largest_component(probability > model.card.threshold)
    volume_ml = float(mask.sum()) * voxel_volume_ml(volume.affine)
    _check_brain(orientation.apply(mask), volume_ml, spacing_mm)
    brain = largest_component(on_grid > model.card.threshold)
    _check_cover(brain, tissue)
    _check_scalp(brain, tissue, field_mm / GRID)
    return _reading(volume, probability, mask, volume_ml, model.card.threshold)


def _choose(candidates: Sequence[Series]) -> Series:
    """Return the Series that passes the gates of the header; the one with most images, if several do."""
    refusals: list[NotEvaluableError] = []
    accepted: list[Series] = []
    for series in candidates:
        try:
            _check_header(series)
            accepted.append(series)
        except NotEvaluableError as refusal:
            refusals.append(refusal)
    if accepted:
        return max(accepted, key=lambda series: (series.image_count, series.series_instance_uid))
    if refusals:
        raise refusals[0]
    raise NotEvaluableError("there are no images", key="too_few_slices")


def _check_header(series: Series) -> None:
    """Refuse what the header says is no T1 of the head; a silent header is no reason."""
    if series.modality != "MR":
        raise NotEvaluableError(f"the modality is {series.modality or 'unknown'}, not MR", key="not_head_mr")
    body_part = _words(series, "BodyPartExamined")
    for said in (body_part, _words(series, "SeriesDescription", "ProtocolName"), _words(series, "StudyDescription")):
        if HEAD_WORDS.search(said):
            break
        if body_part or OTHER_BODY_WORDS.search(said):
            raise NotEvaluableError("the header names another part of the body than the head", key="not_head_mr")
    _check_contrast(series)
    if series.image_count < MIN_SLICES:
        raise NotEvaluableError(
            f"a whole head needs at least {MIN_SLICES} slices, there are {series.image_count}", key="too_few_slices"
        )


def _check_contrast(series: Series) -> None:
    names = [_words(series, keyword) for keyword in ("SeriesDescription", "ProtocolName", "SequenceName")]
    image_types = {value.upper() for value in _texts(series, "ImageType")[2:]}
    says_t1 = any(T1_WORDS.search(name) for name in names)
    if any(NEVER_T1_WORDS.search(name) for name in names) or image_types & NEVER_T1_IMAGE_TYPES:
        raise NotEvaluableError("the header names a localizer or a derived map, not a T1 image", key="not_t1")
    if any(OTHER_CONTRAST_WORDS.search(name) and not T1_WORDS.search(name) for name in names):
        raise NotEvaluableError("the header names another contrast than T1", key="not_t1")
    agent = _words(series, "ContrastBolusAgent")
    if any(CONTRAST_WORDS.search(name) for name in names) or agent not in {"", "none", "no"}:
        raise NotEvaluableError("a contrast agent is named, and the model was never measured with one", key="not_t1")
    sequence = _texts(series, "ScanningSequence")
    echo_ms, repetition_ms, inversion_ms = (
        _number(series, keyword) for keyword in ("EchoTime", "RepetitionTime", "InversionTime")
    )
    longest_echo_ms = MAX_GRADIENT_ECHO_MS if "GR" in sequence else MAX_ECHO_MS
    is_inverted = "IR" in sequence or inversion_ms > 0
    if (
        "EP" in sequence
        or echo_ms > longest_echo_ms
        or inversion_ms > MAX_INVERSION_MS
        or (repetition_ms > MAX_REPETITION_MS and not is_inverted and not says_t1)
    ):
        raise NotEvaluableError("the times of the sequence are not those of a T1 image", key="not_t1")


def _texts(series: Series, keyword: str) -> list[str]:
    value = series.header.get(keyword)
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def _words(series: Series, *keywords: str) -> str:
    """Return text of the header in lower case, everything but letters and digits as one space."""
    said = " ".join(text for keyword in keywords for text in _texts(series, keyword))
    return re.sub(r"[\W_]+", " ", said.lower()).strip()


def _number(series: Series, keyword: str) -> float:
    """Return a number of the header, 0 where it is silent."""
    value = series.header.get(keyword)
    return float(value) if isinstance(value, int | float) else 0.0


def _read(series: Series) -> Volume:
    try:
        volume = stack(series)
    except (GeometryError, PixelError) as error:
        raise NotEvaluableError(f"the images do not form one volume: {error}", key="geometry") from error
    if len(volume.array) < MIN_SLICES:
        raise NotEvaluableError(
            f"a whole head needs at least {MIN_SLICES} slices, there are {len(volume.array)}", key="too_few_slices"
        )
    return volume


def _orient(volume: Volume) -> _Orientation:
    """Find which array axis goes up, back and to the left (LPS, so all three increase)."""
    cosines = (volume.affine[:3, :3] / np.array(volume.spacing_mm))[[2, 1, 0]]
    _, axes = linear_sum_assignment(-np.abs(cosines))
    flipped = tuple(place for place, axis in enumerate(axes) if cosines[place, axis] < 0)
    return _Orientation((int(axes[0]), int(axes[1]), int(axes[2])), flipped)


def _check_field(field_mm: npt.NDArray[np.float64], slice_distance_mm: float) -> None:
    if (field_mm < MIN_FIELD_MM).any() or (field_mm > MAX_FIELD_MM).any():
        extents = " x ".join(f"{extent:.0f}" for extent in field_mm)
        raise NotEvaluableError(
            f"the field of view of {extents} mm (height, length, width) does not hold one whole head", key="not_head_mr"
        )
    if slice_distance_mm > MAX_SLICE_DISTANCE_MM:
        raise NotEvaluableError(
            f"the slices are {slice_distance_mm:.1f} mm apart, more than {MAX_SLICE_DISTANCE_MM} mm",
            key="too_few_slices",
        )


def _check_tissue(tissue: Mask, field_mm: npt.NDArray[np.float64]) -> None:
    tissue_ml = float(tissue.mean() * np.prod(field_mm)) / 1000.0
    if tissue_ml < MIN_TISSUE_ML:
        raise NotEvaluableError(
            f"there is only {tissue_ml:.0f} ml of tissue, less than a whole head has: "
            "it is already stripped to the brain, or not a head",
            key="stripped",
        )


def _check_brain(mask: Mask, volume_ml: float, spacing_mm: npt.NDArray[np.float64]) -> None:
    """Refuse an outline that has not the size or the form of a whole brain; axes up, back, left."""
    if not MIN_VOLUME_ML <= volume_ml <= MAX_VOLUME_ML:
        raise NotEvaluableError(
            f"the outlined volume of {volume_ml:.0f} ml is not that of a whole brain "
            f"({MIN_VOLUME_ML:.0f} to {MAX_VOLUME_ML:.0f} ml)",
            key="implausible_volume",
        )
    areas = [mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    extents_mm = np.array([np.ptp(np.flatnonzero(area)) + 1 for area in areas]) * spacing_mm
    share = volume_ml * 1000.0 / (np.pi / 6.0 * float(np.prod(extents_mm)))
    if (
        (extents_mm < MIN_BRAIN_MM).any()
        or (extents_mm > MAX_BRAIN_MM).any()
        or extents_mm[0] < MIN_HEIGHT_PER_LENGTH * extents_mm[1]
        or not ELLIPSOID_SHARE[0] <= share <= ELLIPSOID_SHARE[1]
    ):
        extents = " x ".join(f"{extent:.0f}" for extent in extents_mm)
        raise NotEvaluableError(
            f"the outline of {extents} mm (height, length, width) has not the form of a whole brain",
            key="implausible_shape",
        )


def _check_cover(brain: Mask, tissue: Mask) -> None:
    """Refuse a head that the field of view cuts anywhere but at the neck; on the network's grid."""
    up, back, left = (tissue.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3))
    borders = (up[-1] / up.max(), *(area[end] / area.max() for area in (back, left) for end in (0, -1)))
    brain_up = brain.sum(axis=(1, 2))
    if max(borders) > MAX_TISSUE_ON_BORDER or brain_up[SILENT_BORDER] > MAX_BRAIN_AT_BOTTOM * brain_up.max():
        raise NotEvaluableError("the border of the images cuts through the head", key="cut_off")


def _check_scalp(brain: Mask, tissue: Mask, spacing_mm: npt.NDArray[np.float64]) -> None:
    """Refuse a head without skull and scalp: the network was made for whole heads."""
    distance_mm = ndimage.distance_transform_edt(~brain, sampling=spacing_mm)
    shell = (distance_mm > SCALP_SHELL_MM[0]) & (distance_mm <= SCALP_SHELL_MM[1])
    if tissue[shell].mean() < MIN_TISSUE_IN_SHELL:
        raise NotEvaluableError("there is no scalp around the brain: the head is already stripped", key="stripped")


def _resize(array: _Array, shape: tuple[int, ...]) -> _Array:
    """Resample as the network's makers did: linear, constant border, smoothed before it shrinks (card.md)."""
    resized = resize(array, shape, order=1, mode="constant", anti_aliasing=True)  # type: ignore[no-untyped-call]
    return np.asarray(resized, np.float32)


def _reading(volume: Volume, probability: _Array, mask: Mask, volume_ml: float, threshold: float) -> Reading:
    areas = mask.sum(axis=(1, 2))
    widest = int(np.argmax(areas))
    covered = np.flatnonzero(areas)
    quarter, three_quarters = (int(covered[0] + round(share * np.ptp(covered))) for share in (0.25, 0.75))
    # Where the mask is not, nothing above the threshold may make an outline of its own.
    outlined = confined(probability, mask, threshold)
    regions = {
        index: region_of_slice(volume, index, outlined[index], threshold)
        for index in sorted({quarter, widest, three_quarters})
    }
    low, high = np.percentile(volume.array, SHOWN_PERCENTILES)
    heat_maps = tuple(
        HeatMap(
            sop_instance_uid=volume.sop_instance_uids[index],
            heat=np.clip(probability[index], 0.0, 1.0),
            background=np.clip((volume.array[index] - low) / (high - low), 0.0, 1.0).astype(np.float32),
            basis="segmentation probability",
            score=float(probability[index][mask[index]].max()),
            threshold=threshold,
            regions=((region, "brain"),),
            slice_label=f"slice {index + 1}/{len(mask)}",
            spacing_mm=volume.spacing_mm[1:],
            frame_number=volume.frame_number(index),
        )
        for index, region in regions.items()
    )
    method = f"voxels above probability {threshold:g}, largest connected part"
    measurement = Measurement("volume", volume_ml, "ml", method)
    finding = Finding("brain-1", "brain_volume", (measurement,), (regions[widest],), is_abnormal=False)
    uids, frames = volume.sop_instance_uids, volume.frame_numbers
    segmentation = Segmentation("brain", mask, volume.affine, uids, finding.finding_id, frames)
    return Reading(tuple(dict.fromkeys(uids)), (finding,), heat_maps, (segmentation,))


handler = Handler(
    name="brain_mr",
    version="1.0.0",
    manufacturer="Wetread",
    basis=Basis.LEARNED,
    template="brain_mr",
    terms=Terms(modalities=("MR",), min_instances=MIN_SLICES),
    analyse=analyse,
    models=(MODEL,),
    parameters=(
        ("threshold", "0.5"),
        ("grid", "128 x 128 x 128"),
        ("plausible volume", "900 to 2200 ml"),
    ),
    not_looked_at=("lesions", "bleeding", "infarct", "atrophy", "other_sequences"),
    time_limit_s=120.0,
)
