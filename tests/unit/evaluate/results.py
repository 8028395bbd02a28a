"""Results of cases with known figures, made from arguments and a seed."""

from collections.abc import Sequence

import numpy as np

from node.evaluate.records import CaseResult, Estimate, Mark, Outcome

SCANNER = "Phantom One"


def case(number: int, is_positive: bool | None, *, score: float | None = None, called: bool | None = None,
         patient: int | None = None, **more: object) -> CaseResult:  # fmt: skip
    return CaseResult(
        number=number,
        patient=number if patient is None else patient,
        scanner=str(more.pop("scanner", SCANNER)),
        outcome=Outcome(str(more.pop("outcome", "read"))),
        is_positive=is_positive,
        is_called=(score is not None and score >= 0.5) if called is None else called,
        score=score,
        **more,  # type: ignore[arg-type]
    )


def scored(count: int, seed: int = 1, shift: float = 1.2) -> list[CaseResult]:
    """Half of them positive, whose scores are higher by `shift` standard deviations before they become 0 to 1."""
    generator = np.random.default_rng(seed)
    truth = np.arange(count) % 2 == 0
    raw = generator.normal(size=count) + shift * truth
    scores = 1.0 / (1.0 + np.exp(-raw))
    return [case(number + 1, bool(truth[number]), score=float(scores[number])) for number in range(count)]


def marked(number: int, lesions: int, marks: Sequence[tuple[float, int | None]], **more: object) -> CaseResult:
    """Marks as (score, number of the lesion it is on)."""
    made = tuple(
        Mark(score, () if on is None else (on,), tuple(0.6 if on == index else 0.0 for index in range(lesions)))
        for score, on in marks
    )
    best = max((score for score, _ in marks), default=None)
    return case(number, lesions > 0, score=best, called=bool(marks), lesions=lesions, marks=made,
                has_places=bool(marks), **more)  # fmt: skip


def value(found: Sequence[Estimate], metric: str, of: str = "") -> Estimate:
    (one,) = [estimate for estimate in found if (estimate.metric, estimate.of) == (metric, of)]
    return one
