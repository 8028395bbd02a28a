"""Nodule candidates and low attenuation area on a CT of the chest, by rules; nothing here was learned.

Round spots are looked for inside the lungs and outlined; what is long (vessels) or grows out of wall or hilum is left
out. Most of the rest is gates: a rule finds round spots in any picture.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.api import (
    AXES_BASIS,
    VOLUME_BASIS,
    Axes,
    Basis,
    Finding,
    GeometryError,
    Handler,
    HeatMap,
    Lungs,
    Mask,
    Measurement,
    Model,
    Nodule,
    NotEvaluableError,
    PixelError,
    Reading,
    Segmentation,
    Series,
    Study,
    Terms,
    Volume,
    blob_map,
    find_blobs,
    find_lungs,
    header_number,
    header_texts,
    header_words,
    is_axial,
    measure_axes,
    outline_nodule,
    passing_series,
    region_of_slice,
    stack,
    voxel_volume_ml,
)

__all__ = ["analyse", "handler"]

Pixels = npt.NDArray[np.float32]

MIN_SLICES = 50
MAX_THICKNESS_MM = 3.0  # thicker slices hide nodules below 6 mm; Fleischner 2017 asks for 1.5 mm
MAX_PIXEL_MM = 1.2
MIN_HEIGHT_MM = 150.0

# Lungs of adults on CT, at any breath, with room to spare.
LUNG_ML = (400.0, 6000.0)  # each
LUNG_HU = (-950.0, -650.0)  # median
BODY_HU = (-60.0, 100.0)  # median of what is neither air nor bone: fat and muscle
MAX_CUT_SHARE = 0.1  # of the largest cross-section, on the first and last slice

DIAMETERS_MM = (3.5, 5.0, 7.0, 10.0, 14.0, 20.0, 28.0)
LEAST_CONTRAST_HU = 120.0  # ground glass at -650 HU answers 170 and more; noise of 20 HU less than 90
FULL_SCORE_HU = 400.0
LEAST_ROUNDNESS = 0.35
MOST_SPOTS = 1500
SPAN_HU = (-1000.0, 0.0)  # denser counts as soft tissue, so that calcium and metal weigh no more

SMALLEST_MM, LARGEST_MM = 4.0, 30.0  # mean axis; Fleischner 2017: a nodule is at most 3 cm
MAX_ELONGATION = 2.2
MAX_CONTACT = 0.5  # of the surface: more of it in the wall or hilum is no nodule
MIN_KEPT, SOME_CONTACT, MIN_KEPT_AT_WALL, LEAST_SOLID_HU = 0.15, 0.2, 0.6, -300.0
MOST_FINDINGS = 20
MOST_KEY_IMAGES = 8
SMOOTH_KEPT, SMOOTH_SOLIDITY = 0.85, 0.9
AT_PLEURA_MM, NEAR_PLEURA_MM = 2.5, 10.0
LOW_HU = -950.0  # Gevenois et al., Am J Respir Crit Care Med 1996;154:187, thin slices
LUNG_ONLY_HU = -500.0
MAX_LOW_THICKNESS_MM = 1.5
SMOOTH_KERNEL = re.compile(r"^(b[1-4]\d|i[23]\d|i4[0-4]|[bq]r3\d|[bq]r4[0-4]|standard|stnd|soft|fc0\d|fc1[0-8])", re.I)

WINDOW_HU = (-1350.0, 150.0)  # lung window, centre -600, width 1500

CHEST_WORDS = re.compile(r"chest|thora|lung|pulmo|胸|肺")
OTHER_BODY_WORDS = re.compile(
    r"head|brain|skull|neck|sinus|orbit|abdom|liver|pancrea|kidney|renal|pelvi|colon|spine|lumbar|cervical|shoulder|"
    r"elbow|wrist|hand|hip\b|knee|ankle|foot|heart|cardi|coron|calcium|头|颅|脑|颈|腹|肝|胰|肾|盆|脊|椎|肩|肘|腕|髋|膝|踝|心|冠"
)
CONTRAST_WORDS = re.compile(r"\bpost\b|\bce\b|contrast|\bcta\b|angio|增强|强化|动脉|静脉")
NOT_SLICES = frozenset({"LOCALIZER", "MIP", "MINIP", "PROJECTION IMAGE", "VOLUME RENDERED", "3D", "MPR"})


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A nodule with where its axes were measured."""

    nodule: Nodule
    slice_index: int
    axes: Axes
    response_hu: float

    @property
    def is_smooth(self) -> bool:
        """True if little was cut off and the section fills the ellipse of its axes."""
        plane = self.nodule.inside[self.slice_index - self.nodule.box[0].start]
        long_px, short_px = (np.hypot(*np.subtract(*ends)) for ends in (self.axes.long_ends, self.axes.short_ends))
        fills = float(plane.sum()) >= SMOOTH_SOLIDITY * np.pi / 4.0 * float(long_px * short_px)
        return fills and self.nodule.kept_share >= SMOOTH_KEPT


