"""One case, one kind of finding: what the application said beside what is true."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from node.domain.findings import Analysis, Finding, Status
from node.errors import EvaluationError
from node.evaluate.cases import Case, scanner_of
from node.evaluate.geometry import Plane, PlaneKey, extent_of, is_hit, overlap, planes_of, truth_on
from node.evaluate.labels import Label, Lesion
from node.evaluate.masks import lesions_of, on_grid, read_mask
from node.evaluate.overlap import compare_masks
from node.evaluate.records import CaseResult, Concordance, Deviation, Mark, Outcome, Overlap
from node.evaluate.running import Answer

__all__ = ["case_score", "labelled_lesions", "score_case"]

UID_LIKE = re.compile(r"\b\d+(?:\.\d+){3,}\b")
OUTCOMES = {
    Status.FINDINGS: Outcome.READ,
    Status.NO_FINDINGS: Outcome.READ,
    Status.NOT_EVALUABLE: Outcome.NOT_EVALUABLE,
    Status.FAILED: Outcome.FAILED,
}


def score_case(case: Case, label: Label, answer: Answer) -> CaseResult:
    """Compare an answer with the label of its study.

    Raises
    ------
    EvaluationError
        If a labelled box or mask does not fit the images of the study.
    """
    analysis, planes = answer.analysis, planes_of(case.study)
    lesions = labelled_lesions(label, planes)
    outcome = OUTCOMES[analysis.status] if analysis else Outcome.FAILED if answer.is_taken else Outcome.NOT_TAKEN
    if analysis is None or outcome is not Outcome.READ:
        reason = (analysis.reason_key or analysis.reason) if analysis else answer.failure
        return CaseResult(
            number=case.number,
            patient=case.patient,
            scanner=scanner_of(case.study),
            outcome=outcome,
            is_positive=label.is_positive,
            lesions=len(lesions),
            reason=UID_LIKE.sub("(UID)", reason),
            seconds=answer.seconds,
        )
    findings = [one for one in analysis.findings if one.is_abnormal and label.kind in ("", one.kind)]
    best = max(findings, key=_score, default=None)
    return CaseResult(
        number=case.number,
        patient=case.patient,
        scanner=scanner_of(case.study),
        outcome=outcome,
        is_positive=label.is_positive,
        is_called=bool(findings),
        score=case_score(analysis, findings),
        tier=best.certainty.tier.value if best and best.certainty else "",
        probability=best.certainty.probability if best and best.certainty else None,
        lesions=len(lesions),
        marks=tuple(_mark(finding, lesions, planes) for finding in findings if finding.regions),
        overlaps=tuple(_overlaps(label, analysis, planes)),
        deviations=tuple(_deviations(label, analysis)),
        concordances=tuple(_concordances(analysis, lesions, planes)),
        seconds=answer.seconds,
        has_places=any(finding.regions for finding in findings),
    )


def labelled_lesions(label: Label, planes: Mapping[PlaneKey, Plane]) -> tuple[Lesion, ...]:
    """Every labelled lesion: the boxes, and the connected parts of masks that are for no segment."""
    parts = [part for mask in label.masks if not mask.segment for part in lesions_of(read_mask(mask, planes))]
    return (*label.lesions, *parts)


def case_score(analysis: Analysis, findings: Sequence[Finding]) -> float | None:
    """The greatest score of a case; of one without findings that of its heat maps, on the same scale; None without."""
    if findings:
        return max(_score(finding) for finding in findings)
    if analysis.findings:
        return None  # of another kind: their heat maps say nothing about this one
    return max((heat_map.score for heat_map in analysis.heat_maps), default=None)


def _score(finding: Finding) -> float:
    if finding.score is not None:
        return finding.score
    return finding.certainty.probability if finding.certainty else 1.0


def _mark(finding: Finding, lesions: Sequence[Lesion], planes: Mapping[PlaneKey, Plane]) -> Mark:
    extent = extent_of(finding, planes)
    hits = tuple(number for number, lesion in enumerate(lesions) if is_hit(extent, lesion, planes))
    ious = tuple(overlap(extent, lesion, planes) for lesion in lesions)
    if finding.certainty is None:
        return Mark(_score(finding), hits, ious)
    return Mark(_score(finding), hits, ious, finding.certainty.tier.value, finding.certainty.probability)


def _overlaps(label: Label, analysis: Analysis, planes: Mapping[PlaneKey, Plane]) -> list[Overlap]:
    """Each reference mask of a segment; where the application drew none, an empty one is compared."""
    found = []
    for mask in label.masks:
        if not mask.segment:
            continue
        reference = read_mask(mask, planes)
        own = [one for one in analysis.segmentations if one.kind == mask.segment]
        if own:
            united = np.logical_or.reduce([one.mask for one in own])
            found.append(compare_masks(mask.segment, united, on_grid(reference, own[0]), own[0].affine))
        elif reference.affine is not None:
            empty = np.zeros_like(reference.mask)
            found.append(compare_masks(mask.segment, empty, reference.mask, reference.affine))
        else:
            raise EvaluationError("a mask file does not say where it lies in the patient")
    return found


def _deviations(label: Label, analysis: Analysis) -> list[Deviation]:
    found = []
    for true in label.values:
        measured = [
            item
            for finding in analysis.findings
            for item in finding.measurements
            if item.quantity == true.quantity and label.kind in ("", finding.kind)
        ]
        if measured and measured[0].unit != true.unit:
            raise EvaluationError(
                f"{true.quantity} is labelled in {true.unit}, the application measures in {measured[0].unit}"
            )
        if measured:
            found.append(Deviation(true.quantity, true.unit, measured[0].value, true.value))
    return found


def _concordances(analysis: Analysis, lesions: Sequence[Lesion], planes: Mapping[PlaneKey, Plane]) -> list[Concordance]:
    """Heat maps on images that show a labelled lesion; one without any heat points nowhere."""
    found = []
    for heat_map in analysis.heat_maps:
        truth = truth_on((heat_map.sop_instance_uid, heat_map.frame_number), lesions, planes)
        if not truth.any():
            continue
        total = float(heat_map.heat.sum(dtype=np.float64))
        peak = np.unravel_index(int(np.argmax(heat_map.heat)), heat_map.heat.shape)
        inside = float(heat_map.heat[truth].sum(dtype=np.float64)) / total if total > 0 else 0.0
        found.append(Concordance(bool(truth[peak]) and total > 0, inside, float(truth.mean())))
    return found
