"""A score becomes the probability its calibration says, and a tier that a wavering score loses."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.certainty import calibrated, certainty_of
from node.domain.findings import Tier
from node.domain.models import Calibration
from node.errors import ModelOutputError

COOLED = Calibration("temperature", "phantoms", temperature=2.0)
POINTS = Calibration("isotonic", "phantoms", points=((0.2, 0.1), (0.4, 0.1), (0.6, 0.7)), high_at=0.65, medium_at=0.3)


def test_a_temperature_divides_the_logit() -> None:
    logit = math.log(0.9 / 0.1) / 2.0
    assert calibrated(0.9, COOLED) == pytest.approx(1 / (1 + math.exp(-logit)))
    assert calibrated(0.5, COOLED) == pytest.approx(0.5)


def test_isotonic_points_are_joined_by_lines_and_level_beyond_them() -> None:
    expected = {0.0: 0.1, 0.2: 0.1, 0.3: 0.1, 0.5: 0.4, 0.6: 0.7, 1.0: 0.7}
    assert {score: round(calibrated(score, POINTS), 6) for score in expected} == expected


@pytest.mark.parametrize(("score", "tier"), [(0.6, Tier.HIGH), (0.5, Tier.MEDIUM), (0.3, Tier.REVIEW)])
def test_the_tier_is_that_of_the_probability(score: float, tier: Tier) -> None:
    assert certainty_of(score, POINTS).tier is tier


def test_a_wavering_score_keeps_its_probability_and_loses_its_tier() -> None:
    sure, wavering = certainty_of(0.6, POINTS), certainty_of(0.6, POINTS, spread=0.3)
    assert sure.probability == wavering.probability
    assert (sure.tier, wavering.tier) == (Tier.HIGH, Tier.REVIEW)


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf])
def test_what_is_no_score_is_refused(score: float) -> None:
    with pytest.raises(ModelOutputError):
        certainty_of(score, COOLED)
    with pytest.raises(ModelOutputError):
        certainty_of(0.5, COOLED, spread=-abs(score) if math.isfinite(score) else score)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 20))
def test_more_score_is_never_less_probability_and_none_is_certain(one: float, other: float, temperature: float) -> None:
    for calibration in (Calibration("temperature", "x", temperature=temperature), POINTS):
        low, high = (calibrated(score, calibration) for score in sorted((one, other)))
        assert 0.0 <= low <= high <= 1.0