def analyse(study: Study, models: Mapping[str, Model]) -> Reading:  # noqa: ARG001  # it needs none
    """Mark round opacities in the lungs and measure how much of the lung is below -950 HU.

    Returns
    -------
    A finding for each candidate, largest first, with axes, volume, mean HU, outline and key image; and the low
    attenuation area where the Series allows one.

    Raises
    ------
    NotEvaluableError
        If no Series is thin axial CT of a whole chest in HU, or two whole lungs of plausible size are not in it.
    """
    accepted = passing_series(study.series, _check_header)
    series = min(accepted, key=lambda each: (header_number(each, "SliceThickness"), -each.image_count))
    volume = _read(series)
    lungs = _lungs(volume)
    inside = lungs.mask
    candidates = _candidates(volume, inside)
    findings = [_finding(volume, lungs, each, number + 1) for number, each in enumerate(candidates)]
    marked = np.zeros(inside.shape, np.bool_)
    for each in candidates:
        marked[each.nodule.box] |= each.nodule.inside
    heat_maps = _heat_maps(volume, inside, candidates, findings)
    uids = volume.sop_instance_uids
    parts = (Segmentation("nodules", marked, volume.affine, uids, "", volume.frame_numbers),) if candidates else ()
    low = _low_attenuation(volume, lungs, series)
    return Reading(tuple(dict.fromkeys(uids)), (*findings, *low), heat_maps, parts)


def _check_header(series: Series) -> None:
    """Refuse what the header says is no thin CT of the chest; a silent header is no reason."""
    if series.modality != "CT":
        raise NotEvaluableError(f"the modality is {series.modality or 'unknown'}, not CT", key="not_chest_ct")
    body_part = header_words(series, "BodyPartExamined")
    for said in (
        body_part,
        header_words(series, "SeriesDescription", "ProtocolName"),
        header_words(series, "StudyDescription"),
    ):
        if CHEST_WORDS.search(said):
            break
        if OTHER_BODY_WORDS.search(said):
            raise NotEvaluableError("the header names another part of the body than the chest", key="not_chest_ct")
    if {value.upper() for value in header_texts(series, "ImageType")[2:]} & NOT_SLICES:
        raise NotEvaluableError("the header names a localizer or a derived image, not original slices", key="derived")
    if series.image_count < MIN_SLICES:
        raise NotEvaluableError(
            f"a whole chest needs at least {MIN_SLICES} slices, there are {series.image_count}", key="too_few_slices"
        )
    if header_number(series, "SliceThickness") > MAX_THICKNESS_MM:
        raise NotEvaluableError(f"the slices are more than {MAX_THICKNESS_MM:g} mm thick", key="thick_slices")


def _read(series: Series) -> Volume:
    try:
        volume = stack(series)
    except (GeometryError, PixelError) as error:
        raise NotEvaluableError(f"the images do not form one volume: {error}", key="geometry") from error
    if volume.unit != "HU":
        raise NotEvaluableError("the values are not in HU", key="not_hu")
    distance_mm, row_mm, column_mm = volume.spacing_mm
    if not is_axial(volume):
        raise NotEvaluableError("the slices are not axial", key="not_axial")
    if distance_mm > MAX_THICKNESS_MM + 0.01 or max(row_mm, column_mm) > MAX_PIXEL_MM:
        raise NotEvaluableError("the slices or pixels are too far apart", key="thick_slices")
    if distance_mm * len(volume.array) < MIN_HEIGHT_MM:
        raise NotEvaluableError("the slices do not cover a whole chest", key="cut_off")
    return volume


