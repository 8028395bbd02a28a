"""What an evaluation knows of each case: what is true, and what the application said; no name, no date, no UID."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CaseResult",
    "Concordance",
    "Deviation",
    "Estimate",
    "Mark",
    "Outcome",
    "Overlap",
]


class Outcome(StrEnum):
    """What became of a case; every case has one, and none is left out of the counts.

    `NOT_TAKEN`: no Series is of the kind the application takes, so the node would never have shown it.
    """

    READ = "read"
    NOT_EVALUABLE = "not_evaluable"
    FAILED = "failed"
    NOT_TAKEN = "not_taken"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Mark:
    """One finding with a place: its score, its tier, and what it has to do with each labelled lesion.

    `hits` are the numbers of the lesions it is on (by the rule of the evaluation), `ious` its overlap with each lesion.
    """

    score: float
    hits: tuple[int, ...]
    ious: tuple[float, ...]
    tier: str = ""
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """A mask of the application against the reference mask; `dice` is None if both are empty.

    `hd95_mm` is None if one of them is empty: there is no distance then.
    """

    segment: str
    dice: float | None
    hd95_mm: float | None
    measured_ml: float
    reference_ml: float


@dataclass(frozen=True, slots=True)
class Deviation:
    """A number of the application beside the true one."""

    quantity: str
    unit: str
    measured: float
    reference: float


@dataclass(frozen=True, slots=True)
class Concordance:
    """One heat map on an image with a labelled lesion.

    `is_peak_inside`: the pointing game. `energy_inside`: share of its heat inside the lesion; `area_inside` is what
    heat spread evenly over the image would have there.

    References
    ----------
    Zhang et al., Int J Comput Vis 2018;126:1084 (pointing game). Wang et al., CVPRW 2020 (energy-based).
    """

    is_peak_inside: bool
    energy_inside: float
    area_inside: float


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case and one kind of finding.

    Parameters
    ----------
    number, patient
        Pseudonymous; cases of one patient share `patient`.
    is_positive
        What is true; None if the case is labelled for masks or numbers only.
    is_called
        Whether the application gave an abnormal finding of this kind.
    score
        The greatest score of the case, None if the application gave none.
    """

    number: int
    patient: int
    scanner: str
    outcome: Outcome
    is_positive: bool | None = None
    is_called: bool = False
    score: float | None = None
    tier: str = ""
    lesions: int = 0
    marks: tuple[Mark, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    concordances: tuple[Concordance, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    has_places: bool = False
    probability: float | None = None

    @property
    def is_read(self) -> bool:
        """True if the application looked at it and gave an answer."""
        return self.outcome is Outcome.READ


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure with its interval.

    Parameters
    ----------
    metric, of
        Such as ``dice`` of ``brain``; `of` is "" where there is nothing to tell apart.
    value
        None if the data cannot say.
    low, high
        The 95 % interval, None if the sample does not vary, so that no interval can be had from it.
    n, patients
        What it was counted on: cases, lesions or marks as `unit_of_n` says, from so many patients.
    method
        Of the interval: ``exact``, ``delong``, ``bootstrap`` or "".
    """

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    patients: int = 0
    unit: str = "1"
    of: str = ""
    method: str = ""
    unit_of_n: str = "cases"
    bootstrap: tuple[float, float] | None = None
