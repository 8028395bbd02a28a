"""Volumes of a brain tumour on four MR sequences, by weights that the site provides as ``models/brain_tumour``.

T1, T1 with contrast, T2 and FLAIR are told apart by their headers, moved onto each other, put on one grid of 1 mm
(slices up, rows back, columns left), cut to the brain and given to the network in that order, each with mean 0 and
standard deviation 1 inside the brain and 0 outside. It answers with three probabilities: the whole tumour with its
oedema, the core without it, and the enhancing part. They are nested: what is outside the whole is no core.

Bakas et al., arXiv:1811.02629 (the three regions and their names).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu
from skimage.transform import resize

from node.api import (
    VOLUME_BASIS,
    Basis,
    Finding,
    GeometryError,
    Grid,
    Handler,
    HeatMap,
    Mask,
    Measurement,
    Model,
    ModelOutputError,
    NotEvaluableError,
    PixelError,
    Reading,
    Segmentation,
    Series,
    Study,
    Terms,
    Volume,
    certainty_of,
    confined,
    crop_around,
    find_components,
    grid_of,
    header_number,
    header_texts,
    header_words,
    largest_component,
    mask_on,
    region_of_slice,
    register_rigid,
    resample_to,
    slide,
    spaced,
    stack,
    to_mm,
    values_on,
    voxel_volume_ml,
)

__all__ = ["handler"]

_Array = npt.NDArray[np.float32]

MODEL, BRAIN_MODEL = "brain_tumour", "brain_extraction"
SEQUENCES = ("t1", "t1ce", "t2", "flair")
NAMES = {"t1": "T1", "t1ce": "T1 with contrast", "t2": "T2", "flair": "FLAIR"}
LABELS = ("whole_tumour", "tumour_core", "enhancing_tumour")
SPACING_MM, REGISTERED_MM, BRAIN_GRID = 1.0, 2.0, 128  # the network's grid; models/brain_extraction's
OPEN_TILE = 128  # sides of a tile where the card leaves them open
OVERLAP, MARGIN = 0.5, 4
MIN_SLICES, MAX_SLICE_MM = 12, 8.0
LEAST_ML = 0.1  # smaller parts are not counted
BRAIN_ML = (700.0, 2200.0)  # child of one year to adult, with fluid
WHOLE_HEAD_ML = 2000.0  # less tissue than this is a head already stripped to the brain
MAX_TUMOUR_SHARE = 0.5  # of the brain
KEY_PERCENTILES = (1.0, 99.5)

HEAD_WORDS = re.compile(r"head|brain|skull|crani|neuro|glio|头|颅|脑")
OTHER_BODY_WORDS = re.compile(
    r"shoulder|elbow|wrist|hand|knee|hip\b|ankle|foot|femur|neck|spine|lumbar|cervical|thora|chest|breast|heart|cardi|"
    r"abdom|liver|pancrea|kidney|renal|pelvi|prostat|uterus|rect|肩|肘|腕|手|膝|髋|踝|足|颈|椎|胸|乳|心|腹|肝|肾|盆|前列腺"
)
NEVER_WORDS = re.compile(
    r"locali|scout|survey|\bmaps?\b|mapping|\bmip\b|\bphase\b|subtract|\bsub\b|dwi|dti|\badc\b|\bdiff|trace|\bswi|swan|"
    r"\btof|angio|\bmra\b|\bmrv\b|bold|fmri|perf|\basl\b|\bpd\b|t2 ?star|t2 \*|hemo|ciss|fiesta|spectro|定位|弥散"
)
NEVER_IMAGE_TYPES = frozenset({"ADC", "MIP", "PHASE MAP", "PROJECTION IMAGE", "LOCALIZER", "SUBTRACTION", "DIFFUSION"})
CONTRAST_WORDS = re.compile(r"post|\bgd\b|\bgad|\bce\b|t1ce|t1c\b|contrast|\bc\b|增强|强化")
NO_CONTRAST_WORDS = re.compile(r"without contrast|non ?contrast|no contrast|pre contrast|\bpre\b|平扫")
FLAIR_WORDS, T1_FLAIR = re.compile(r"flair|dark ?fluid|水抑制"), re.compile(r"t1\w* (\w+ )?flair")
T2_WORDS, T1_WORDS = re.compile(r"t2"), re.compile(r"t1|mp ?rage|spgr|bravo|\btfl\b|\btfe\b")
# Times in ms where the names are silent: PS3.3 C.8.3.1 has no attribute for the weighting itself.
FLAIR_TI, LONG_TE, LONG_TR, SHORT_TE, SHORT_TR = 1700.0, 70.0, 2000.0, 30.0, 1300.0


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """The four sequences on one grid, ``float32[sequence, slice, row, column]``, and the brain on it."""

    source: Volume
    grid: Grid
    channels: _Array
    brain: Mask
    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One label: its mask and probability on the working grid, and its mask on the source's."""

    label: str
    mask: Mask
    scores: _Array
    on_source: Mask

    @property
    def key_index(self) -> int:
        """The source slice that shows most of it."""
        return int(np.argmax(self.on_source.sum(axis=(1, 2))))