def _lungs(volume: Volume) -> Lungs:
    """Find two whole lungs of plausible size and density, or refuse."""
    soft = volume.array[(volume.array > -300.0) & (volume.array < 300.0)]
    if not len(soft) or not BODY_HU[0] <= float(np.median(soft)) <= BODY_HU[1]:
        raise NotEvaluableError("the values are not those of a body in HU", key="not_hu")
    lungs = find_lungs(volume)
    if lungs is None:
        raise NotEvaluableError("two lungs filled with air were not found", key="lungs_not_found")
    voxel_ml = voxel_volume_ml(volume.affine)
    for lung in (lungs.right, lungs.left):
        volume_ml = float(lung.sum()) * voxel_ml
        if not LUNG_ML[0] <= volume_ml <= LUNG_ML[1]:
            raise NotEvaluableError(f"a lung of {volume_ml:.0f} ml is not plausible", key="lungs_not_found")
        median_hu = float(np.median(volume.array[lung]))
        if not LUNG_HU[0] <= median_hu <= LUNG_HU[1]:
            raise NotEvaluableError(f"a lung of {median_hu:.0f} HU is not plausible", key="lungs_not_found")
        areas = lung.sum(axis=(1, 2))
        if max(areas[0], areas[-1]) > MAX_CUT_SHARE * areas.max():
            raise NotEvaluableError("the first or last slice cuts through a lung", key="cut_off")
    return lungs


def _candidates(volume: Volume, inside: Mask) -> list[_Candidate]:
    """Find round spots in the lungs, outline them and keep those that a nodule can be, largest first."""
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    core, array = _searched(volume, inside, box)
    spots = find_blobs(
        array, volume.spacing_mm, DIAMETERS_MM,
        least_response=LEAST_CONTRAST_HU, mask=core, least_roundness=LEAST_ROUNDNESS, most=MOST_SPOTS,
    )  # fmt: skip
    taken = np.zeros(inside.shape, np.bool_)
    found: list[_Candidate] = []
    for spot in spots:
        centre = tuple(at + part.start for at, part in zip(spot.index, box, strict=True))
        if taken[tuple(round(at) for at in centre)]:
            continue
        nodule = outline_nodule(volume, inside, centre, spot.diameter_mm)
        if nodule is None or not _can_be(nodule):
            continue
        candidate = _measured(volume, nodule, spot.response)
        is_new = not (taken[nodule.box] & nodule.inside).any()
        if is_new and SMALLEST_MM <= candidate.axes.mean_mm <= LARGEST_MM:
            taken[nodule.box] |= nodule.inside
            found.append(candidate)
    found.sort(key=lambda each: (-each.axes.mean_mm, each.slice_index))
    return found[:MOST_FINDINGS]


def _can_be(nodule: Nodule) -> bool:
    """False for what is long or mostly in the wall; at the wall or hilum, also for a part of something branched."""
    if nodule.elongation > MAX_ELONGATION or nodule.contact_share > MAX_CONTACT or nodule.kept_share < MIN_KEPT:
        return False
    is_wall_of_airway = nodule.density == "solid" and nodule.mean_hu < LEAST_SOLID_HU
    return nodule.contact_share <= SOME_CONTACT or (nodule.kept_share >= MIN_KEPT_AT_WALL and not is_wall_of_airway)


def _searched(volume: Volume, inside: Mask, box: tuple[slice, ...]) -> tuple[Mask, Pixels]:
    """The lungs without their border, and their values in even lung, so that no wall is seen."""
    core = np.asarray(ndimage.binary_erosion(inside[box]), np.bool_)
    values = np.clip(volume.array[box], *SPAN_HU)
    return core, np.where(core, values, np.median(values[core])).astype(np.float32)


