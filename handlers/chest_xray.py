"""Round opacity candidates on a frontal chest radiograph, by published rules and without a learned model.

What it does, in order: find the two lungs by matching a simple outline of lungs to the picture; refuse
the picture unless both are there, upright and whole; find bright round spots in them at several sizes;
give the best eight as candidates. It gives a detector score, never a probability.
What it is not: the outline is a simple one, so a lung that is largely white is refused or cut. Marks on a
hilum, a vessel seen end-on or crossing ribs are usual. Opacities under about 4 % of the width of the
lungs (10 mm in an adult), behind the heart or against the chest wall are not found.

Lindeberg, Int J Comput Vis 1998;30:79 (scale-normalised Laplacian); Lewis, Vision Interface 1995:120 (correlation).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from skimage.draw import polygon2mask
from skimage.transform import resize

from node.api import (
    Basis,
    Finding,
    Handler,
    HeatMap,
    Image,
    Mask,
    Measurement,
    Model,
    NotEvaluableError,
    Reading,
    Region,
    Series,
    Study,
    Terms,
    read_image,
)

Grid = npt.NDArray[np.float32]
Box = npt.NDArray[np.float64]
"""The box around both lungs: top, left, height, width, in pixels of the grid it was found on."""
Points = Sequence[tuple[float, float]]

CHEST = {"", "CHEST", "THORAX", "LUNG"}  # PS3.16 Annex L, Body Part Examined; "" where the header is silent
FRONTAL = {"", "PA", "AP"}  # PS3.3 C.8.1.1.1 View Position
SMALLEST_PX = 256
MATCH_PX, WORK_PX = 96, 512  # longer side of the grids on which lungs and opacities are sought

# Outlines on a frontal film, drawn by hand: (across, down) as fractions of the box around both lungs. The one
# on the image's left (the patient's right lung) first; the other leaves room for the heart.
OUTLINES = (
    (
        (0.27, 0.00), (0.16, 0.08), (0.08, 0.25), (0.03, 0.50), (0.00, 0.75), (0.01, 0.98), (0.09, 0.89), (0.20, 0.84),
        (0.30, 0.85), (0.38, 0.90), (0.41, 0.70), (0.42, 0.50), (0.41, 0.30), (0.41, 0.12), (0.36, 0.03),
    ), (
        (0.73, 0.00), (0.64, 0.03), (0.59, 0.12), (0.59, 0.30), (0.60, 0.45), (0.65, 0.58), (0.72, 0.70), (0.78, 0.84),
        (0.85, 0.86), (0.92, 0.91), (0.99, 0.98), (1.00, 0.75), (0.97, 0.50), (0.92, 0.25), (0.84, 0.08),
    ),
)  # fmt: skip
BETWEEN = ((0.44, 0.10), (0.56, 0.10), (0.62, 0.60), (0.70, 0.85), (0.40, 0.85), (0.44, 0.60))
SIZES = [(rows, across) for rows in np.arange(0.45, 1.0, 0.07) for across in (0.8, 0.9, 1.0, 1.12, 1.25, 1.4)]
MOVES = np.array([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, -1, 0), (0, 1, 0, -1)])

# Gates: from 17 real films (least value accepted 0.46, of one lung 0.32) and 90 crops, turns and other pictures.
LEAST_MATCH = 0.45
LEAST_LUNG_MATCH = 0.30
LEAST_BELOW = 0.15  # how much brighter the picture is below the lungs, in grey-level ranks

# Candidates: set on RG1 of pydicom-data (eight marks, five clearly on opacities) and 8 normal films (0.9 marks each).
DIAMETERS = np.geomspace(0.04, 0.15, 8)  # of the width of both lungs: about 11 to 42 mm in an adult
DIRECTIONS = np.arange(8) * np.pi / 4
MAY_BE_BRIGHT = 2  # of the eight directions around a spot: a vessel or a rib may touch it
FULL_SCORE, THRESHOLD = 1.5, 0.5  # the response that is drawn as 1, and the part of it that counts
MOST_CANDIDATES = 8
BALL = 1.175  # a projected ball answers most at a radius of 1.66 sigma, a disc at 1.41 (by integration)
BELIEVED_WIDTH_MM = (80.0, 450.0)  # both lungs, infant to large adult; else the spacing is not believed
NOT_LOOKED_AT = (
    "pneumothorax effusion fracture behind_heart consolidation interstitial small_nodules heart_size devices"
)
NOT_LOOKED_AT += " lateral abdomen change"


@dataclass(frozen=True, slots=True)
class Spot:
    """A round bright spot on the working grid."""

    response: float
    row: int
    column: int
    diameter: float


def analyse(study: Study, models: Mapping[str, Model]) -> Reading:
    """Mark round opacity candidates on every frontal film of the Study; refuse it if there is none."""
    del models  # rule-based
    refusal = NotEvaluableError("there is no image", key="not_chest_xray")
    findings: list[Finding] = []
    heat_maps: list[HeatMap] = []
    for series in study.series:
        for index, instance in enumerate(series.instances):
            try:
                sides = _sides(series)  # by the header of the first Instance: what follows may be another view
                found, heat_map = _mark(read_image(instance), ("", "") if index else sides, len(findings))
            except NotEvaluableError as refused:
                refusal = refused
            else:
                findings += found
                heat_maps.append(heat_map)
    if not heat_maps:
        raise refusal
    return Reading(tuple(heat.sop_instance_uid for heat in heat_maps), tuple(findings), tuple(heat_maps))


def _sides(series: Series) -> tuple[str, str]:
    """The patient's side at the image's left and right, "" where the header does not say.

    Refuses what the header already says is no upright frontal chest film.
    """
    if str(series.header.get("BodyPartExamined") or "").strip().upper() not in CHEST:
        raise NotEvaluableError("this is not a chest radiograph", key="not_chest_xray")
    stated = series.header.get("PatientOrientation")  # PS3.3 C.7.6.1.1.1: where rows and where columns run to
    directions = [str(part).strip().upper() for part in stated] if isinstance(stated, list) else []
    rows_to, columns_to = (*directions, "", "")[:2]
    view = str(series.header.get("ViewPosition") or "").strip().upper()
    if view not in FRONTAL or rows_to.startswith(("A", "P")) or columns_to.startswith("H"):
        raise NotEvaluableError("this is not an upright frontal view", key="not_frontal")
    return {"L": ("R", "L"), "R": ("L", "R")}.get(rows_to[:1], ("", ""))


def _mark(image: Image, sides: tuple[str, str], marked: int) -> tuple[list[Finding], HeatMap]:
    """Findings and heat map of one film; numbers go on after those already given."""
    if min(image.array.shape) < SMALLEST_PX:
        raise NotEvaluableError("the image is too small", key="too_small")
    work = _shrunk(image.array, WORK_PX)
    lungs = _find_lungs(work)
    width = float(np.ptp(np.nonzero(lungs[0] | lungs[1])[1]))
    response, index = _score_map(work, lungs[0] | lungs[1], width)
    scale = np.array(image.array.shape) / work.shape
    mm = image.spacing_mm[1] if image.spacing_mm else 0.0
    is_measured = BELIEVED_WIDTH_MM[0] <= width * scale[1] * mm <= BELIEVED_WIDTH_MM[1]
    findings, regions = [], []
    for number, spot in enumerate(_spots(response, index, width), start=marked + 1):
        region = _box(spot, scale, image)
        axis_mm, method = float(BALL * spot.diameter * scale[1] * mm), "from the best detector scale, within 20 %"
        finding = Finding(
            finding_id=f"opacity-{number}",
            kind="round_opacity",
            measurements=(Measurement("long_axis", axis_mm, "mm", method),) if is_measured else (),
            regions=(region,),
            laterality=sides[0] if lungs[0][spot.row, spot.column] else sides[1],
            score=min(spot.response / FULL_SCORE, 1.0),
        )
        findings.append(finding)
        regions.append((region, str(number)))
    heat = np.clip(_resized(response, image.array.shape) / FULL_SCORE, 0.0, 1.0)
    uid, best, shown = image.sop_instance_uid, min(float(response.max()) / FULL_SCORE, 1.0), tuple(regions)
    return findings, HeatMap(
        uid, heat, image.display, "detector score", best, THRESHOLD, shown, spacing_mm=image.spacing_mm
    )


def _find_lungs(work: Grid) -> tuple[Mask, Mask]:
    """Lungs on the image's left and right; refuses a picture in which they are not whole, upright and dark."""
    ranks = _ranks(_shrunk(work, MATCH_PX))
    match, box, opposite = _match(ranks, is_upright=True)
    if opposite > max(match, LEAST_MATCH):
        raise NotEvaluableError("the grey scale of the image is inverted", key="inverted")
    if np.ptp(work) == 0 or match < LEAST_MATCH or _match(ranks, is_upright=False)[0] >= match:
        raise NotEvaluableError("two upright lungs were not found", key="lungs_not_found")
    boxes = [_fit(ranks, box, points) for points in OUTLINES]
    _gate_lungs(ranks, boxes)
    return _lung_masks(_ranks(ndimage.gaussian_filter(work, 2.0)), boxes, work.shape[0] / ranks.shape[0])


