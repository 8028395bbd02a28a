"""Round opacity candidates on a frontal chest radiograph: a learned outline of the lungs, published rules inside it.

What it does, in order: find the two lungs with the network `lung_fields`; refuse the picture unless both are
there, whole, upright and dark; find bright round spots in them at several sizes; give the best eight as
candidates. It gives a detector score, never a probability: nothing was learned about opacities.
What it is not: marks on a hilum, a vessel seen end-on or crossing ribs are usual. Opacities under about 4 % of
the width of the lungs (10 mm in an adult), behind the heart or against the chest wall are not found.
Without the network there is no reading: another way to the lungs would be another algorithm under the same name.

Lindeberg, Int J Comput Vis 1998;30:79 (scale-normalised Laplacian).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
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
    Study,
    Terms,
    find_lung_fields,
    frontal_chest_sides,
    read_image,
)

Grid = npt.NDArray[np.float32]

SMALLEST_PX = 256
WORK_PX = 512  # longer side of the grid on which opacities are sought

AROUND_PERCENTILE = 70.0  # of the grey levels around the lungs: chest wall, mediastinum and abdomen
CLOSED = 0.06  # of the width of the lungs: opacities of twice this size stay in

# Candidates: set on RG1 of pydicom-data (eight marks, five clearly on opacities) and normal films (1 mark each).
DIAMETERS = np.geomspace(0.039, 0.146, 8)  # of the width of both lungs: about 11 to 42 mm in an adult
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
    model = models["lung_fields"]
    refusal = NotEvaluableError("there is no image", key="not_chest_xray")
    findings: list[Finding] = []
    heat_maps: list[HeatMap] = []
    for series in study.series:
        for index, instance in enumerate(series.instances):
            try:
                sides = frontal_chest_sides(
                    series
                )  # by the header of the first Instance: what follows may be another view
                found, heat_map = _mark(read_image(instance), model, ("", "") if index else sides, len(findings))
            except NotEvaluableError as refused:
                refusal = refused
            else:
                findings += found
                heat_maps.append(heat_map)
    if not heat_maps:
        raise refusal
    return Reading(tuple(heat.sop_instance_uid for heat in heat_maps), tuple(findings), tuple(heat_maps))


def _mark(image: Image, model: Model, sides: tuple[str, str], marked: int) -> tuple[list[Finding], HeatMap]:
    """Findings and heat map of one film; numbers go on after those already given."""
    if min(image.array.shape) < SMALLEST_PX:
        raise NotEvaluableError("the image is too small", key="too_small")
    work = _shrunk(image.array, WORK_PX)
    lungs = find_lung_fields(work, model.run)
    width = float(lungs.width_px)
    response, index = _score_map(work, _searched(work, lungs.both, width), width)
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
            laterality=sides[0] if lungs.at_left[spot.row, spot.column] else sides[1],
            score=min(spot.response / FULL_SCORE, 1.0),
        )
        findings.append(finding)
        regions.append((region, str(number)))
    heat = np.clip(_resized(response, image.array.shape) / FULL_SCORE, 0.0, 1.0)
    uid, best, shown = image.sop_instance_uid, min(float(response.max()) / FULL_SCORE, 1.0), tuple(regions)
    return findings, HeatMap(
        uid, heat, image.display, "detector score", best, THRESHOLD, shown, spacing_mm=image.spacing_mm
    )


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


def _searched(work: Grid, lungs: Mask, width: float) -> Mask:
    """The dark part of the lungs, closed over opacities: without the heart and what lies below a dome.

    The outline goes on behind the heart; round things there are heart, vessels and bowel far more often than lung.
    """
    smooth = ndimage.gaussian_filter(work, 2.0)
    around = _grown(lungs, 0.06 * width) & ~lungs
    level = 0.5 * float(np.median(smooth[lungs]) + np.percentile(smooth[around], AROUND_PERCENTILE))
    dark = _grown(_grown(lungs & (smooth < level), -0.02 * width), 0.02 * width)
    margin = round(CLOSED * width)
    closed = _grown(_grown(np.pad(dark, margin), margin), -margin)[margin:-margin, margin:-margin]
    return np.asarray(ndimage.binary_fill_holes(closed & lungs), dtype=np.bool_)


def _grown(mask: Mask, distance: float) -> Mask:
    """A mask with its edge moved outwards (inwards below 0) by a distance in pixels."""
    outwards = ndimage.distance_transform_edt(~mask) <= distance
    return np.asarray(outwards if distance > 0 else ndimage.distance_transform_edt(mask) > -distance, dtype=np.bool_)


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
    version="2.0.0",
    manufacturer="Wetread",
    basis=Basis.RULES_IN_LEARNED_REGION,
    template="chest_xray",
    terms=Terms(modalities=("CR", "DX")),
    models=("lung_fields",),
    analyse=analyse,
    parameters=(
        ("lungs", "outlined by a learned network"),
        ("opacities", "found by rules, not learned"),
        ("threshold", f"{THRESHOLD:.2f} of the detector score"),
        ("most candidates", str(MOST_CANDIDATES)),
    ),
    not_looked_at=tuple(NOT_LOOKED_AT.split()),
    time_limit_s=60.0,
)
