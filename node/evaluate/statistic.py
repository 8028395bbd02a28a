"""Figures as functions of the weight of each case: one definition for bootstrap, subset and comparison."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "AveragePrecision",
    "Froc",
    "Numbers",
    "Ratio",
    "Roc",
    "Spread",
    "Statistic",
    "WeightedMedian",
    "Weights",
    "summed",
]

Numbers = npt.NDArray[np.float64]
"""``float64[case]`` or ``float64[mark]``."""
Weights = npt.NDArray[np.float64]
"""``float64[case]``: how often each case counts; ones for the data as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """What was counted over what could have been, each ``float64[case]``; a proportion if it cannot exceed 1."""

    numerator: Numbers
    denominator: Numbers
    is_proportion: bool = True

    def __call__(self, weights: Weights) -> float:
        """The figure, where each case counts by its weight; NaN if nothing can be said."""
        below = float(weights @ self.denominator)
        return float(weights @ self.numerator) / below if below > 0 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class WeightedMedian:
    """The median of one value a case; NaN where a case has none."""

    values: Numbers

    def __call__(self, weights: Weights) -> float:
        """The figure, where each case counts by its weight; NaN if nothing can be said."""
        has = np.isfinite(self.values) & (weights > 0)
        if not has.any():
            return float("nan")
        order = np.argsort(self.values[has], kind="stable")
        values, passed = self.values[has][order], np.cumsum(weights[has][order])
        half = passed[-1] / 2.0
        first = int(np.searchsorted(passed, half, side="left"))
        second = int(np.searchsorted(passed, half, side="right"))
        return float((values[first] + values[min(second, len(values) - 1)]) / 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """A limit of agreement: the mean of the values and so many standard deviations beside it.

    References
    ----------
    Bland and Altman, Lancet 1986;327:307.
    """

    values: Numbers
    deviations: float

    def __call__(self, weights: Weights) -> float:
        """The figure, where each case counts by its weight; NaN if nothing can be said."""
        has = np.isfinite(self.values)
        counted, total = weights[has], float(weights[has].sum())
        if total <= 1:
            return float("nan")
        mean = float(counted @ self.values[has]) / total
        variance = float(counted @ (self.values[has] - mean) ** 2) / (total - 1)
        return mean + self.deviations * math.sqrt(variance)


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """The area under the ROC curve: how often a positive case scores above a negative one, ties half.

    A case that is neither positive nor negative is not counted.

    References
    ----------
    Hanley and McNeil, Radiology 1982;143:29.
    """

    scores: Numbers
    is_positive: npt.NDArray[np.bool_]
    is_negative: npt.NDArray[np.bool_]

    def __call__(self, weights: Weights) -> float:
        """The figure, where each case counts by its weight; NaN if nothing can be said."""
        levels, place = np.unique(self.scores, return_inverse=True)
        positive = summed(place, weights * self.is_positive, len(levels))
        negative = summed(place, weights * self.is_negative, len(levels))
        pairs = float(positive.sum() * negative.sum())
        below = np.cumsum(negative) - negative
        return float(positive @ (below + negative / 2.0)) / pairs if pairs > 0 else float("nan")

    def curve(self) -> tuple[Numbers, Numbers]:
        """False positive rate and sensitivity at every threshold, from (0, 0) to (1, 1)."""
        levels, place = np.unique(-self.scores, return_inverse=True)
        positive = np.cumsum(summed(place, self.is_positive, len(levels)))
        negative = np.cumsum(summed(place, self.is_negative, len(levels)))
        start = np.zeros(1)
        return (
            np.concatenate([start, negative / max(negative[-1], 1.0)]),
            np.concatenate([start, positive / max(positive[-1], 1.0)]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Froc:
    """Share of lesions found at a number of false marks per case, or the mean over several such numbers.

    No interpolation: the best threshold that keeps to the number. `case` is the place of each mark's case among the
    weights. A further mark on a lesion that has one is neither true nor false.

    References
    ----------
    Bunch et al., SPIE 1977;127:124. Niemeijer et al., IEEE TMI 2011;30:215 (mean over 1/8 to 8).
    """

    scores: Numbers
    is_true: Numbers
    is_false: Numbers
    case: npt.NDArray[np.intp]
    lesions: Numbers
    counts: Numbers
    at: tuple[float, ...]

    def __call__(self, weights: Weights) -> float:
        """The figure, where each case counts by its weight; NaN if nothing can be said."""
        lesions = float(weights @ self.lesions)
        if lesions <= 0:
            return float("nan")
        false, found = self.curve(weights)
        places = np.searchsorted(false, np.asarray(self.at) + 1e-12, side="right") - 1
        return float(np.mean(found[places]))

    def curve(self, weights: Weights) -> tuple[Numbers, Numbers]:
        """False marks per case and share of lesions found, at every threshold, beginning with no mark at all."""
        true, false = _passed(self.scores, self.is_true, self.is_false, weights[self.case])
        cases, lesions = float(weights @ self.counts), float(weights @ self.lesions)
        return false / max(cases, 1e-12), true / max(lesions, 1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class AveragePrecision:
    """Area under precision over recall of marks, each recall with the best precision at it or beyond.

    Here a further mark on a lesion that has one is false.

    References
    ----------
    Everingham et al., Int J Comput Vis 2015;111:98 (PASCAL VOC, all points).
    """

    scores: Numbers
    is_true: Numbers
    case: npt.NDArray[np.intp]
    lesions: Numbers

    def __call__(self, weights: Weights) -> float:
        """The figure, where each case counts by its weight; NaN if nothing can be said."""
        lesions = float(weights @ self.lesions)
        if lesions <= 0:
            return float("nan")
        true, false = _passed(self.scores, self.is_true, 1.0 - self.is_true, weights[self.case])
        recall, marks = true / lesions, true + false
        precision = np.divide(true, marks, out=np.zeros_like(true), where=marks > 0)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.diff(recall) @ best[1:])


Statistic = Ratio | WeightedMedian | Spread | Roc | Froc | AveragePrecision


def summed(places: npt.NDArray[np.intp], values: npt.NDArray[np.generic], count: int) -> Numbers:
    """The sum of the values at each of `count` places."""
    return np.bincount(places, np.asarray(values, np.float64), count).astype(np.float64)


def _passed(scores: Numbers, is_true: Numbers, is_false: Numbers, weights: Weights) -> tuple[Numbers, Numbers]:
    """Weight of true and of false marks at or above every threshold, beginning with none."""
    levels, place = np.unique(-scores, return_inverse=True)
    sums: Sequence[Numbers] = [
        np.concatenate([np.zeros(1), np.cumsum(summed(place, weights * flags, len(levels)))])
        for flags in (is_true, is_false)
    ]
    return sums[0], sums[1]
