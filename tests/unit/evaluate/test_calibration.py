"""Calibrations find what was put in, are judged on patients they never saw, and reach the manifest whole."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss

from node.domain.models import Calibration
from node.errors import EvaluationError
from node.evaluate.calibrate import calibrate, write_block
from node.evaluate.calibration import fit, fit_isotonic, fit_temperature, reliability
from node.infer.models import load_manifest
from tests.unit.evaluate.results import marked, scored
from tests.unit.infer.sites import doubling_model, write_model


def _overconfident(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    logits = generator.normal(0, 1.5, count)
    return special.expit(logits * temperature), generator.random(count) < special.expit(logits)


def test_the_temperature_that_was_put_in_is_found() -> None:
    scores, truths = _overconfident(20_000, 2.5)
    assert fit_temperature(scores, truths) == pytest.approx(2.5, rel=0.05)


def test_isotonic_points_are_those_of_scikit_learn_but_for_the_ends() -> None:
    scores, truths = _overconfident(400, 1.0)
    scores = np.round(scores, 2)
    expected = IsotonicRegression().fit(scores, truths)
    for score, probability in fit_isotonic(scores, truths):
        (known,) = expected.predict([score])
        if 0.02 < known < 0.98:
            assert probability == pytest.approx(known, abs=1e-9)


def test_isotonic_never_says_certain() -> None:
    scores = np.linspace(0, 1, 40)
    points = fit_isotonic(scores, scores > 0.5)
    assert 0 < min(value for _, value in points) < max(value for _, value in points) < 1


def test_ece_and_brier_by_hand_and_by_scikit_learn() -> None:
    probabilities = np.repeat([0.2, 0.6], 50)
    truths = np.concatenate([np.arange(50) < 10, np.arange(50) < 40])
    found = reliability(probabilities, truths)
    assert found.brier == pytest.approx(brier_score_loss(truths, probabilities))
    one_bin_each = reliability(np.array([0.2, 0.6]), np.array([False, True]))
    assert one_bin_each.ece == pytest.approx((0.2 + 0.4) / 2)
    assert sum(one.count for one in found.bins) == 100


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_fit_is_judged_on_patients_it_never_saw(method: str) -> None:
    scores, truths = _overconfident(600, 3.0)
    found = fit(method, scores, truths, np.arange(600) // 2, source="phantoms")
    assert found.after.ece < found.before.ece
    assert found.after.brier < found.before.brier
    assert found.calibration.source == "phantoms"


def test_too_few_cases_are_no_calibration() -> None:
    scores, truths = _overconfident(30, 1.0)
    with pytest.raises(EvaluationError, match="at least 20 real and 20 other"):
        fit("temperature", scores, truths, np.arange(30), source="")


def test_marks_are_calibrated_where_lesions_are_labelled_else_cases() -> None:
    today = date(2026, 3, 1)
    found = calibrate(scored(120), "temperature", labels_sha256="ab" * 32, today=today)
    assert found.calibration.source.startswith("120 cases of 120 patients, 60 of them real, 2026-03-01, labels abab")
    cases = [marked(number, 1, [(0.9 if number % 3 else 0.4, 0), (0.3, None)]) for number in range(1, 41)]
    by_mark = calibrate(cases, "isotonic", labels_sha256="ab" * 32, today=today)
    assert by_mark.calibration.source.startswith("80 marks of 40 patients, 40 of them real")


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration("temperature", "here", temperature=1.75),
        Calibration("isotonic", "here", points=((0.1, 0.2), (0.5, 0.9))),
    ],
)
def test_a_calibration_goes_into_the_manifest_and_replaces_an_earlier_one(
    tmp_path: Path, calibration: Calibration
) -> None:
    folder = write_model(tmp_path, "double", doubling_model())
    before = (folder / "model.toml").read_text(encoding="utf-8")
    write_block(folder, Calibration("temperature", "earlier", temperature=3.0, high_at=0.8))
    write_block(folder, calibration)
    found = load_manifest(folder).card.calibration
    assert found is not None
    assert (found.method, found.points, found.source) == (calibration.method, calibration.points, "here")
    assert found.temperature == calibration.temperature
    assert found.high_at == 0.8  # what the site decided stays
    text = (folder / "model.toml").read_text(encoding="utf-8")
    assert text.startswith(before.rstrip())
    assert text.count("[calibration]") == 1
