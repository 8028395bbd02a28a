"""Figures are those of their definitions: by hand, by scikit-learn and by scipy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from node.evaluate.figures import estimates, figures
from node.evaluate.interval import Resampling
from node.evaluate.records import Concordance, Deviation, Overlap
from node.evaluate.statistic import Froc, Roc, WeightedMedian
from tests.unit.evaluate.results import case, marked, scored, value

FEW = Resampling(count=300, seed=3)


def test_sensitivity_and_specificity_are_those_of_scikit_learn() -> None:
    cases = scored(200)
    found = estimates(cases, FEW)
    table = confusion_matrix([one.is_positive for one in cases], [one.is_called for one in cases])
    (true_negative, false_positive), (false_negative, true_positive) = table
    assert value(found, "sensitivity").value == pytest.approx(true_positive / (true_positive + false_negative))
    assert value(found, "specificity").value == pytest.approx(true_negative / (true_negative + false_positive))
    assert value(found, "ppv").value == pytest.approx(true_positive / (true_positive + false_positive))
    assert value(found, "npv").value == pytest.approx(true_negative / (true_negative + false_negative))


def test_the_area_under_the_curve_is_that_of_scikit_learn_ties_too() -> None:
    generator = np.random.default_rng(2)
    truth = generator.random(150) < 0.4
    scores = np.round(generator.random(150) + 0.3 * truth, 1)
    roc = Roc(scores, truth, ~truth)
    weights = generator.integers(0, 4, 150).astype(float)
    assert roc(np.ones(150)) == pytest.approx(roc_auc_score(truth, scores))
    assert roc(weights) == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights))
    false_rate, true_rate, _ = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.curve(), (false_rate, true_rate))


def test_a_case_that_was_not_read_counts_as_wrong_where_the_figure_says_all() -> None:
    cases = [case(1, True, score=0.9), case(2, True, outcome="not_evaluable"), case(3, False, score=0.1),
             case(4, False, outcome="failed"), case(5, False, outcome="not_taken")]  # fmt: skip
    found = estimates(cases, FEW)
    assert value(found, "sensitivity").value == 1.0
    assert value(found, "sensitivity_all").value == 0.5
    assert value(found, "specificity").value == 1.0
    assert value(found, "specificity_all").value == pytest.approx(1 / 3)
    assert value(found, "evaluable").value == pytest.approx(2 / 5)


def test_a_case_without_images_is_in_no_figure() -> None:
    assert value(estimates([case(1, True, score=0.9), case(2, True, outcome="missing")], FEW), "sensitivity_all").n == 1


def test_froc_and_lesion_sensitivity_by_hand() -> None:
    cases = [
        marked(1, 2, [(0.9, 0), (0.8, None), (0.7, 1), (0.6, 0)]),  # the last is a second mark on lesion 0: neither
        marked(2, 1, [(0.5, None), (0.3, 0)]),
        marked(3, 0, [(0.65, None)]),
        marked(4, 0, []),
    ]
    found = estimates(cases, FEW)
    assert value(found, "lesion_sensitivity").value == 1.0
    assert value(found, "false_marks_per_case").value == pytest.approx(3 / 4)
    # At 0.5 marks a case two false marks are allowed (0.8 and 0.65): lesions at 0.9 and 0.7 are found, of three.
    assert value(found, "froc", "0.5").value == pytest.approx(2 / 3)
    assert value(found, "froc", "1").value == 1.0
    # 1/8: 1/3, 1/4 to 1/2: one and two false marks allowed, 2/3; from 1 on all.
    assert value(found, "froc", "1/8-8").value == pytest.approx((1 / 3 + 2 / 3 + 2 / 3 + 4) / 7)


def test_average_precision_by_hand() -> None:
    cases = [marked(1, 2, [(0.9, 0), (0.8, None), (0.7, 1)])]
    # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: 1/2 x 1 + 1/2 x 2/3.
    assert value(estimates(cases, FEW), "ap", "IoU 0.5").value == pytest.approx(0.5 + 0.5 * 2 / 3)
    again = [marked(1, 2, [(0.9, 0), (0.8, 0), (0.7, 1)])]
    assert value(estimates(again, FEW), "ap", "IoU 0.5").value == pytest.approx(0.5 + 0.5 * 2 / 3), "a double is false"


def test_a_bootstrap_of_froc_is_that_of_cases_written_out() -> None:
    cases = [marked(1, 1, [(0.9, 0)]), marked(2, 1, [(0.6, None), (0.2, 0)]), marked(3, 0, [(0.7, None)])]
    weights = np.array([2.0, 0.0, 3.0])
    repeated = [marked(number, *rest) for number, rest in enumerate([(1, [(0.9, 0)])] * 2 + [(0, [(0.7, None)])] * 3)]
    for one, other in zip(figures(cases), figures(repeated), strict=True):
        assert (one.metric, one.of) == (other.metric, other.of)
        if isinstance(one.statistic, Froc):
            assert one.statistic(weights) == pytest.approx(other.statistic(np.ones(5)))


def test_an_application_that_gives_no_places_is_not_blamed_for_them() -> None:
    cases = [case(1, True, score=0.9, lesions=1), case(2, False, score=0.1)]
    assert "lesion_sensitivity" not in {one.metric for one in estimates(cases, FEW)}


def test_limits_of_agreement_are_mean_and_standard_deviations() -> None:
    differences = [1.0, 3.0, -2.0, 4.0]
    cases = [case(index, None, deviations=(Deviation("volume", "ml", 10.0 + d, 10.0),))
             for index, d in enumerate(differences)]  # fmt: skip
    found = estimates(cases, FEW)
    mean, deviation = np.mean(differences), np.std(differences, ddof=1)
    assert value(found, "bias", "volume").value == pytest.approx(mean)
    assert value(found, "limit_low", "volume").value == pytest.approx(mean - 1.96 * deviation)
    assert value(found, "limit_high", "volume").value == pytest.approx(mean + 1.96 * deviation)
    assert value(found, "error_median", "volume").value == pytest.approx(25.0)
    assert value(found, "bias", "volume").unit == "ml"


def test_a_weighted_median_is_that_of_values_written_out() -> None:
    generator = np.random.default_rng(5)
    for _ in range(50):
        values = np.round(generator.random(9), 1)
        weights = generator.integers(0, 3, 9).astype(float)
        if weights.any():
            expected = np.median(np.repeat(values, weights.astype(int)))
            assert WeightedMedian(values)(weights) == pytest.approx(expected)


def test_masks_and_heat_maps_have_their_figures() -> None:
    overlap = Overlap("brain", 0.9, 2.0, 110.0, 100.0)
    nothing = Overlap("brain", None, None, 0.0, 0.0)
    heat = (Concordance(True, 0.5, 0.1), Concordance(False, 0.1, 0.1))
    found = estimates([case(1, None, overlaps=(overlap,), concordances=heat), case(2, None, overlaps=(nothing,))], FEW)
    assert (value(found, "dice_mean", "brain").value, value(found, "dice_mean", "brain").n) == (0.9, 1)
    assert value(found, "hd95_median", "brain").unit == "mm"
    assert value(found, "error_median", "brain (volume)").value == pytest.approx(10.0)
    assert value(found, "pointing").value == 0.5
    assert value(found, "energy_inside").value == pytest.approx(0.3)


def test_the_interval_of_a_proportion_is_the_exact_one_of_scipy() -> None:
    cases = [case(number, True, called=number > 2) for number in range(1, 21)]
    found = value(estimates(cases, FEW), "sensitivity")
    expected = stats.binomtest(18, 20).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.method == "exact"
    assert found.bootstrap is not None


def test_a_sample_in_which_all_went_well_is_not_called_certain() -> None:
    found = estimates([case(number, number <= 20, score=0.9 if number <= 20 else 0.1) for number in range(1, 41)], FEW)
    assert value(found, "sensitivity").low == pytest.approx(0.025 ** (1 / 20))
    assert value(found, "sensitivity").bootstrap is None
    assert value(found, "auc").value == 1.0
    assert value(found, "auc").low == pytest.approx(0.025 ** (1 / 20))


def test_images_of_one_patient_are_not_so_many_proofs() -> None:
    alone = [case(number, True, called=number % 5 != 0) for number in range(1, 41)]
    together = [case(number, True, called=(number // 10) != 0, patient=number // 10) for number in range(40)]
    one, other = (value(estimates(cases, FEW), "sensitivity") for cases in (alone, together))
    assert one.low is not None
    assert other.low is not None
    assert other.low < 0.45 < one.low  # ten images each of four patients, all alike: four proofs, not forty