def _shrunk(array: Grid, longer_side: int) -> Grid:
    """Make a picture smaller: means over whole blocks first, which is fast, then the rest."""
    block = max(1, max(array.shape) // (2 * longer_side))
    rows, columns = (side // block * block for side in array.shape)
    array = array[:rows, :columns].reshape(rows // block, block, columns // block, block).mean(axis=(1, 3))
    factor = min(1.0, longer_side / max(array.shape))
    return _resized(array, tuple(round(side * factor) for side in array.shape), is_smoothed=factor < 1.0)


def _resized(array: Grid, shape: tuple[int, ...], *, is_smoothed: bool = False) -> Grid:
    resized = resize(array, shape, order=1, mode="edge", anti_aliasing=is_smoothed)  # type: ignore[no-untyped-call]
    return np.asarray(resized, dtype=np.float32)


def _ranks(array: Grid) -> Grid:
    """Replace grey levels by their rank, 0 to 1, so that neither gamma nor exposure matters."""
    ranks = np.empty(array.size, dtype=np.float32)
    ranks[np.argsort(array, axis=None, kind="stable")] = np.linspace(0.0, 1.0, array.size)
    return ranks.reshape(array.shape)


def _outline(shape: tuple[int, ...], box: Box, points: Points, scale: float = 1.0) -> Mask:
    """An outline in a box as a mask, on a grid `scale` times as fine as the box's."""
    corners = (box[:2] + np.array(points)[:, ::-1] * box[2:]) * scale
    return np.asarray(polygon2mask(shape, corners), dtype=np.bool_)  # type: ignore[no-untyped-call]


def _templates(shape: tuple[int, ...], margin: int) -> Iterator[tuple[Box, Mask, Mask]]:
    """Lungs and what surrounds them, in every size that is tried."""
    for fraction, aspect in SIZES:
        height = round(fraction * shape[0])
        width = round(aspect * height)
        edge = min(margin, max(2, round(0.06 * width)))
        size = (height + 2 * edge, width + 2 * edge)
        if 0.5 * shape[1] <= width <= shape[1] and size[0] <= shape[0] + 2 * margin:
            box = np.array([edge, edge, height, width], dtype=np.float64)
            lungs = _outline(size, box, OUTLINES[0]) | _outline(size, box, OUTLINES[1])
            around = ndimage.binary_dilation(lungs, iterations=edge) | _outline(size, box, BETWEEN)
            yield box, lungs, around & ~lungs


def _match(ranks: Grid, *, is_upright: bool) -> tuple[float, Box, float]:
    """Best normalised cross-correlation with dark lungs, the box there, and the best with the inverted picture."""
    margin = max(2, round(0.06 * ranks.shape[1]))
    padded = np.pad(ranks, margin, mode="edge")
    size = (2 * MATCH_PX, 2 * MATCH_PX)
    once, squared = fft.rfft2(padded, size), fft.rfft2(padded * padded, size)
    best, best_box, opposite = -1.0, np.zeros(4), -1.0
    for box, lungs, around in _templates(ranks.shape, margin):
        weight, contrast = _weights(lungs, around)
        if not is_upright:
            weight, contrast = weight[::-1], contrast[::-1]
        spectra = [np.conj(fft.rfft2(kernel, size)) for kernel in (weight, weight * contrast)]
        rows, columns = (side - part + 1 for side, part in zip(padded.shape, lungs.shape, strict=True))
        mean, mean_square, product = (
            fft.irfft2(spectrum, size)[:rows, :columns]
            for spectrum in (once * spectra[0], squared * spectra[0], once * spectra[1])
        )
        energy = float((weight * contrast**2).sum()) * np.maximum(mean_square - mean**2, 1e-4)
        correlation = product / np.sqrt(energy)
        row, column = np.unravel_index(int(correlation.argmax()), correlation.shape)
        opposite = max(opposite, -float(correlation.min()))
        if correlation[row, column] > best:
            best, best_box = float(correlation[row, column]), box + np.array([row - margin, column - margin, 0, 0])
    return best, best_box, opposite


def _weights(lungs: Mask, around: Mask) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights with which lungs and surroundings count the same, and the pattern with mean 0 under them."""
    weight = lungs / (2.0 * lungs.sum()) + around / (2.0 * around.sum())
    contrast = around.astype(np.float64) - lungs
    return weight, contrast - float((weight * contrast).sum())


def _lung_match(ranks: Grid, box: Box, points: Points, edge: int) -> float:
    """Correlation of one dark lung with its surroundings."""
    lung = _outline(ranks.shape, box, points)
    around = ndimage.binary_dilation(lung, iterations=edge) & ~lung
    if lung.sum() < 20 or not around.any():
        return -1.0
    weight, contrast = _weights(lung, around)
    variance = float((weight * (ranks - float((weight * ranks).sum())) ** 2).sum())
    return float((weight * contrast * ranks).sum() / np.sqrt((weight * contrast**2).sum() * max(variance, 1e-4)))


def _fit(ranks: Grid, start: Box, points: Points) -> Box:
    """Move and stretch one lung's box by hill climbing, within bounds, as long as it matches better."""
    smooth = ndimage.gaussian_filter(ranks, 0.8)
    edge = max(2, round(0.05 * start[3]))
    best, best_match = start, _lung_match(smooth, start, points, edge)
    nearest, furthest = np.array([[-0.15, -0.12, -0.2, -0.15], [0.15, 0.12, 0.3, 0.2]]) * start[[2, 3, 2, 3]]
    for step in (2.0, -2.0, 1.0, -1.0) * 6:
        for move in MOVES:
            box = best + step * move
            is_near = bool(np.all((box - start >= nearest) & (box - start <= furthest)))
            if is_near and (match := _lung_match(smooth, box, points, edge)) > best_match + 1e-4:
                best, best_match = box, match
    return best


def _gate_lungs(ranks: Grid, boxes: Sequence[Box]) -> None:
    """Refuse lungs that are cut by the edge, match badly, or have nothing brighter below them."""
    smooth = ndimage.gaussian_filter(ranks, 1.0)
    is_whole, below = True, []
    for box, points in zip(boxes, OUTLINES, strict=True):
        lung = _outline(ranks.shape, box, points)
        top, left, height, width = (float(part) for part in box)
        is_whole &= min(top, left, ranks.shape[0] - 4 - top - height, ranks.shape[1] - left - width) >= -2
        is_whole &= _lung_match(smooth, box, points, max(2, round(0.05 * width))) >= LEAST_LUNG_MATCH
        core = ndimage.binary_erosion(lung, iterations=max(1, round(0.03 * width)))
        under = _lowered(lung, 0.25 * height) & ~ndimage.binary_dilation(lung)
        under[: max(0, round(top + 0.9 * height))] = False
        is_seen = under.sum() > 5 and core.any()
        below.append(float(smooth[under].mean() - np.median(smooth[core])) if is_seen else -1.0)
    if not is_whole or float(np.mean(below)) < LEAST_BELOW:
        raise NotEvaluableError("two whole lungs were not found", key="lungs_not_found")


def _lung_masks(ranks: Grid, boxes: Sequence[Box], scale: float) -> tuple[Mask, Mask]:
    """Grow the fitted outlines to the dark lung around them and close them over opacities."""
    outlines = [_outline(ranks.shape, box, points, scale) for box, points in zip(boxes, OUTLINES, strict=True)]
    width = scale * float(boxes[1][1] + boxes[1][3] - boxes[0][1])
    masks: list[Mask] = []
    for box, lung, other in zip(boxes, outlines, outlines[::-1], strict=True):
        zone, core = _grown(lung, 0.05 * width) & ~other, _grown(lung, -0.03 * width)
        level = 0.5 * float(np.median(ranks[core]) + np.percentile(ranks[zone & ~lung], 70))
        mask = core | (zone & (ranks < level))
        # Opacities at the base stop the fit too early: go on downwards to what is as bright as the abdomen.
        height = float(box[2]) * scale
        further = np.logical_or.reduce([_lowered(lung, 0.03 * step * height) for step in range(1, 8)]) & ~zone & ~other
        abdomen = _lowered(lung, 0.35 * height) & ~further & ~zone
        if abdomen.sum() > 50:
            mask |= further & (ranks < float(np.median(ranks[abdomen])) - 0.15)
            zone = zone | further
        labels, _ = ndimage.label(_grown(_grown(mask, -0.02 * width), 0.02 * width))
        mask = np.isin(labels, np.setdiff1d(labels[core], [0]))
        margin = round(0.06 * width)
        closed = _grown(_grown(np.pad(mask, margin), margin), -margin)[margin:-margin, margin:-margin]
        masks.append(ndimage.binary_fill_holes(closed) & zone)
    return masks[0], masks[1]


def _grown(mask: Mask, distance: float) -> Mask:
    """A mask with its edge moved outwards (inwards below 0) by a distance in pixels."""
    outwards = ndimage.distance_transform_edt(~mask) <= distance
    return np.asarray(outwards if distance > 0 else ndimage.distance_transform_edt(mask) > -distance, dtype=np.bool_)


def _lowered(mask: Mask, rows: float) -> Mask:
    return np.asarray(ndimage.shift(mask, (round(rows), 0), order=0), dtype=np.bool_)


def _score_map(work: Grid, inside: Mask, width: float) -> tuple[Grid, npt.NDArray[np.intp]]:
    """How round, bright and isolated the picture is at every place, and at which of `DIAMETERS` most.

    The picture is first freed of its slow changes and put into units of the lungs' own spread. The
    response at one size is the geometric mean of the scale-normalised Laplacian of Gaussian and the
    contrast to the third brightest of eight places around; times a factor that takes ridges (ribs,
    vessels, edges) out, by the ratio of the two curvatures.
    """
    flat = work - ndimage.gaussian_filter(work, 0.12 * width, truncate=3.0)
    spread = 1.4826 * float(np.median(np.abs(flat[inside] - np.median(flat[inside]))))  # MAD as standard deviation
    flat = np.clip(flat / max(spread, 1e-6), -4.0, 4.0).astype(np.float32)
    best, index = np.zeros_like(flat), np.zeros(flat.shape, dtype=np.intp)
    for number, diameter in enumerate(DIAMETERS * width):
        share_inside = ndimage.gaussian_filter(inside.astype(np.float32), 0.35 * diameter, truncate=3.0)
        response = _response(flat, diameter) * np.clip((share_inside - 0.5) / 0.2, 0.0, 1.0) * inside
        index[response > best] = number
        best = np.maximum(best, response)
    return best, index


def _response(flat: Grid, diameter: float) -> Grid:
    """The response at one size; large sizes are computed on a coarser grid."""
    sigma = diameter / 2.0 / np.sqrt(2.0)  # the scale at which a disc answers most (Lindeberg 1998)
    step = max(1, int(sigma / 2.5))
    smooth = ndimage.gaussian_filter(flat, 0.5 * step if step > 1 else 0.0)
    grid = ndimage.zoom(smooth, 1.0 / step, order=1, grid_mode=True, mode="nearest")
    s, radius = sigma / step, diameter / 2.0 / step
    yy, xx, xy = (s * s * ndimage.gaussian_filter(grid, s, order=order) for order in ((2, 0), (0, 2), (1, 1)))
    spread = np.sqrt((yy - xx) ** 2 + 4.0 * xy**2)
    steep, shallow = (yy + xx - spread) / 2.0, (yy + xx + spread) / 2.0  # curvatures, negative on a bright spot
    roundness = np.where(shallow < 0.0, shallow / np.minimum(steep, -1e-9), 0.0)
    blurred = ndimage.gaussian_filter(grid, 0.35 * radius)
    offsets = [1.5 * radius * np.array([np.sin(angle), np.cos(angle)]) for angle in DIRECTIONS]
    around = np.stack([ndimage.shift(blurred, offset, order=1, mode="nearest") for offset in offsets])
    contrast = ndimage.gaussian_filter(grid, 0.4 * radius) - np.sort(around, axis=0)[-1 - MAY_BE_BRIGHT]
    response = np.sqrt(np.maximum(-yy - xx, 0.0) * np.maximum(contrast, 0.0))
    return _resized(response * np.clip((roundness - 0.2) / 0.4, 0.0, 1.0), flat.shape)


def _spots(response: Grid, index: npt.NDArray[np.intp], width: float) -> list[Spot]:
    """Peaks above the threshold, best first; a peak within a better one is the same opacity."""
    peaks = (response == ndimage.maximum_filter(response, size=5)) & (response >= THRESHOLD * FULL_SCORE)
    rows, columns = np.nonzero(peaks)
    spots: list[Spot] = []
    for best in np.argsort(-response[rows, columns], kind="stable"):
        row, column = int(rows[best]), int(columns[best])
        new = Spot(float(response[row, column]), row, column, float(DIAMETERS[index[row, column]] * width))
        distances = [np.hypot(spot.row - row, spot.column - column) / (spot.diameter + new.diameter) for spot in spots]
        if min(distances, default=1.0) > 0.4:
            spots.append(new)
    return spots[:MOST_CANDIDATES]


def _box(spot: Spot, scale: npt.NDArray[np.float64], image: Image) -> Region:
    """A box a little larger than the opacity, so that its edge stays visible."""
    center, half = np.array([spot.row + 0.5, spot.column + 0.5]), 0.6 * BALL * spot.diameter  # SCOORD: centres at half
    top, left = (float(value) for value in np.maximum((center - half) * scale, 0.0))
    bottom, right = (float(value) for value in np.minimum((center + half) * scale, image.array.shape))
    return Region(image.sop_instance_uid, ((left, top), (right, top), (right, bottom), (left, bottom)))


handler = Handler(
    name="chest_xray",
    version="1.0.0",
    manufacturer="Wetread",
    basis=Basis.RULE_BASED,
    template="chest_xray",
    terms=Terms(modalities=("CR", "DX")),
    analyse=analyse,
    parameters=(("threshold", f"{THRESHOLD:.2f} of the detector score"), ("most candidates", str(MOST_CANDIDATES))),
    not_looked_at=tuple(NOT_LOOKED_AT.split()),
    time_limit_s=60.0,
)