def _measured(volume: Volume, nodule: Nodule, response_hu: float) -> _Candidate:
    """Measure the axes on the slice with the largest area, in coordinates of the whole slice."""
    index = nodule.box[0].start + int(np.argmax(nodule.inside.sum(axis=(1, 2))))
    axes = measure_axes(_plane(volume, nodule, index), volume.spacing_mm[1:])
    return _Candidate(nodule, index, axes, response_hu)


def _finding(volume: Volume, lungs: Lungs, candidate: _Candidate, number: int) -> Finding:
    nodule = candidate.nodule
    is_right = lungs.right[nodule.box][nodule.inside].mean() >= 0.5
    lung = lungs.right if is_right else lungs.left
    volume_mm3 = float(nodule.inside.sum()) * voxel_volume_ml(volume.affine) * 1000.0
    measurements = [
        Measurement("long_axis", candidate.axes.long_mm, "mm", AXES_BASIS),
        Measurement("short_axis", candidate.axes.short_mm, "mm", AXES_BASIS),
        Measurement("volume", volume_mm3, "mm3", VOLUME_BASIS),
        Measurement("attenuation", nodule.mean_hu, "[hnsf'U]", "mean of the voxels more than 1 mm inside the border"),
    ]
    if nodule.density == "part_solid":
        measurements.append(
            Measurement("solid_volume", nodule.solid_mm3, "mm3", "voxels at least half way from lung to soft tissue")
        )
    margin = "margin_smooth" if candidate.is_smooth else "margin_not_smooth"
    outline = region_of_slice(volume, candidate.slice_index, _plane(volume, nodule, candidate.slice_index))
    return Finding(
        finding_id=f"nodule-{number}",
        kind=f"{nodule.density}_nodule",
        measurements=tuple(measurements),
        regions=(outline,),
        laterality="R" if is_right else "L",
        score=min(candidate.response_hu / FULL_SCORE_HU, 1.0),
        qualities=(_third(volume, lung, candidate), _pleura(lungs, 1 if is_right else 2, nodule), margin),
    )


def _third(volume: Volume, lung: Mask, candidate: _Candidate) -> str:
    """Third of the height of its own lung."""
    slices = np.flatnonzero(lung.any(axis=(1, 2)))
    share = (candidate.slice_index - slices[0]) / max(float(np.ptp(slices)), 1.0)
    height = share if volume.affine[2, 0] > 0 else 1.0 - share
    return "upper_third" if height > 2 / 3 else "middle_third" if height > 1 / 3 else "lower_third"


