"""Paired differences: the area's by DeLong as first written, calls by McNemar, intervals over the same patients."""

import numpy as np
import pytest
from scipy import stats

from node.evaluate.compare import compare
from node.evaluate.interval import Resampling, delong, paired_delong
from node.evaluate.statistic import Roc
from tests.unit.evaluate.results import case, scored

FEW = Resampling(300, 2)


def _rocs(count: int = 80) -> tuple[Roc, Roc]:
    generator = np.random.default_rng(9)
    truth = np.arange(count) % 3 == 0
    shared = generator.normal(size=count)
    first, second = (np.round(shared + gain * truth + generator.normal(0, 0.5, count), 1) for gain in (1.0, 1.6))
    return Roc(first, truth, ~truth), Roc(second, truth, ~truth)


def _as_written(rocs: tuple[Roc, Roc]) -> tuple[float, float]:
    """DeLong et al. 1988 with its kernel over every pair."""
    truth = rocs[0].is_positive
    kernels = [
        np.where(
            roc.scores[truth][:, None] > roc.scores[~truth],
            1.0,
            0.5 * (roc.scores[truth][:, None] == roc.scores[~truth]),
        )
        for roc in rocs
    ]
    v10, v01 = np.cov([one.mean(axis=1) for one in kernels]), np.cov([one.mean(axis=0) for one in kernels])
    covariance = v10 / truth.sum() + v01 / (~truth).sum()
    contrast = np.array([-1.0, 1.0])
    difference = float(kernels[1].mean() - kernels[0].mean())
    return difference, float(2 * stats.norm.sf(abs(difference) / np.sqrt(contrast @ covariance @ contrast)))


def test_two_areas_are_compared_as_delong_wrote_it() -> None:
    rocs = _rocs()
    assert paired_delong(*rocs) == pytest.approx(_as_written(rocs))


def test_the_interval_of_an_area_is_near_that_of_the_bootstrap() -> None:
    roc = _rocs(240)[0]
    low, high = delong(roc) or (0.0, 0.0)
    drawn = [roc(weights) for weights in Resampling(2000, 1).weights(np.arange(240))]
    expected = np.percentile(drawn, [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(expected), abs=0.015)


def test_calls_are_compared_by_those_that_differ() -> None:
    first = [case(number, True, called=number <= 10) for number in range(1, 21)]
    second = [case(number, True, called=number <= 18 and number != 1) for number in range(1, 21)]
    (found,) = [one for one in compare(first, second, FEW) if one.metric == "sensitivity"]
    assert found.difference == pytest.approx(0.35)
    assert found.p == pytest.approx(stats.binomtest(1, 9).pvalue)
    assert found.low is not None
    assert found.low < 0.35


def test_only_cases_that_both_have_read_are_compared() -> None:
    first = [*scored(40), case(41, True, score=0.9), case(42, True, outcome="failed")]
    second = [*scored(40), case(41, True, outcome="not_evaluable"), case(42, True, score=0.9)]
    found = {one.metric: one for one in compare(first, second, FEW)}
    assert found["sensitivity"].n == 20
    assert found["sensitivity"].difference == 0.0
    assert found["sensitivity_all"].n == 22


def test_several_cases_of_a_patient_have_no_test_that_takes_them_for_independent() -> None:
    first = [case(number, number % 2 == 0, score=number / 20, patient=number // 4) for number in range(20)]
    assert all(one.p is None for one in compare(first, first, FEW))