def analyse(study: Study, models: Mapping[str, Model]) -> Reading:
    """Outline the tumour on the four sequences and measure its three parts.

    Raises
    ------
    NotEvaluableError
        If one of the four sequences is not there, they do not fit each other, or there is no whole brain.
    """
    chosen = _choose(study.series)
    case = _prepare({name: _read(series) for name, series in chosen.items()}, models[BRAIN_MODEL])
    probability = _infer(case, models[MODEL])
    return _reading(case, probability, models[MODEL])


def _choose(candidates: Sequence[Series]) -> dict[str, Series]:
    """One Series for each sequence: the one with most images, if several are of one kind."""
    if not any(series.modality == "MR" for series in candidates):
        raise NotEvaluableError("there is no MR series", key="not_head_mr")
    heads = [series for series in candidates if series.modality == "MR" and _is_head(series)]
    if not heads:
        raise NotEvaluableError("the header names another part of the body than the head", key="not_head_mr")
    found: dict[str, Series] = {}
    for series in sorted(heads, key=lambda one: (-one.image_count, one.series_instance_uid)):
        sequence = _sequence(series)
        if sequence and series.image_count >= MIN_SLICES:
            found.setdefault(sequence, series)
    present = [name for name in SEQUENCES if name in found]
    if len(present) < len(SEQUENCES):
        named = ", ".join(NAMES[name] for name in present) or "none of them"
        expected = ", ".join(NAMES.values())
        raise NotEvaluableError(
            f"expected four sequences ({expected}), found {named}",
            key="_".join(["found", *present]) if present else "found_none",
        )
    return found


def _is_head(series: Series) -> bool:
    """False if the header names another part of the body; a silent one does not."""
    said = [header_words(series, name) for name in ("BodyPartExamined", "SeriesDescription", "StudyDescription")]
    if any(HEAD_WORDS.search(words) for words in said):
        return True
    return not said[0] and not any(OTHER_BODY_WORDS.search(words) for words in said)


def _sequence(series: Series) -> str:
    """Which of the four sequences it is, by its names, then by its times; "" if none of them."""
    names = header_words(series, "SeriesDescription", "ProtocolName", "SequenceName")
    image_types = {text.upper() for text in header_texts(series, "ImageType")[2:]}
    if NEVER_WORDS.search(names) or image_types & NEVER_IMAGE_TYPES or "EP" in header_texts(series, "ScanningSequence"):
        return ""
    if T1_FLAIR.search(names):
        kind = "t1"
    elif FLAIR_WORDS.search(names):
        kind = "flair"
    elif T2_WORDS.search(names):
        kind = "t2"
    else:
        kind = "t1" if T1_WORDS.search(names) else _by_times(series)
    if kind != "t1":
        return kind
    agent = header_words(series, "ContrastBolusAgent")
    # Names go before the attribute: many scanners leave the agent out, and some write it into what came before it.
    if NO_CONTRAST_WORDS.search(names):
        return "t1"
    return "t1ce" if CONTRAST_WORDS.search(names) or agent not in {"", "none", "no"} else "t1"


def _by_times(series: Series) -> str:
    echo, repetition, inversion = (
        header_number(series, name) for name in ("EchoTime", "RepetitionTime", "InversionTime")
    )
    if inversion >= FLAIR_TI and echo >= LONG_TE:
        return "flair"
    if echo >= LONG_TE and repetition >= LONG_TR:
        return "t2"
    return "t1" if 0 < echo <= SHORT_TE and (0 < repetition <= SHORT_TR or 0 < inversion < FLAIR_TI) else ""


def _read(series: Series) -> Volume:
    try:
        volume = stack(series)
    except (GeometryError, PixelError) as error:
        raise NotEvaluableError(f"the images do not form one volume: {error}", key="geometry") from error
    if len(volume.array) < MIN_SLICES or volume.spacing_mm[0] > MAX_SLICE_MM:
        raise NotEvaluableError("there are too few slices, or they are too far apart", key="too_few_slices")
    if not volume.array.max() > volume.array.min():
        raise NotEvaluableError("the images are blank", key="blank")
    return volume


