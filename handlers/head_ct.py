"""Hyperdense collection candidates and midline shift on a CT of the head without contrast; experimental.

By rules and without a learned model: what is 50 to 100 HU dense, at least 4 mm thick and 1 ml large inside the skull is
marked, with its volume, side, mean density and place at or away from the inner table; and how far the midline of the
brain lies from the plane about which the skull is symmetric. Fresh blood looks so; so do dense venous sinuses, a thick
falx or tentorium, some tumours and artefacts. It gives no diagnosis and no probability.
Set and measured on phantoms and on one real slice only.

New et al., Radiology 1976;121:635 (clotted blood is 50 to 100 HU).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.draw import polygon2mask

from node.api import (
    BONE_HU,
    MIDLINE_BASIS,
    VOLUME_BASIS,
    Basis,
    Blocks,
    Component,
    Finding,
    GeometryError,
    Handler,
    HeatMap,
    Mask,
    Measurement,
    Midline,
    MirrorPlane,
    Model,
    NotEvaluableError,
    PixelError,
    Reading,
    Region,
    Segmentation,
    Series,
    Skull,
    Study,
    Terms,
    Volume,
    average_blocks,
    distance_in_slices_mm,
    find_components,
    find_midline,
    find_skull,
    header_number,
    header_texts,
    header_words,
    passing_series,
    region_of_slice,
    repeat_blocks,
    slice_distance_mm,
    smooth_within,
    stack_part,
    voxel_volume_ml,
)

__all__ = ["handler"]

_Array = npt.NDArray[np.float32]
Labelled = tuple[tuple[Region, str], ...]

MIN_SLICES = 12
MAX_SLICE_MM = 8.0
WORK_PIXEL_MM, WORK_SLICE_MM = 0.9, 2.5  # finer images are averaged to this, which also takes their noise away
HARMLESS = frozenset({"localizer", "repeated"})  # images that are left out without harm
MIN_AXIAL = 0.8  # cosine of the slices' normal and the long axis of the body: tilted gantries, no reformats

# Gates. Volumes inside the skull: newborn 400, 1-year-old 900, adult 1100 to 1900 ml.
MIN_CLOSED, MIN_INSIDE_ML, MAX_INSIDE_ML = 0.97, 600.0, 2300.0
MIN_BELOW_MM = 30.0  # images below the middle of the skull; the floor of the posterior fossa is at about 50
BRAIN_HU = (18.0, 48.0)  # median of a brain without contrast; an atrophic one holds much fluid
MAX_NOISE_SHARE = 0.6  # of the step from brain to the lower limit, after smoothing
MAX_ENHANCED_ML = 6.0  # inside over 100 HU and away from bone: vessels with contrast, metal; usual calcium is less

# What is marked.
LOWEST_HU, HIGHEST_HU = 50.0, 100.0
HALF_BONE_HU = 550.0  # half way from brain to the inner table
MIN_VOLUME_ML, MOST_CANDIDATES = 1.0, 8
SMOOTHING_MM = 1.2
HALF_THICKNESS_MM, REGROWN_MM = 1.9, 2.6  # thinner is falx, tentorium or a partial volume of bone
CALCIUM_RIM_MM = 2.5
TABLE_MM = 4.0  # nearer to the inner table than this is at it
CRESCENT_RATIO, LENS_RATIO = 4.0, 1.5  # length per depth
SINUS_MM = (7.0, 14.0, 10.0)  # a sagittal sinus: from the midline, from the table, and thick

ABNORMAL_SHIFT_MM = 5.0  # Bullock et al., Neurosurgery 2006;58(3 Suppl):S2-16: a shift over 5 mm matters for surgery
SHOWN_HU = (0.0, 80.0)
HEAT_HU = (40.0, 60.0)  # drawn as 0 and 1
KEY_IMAGES = 3

HEAD_WORDS = re.compile(r"head|brain|skull|crani|neuro|头|颅|脑")
OTHER_BODY_WORDS = re.compile(
    r"chest|thora|lung|abdom|pelvi|spine|neck|heart|cardi|liver|kidney|knee|hip\b|ankle|foot|shoulder|elbow|wrist|hand|"
    r"sinus|orbit|temporal bone|dental|胸|肺|腹|盆|椎|颈|心|肝|肾|膝|髋|踝|足|肩|肘|腕|手|鼻窦|眼眶|颞骨|牙"
)
CONTRAST_WORDS = re.compile(r"contrast|\bce\b|\bcta\b|angio|perf|venogr|post|增强|强化|造影|灌注")
NO_CONTRAST_WORDS = re.compile(r"without contrast|non ?contrast|no contrast|unenhanced|pre contrast|平扫|未增强")
DERIVED_WORDS = re.compile(r"\bmip\b|\bvr\b|3d|scout|topo|locali|surview|dose|\bmpr\b|sag|cor\b|coronal|冠状|矢状|定位")
SHARP_KERNELS = re.compile(r"bone|edge|lung|detail|sharp|^[bhj][a-z]?[67]\d|^fc[38]\d|^[yz][bc]$|^e$")


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    """A head on the working grid: smoothed HU, what is inside the skull without bone, and the median of the brain."""

    work: Volume
    blocks: Blocks
    skull: Skull
    plane: MirrorPlane
    smooth: _Array
    soft: Mask
    calcium: Mask
    brain_hu: float


def analyse(study: Study, models: Mapping[str, Model]) -> Reading:
    """Mark hyperdense collections inside the skull and measure the midline.

    Raises
    ------
    NotEvaluableError
        If no Series is a CT of a whole head without contrast, or it is too noisy or incomplete.
    """
    del models  # rule-based
    volume = _read(min(passing_series(study.series, _check_header), key=_rank))
    head = _find_head(volume)
    mask = repeat_blocks(_collections(head), head.blocks, volume.array.shape)
    parts = [
        part
        for part in find_components(mask, volume.affine, least_ml=MIN_VOLUME_ML, most=4 * MOST_CANDIDATES)
        if not _is_table_or_sinus(part, volume, head)
    ][:MOST_CANDIDATES]
    findings, heat_maps, segmentations = [], [], []
    uids, frames = volume.sop_instance_uids, volume.frame_numbers
    for number, part in enumerate(parts, start=1):
        whole = part.mask(volume.array.shape)
        finding = _finding(part, whole, volume, head, f"collection-{number}")
        findings.append(finding)
        segmentations.append(Segmentation("collection", whole, volume.affine, uids, finding.finding_id, frames))
        if number <= KEY_IMAGES:
            heat_maps.append(_heat_map(part.slice_index, volume, head, ((finding.regions[0], str(number)),)))
    midline = find_midline(head.work, head.skull, head.plane, head.smooth, head.soft)
    if midline is None:
        findings.append(Finding("midline-1", "midline_unmeasured", is_abnormal=False))
    else:
        finding, heat_map = _shift(midline, volume)
        findings.append(finding)
        heat_maps.append(heat_map)
    if not heat_maps:
        heat_maps.append(_heat_map(len(volume.array) // 2, volume, head, ()))
    return Reading(tuple(dict.fromkeys(uids)), tuple(findings), tuple(heat_maps), tuple(segmentations))


def _rank(series: Series) -> tuple[bool, float, str]:
    """A soft kernel before a sharp one, then slices nearest to 5 mm: thin ones are noisy."""
    away_mm = abs(header_number(series, "SliceThickness") - 5.0)
    is_sharp = bool(SHARP_KERNELS.search(header_words(series, "ConvolutionKernel")))
    return is_sharp, away_mm, series.series_instance_uid


def _check_header(series: Series) -> None:
    """Refuse what the header says is no plain CT of the head; a silent header is no reason."""
    if series.modality != "CT":
        raise NotEvaluableError(f"the modality is {series.modality or 'unknown'}, not CT", key="not_head_ct")
    body_part, of_series = (
        header_words(series, "BodyPartExamined"),
        header_words(series, "SeriesDescription", "ProtocolName"),
    )
    for said in (body_part, of_series, header_words(series, "StudyDescription")):
        if HEAD_WORDS.search(said):
            break
        if said and (said is body_part or OTHER_BODY_WORDS.search(said)):
            raise NotEvaluableError("the header names another part of the body than the head", key="not_head_ct")
    agent, said = header_words(series, "ContrastBolusAgent"), NO_CONTRAST_WORDS.sub(" ", of_series)
    is_plus = any("c+" in text.lower() for text in header_texts(series, "SeriesDescription"))
    if is_plus or CONTRAST_WORDS.search(said) or agent not in {"", "none", "no"}:
        raise NotEvaluableError("a contrast agent is named", key="contrast")
    image_type = {str(item).upper() for item in header_texts(series, "ImageType")}
    if DERIVED_WORDS.search(of_series) or image_type & {"LOCALIZER", "MIP", "PROJECTION IMAGE"}:
        raise NotEvaluableError("the header names a reformat, a projection or a localizer", key="not_axial")
    if series.image_count < MIN_SLICES:
        raise NotEvaluableError(
            f"a whole head needs at least {MIN_SLICES} slices, there are {series.image_count}", key="too_few_slices"
        )


def _read(series: Series) -> Volume:
    """Stack the slices; of a tilted gantry they stay where they are, in an affine that is slanted."""
    try:
        part = stack_part(series)
    except (GeometryError, PixelError) as error:
        raise NotEvaluableError(f"the images do not form one volume: {error}", key="geometry") from error
    if any(left_out.reason not in HARMLESS for left_out in part.left_out):
        raise NotEvaluableError("some images do not fit into one even stack, or are missing", key="geometry")
    volume = part.volume
    if volume.unit != "HU":
        raise NotEvaluableError(f"the values are not HU but {volume.unit}", key="not_hu")
    normal = np.cross(volume.affine[:3, 2], volume.affine[:3, 1])
    normal /= np.linalg.norm(normal)
    if abs(normal[2]) < MIN_AXIAL:
        raise NotEvaluableError("the slices do not lie across the head", key="not_axial")
    distance_mm = slice_distance_mm(volume)
    if len(volume.array) < MIN_SLICES or distance_mm > MAX_SLICE_MM:
        raise NotEvaluableError(
            f"expected at least {MIN_SLICES} slices at most {MAX_SLICE_MM:g} mm apart, found {len(volume.array)} "
            f"that are {distance_mm:.1f} mm apart",
            key="too_few_slices",
        )
    return volume


def _find_head(volume: Volume) -> _Head:
    """Find the skull and what is in it; refuse what is no whole head, or cannot show blood."""
    work, blocks = _shrunk(volume)
    skull = find_skull(work)
    if skull is None:
        raise NotEvaluableError("there is no closed ring of bone of the size of a skull", key="not_head_ct")
    heights = work.affine[2, 3] + np.arange(len(work.array)) * work.affine[2, 0]
    if skull.is_open_at_top or skull.middle[2] - heights.min() < MIN_BELOW_MM:
        raise NotEvaluableError("the images do not reach from the vertex to the base of the skull", key="cut_off")
    if skull.closed_share < MIN_CLOSED:
        raise NotEvaluableError(
            f"the vault of the skull is closed in {skull.closed_share:.0%} only: a gap, or no skull", key="skull_open"
        )
    inside = skull.inside(work)
    voxel_ml = voxel_volume_ml(work.affine)
    inside_ml = float(inside.sum()) * voxel_ml
    if not MIN_INSIDE_ML <= inside_ml <= MAX_INSIDE_ML:
        raise NotEvaluableError(f"the inside of the skull would hold {inside_ml:.0f} ml", key="not_head_ct")
    soft = inside & (work.array < BONE_HU) & (work.array > -50.0)
    smooth = smooth_within(work, soft & (work.array < HIGHEST_HU + 50.0), SMOOTHING_MM)
    deep = soft & (distance_in_slices_mm(work.array >= BONE_HU, work.spacing_mm) > TABLE_MM)
    calcium = deep & (smooth_within(work, soft, SMOOTHING_MM / 2.0) > HIGHEST_HU)
    brain = smooth[deep & (smooth < LOWEST_HU)]
    brain_hu = float(np.median(brain)) if brain.size else 0.0
    if brain.size * voxel_ml < MIN_INSIDE_ML / 2.0 or not BRAIN_HU[0] <= brain_hu <= BRAIN_HU[1]:
        raise NotEvaluableError("what is inside the skull has not the density of a brain", key="not_brain")
    noise_hu = 1.4826 * float(np.median(np.abs(brain - brain_hu)))  # of a normal distribution
    if noise_hu > MAX_NOISE_SHARE * (LOWEST_HU - brain_hu):
        raise NotEvaluableError(f"noise of {noise_hu:.0f} HU hides the step from brain to blood", key="noise")
    if float(calcium.sum()) * voxel_ml > MAX_ENHANCED_ML:
        raise NotEvaluableError("much inside the skull is over 100 HU: contrast agent or metal", key="contrast")
    return _Head(work, blocks, skull, skull.mirror_plane(), smooth, soft, calcium, brain_hu)


def _shrunk(volume: Volume) -> tuple[Volume, Blocks]:
    slices_mm, rows_mm, columns_mm = volume.spacing_mm
    rows, columns = (max(1, round(WORK_PIXEL_MM / step)) for step in (rows_mm, columns_mm))
    blocks = max(1, int(WORK_SLICE_MM / slices_mm + 1e-3)), rows, columns
    return average_blocks(volume, blocks), blocks


def _collections(head: _Head) -> Mask:
    """Voxels of blood-like density that are part of something thick, without calcium and its rim."""
    work, spacing_mm = head.work, head.work.spacing_mm
    dense = head.soft & (head.smooth >= LOWEST_HU) & (head.smooth <= HIGHEST_HU)
    dense &= distance_in_slices_mm(head.calcium, spacing_mm) > CALCIUM_RIM_MM
    core = dense & (distance_in_slices_mm(~dense, spacing_mm) >= HALF_THICKNESS_MM)
    found = dense & (distance_in_slices_mm(core, spacing_mm) <= REGROWN_MM)
    # The border of what is much denser than 50 HU lies half way to brain; at the table voxels are partly bone.
    labels, count = ndimage.label(found, np.ones((3, 3, 3)))
    medians = np.append(0.0, ndimage.median(head.smooth, np.where(core, labels, 0), np.arange(1, count + 1)))
    found &= head.smooth >= (medians[labels] + head.brain_hu) / 2.0
    at_table = (work.array >= HIGHEST_HU) & (work.array < HALF_BONE_HU) & ~head.calcium
    return found | (at_table & (distance_in_slices_mm(found, spacing_mm) < 1.5 * spacing_mm[2]))


def _places(part: Component, volume: Volume) -> npt.NDArray[np.float64]:
    """LPS mm of the part's voxels, ``[voxel, 3]``."""
    index = np.argwhere(part.inside) + [side.start for side in part.box]
    return np.asarray(index @ volume.affine[:3, :3].T + volume.affine[:3, 3], np.float64)


