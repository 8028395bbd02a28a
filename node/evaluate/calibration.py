"""From scores to probabilities: two fits, and how well a probability keeps its word."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from node.domain.certainty import ISOTONIC, LEAST_SCORE, TEMPERATURE, calibrated
from node.domain.models import Calibration
from node.errors import EvaluationError

__all__ = ["Bin", "Fit", "Reliability", "fit", "fit_isotonic", "fit_temperature", "reliability"]

Scores = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]
LEAST_OF_EACH = 20  # real and not real: below that a fit is a guess
TEMPERATURES = (0.05, 20.0)
BINS = 10  # Guo et al. take 15 on 10,000 cases; a site has fewer
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Bin:
    """Cases of about one probability: what was said on average, and how often it was so."""

    said: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well probabilities keep their word.

    `ece`: expected calibration error, the mean gap between said and observed, over bins with equal counts; `brier`:
    mean squared gap between probability and truth.

    References
    ----------
    Naeini et al., AAAI 2015 (ECE). Brier, Mon Weather Rev 1950;78:1.
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: float
    count: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibration, and what it is worth: before it, and on patients it was not fitted on."""

    calibration: Calibration
    before: Reliability
    after: Reliability


def fit(method: str, scores: Scores, truths: Truths, patients: npt.NDArray[np.intp], *, source: str) -> Fit:
    """Fit a calibration to all cases, and judge the same method by fits that never saw the patients they are judged on.

    Parameters
    ----------
    method
        ``temperature`` or ``isotonic``.
    source
        Where the cases are from; how many there were and what they were is added.

    Raises
    ------
    EvaluationError
        If there are too few cases, or the scores are not 0 to 1.
    """
    real, others = int(truths.sum()), int((~truths).sum())
    if min(real, others) < LEAST_OF_EACH:
        raise EvaluationError(
            f"a calibration needs at least {LEAST_OF_EACH} real and {LEAST_OF_EACH} other findings, "
            f"there are {real} and {others}"
        )
    if scores.min() < 0.0 or scores.max() > 1.0:
        raise EvaluationError("a calibration needs scores from 0 to 1")
    folds = _folds(patients)
    held_out = np.empty(len(scores))
    for number in range(FOLDS):
        inside, outside = folds == number, folds != number
        if truths[outside].all() or not truths[outside].any():
            raise EvaluationError("a calibration needs real and other findings from several patients")
        held_out[inside] = _apply(_fitted(method, scores[outside], truths[outside], ""), scores[inside])
    return Fit(_fitted(method, scores, truths, source), reliability(scores, truths), reliability(held_out, truths))


def fit_temperature(scores: Scores, truths: Truths) -> float:
    """The temperature that makes the truths likeliest; 1 leaves the scores as they are.

    References
    ----------
    Guo et al., ICML 2017.
    """
    logits = special.logit(np.clip(scores, LEAST_SCORE, 1.0 - LEAST_SCORE))
    signed = np.where(truths, logits, -logits)

    def surprise(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / np.exp(log_temperature)).mean())

    found = optimize.minimize_scalar(surprise, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def fit_isotonic(scores: Scores, truths: Truths) -> tuple[tuple[float, float], ...]:
    """The rising curve nearest to the truths, as points (score, probability).

    Nothing is ever said to be certain: n cases of which none was real give 1 / (n + 2), and all of them 1 less that.

    References
    ----------
    Zadrozny and Elkan, KDD 2002; pool adjacent violators: Ayer et al., Ann Math Stat 1955;26:641.
    """
    levels, place = np.unique(scores, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    sums = np.bincount(place, truths.astype(np.float64))
    blocks: list[list[float]] = []  # sum, count, first score, last score
    for level, total, count in zip(levels, sums, counts, strict=True):
        blocks.append([float(total), float(count), float(level), float(level)])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1], blocks[-1][2], last[3]]
    shares = [total / count for total, count, _, _ in blocks]
    if shares[0] == 0.0:
        shares[0] = min([1.0 / (blocks[0][1] + 2.0), *shares[1:2]])
    if shares[-1] == 1.0:
        shares[-1] = max([1.0 - 1.0 / (blocks[-1][1] + 2.0), *shares[-2:-1]])
    points: list[tuple[float, float]] = []
    for share, (_, _, first, last_score) in zip(shares, blocks, strict=True):
        points += [(first, share)] if first == last_score else [(first, share), (last_score, share)]
    return tuple(points)


def reliability(probabilities: Scores, truths: Truths) -> Reliability:
    """Compare probabilities with what was true, in at most 10 bins that hold about as many cases each."""
    order = np.argsort(probabilities, kind="stable")
    bins = []
    gap = 0.0
    for part in np.array_split(order, min(BINS, len(order))):
        said, observed = float(probabilities[part].mean()), float(truths[part].mean())
        bins.append(Bin(said, observed, len(part)))
        gap += abs(said - observed) * len(part)
    brier = float(((probabilities - truths) ** 2).mean())
    return Reliability(tuple(bins), gap / len(order), brier, len(order))


def _fitted(method: str, scores: Scores, truths: Truths, source: str) -> Calibration:
    if method == TEMPERATURE:
        return Calibration(TEMPERATURE, source, temperature=fit_temperature(scores, truths))
    if method == ISOTONIC:
        return Calibration(ISOTONIC, source, points=fit_isotonic(scores, truths))
    raise EvaluationError(f"a calibration must be {TEMPERATURE} or {ISOTONIC}, found {method!r}")


def _apply(calibration: Calibration, scores: Sequence[float] | Scores) -> Scores:
    return np.array([calibrated(float(score), calibration) for score in scores])


def _folds(patients: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Patients dealt out to the folds in turn; their numbers are pseudonymous and in no order."""
    return np.asarray(np.unique(patients, return_inverse=True)[1] % FOLDS, np.intp)
