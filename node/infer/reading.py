"""From a handler's Reading to an Analysis: add who made it, and refuse what no report may say.

A handler is the site's code, so nothing it returns is believed: numbers must be finite and have a
unit, outlines must lie on the image they name, and every image must be one of the Study's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from node.api import Handler, Reading
from node.domain.algorithm import Algorithm, Basis
from node.domain.findings import Analysis, Finding, HeatMap, Region, Segmentation, Status
from node.domain.models import ModelCard
from node.domain.study import Study
from node.domain.volume import Heat
from node.errors import HandlerError, StoreError
from node.store.records import Array, from_plain, to_plain

__all__ = ["ImageSize", "analysis_of", "failed_analysis", "not_evaluable_analysis"]

ImageSize = tuple[int, int, int]
"""Rows, Columns and Number of Frames of an image."""
LONGEST_PARAMETER = 64  # PS3.5 6.2, VR LO
LATERALITIES = ("", "R", "L", "B")  # PS3.3 C.7.3.1 Laterality, and B for both as in Image Laterality


def analysis_of(
    reading: object,
    handler: Handler,
    study: Study,
    *,
    cards: Sequence[ModelCard],
    device: str,
    size_of: Callable[[str], ImageSize],
) -> Analysis:
    """Turn what a handler returned into an Analysis.

    It has findings if at least one is abnormal; a plain measurement of normal anatomy is none.

    Parameters
    ----------
    cards
        The models the handler was given, the first of which names the weights.
    size_of
        Tells the size of an image of the Study by its SOP Instance UID.

    Raises
    ------
    HandlerError
        If it is no Reading, or says what cannot be true; the message says where.
    """
    if not isinstance(reading, Reading):
        raise HandlerError(f"handler {handler.name}: expected a Reading, found {type(reading).__name__}")
    analysis = Analysis(
        status=Status.NO_FINDINGS,
        algorithm=_algorithm(handler, cards, device),
        template=handler.template,
        source_uids=reading.source_uids,
        findings=reading.findings,
        heat_maps=reading.heat_maps,
        segmentations=reading.segmentations,
        not_looked_at=handler.not_looked_at,
    )
    try:
        arrays: dict[str, Array] = {}
        analysis = from_plain(Analysis, to_plain(analysis, arrays), arrays)
        _check(analysis, study, size_of)
    except StoreError as error:
        raise HandlerError(f"handler {handler.name}: {error}") from error
    except HandlerError as error:
        raise HandlerError(f"handler {handler.name}: {error}") from error
    has_findings = any(finding.is_abnormal for finding in analysis.findings)
    return replace(analysis, status=Status.FINDINGS if has_findings else Status.NO_FINDINGS)


def not_evaluable_analysis(
    handler: Handler, study: Study, reason: str, *, key: str, cards: Sequence[ModelCard], device: str
) -> Analysis:
    """Say that a gate refused the images, and why."""
    if not reason.strip():
        raise HandlerError(f"handler {handler.name}: not evaluable without a reason")
    algorithm = _algorithm(handler, cards, device)
    return _without_findings(Status.NOT_EVALUABLE, handler, study, reason=reason, key=key, algorithm=algorithm)


def failed_analysis(handler: Handler, study: Study, reason: str) -> Analysis:
    """Say that the last attempt failed, so that a failure is reported like any other outcome.

    `reason` is one plain sentence without patient data, such as the text of an `InferenceError`.
    """
    algorithm = _algorithm(handler, (), "CPU")
    return _without_findings(Status.FAILED, handler, study, reason=reason, key="failed", algorithm=algorithm)


def _without_findings(
    status: Status, handler: Handler, study: Study, *, reason: str, key: str, algorithm: Algorithm
) -> Analysis:
    return Analysis(
        status=status,
        algorithm=algorithm,
        template=handler.template,
        source_uids=tuple(instance.sop_instance_uid for instance in study.instances),
        reason=reason,
        reason_key=key,
        not_looked_at=handler.not_looked_at,
    )


def _algorithm(handler: Handler, cards: Sequence[ModelCard], device: str) -> Algorithm:
    return Algorithm(
        name=handler.name,
        version=handler.version,
        manufacturer=handler.manufacturer,
        basis=handler.basis,
        weights_sha256=cards[0].sha256 if cards else "",
        parameters=(*handler.parameters, *(fact for card in cards for fact in _served(card))),
        device=device,
    )


def _served(card: ModelCard) -> tuple[tuple[str, str], ...]:
    """Which model of which server it was, for a model whose weights no hash stands for."""
    if not card.url:
        return ()
    served = f"{card.served_name or card.name} version {card.served_version}"
    return (
        ("model server", card.url[-LONGEST_PARAMETER:]),
        ("served model", served[:LONGEST_PARAMETER]),
        ("weights", "on the server, not compared with a hash"),
    )


def _check(analysis: Analysis, study: Study, size_of: Callable[[str], ImageSize]) -> None:
    known = {instance.sop_instance_uid for instance in study.instances}
    _expect(bool(analysis.source_uids), "source_uids", "must name the images that were looked at")
    _expect(set(analysis.source_uids) <= known, "source_uids", "must all belong to the Series the handler was given")
    named = set(analysis.source_uids)
    ids = [finding.finding_id for finding in analysis.findings]
    _expect(all(ids) and len(set(ids)) == len(ids), "findings", "must each have a finding_id of its own")
    for finding in analysis.findings:
        _check_finding(finding, f"finding {finding.finding_id}", analysis.algorithm.basis, named, size_of)
    for index, heat_map in enumerate(analysis.heat_maps):
        _check_heat_map(heat_map, f"heat map {index + 1}", named, size_of)
    for index, segmentation in enumerate(analysis.segmentations):
        _check_segmentation(segmentation, f"segmentation {index + 1}", named, ids)


def _check_finding(
    finding: Finding, where: str, basis: Basis, named: set[str], size_of: Callable[[str], ImageSize]
) -> None:
    _expect(bool(finding.kind), where, "must have a kind")
    _expect(finding.laterality in LATERALITIES, where, "laterality must be R, L, B or empty")
    for measurement in finding.measurements:
        what = f"{where}, measurement {measurement.quantity}"
        _expect(bool(measurement.quantity) and bool(measurement.unit), what, "must have a quantity and a UCUM unit")
        _expect(math.isfinite(measurement.value), what, "must be a finite number")
    if finding.score is not None:
        _expect(math.isfinite(finding.score), where, "score must be a finite number")
    if finding.certainty is not None:
        _expect(basis is not Basis.RULE_BASED, where, "a rule-based algorithm must not state a probability")
        _expect(0.0 <= finding.certainty.probability <= 1.0, where, "probability must be 0 to 1")
    for region in finding.regions:
        _check_region(region, where, named, size_of)


def _check_region(region: Region, where: str, named: set[str], size_of: Callable[[str], ImageSize]) -> None:
    _expect(region.sop_instance_uid in named, where, "has a region on an image that is not in source_uids")
    rows, columns, frames = size_of(region.sop_instance_uid)
    _expect(len(region.points) >= 3, where, "has a region of fewer than 3 points")
    is_inside = all(0.0 <= column <= columns and 0.0 <= row <= rows for column, row in region.points)
    _expect(is_inside, where, f"has a region outside its image of {rows} rows and {columns} columns")
    number = region.frame_number
    _expect(number is None or 1 <= number <= frames, where, f"has a region on frame {number}, the image has {frames}")


def _check_heat_map(heat_map: HeatMap, where: str, named: set[str], size_of: Callable[[str], ImageSize]) -> None:
    _expect(heat_map.sop_instance_uid in named, where, "is on an image that is not in source_uids")
    rows, columns, frames = size_of(heat_map.sop_instance_uid)
    number = heat_map.frame_number
    _expect(number is None or 1 <= number <= frames, where, f"is on frame {number}, the image has {frames}")
    for name, array in (("heat", heat_map.heat), ("background", heat_map.background)):
        _check_picture(array, f"{where}, {name}", (rows, columns))
    are_finite = math.isfinite(heat_map.score) and math.isfinite(heat_map.threshold)
    _expect(are_finite, where, "score and threshold must be finite numbers")
    spacing = heat_map.spacing_mm
    _expect(spacing is None or all(0.0 < mm < math.inf for mm in spacing), where, "spacing_mm must be positive or None")
    for region, _label in heat_map.regions:
        _check_region(region, where, named, size_of)


def _check_picture(array: Heat, where: str, shape: tuple[int, int]) -> None:
    _expect(array.dtype == np.float32, where, f"must be float32, found {array.dtype}")
    _expect(array.shape == shape, where, f"must have the source image's shape {shape}, found {array.shape}")
    _expect(bool(np.isfinite(array).all()), where, "must be finite")
    _expect(float(array.min()) >= 0.0 and float(array.max()) <= 1.0, where, "must be 0 to 1")


def _check_segmentation(segmentation: Segmentation, where: str, named: set[str], ids: list[str]) -> None:
    mask, affine = segmentation.mask, segmentation.affine
    _expect(bool(segmentation.kind), where, "must have a kind")
    _expect(
        mask.dtype == np.bool_ and mask.ndim == 3, where, f"mask must be bool[slice, row, column], found {mask.dtype}"
    )
    _expect(len(segmentation.sop_instance_uids) == mask.shape[0], where, "must name one image for each slice")
    _expect(set(segmentation.sop_instance_uids) <= named, where, "is on an image that is not in source_uids")
    frames = segmentation.frame_numbers
    _expect(len(frames) in (0, mask.shape[0]), where, "must name one frame for each slice, or none")
    _expect(affine.shape == (4, 4) and affine.dtype == np.float64, where, "affine must be float64[4, 4]")
    _expect(bool(np.isfinite(affine).all()), where, "affine must be finite")
    _expect(segmentation.finding_id in ("", *ids), where, "belongs to a finding that is not there")


def _expect(is_met: bool, where: str, expectation: str) -> None:  # noqa: FBT001
    if not is_met:
        raise HandlerError(f"{where} {expectation}")