def _pleura(lungs: Lungs, side: int, nodule: Nodule) -> str:
    """How near it comes to the surface of its lung, the side of the mediastinum included; fissures are not seen."""
    mm, blocks = lungs.work_spacing_mm, lungs.blocks
    reach = [int(NEAR_PLEURA_MM / step) + 2 for step in mm]
    first = [max(part.start // block - far, 0) for part, block, far in zip(nodule.box, blocks, reach, strict=True)]
    last = [part.stop // block + far for part, block, far in zip(nodule.box, blocks, reach, strict=True)]
    lung = lungs.work_labels[tuple(slice(*ends) for ends in zip(first, last, strict=True))] == side
    depth_mm = ndimage.distance_transform_edt(lung, sampling=mm)
    places = (np.argwhere(nodule.inside) + [part.start for part in nodule.box]) // blocks - first
    nearest_mm = float(depth_mm[tuple(np.minimum(places, np.array(lung.shape) - 1).T)].min())
    if nodule.contact_share > 0.05 or nearest_mm <= AT_PLEURA_MM:
        return "at_pleura"
    return "near_pleura" if nearest_mm <= NEAR_PLEURA_MM else "far_from_pleura"


def _plane(volume: Volume, nodule: Nodule, index: int) -> Mask:
    plane = np.zeros(volume.array.shape[1:], np.bool_)
    plane[nodule.box[1:]] = nodule.inside[index - nodule.box[0].start]
    return plane


def _heat_maps(
    volume: Volume, inside: Mask, candidates: Sequence[_Candidate], findings: Sequence[Finding]
) -> tuple[HeatMap, ...]:
    """Key images of the largest candidates, each slice once, with the detector's score around them."""
    indices = list(dict.fromkeys(each.slice_index for each in candidates))[:MOST_KEY_IMAGES]
    maps = []
    for index in indices:
        heat, regions, scores = np.zeros(volume.array.shape[1:], np.float32), [], []
        for candidate, finding in zip(candidates, findings, strict=True):
            if candidate.slice_index == index:
                _add_score(heat, volume, inside, candidate)
                regions.append((finding.regions[0], finding.finding_id.rpartition("-")[2]))
                scores.append(finding.score or 0.0)
        background = np.clip((volume.array[index] - WINDOW_HU[0]) / np.ptp(WINDOW_HU), 0.0, 1.0).astype(np.float32)
        maps.append(
            HeatMap(
                sop_instance_uid=volume.sop_instance_uids[index],
                heat=heat,
                background=background,
                basis="detector score around the candidates",
                score=max(scores),
                threshold=LEAST_CONTRAST_HU / FULL_SCORE_HU,
                regions=tuple(regions),
                slice_label=f"slice {index + 1}/{len(volume.array)}",
                spacing_mm=volume.spacing_mm[1:],
                frame_number=volume.frame_number(index),
            )
        )
    return tuple(maps)


def _add_score(heat: Pixels, volume: Volume, inside: Mask, candidate: _Candidate) -> None:
    """Draw how much like a round spot the surroundings of one candidate are, on its slice."""
    box = candidate.nodule.box
    _, array = _searched(volume, inside, box)
    response, _ = blob_map(array, volume.spacing_mm, DIAMETERS_MM, mask=inside[box])
    plane = response[candidate.slice_index - box[0].start] / FULL_SCORE_HU
    heat[box[1:]] = np.maximum(heat[box[1:]], np.clip(plane, 0.0, 1.0))


def _low_attenuation(volume: Volume, lungs: Lungs, series: Series) -> tuple[Finding, ...]:
    """Measure the share of lung below -950 HU where slices, kernel and contrast let it mean anything."""
    thickness_mm = max(header_number(series, "SliceThickness"), volume.spacing_mm[0])
    kernel = next(iter(header_texts(series, "ConvolutionKernel")), "")
    said = header_words(series, "SeriesDescription", "ProtocolName", "StudyDescription")
    has_contrast = header_words(series, "ContrastBolusAgent") not in {"", "none", "no"} or CONTRAST_WORDS.search(said)
    if thickness_mm > MAX_LOW_THICKNESS_MM + 0.01 or not SMOOTH_KERNEL.match(kernel) or has_contrast:
        return ()
    values = volume.array[lungs.mask]
    values = values[values < LUNG_ONLY_HU]
    share = float((values < LOW_HU).mean())
    lung_ml = float(len(values)) * voxel_volume_ml(volume.affine)
    method = "lung voxels below -950 HU; smooth kernel, no contrast named, breath not known"
    return (
        Finding(
            finding_id="low-attenuation-1",
            kind="low_attenuation",
            measurements=(
                Measurement("low_attenuation", 100.0 * share, "%", method),
                Measurement("lung_volume", lung_ml, "ml", "voxels below -500 HU in both lungs, without large airways"),
                Measurement("slice_thickness", thickness_mm, "mm", "the larger of slice thickness and distance"),
            ),
            is_abnormal=False,
        ),
    )


handler = Handler(
    name="chest_ct",
    version="1.0.0",
    manufacturer="Wetread",
    basis=Basis.RULE_BASED,
    template="chest_ct",
    terms=Terms(modalities=("CT",), min_instances=1),
    analyse=analyse,
    parameters=(
        ("contrast", f"at least {LEAST_CONTRAST_HU:.0f} HU above the lung around"),
        ("size", f"mean axis {SMALLEST_MM:.0f} to {LARGEST_MM:.0f} mm"),
        ("roundness", f"at least {LEAST_ROUNDNESS:g}, elongation at most {MAX_ELONGATION:g}"),
        ("most candidates", str(MOST_FINDINGS)),
    ),
    not_looked_at=(
        "masses", "small_nodules", "airways", "hila", "consolidation", "interstitial", "effusion", "pneumothorax",
        "mediastinum", "vessels", "bones", "low_attenuation_conditions", "change",
    ),
    time_limit_s=300.0,
)  # fmt: skip
