"""From the results of cases to figures with intervals: what is counted, over what, and in what unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from node.evaluate.interval import Resampling, interval_of
from node.evaluate.records import CaseResult, Estimate, Mark, Outcome
from node.evaluate.statistic import (
    AveragePrecision,
    Froc,
    Numbers,
    Ratio,
    Roc,
    Spread,
    Statistic,
    WeightedMedian,
    summed,
)

__all__ = ["ALL_CASES", "Figure", "claims", "estimates", "figures", "patient_places"]

FROC_AT = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # Niemeijer et al., IEEE TMI 2011;30:215
IOUS = (0.1, 0.3, 0.5)
AGREEMENT = 1.96  # Bland and Altman, Lancet 1986;327:307
ALL_CASES = ("sensitivity_all", "specificity_all", "lesion_sensitivity_all", "evaluable")
"""Figures over every case with images, read or not."""
PERCENT = "%"
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A figure before it has a value: what it is called, of what, in what unit, counted on how many of what."""

    metric: str
    statistic: Statistic
    n: int
    of: str = ""
    unit: str = "1"
    unit_of_n: str = "cases"


def figures(results: Sequence[CaseResult]) -> list[Figure]:
    """Every figure that these cases and labels can give; cases without images are for the counts only."""
    cases = [result for result in results if result.outcome is not Outcome.MISSING]
    return [*_answers(cases), *_places(cases), *_masks(cases), *_numbers(cases), *_heat(cases)]


def estimates(results: Sequence[CaseResult], resampling: Resampling) -> list[Estimate]:
    """Every figure with its value and its interval."""
    cases = [result for result in results if result.outcome is not Outcome.MISSING]
    if not cases:
        return []
    patients = patient_places(cases)
    resamples = resampling.weights(patients)
    ones = np.ones(len(cases))
    found = []
    for figure in figures(cases):
        value = figure.statistic(ones)
        interval, bootstrap, method = interval_of(figure.statistic, patients, resamples)
        low, high = interval or (None, None)
        is_known = bool(np.isfinite(value))
        found.append(
            Estimate(
                metric=figure.metric,
                value=value if is_known else None,
                low=low if is_known else None,
                high=high if is_known else None,
                n=figure.n,
                patients=int(patients.max()) + 1,
                unit=figure.unit,
                of=figure.of,
                method=method if is_known and interval else "",
                unit_of_n=figure.unit_of_n,
                bootstrap=bootstrap if is_known else None,
            )
        )
    return found


def patient_places(cases: Sequence[CaseResult]) -> npt.NDArray[np.intp]:
    """The place of each case's patient among the patients of these cases, from 0."""
    return np.unique([case.patient for case in cases], return_inverse=True)[1].astype(np.intp)


def _counted(cases: Sequence[CaseResult], of: Callable[[CaseResult], float]) -> Numbers:
    return np.array([float(of(case)) for case in cases])


def _answers(cases: Sequence[CaseResult]) -> list[Figure]:
    """Whole cases: found or not. The figures ending in ``_all`` count a case that was not read as a wrong answer.

    Schuetz et al., BMJ 2012;345:e6717 (intention to diagnose).
    """
    read = _counted(cases, lambda case: case.is_read)
    found = [Figure("evaluable", Ratio(read, np.ones(len(cases))), len(cases))]
    positive = _counted(cases, lambda case: case.is_positive is True)
    negative = _counted(cases, lambda case: case.is_positive is False)
    called = _counted(cases, lambda case: case.is_called and case.is_read)
    silent = read - called
    pairs: list[tuple[str, Numbers, Numbers]] = [
        ("sensitivity", called * positive, read * positive),
        ("specificity", silent * negative, read * negative),
        ("sensitivity_all", called * positive, positive),
        ("specificity_all", silent * negative, negative),
        ("ppv", called * positive, called * (positive + negative)),
        ("npv", silent * negative, silent * (positive + negative)),
    ]
    found += [Figure(name, Ratio(above, below), int(below.sum())) for name, above, below in pairs if below.any()]
    return [*found, *_area(cases, read * positive > 0, read * negative > 0)]


def _area(cases: Sequence[CaseResult], is_positive: Flags, is_negative: Flags) -> list[Figure]:
    """A case without any score ranks below all others: the application found nothing to score."""
    given = [case.score for case in cases if case.score is not None]
    if not given or not is_positive.any() or not is_negative.any():
        return []
    scores = _counted(cases, lambda case: min(given) - 1.0 if case.score is None else case.score)
    return [Figure("auc", Roc(scores, is_positive, is_negative), int((is_positive | is_negative).sum()))]