def _depths_mm(places: npt.NDArray[np.float64], skull: Skull) -> npt.NDArray[np.float64]:
    """How far places lie below the inner table."""
    away = places - skull.middle
    return np.asarray(skull.radius_mm(away) - np.linalg.norm(away, axis=1), np.float64)


def _is_table_or_sinus(part: Component, volume: Volume, head: _Head) -> bool:
    """True for a seam along the table, and for what lies like the superior sagittal sinus: midline, table, slim."""
    places = _places(part, volume)
    depths = _depths_mm(places, head.skull)
    near = (np.abs(head.plane.left_of_mm(places)) <= SINUS_MM[0]) & (depths <= SINUS_MM[1])
    is_sinus = float(near.mean()) > 0.8 and part.axes.short_mm <= SINUS_MM[2]
    return is_sinus or float(np.percentile(depths, 98)) < 2.0 * HALF_THICKNESS_MM


def _finding(part: Component, whole: Mask, volume: Volume, head: _Head, finding_id: str) -> Finding:
    places = _places(part, volume)
    depths = _depths_mm(places, head.skull)
    left = float((head.plane.left_of_mm(places) > 0.0).mean())
    cores = ndimage.binary_erosion(part.inside, np.ones((1, 3, 3), np.bool_))
    values = volume.array[part.box][cores if cores.any() else part.inside]
    mean_hu = float(values.mean(dtype=np.float64))
    depth_mm = float(np.percentile(depths, 98))
    is_at_table = float(depths.min()) <= TABLE_MM
    shape = "away_from_table"
    if is_at_table:
        ratio = part.axes.long_mm / max(depth_mm, 1.0)
        shape = "crescent" if ratio >= CRESCENT_RATIO else "lens" if ratio >= LENS_RATIO else "compact_at_table"
    measurements = [
        Measurement("volume", part.volume_ml, "ml", VOLUME_BASIS),
        Measurement("mean_hu", mean_hu, "[hnsf'U]", "mean without the outermost voxels"),
        Measurement("long_axis", part.axes.long_mm, "mm", "longest line across on one slice"),
    ]
    if is_at_table:
        measurements.append(Measurement("depth", depth_mm, "mm", "greatest distance from the inner table"))
    return Finding(
        finding_id,
        "hyperdense_collection",
        measurements=tuple(measurements),
        regions=(region_of_slice(volume, part.slice_index, whole[part.slice_index]),),
        laterality="L" if left > 0.8 else "R" if left < 0.2 else "B",
        score=float(
            np.clip((mean_hu - head.brain_hu) / (LOWEST_HU + HIGHEST_HU - 2.0 * head.brain_hu) * 2.0, 0.0, 1.0)
        ),
        qualities=(shape,),
    )


