"""One evaluation in one record: everything that a report says, before it is JSON or a page."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from node import __version__
from node.evaluate.calibration import Reliability
from node.evaluate.challenges import Removals, WrongAnatomy
from node.evaluate.compare import Difference
from node.evaluate.interval import Resampling
from node.evaluate.records import CaseResult, Estimate

__all__ = ["Curve", "Data", "Evaluation", "Kind", "Maker", "Scanner", "TierRow"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Maker:
    """Which application was evaluated, so that a figure can be traced to code and weights."""

    name: str
    version: str
    manufacturer: str
    basis: str
    code_sha256: str
    weights: tuple[tuple[str, str, str], ...]
    parameters: tuple[tuple[str, str], ...]
    node_version: str = __version__


@dataclass(frozen=True, slots=True)
class Data:
    """What it was evaluated on; nothing is left out in silence."""

    labels_sha256: str
    studies: int
    labelled: int
    unlabelled: int
    missing: int
    patients: int
    other_files: int
    unreadable_files: int
    median_s: float | None
    slowest_s: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve, with a band of 95 % where there is one."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scanner:
    """The figures of one maker and model."""

    scanner: str
    cases: int
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class TierRow:
    """How often what was said in one tier of certainty was so."""

    tier: str
    true_share: Estimate


@dataclass(frozen=True, slots=True)
class Kind:
    """All about one kind of finding ("" is any abnormal one).

    `table` counts cases by truth (positive, negative, unlabelled) and then by answer (called, silent, or the outcome
    of a case that was not read). `reasons` are (outcome, reason, count).
    """

    kind: str
    table: Mapping[str, Mapping[str, int]]
    reasons: tuple[tuple[str, str, int], ...]
    estimates: tuple[Estimate, ...]
    scanners: tuple[Scanner, ...]
    tiers: tuple[TierRow, ...]
    roc: Curve | None
    froc: Curve | None
    reliability: Reliability | None
    cases: tuple[CaseResult, ...]
    differences: tuple[Difference, ...] = ()
    removals: Removals | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A whole evaluation."""

    made_at: str
    application: Maker
    data: Data
    resampling: Resampling
    kinds: tuple[Kind, ...]
    compared_with: Maker | None = None
    wrong_anatomy: WrongAnatomy | None = None
    mean_average_precision: Mapping[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