def _prepare(volumes: Mapping[str, Volume], brain_model: Model) -> _Case:
    """Put all on the grid of T1 with contrast at 1 mm, find the brain on T1, and normalise inside it."""
    source = volumes["t1ce"]
    grid = _upright(source)
    fixed = resample_to(source, grid)
    coarse = resample_to(source, spaced(grid, (REGISTERED_MM,) * 3))
    moved = {"t1ce": fixed.array, "t1": _laid_on(coarse, volumes["t1"], grid)}
    brain = _brain(moved["t1"], brain_model)
    brain_ml = float(brain.sum()) * SPACING_MM**3 / 1000.0
    if not BRAIN_ML[0] <= brain_ml <= BRAIN_ML[1]:
        raise NotEvaluableError(
            f"the brain that was found holds {brain_ml:.0f} ml, which no whole brain does", key="no_brain"
        )
    moved |= {name: _laid_on(coarse, volumes[name], grid) for name in ("t2", "flair")}
    channels = np.zeros((len(SEQUENCES), *grid.shape), np.float32)
    for channel, name in zip(channels, SEQUENCES, strict=True):
        values = moved[name][brain]
        spread = float(values.std(dtype=np.float64))
        if not spread > 0.0:
            raise NotEvaluableError(f"{NAMES[name]} is blank where the brain is", key="blank")
        channel[brain] = (values - float(values.mean(dtype=np.float64))) / spread
    uids = tuple(dict.fromkeys(uid for volume in volumes.values() for uid in volume.sop_instance_uids))
    return _Case(source, grid, channels, brain, uids)


def _laid_on(coarse: Volume, moving: Volume, grid: Grid) -> _Array:
    """A sequence on the grid, where the patient lay in the other; found on a coarser one, which is as exact."""
    transform = register_rigid(moving, coarse).transform
    return values_on(moving.array, grid_of(moving), Grid(grid.shape, transform @ grid.affine))