def _heat_map(index: int, volume: Volume, head: _Head, regions: Labelled) -> HeatMap:
    """The key image of a slice, warm where its smoothed density nears that of blood."""
    warmth = np.clip((head.smooth - HEAT_HU[0]) / (HEAT_HU[1] - HEAT_HU[0]), 0.0, 1.0) * head.soft
    at = min(index // head.blocks[0], len(warmth) - 1)
    heat = repeat_blocks(warmth[at : at + 1], (1, *head.blocks[1:]), (1, *volume.array.shape[1:]))[0].astype(np.float32)
    return _key_image(index, volume, heat, "density from 40 to 60 HU", regions)


def _key_image(index: int, volume: Volume, heat: _Array, basis: str, regions: Labelled) -> HeatMap:
    low, high = SHOWN_HU
    return HeatMap(
        sop_instance_uid=volume.sop_instance_uids[index],
        heat=heat,
        background=np.clip((volume.array[index] - low) / (high - low), 0.0, 1.0).astype(np.float32),
        basis=basis,
        score=float(heat.max()),
        threshold=0.5,
        regions=regions,
        slice_label=f"slice {index + 1}/{len(volume.array)}",
        spacing_mm=volume.spacing_mm[1:],
        frame_number=volume.frame_number(index),
    )


def _shift(midline: Midline, volume: Volume) -> tuple[Finding, HeatMap]:
    """The shift as a finding, with the area between the ideal and the real midline as its outline."""
    index, corners = midline.outline_on(volume)
    outline = tuple((float(column) + 0.5, float(row) + 0.5) for row, column in corners)
    region = Region(volume.sop_instance_uids[index], outline, volume.frame_number(index))
    shift_mm = abs(midline.shift_mm)
    is_shifted = shift_mm >= ABNORMAL_SHIFT_MM
    finding = Finding(
        "midline-1",
        "midline_shift" if is_shifted else "midline",
        measurements=(Measurement("shift", shift_mm, "mm", MIDLINE_BASIS),),
        regions=(region,),
        laterality="" if shift_mm < 1.0 else "L" if midline.shift_mm > 0 else "R",
        is_abnormal=is_shifted,
    )
    filled = polygon2mask(volume.array.shape[1:], corners)  # type: ignore[no-untyped-call]  # skimage is half typed
    heat = (filled * min(shift_mm / (2.0 * ABNORMAL_SHIFT_MM), 1.0)).astype(np.float32)
    label = f"{shift_mm:.0f} mm"
    return finding, _key_image(index, volume, heat, "shift of the midline, 10 mm is 1", ((region, label),))


handler = Handler(
    name="head_ct",
    version="0.1.0",
    manufacturer="Wetread",
    basis=Basis.RULE_BASED,
    template="head_ct",
    terms=Terms(modalities=("CT",), min_instances=MIN_SLICES),
    analyse=analyse,
    parameters=(
        ("status", "experimental: phantoms and one real slice"),
        ("density", "50 to 100 HU"),
        ("smallest", "1 ml, 4 mm thick"),
        ("midline", "5 mm and more is stated as shifted"),
    ),
    not_looked_at=(
        "thin", "subarachnoid", "isodense", "ischaemia", "fracture", "masses", "hydrocephalus", "vessels", "sinuses",
        "age",
    ),
    time_limit_s=180.0,
)  # fmt: skip
