"""What a site's own multi-label network sees on a frontal chest radiograph, with the place it looked at for each label.

For networks of the torchxrayvision kind (DenseNet-121, 224 x 224 pixels, up to 18 labels); the weights are the site's:
``models/chest_multilabel/`` with the file, its SHA-256 and the labels in the order of its output. What it does: refuse
what is no upright frontal chest film with two whole lungs; cut the film to a square, as those networks were
trained; run it; state every label at or above the card's threshold with its score.
A score is no probability, and 0.5 need not be even odds: a certainty is given only where the card holds a calibration.
The heat map says where the network looked, not where a disease ends: no outline is drawn from it.

Cohen et al., MIDL 2022 (torchxrayvision); Selvaraju et al., ICCV 2017 (Grad-CAM).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from skimage.transform import resize

from node.api import (
    Basis,
    Finding,
    Handler,
    HeatMap,
    Image,
    Model,
    ModelOutputError,
    NotEvaluableError,
    Reading,
    Study,
    Terms,
    certainty_of,
    find_lung_fields,
    frontal_chest_sides,
    read_image,
)

Grid = npt.NDArray[np.float32]

NETWORK, LUNGS = "chest_multilabel", "lung_fields"
SMALLEST_PX = 256
RANGE = 1024.0  # torchxrayvision: black is -1024, white is 1024
MOST_HEAT_MAPS = 5
LARGEST_LOGIT = 30.0  # beyond it float32 has no more digits


def analyse(study: Study, models: Mapping[str, Model]) -> Reading:
    """State what the network sees on every frontal film of the Study; refuse it if there is none."""
    refusal = NotEvaluableError("there is no image", key="not_chest_xray")
    findings: list[Finding] = []
    heat_maps: list[HeatMap] = []
    uids: list[str] = []
    for series in study.series:
        for instance in series.instances:
            try:
                frontal_chest_sides(series)
                image = read_image(instance)
                found, maps = _read(image, models, film=len(uids) + 1)
            except NotEvaluableError as refused:
                refusal = refused
            else:
                uids.append(image.sop_instance_uid)
                findings += found
                heat_maps += maps
    if not uids:
        raise refusal
    return Reading(tuple(uids), tuple(findings), tuple(heat_maps))


def _read(image: Image, models: Mapping[str, Model], *, film: int) -> tuple[list[Finding], list[HeatMap]]:
    """Findings, best first, and where the network looked for them; for the best label if none is stated."""
    if min(image.array.shape) < SMALLEST_PX:
        raise NotEvaluableError("the image is too small", key="too_small")
    find_lung_fields(image.array, models[LUNGS].run)
    model = models[NETWORK]
    card = model.card
    square = _square(image.display.shape)
    outputs = model.run_all({card.inputs[0].name: _prepared(image.display[square], card.inputs[0].shape)})
    scores = _scores(model, outputs[card.outputs[0].name])
    ranked = sorted(scores, key=lambda label: -scores[label])
    stated = [label for label in ranked if scores[label] >= card.threshold]
    findings = [
        Finding(
            finding_id=f"{label}-{film}",
            kind=label,
            score=scores[label],
            certainty=certainty_of(scores[label], card.calibration) if card.calibration else None,
        )
        for label in stated
    ]
    heat_maps = []
    for label in (stated or ranked[:1])[:MOST_HEAT_MAPS] if card.heat_map_output else ():
        maps = outputs[card.heat_map_output]
        if maps.ndim != 4 or maps.shape[1] != len(card.labels):
            raise ModelOutputError(f"{card.name}: expected a map for each label, found {list(maps.shape)}")
        heat = np.zeros(image.display.shape, dtype=np.float32)
        heat[square] = _heat(maps[0, card.labels.index(label)], heat[square].shape) * scores[label]
        heat_maps.append(
            HeatMap(
                image.sop_instance_uid, heat, image.display, "Grad-CAM, its peak drawn as the score", scores[label],
                card.threshold, slice_label=label.replace("_", " "), spacing_mm=image.spacing_mm,
            )
        )  # fmt: skip
    return findings, heat_maps


def _square(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The middle of the longer side is taken: torchxrayvision's centre crop, which these networks were trained with."""
    side = min(shape)
    rows, columns = (slice(length // 2 - side // 2, length // 2 - side // 2 + side) for length in shape)
    return rows, columns


def _prepared(display: Grid, shape: tuple[int, ...]) -> Grid:
    """As torchxrayvision gives it to its networks: -1024 to 1024, smoothed before it shrinks."""
    small = resize(display, shape[-2:], order=1, mode="constant", anti_aliasing=True)  # type: ignore[no-untyped-call]
    return np.asarray((2.0 * small - 1.0) * RANGE, dtype=np.float32)[None, None]


def _scores(model: Model, output: Grid) -> dict[str, float]:
    """Score by label; outputs whose label is empty stand for nothing."""
    labels = model.card.labels
    if output.shape != (1, len(labels)):
        raise ModelOutputError(
            f"{model.card.name}: its card names {len(labels)} labels, its output is {list(output.shape)}"
        )
    values = (
        1.0 / (1.0 + np.exp(-np.clip(output[0], -LARGEST_LOGIT, LARGEST_LOGIT)))
        if model.card.activation == "sigmoid"
        else output[0]
    )
    if float(values.min()) < 0.0 or float(values.max()) > 1.0:
        raise ModelOutputError(f'{model.card.name}: a score is not 0 to 1; for logits say activation = "sigmoid"')
    return {label: float(value) for label, value in zip(labels, values, strict=True) if label}


def _heat(cam: Grid, shape: tuple[int, ...]) -> Grid:
    """A class map on the film, its peak 1; what speaks against the label is not drawn."""
    fine = resize(np.maximum(cam, 0.0), shape, order=1, mode="edge", anti_aliasing=False)  # type: ignore[no-untyped-call]
    peak = float(fine.max())
    return np.asarray(np.clip(fine / peak, 0.0, 1.0) if peak > 0.0 else fine, dtype=np.float32)


handler = Handler(
    name="chest_multilabel",
    version="1.0.0",
    manufacturer="Wetread",
    basis=Basis.LEARNED,
    template="chest_multilabel",
    terms=Terms(modalities=("CR", "DX")),
    models=(NETWORK, LUNGS),
    analyse=analyse,
    parameters=(("grid", "224 x 224, black -1024, white 1024"), ("weights", "provided by the site")),
    not_looked_at=("lateral", "abdomen", "devices", "change", "extent"),
    time_limit_s=60.0,
)