def _upright(volume: Volume) -> Grid:
    """The grid of 1 mm around a Volume whose slices go up, rows back and columns left."""
    sides = [(0, side - 1) for side in volume.array.shape]
    corners = to_mm(volume.affine, [(s, r, c) for s in sides[0] for r in sides[1] for c in sides[2]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    columns, rows, slices = (int(side) for side in np.ceil((high - low) / SPACING_MM) + 1)
    affine = np.array([[0, 0, 1, low[0]], [0, 1, 0, low[1]], [1, 0, 0, low[2]], [0, 0, 0, 1]], np.float64)
    affine[:3, :3] *= SPACING_MM
    return Grid((slices, rows, columns), affine)


def _brain(t1: _Array, model: Model) -> Mask:
    """The brain by the network of models/brain_extraction; all tissue if the head is already stripped to it."""
    image = np.maximum(t1, 0.0)
    tissue = image > threshold_otsu(image) / 2.0  # type: ignore[no-untyped-call]  # skimage is half typed
    if float(tissue.sum()) * SPACING_MM**3 / 1000.0 < WHOLE_HEAD_ML:
        return largest_component(np.asarray(tissue, np.bool_))
    small = _resize(image, (BRAIN_GRID,) * 3)
    answer = model.run((small / small.max())[None, None])[0, 0]
    return largest_component(_resize(answer, t1.shape) > model.card.threshold)


def _resize(array: _Array, shape: tuple[int, ...]) -> _Array:
    resized = resize(array, shape, order=1, mode="constant", anti_aliasing=True)  # type: ignore[no-untyped-call]
    return np.asarray(resized, np.float32)


def _infer(case: _Case, model: Model) -> _Array:
    """Probabilities of the three labels, ``float32[label, slice, row, column]``, 0 outside the brain."""
    asked = model.card.inputs[0].shape[2:]
    tile = tuple(OPEN_TILE if side < 0 else side for side in asked)
    crop = crop_around(case.brain, MARGIN)
    around = np.stack([crop.apply(channel) for channel in case.channels])
    short = [max(0, side - found) for side, found in zip(tile, around.shape[1:], strict=True)]
    padded = np.pad(around, [(0, 0), *((lack // 2, lack - lack // 2) for lack in short)])
    answer = slide(padded, tile, OVERLAP, lambda part: model.run(np.ascontiguousarray(part[None]))[0])
    if len(answer) != len(LABELS):
        raise ModelOutputError(f"{model.card.name}: expected {len(LABELS)} labels, found {len(answer)}")
    inner = tuple(slice(lack // 2, lack // 2 + side) for lack, side in zip(short, around.shape[1:], strict=True))
    whole = np.stack([crop.undo(label[inner]) for label in answer])
    return np.asarray(np.clip(whole * case.brain, 0.0, 1.0), np.float32)


def _masks(probability: _Array, threshold: float) -> list[Mask]:
    """The three nested masks without specks."""
    masks: list[Mask] = []
    for scores in probability:
        mask = scores >= threshold
        masks.append(mask & masks[-1] if masks else mask)
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    kept = []
    for mask in masks:
        clean = np.zeros_like(mask)
        for part in find_components(mask, affine, least_ml=LEAST_ML):
            clean[part.box] |= part.inside
        kept.append(clean)
    return kept


def _reading(case: _Case, probability: _Array, model: Model) -> Reading:
    threshold = model.card.threshold
    masks = _masks(probability, threshold)
    if float(masks[0].sum()) > MAX_TUMOUR_SHARE * float(case.brain.sum()):
        raise NotEvaluableError("more than half of the brain would be tumour", key="implausible_volume")
    findings, segmentations, heat_maps = [], [], []
    for label, mask, scores in zip(LABELS, masks, probability, strict=True):
        part = _Part(label, mask, scores, mask_on(mask, case.grid, grid_of(case.source)))
        if not part.on_source.any():
            continue
        finding = _finding(part, case, model)
        uids, frames = case.source.sop_instance_uids, case.source.frame_numbers
        findings.append(finding)
        segmentations.append(Segmentation(label, part.on_source, case.source.affine, uids, finding.finding_id, frames))
        heat_maps.append(_heat_map(part, finding, case, threshold))
    return Reading(case.uids, tuple(findings), tuple(heat_maps), tuple(segmentations))


def _finding(part: _Part, case: _Case, model: Model) -> Finding:
    affine, index = case.grid.affine, part.key_index
    largest = find_components(part.mask, affine)[0]
    middle_mm = float(to_mm(affine, np.argwhere(case.brain).mean(axis=0))[0])
    left = float((to_mm(affine, np.argwhere(part.mask))[:, 0] > middle_mm).mean())
    score = float(part.scores[part.mask].mean(dtype=np.float64))
    volume_ml = float(part.mask.sum()) * voxel_volume_ml(affine)
    return Finding(
        finding_id=f"{part.label.replace('_', '-')}-1",
        kind=part.label,
        measurements=(
            Measurement("volume", volume_ml, "ml", VOLUME_BASIS),
            Measurement(
                "long_axis", largest.axes.long_mm, "mm", "longest line across the largest part, axial, at 1 mm"
            ),
        ),
        regions=(region_of_slice(case.source, index, part.on_source[index]),),
        laterality="L" if left > 0.8 else "R" if left < 0.2 else "B",
        score=score,
        certainty=certainty_of(score, model.card.calibration) if model.card.calibration else None,
    )


def _heat_map(part: _Part, finding: Finding, case: _Case, threshold: float) -> HeatMap:
    volume, index = case.source, part.key_index
    heat = np.clip(values_on(part.scores, case.grid, grid_of(volume))[index], 0.0, 1.0)
    low, high = np.percentile(volume.array, KEY_PERCENTILES)
    return HeatMap(
        sop_instance_uid=volume.sop_instance_uids[index],
        heat=heat,
        background=np.clip((volume.array[index] - low) / max(high - low, 1e-6), 0.0, 1.0).astype(np.float32),
        basis="segmentation probability",
        score=float(confined(heat, part.on_source[index], threshold).max()),
        threshold=threshold,
        regions=((finding.regions[0], finding.finding_id),),
        slice_label=f"slice {index + 1}/{len(volume.array)}",
        spacing_mm=volume.spacing_mm[1:],
        frame_number=volume.frame_number(index),
    )


handler = Handler(
    name="brain_tumour",
    version="0.1.0",
    manufacturer="Wetread",
    basis=Basis.LEARNED,
    template="brain_tumour",
    terms=Terms(modalities=("MR",)),
    analyse=analyse,
    models=(MODEL, BRAIN_MODEL),
    parameters=(
        ("sequences", "T1, T1 with contrast, T2, FLAIR"),
        ("grid", "1 mm, slices up, rows back, columns left"),
        ("values", "mean 0, deviation 1 in the brain, 0 outside"),
        ("smallest part", "0.1 ml"),
    ),
    not_looked_at=("type", "response", "other_lesions", "bleeding", "infarct", "shift", "vessels", "treatment"),
    time_limit_s=600.0,
)