def _places(cases: Sequence[CaseResult]) -> list[Figure]:
    """Lesions and marks; nothing where no lesion has a place, or the application gives no place to anything."""
    read = [case for case in cases if case.is_read and case.is_positive is not None]
    if not any(case.lesions for case in read) or not any(case.has_places for case in read):
        return []
    kept = {id(case) for case in read}
    is_counted = _counted(cases, lambda case: id(case) in kept)
    lesions = _counted(cases, lambda case: case.lesions) * is_counted
    every = _counted(cases, lambda case: case.lesions)
    ranked = [
        (place, mark, *claim)
        for place, case in enumerate(cases)
        if id(case) in kept
        for mark, claim in zip(case.marks, claims(case.marks, lambda mark: mark.hits), strict=True)
    ]
    scores = np.array([mark.score for _, mark, _, _ in ranked])
    is_true = np.array([float(is_new) for _, _, is_new, _ in ranked])
    is_false = np.array([float(is_off) for _, _, _, is_off in ranked])
    where = np.array([place for place, _, _, _ in ranked], np.intp)
    hits, wrong = (summed(where, flags, len(cases)) for flags in (is_true, is_false))
    count = int(lesions.sum())
    found = [
        Figure("lesion_sensitivity", Ratio(hits, lesions), count, unit_of_n="lesions"),
        Figure("lesion_sensitivity_all", Ratio(hits, every), int(every.sum()), unit_of_n="lesions"),
        Figure("false_marks_per_case", Ratio(wrong, is_counted, is_proportion=False), len(read)),
    ]
    if ranked:
        shares = [*((f"{rate:g}", (rate,)) for rate in (0.5, 1.0, 2.0, 4.0)), ("1/8-8", FROC_AT)]
        for name, at in shares:
            froc = Froc(scores, is_true, is_false, where, lesions, is_counted, at)
            found.append(Figure("froc", froc, count, of=name, unit_of_n="lesions"))
        for iou in IOUS:
            claimed = [claims(cases[place].marks, partial(_by_overlap, least=iou)) for place in np.unique(where)]
            own = np.array([float(is_new) for one in claimed for is_new, _ in one])
            found.append(
                Figure(
                    "ap", AveragePrecision(scores, own, where, lesions), count, of=f"IoU {iou:g}", unit_of_n="lesions"
                )
            )
    return found


def claims(marks: Sequence[Mark], lesions_of: Callable[[Mark], Sequence[int]]) -> list[tuple[bool, bool]]:
    """For each mark, best first: whether it is the first on a lesion, and whether it is on none."""
    taken: set[int] = set()
    said = [(False, False)] * len(marks)
    for place in sorted(range(len(marks)), key=lambda place: -marks[place].score):
        on = lesions_of(marks[place])
        free = [lesion for lesion in on if lesion not in taken]
        taken.update(free[:1])
        said[place] = bool(free), not on
    return said


def _by_overlap(mark: Mark, *, least: float) -> list[int]:
    order = sorted(range(len(mark.ious)), key=lambda lesion: -mark.ious[lesion])
    return [lesion for lesion in order if mark.ious[lesion] >= least]


def _masks(cases: Sequence[CaseResult]) -> list[Figure]:
    found = []
    for segment in sorted({item.segment for case in cases for item in case.overlaps}):
        rows = [next((item for item in case.overlaps if item.segment == segment), None) for case in cases]
        dices = np.array([np.nan if row is None or row.dice is None else row.dice for row in rows])
        distances = np.array([np.nan if row is None or row.hd95_mm is None else row.hd95_mm for row in rows])
        has = np.isfinite(dices)
        mean = Ratio(np.where(has, dices, 0.0), has.astype(np.float64), is_proportion=False)
        found += [
            Figure("dice_mean", mean, int(has.sum()), segment),
            Figure("dice_median", WeightedMedian(dices), int(has.sum()), segment),
            Figure("hd95_median", WeightedMedian(distances), int(np.isfinite(distances).sum()), segment, "mm"),
        ]
        volumes = [None if row is None else (row.measured_ml, row.reference_ml) for row in rows]
        found += _agreement(f"{segment} (volume)", "ml", volumes)
    return found


def _numbers(cases: Sequence[CaseResult]) -> list[Figure]:
    found = []
    for quantity, unit in sorted({(item.quantity, item.unit) for case in cases for item in case.deviations}):
        rows = [next((item for item in case.deviations if item.quantity == quantity), None) for case in cases]
        found += _agreement(quantity, unit, [None if row is None else (row.measured, row.reference) for row in rows])
    return found


def _agreement(of: str, unit: str, pairs: Sequence[tuple[float, float] | None]) -> list[Figure]:
    """Measured less true: its mean, its limits of agreement, and its size in percent of the true value."""
    differences = np.array([np.nan if pair is None else pair[0] - pair[1] for pair in pairs])
    shares = np.array([100.0 * abs(pair[0] - pair[1]) / pair[1] if pair and pair[1] else np.nan for pair in pairs])
    has, n = np.isfinite(differences).astype(np.float64), int(np.isfinite(differences).sum())
    mean = Ratio(np.nan_to_num(differences), has, is_proportion=False)
    found = [
        Figure("bias", mean, n, of, unit),
        Figure("limit_low", Spread(differences, -AGREEMENT), n, of, unit),
        Figure("limit_high", Spread(differences, AGREEMENT), n, of, unit),
    ]
    if np.isfinite(shares).any():
        found.append(Figure("error_median", WeightedMedian(shares), int(np.isfinite(shares).sum()), of, PERCENT))
    return found


def _heat(cases: Sequence[CaseResult]) -> list[Figure]:
    maps = _counted(cases, lambda case: len(case.concordances))
    if not maps.any():
        return []
    n = int(maps.sum())
    peaks = _counted(cases, lambda case: sum(item.is_peak_inside for item in case.concordances))
    found = [Figure("pointing", Ratio(peaks, maps), n, unit_of_n="heat_maps")]
    for name in ("energy_inside", "area_inside"):
        sums = np.array([sum(float(getattr(item, name)) for item in case.concordances) for case in cases])
        found.append(Figure(name, Ratio(sums, maps, is_proportion=False), n, unit_of_n="heat_maps"))
    return found
