"""Two applications, or two versions of one, on the same cases: differences with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from node.evaluate.figures import ALL_CASES, Figure, figures, patient_places
from node.evaluate.interval import Resampling, paired_delong, percentiles
from node.evaluate.records import CaseResult, Outcome
from node.evaluate.statistic import Roc

__all__ = ["Difference", "compare"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both, and the second less the first with its 95 % interval.

    `p` is of `test`: ``mcnemar`` (exact) for right and wrong calls, ``delong`` for areas; None where there is no test.
    """

    metric: str
    of: str
    unit: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None
    test: str = ""


def compare(first: Sequence[CaseResult], second: Sequence[CaseResult], resampling: Resampling) -> list[Difference]:
    """Compare every figure both can give, over cases that both have read; figures over all cases over all of them."""
    others = {one.number: one for one in second}
    pairs = [(one, others[one.number]) for one in first if one.number in others and one.outcome is not Outcome.MISSING]
    both = [(one, other) for one, other in pairs if one.is_read and other.is_read]
    found = _differences(both, resampling, is_wanted=lambda figure: figure.metric not in ALL_CASES)
    return found + _differences(pairs, resampling, is_wanted=lambda figure: figure.metric in ALL_CASES)


def _differences(
    pairs: Sequence[tuple[CaseResult, CaseResult]], resampling: Resampling, *, is_wanted: Callable[[Figure], bool]
) -> list[Difference]:
    if not pairs:
        return []
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    of_second = {(one.metric, one.of): one for one in figures(sides[1])}
    resamples = resampling.weights(patient_places(sides[0]))
    ones = np.ones(len(pairs))
    found = []
    for one in figures(sides[0]):
        other = of_second.get((one.metric, one.of))
        if other is None or not is_wanted(one):
            continue
        values = one.statistic(ones), other.statistic(ones)
        moved = np.array([other.statistic(weights) - one.statistic(weights) for weights in resamples])
        interval = percentiles(moved)
        if np.isfinite(values).all():
            low, high = interval or (None, None)
            p, test = _tested(one, other, pairs)
            found.append(
                Difference(one.metric, one.of, one.unit, *values, values[1] - values[0], low, high, one.n, p, test)
            )
    return found


def _tested(one: Figure, other: Figure, pairs: Sequence[tuple[CaseResult, CaseResult]]) -> tuple[float | None, str]:
    """The p value, where each patient is one case; tests for several cases of one patient are not made here."""
    patients = [pair[0].patient for pair in pairs]
    if len(set(patients)) != len(patients):
        return None, ""
    if isinstance(one.statistic, Roc) and isinstance(other.statistic, Roc):
        p = paired_delong(one.statistic, other.statistic)[1]
        return (p, "delong") if np.isfinite(p) else (None, "")
    if one.metric not in ("sensitivity", "specificity"):
        return None, ""
    is_positive = one.metric == "sensitivity"
    counted = [pair for pair in pairs if pair[0].is_positive is is_positive]
    only_first = sum(pair[0].is_called is is_positive and pair[1].is_called is not is_positive for pair in counted)
    only_second = sum(pair[1].is_called is is_positive and pair[0].is_called is not is_positive for pair in counted)
    if not only_first + only_second:
        return 1.0, "mcnemar"
    # McNemar, Psychometrika 1947;12:153, exact: of the cases they differ on, each side is as likely.
    return float(stats.binomtest(only_first, only_first + only_second).pvalue), "mcnemar"
