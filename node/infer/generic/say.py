"""What all three kinds of application say alike: a Finding with its score, and a heat map on the stored image."""

from collections.abc import Sequence

import numpy as np

from node.domain.certainty import certainty_of
from node.domain.findings import Certainty, Finding, HeatMap, Measurement, Region
from node.domain.models import ModelCard
from node.domain.volume import Heat
from node.infer.generic.pictures import Picture

__all__ = ["finding_of", "heat_map_of", "reported"]


def reported(card: ModelCard) -> list[int]:
    """Indices of the labels that are reported at all."""
    return [index for index, label in enumerate(card.labels) if label not in card.ignored_labels]


def finding_of(
    card: ModelCard,
    label: str,
    number: int,
    score: float,
    *,
    measurements: Sequence[Measurement] = (),
    regions: Sequence[Region] = (),
) -> Finding:
    """Say one thing found; a probability only if the card has a calibration."""
    certainty: Certainty | None = None
    if card.calibration is not None:
        certainty = certainty_of(min(max(score, 0.0), 1.0), card.calibration)
    return Finding(
        finding_id=f"{label.replace('_', '-')}-{number}",
        kind=label,
        measurements=tuple(measurements),
        regions=tuple(regions),
        is_abnormal=label not in card.anatomy_labels,
        score=float(score),
        certainty=certainty,
    )


def heat_map_of(
    card: ModelCard,
    picture: Picture,
    index: int,
    heat: Heat,
    *,
    basis: str,
    score: float,
    regions: Sequence[tuple[Region, str]] = (),
) -> HeatMap:
    """Draw a heat on slice `index` of a picture."""
    spacing = picture.spacing_mm
    return HeatMap(
        sop_instance_uid=picture.sop_instance_uids[index],
        heat=np.clip(heat, 0.0, 1.0).astype(np.float32),
        background=picture.background(index),
        basis=basis,
        score=float(score),
        threshold=card.threshold,
        regions=tuple(regions),
        slice_label=picture.label(index),
        spacing_mm=None if spacing is None else spacing[1:],
        frame_number=picture.frame_numbers[index],
    )
