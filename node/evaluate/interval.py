"""Intervals: what the cases at hand leave open, with patients and not images as the unit.

Two images of one patient are not two proofs. And a sample in which everything went well says less than it seems:
the bootstrap of 20 out of 20 is 1.00 to 1.00, the exact interval 0.83 to 1.00. So proportions get the exact one.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from node.evaluate.statistic import Ratio, Roc, Statistic, Weights, summed

__all__ = ["Resampling", "delong", "exact_proportion", "interval_of", "paired_delong", "percentiles"]

LEVEL = 0.95
LEAST_DEFINED = 0.9  # of the resamples: a figure that most samples cannot give has no interval
Patients = npt.NDArray[np.intp]
"""``intp[case]``: the place of each case's patient, from 0."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How the bootstrap is done: so many times, from this seed; the same seed gives the same interval."""

    count: int = 2000
    seed: int = 20260101

    def weights(self, patients: Patients) -> npt.NDArray[np.float64]:
        """Draw patients with replacement; ``float64[resample, case]``: how often each case then counts."""
        people = int(patients.max()) + 1 if len(patients) else 0
        drawn = np.random.default_rng(self.seed).multinomial(people, np.full(people, 1.0 / people), size=self.count)
        return drawn[:, patients].astype(np.float64)


def interval_of(
    statistic: Statistic, patients: Patients, resamples: npt.NDArray[np.float64]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, str]:
    """The interval of a figure, that of the bootstrap alone, and the method of the first.

    A proportion gets the exact interval, an area under the curve that of DeLong if each patient is one case, all else
    the percentiles of the bootstrap. None where the sample does not vary: then it cannot say how sure it is.
    """
    bootstrap = _percentiles(statistic, resamples)
    if isinstance(statistic, Ratio) and statistic.is_proportion:
        return exact_proportion(statistic, patients), bootstrap, "exact"
    if isinstance(statistic, Roc):
        counted = patients[statistic.is_positive | statistic.is_negative]
        has_one_each = len(np.unique(counted)) == len(counted)
        perfect = statistic(np.ones(len(patients))) in (0.0, 1.0)
        if perfect:
            return _perfect_area(statistic, patients), bootstrap, "exact"
        if has_one_each:
            return delong(statistic), bootstrap, "delong"
    return bootstrap, bootstrap, "bootstrap"


def exact_proportion(ratio: Ratio, patients: Patients) -> tuple[float, float] | None:
    """The interval of a proportion that holds its 95 % for any sample size; None if nothing was counted.

    Several images of one patient count as fewer independent ones, by as much as the patients differ.

    References
    ----------
    Clopper and Pearson, Biometrika 1934;26:404. Korn and Graubard, Survey Methodology 1998;24:193 (clusters).
    """
    people = int(patients.max()) + 1 if len(patients) else 0
    counted = summed(patients, ratio.denominator, people)
    found = summed(patients, ratio.numerator, people)
    found, counted = found[counted > 0], counted[counted > 0]
    total = float(counted.sum())
    if total <= 0:
        return None
    share = float(found.sum()) / total
    effective = _effective_count(found, counted, share)
    hits, misses = share * effective, (1.0 - share) * effective
    tail = (1.0 - LEVEL) / 2.0
    low = float(stats.beta.ppf(tail, hits, misses + 1.0)) if hits > 1e-9 else 0.0
    high = float(stats.beta.ppf(1.0 - tail, hits + 1.0, misses)) if misses > 1e-9 else 1.0
    return low, high


def _effective_count(found: npt.NDArray[np.float64], counted: npt.NDArray[np.float64], share: float) -> float:
    total, people = float(counted.sum()), len(counted)
    if people == total:
        return total
    if people == 1 or share in (0.0, 1.0):
        return float(people)
    variance = people / (people - 1) * float(((found - share * counted) ** 2).sum()) / total**2
    return min(total, share * (1.0 - share) / variance) if variance > 0 else float(people)


def delong(roc: Roc) -> tuple[float, float] | None:
    """The interval of an area under the curve, on the logit scale so that it stays within 0 and 1.

    References
    ----------
    DeLong et al., Biometrics 1988;44:837. Pepe, The Statistical Evaluation of Medical Tests, 2003, 5.2.
    """
    ones = np.ones(len(roc.scores))
    area = roc(ones)
    if not 0.0 < area < 1.0:
        return None
    variance = float(_covariance([roc])[0, 0])
    if not variance > 0:
        return None
    reach = float(stats.norm.ppf(0.5 + LEVEL / 2)) * math.sqrt(variance) / (area * (1.0 - area))
    middle = math.log(area / (1.0 - area))
    return tuple(1.0 / (1.0 + math.exp(-(middle + side * reach))) for side in (-1, 1))  # type: ignore[return-value]


def paired_delong(first: Roc, second: Roc) -> tuple[float, float]:
    """Difference of two areas on the same cases (second less first), and its p value.

    References
    ----------
    DeLong et al., Biometrics 1988;44:837.
    """
    ones = np.ones(len(first.scores))
    difference = second(ones) - first(ones)
    covariance = _covariance([first, second])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])
    if not variance > 1e-15:
        return difference, 1.0 if abs(difference) < 1e-12 else float("nan")
    return difference, float(2.0 * stats.norm.sf(abs(difference) / math.sqrt(variance)))


def _covariance(rocs: list[Roc]) -> npt.NDArray[np.float64]:
    """Of the areas, from where each positive stands among the negatives and each negative among the positives."""
    groups = rocs[0].is_positive, rocs[0].is_negative
    parts = []
    for group, others in (groups, groups[::-1]):
        if group.sum() < 2:
            return np.full((len(rocs), len(rocs)), np.nan)
        parts.append(np.array([_placements(roc.scores[group], roc.scores[others]) for roc in rocs]))
    positive, negative = (np.atleast_2d(np.cov(part)) for part in parts)
    covariance: npt.NDArray[np.float64] = positive / groups[0].sum() + negative / groups[1].sum()
    return covariance


def _placements(scores: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    placed: npt.NDArray[np.float64] = (below + upto) / (2.0 * len(ordered))
    return placed


def _perfect_area(roc: Roc, patients: Patients) -> tuple[float, float] | None:
    """Of an area of exactly 0 or 1, which other methods call certain: the exact interval over disjoint pairs.

    A positive and a negative of which neither is used twice are independent trials of the very thing the area
    measures; there are as many as the smaller group has patients.
    """
    pairs = min(len(np.unique(patients[roc.is_positive])), len(np.unique(patients[roc.is_negative])))
    if not pairs:
        return None
    edge = float(((1.0 - LEVEL) / 2.0) ** (1.0 / pairs))
    return (edge, 1.0) if roc(np.ones(len(patients))) == 1.0 else (0.0, 1.0 - edge)


def _percentiles(statistic: Statistic, resamples: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    if isinstance(statistic, Ratio):
        below = resamples @ statistic.denominator
        values = np.divide(resamples @ statistic.numerator, below, out=np.full(len(below), np.nan), where=below > 0)
    else:
        values = np.array([statistic(weights) for weights in resamples])
    return percentiles(values)


def percentiles(values: Weights) -> tuple[float, float] | None:
    """The middle 95 % of what the resamples gave; None if it does not vary or is mostly undefined."""
    defined = values[np.isfinite(values)]
    if len(defined) < LEAST_DEFINED * len(values) or not len(defined) or np.ptp(defined) == 0:
        return None
    tail = 100.0 * (1.0 - LEVEL) / 2.0
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)
