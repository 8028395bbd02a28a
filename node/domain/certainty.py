"""From a model's score to a calibrated probability and its tier, so that a tier means the same everywhere."""

import math
from bisect import bisect_right

from node.domain.findings import Certainty, Tier
from node.domain.models import Calibration
from node.errors import ModelOutputError

__all__ = ["ISOTONIC", "TEMPERATURE", "calibrated", "certainty_of", "tier_of"]

TEMPERATURE, ISOTONIC = "temperature", "isotonic"
LEAST_SCORE = 1e-6  # float32 ends about here: a score of exactly 0 or 1 is rounding, not certainty


def certainty_of(score: float, calibration: Calibration, *, spread: float = 0.0) -> Certainty:
    """Say how sure a calibrated model is that a finding is real; never for a rule-based algorithm.

    Parameters
    ----------
    score
        What the model gave, 0 to 1.
    calibration
        How its scores relate to what was true, fitted by ``wetread evaluate --calibrate``.
    spread
        How far the score moves when the same image is shown in another way, such as mirrored. The tier is that of
        the score less its spread, so a wavering score asks for a person sooner; the probability stays.

    Raises
    ------
    ModelOutputError
        If the score is no number from 0 to 1, or the spread none of 0 or more.
    """
    if not (math.isfinite(spread) and spread >= 0.0):
        raise ModelOutputError("the spread of a score must be a number of 0 or more")
    probability = calibrated(score, calibration)
    return Certainty(probability, tier_of(calibrated(max(score - spread, 0.0), calibration), calibration))


def calibrated(score: float, calibration: Calibration) -> float:
    """Turn a score into a probability: its logit divided by the temperature, or straight lines between points.

    References
    ----------
    Guo et al., ICML 2017 (temperature). Zadrozny and Elkan, KDD 2002 (isotonic).
    """
    if not 0.0 <= score <= 1.0:
        raise ModelOutputError("a score that is calibrated must be a number from 0 to 1")
    if calibration.method == ISOTONIC:
        return _between(score, calibration.points)
    inside = min(max(score, LEAST_SCORE), 1.0 - LEAST_SCORE)
    logit = math.log(inside / (1.0 - inside)) / calibration.temperature
    return 1.0 / (1.0 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1.0 + math.exp(logit))


def tier_of(probability: float, calibration: Calibration) -> Tier:
    """The tier of a probability; the least of each tier belongs to it."""
    if probability >= calibration.high_at:
        return Tier.HIGH
    return Tier.MEDIUM if probability >= calibration.medium_at else Tier.REVIEW


def _between(score: float, points: tuple[tuple[float, float], ...]) -> float:
    """Beyond the first and the last point their value stays."""
    above = bisect_right([place for place, _ in points], score)
    if above == 0:
        return points[0][1]
    if above == len(points):
        return points[-1][1]
    (left, low), (right, high) = points[above - 1], points[above]
    return low + (high - low) * (score - left) / (right - left)
