"""The site acceptance test: criteria agreed before, held against the bounds of what was found."""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from node.errors import ConfigError, EvaluationError
from node.evaluate.evaluation import Evaluation, Kind
from node.evaluate.records import Estimate
from node.settings.reader import Reader

__all__ = ["Acceptance", "Bound", "Criteria", "Criterion", "Saying", "Verdict", "judge", "load_criteria"]


class Bound(StrEnum):
    """Which end of the 95 % interval must keep to the criterion; `VALUE` is the figure itself, and proves little."""

    LOWER = "lower"
    UPPER = "upper"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that must be so.

    Parameters
    ----------
    metric, of
        As in ``report.json``.
    kind
        Kind of finding; "" for any abnormal one.
    at_least, at_most
        One of them; held against the lower bound of the interval, or the upper one.
    bound
        "" for the bound that proves it: lower for `at_least`, upper for `at_most`.
    least_n
        Fewest cases (or lesions) it must have been counted on.
    scanner
        Maker and model; "" for all together.
    """

    metric: str
    of: str = ""
    kind: str = ""
    at_least: float | None = None
    at_most: float | None = None
    bound: str = ""
    least_n: int = 1
    scanner: str = ""

    @property
    def held_against(self) -> Bound:
        """The bound that must keep to it."""
        return Bound(self.bound or (Bound.LOWER if self.at_least is not None else Bound.UPPER))


@dataclass(frozen=True, slots=True)
class Criteria:
    """What was agreed: for which application, by whom and when; `version` and `weights_sha256` if only one may pass."""

    application: str
    agreed_by: str
    agreed_on: str
    criteria: tuple[Criterion, ...]
    version: str = ""
    weights_sha256: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Saying:
    """One sentence, by its key in the words of the page, and what is put into it."""

    key: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One criterion and what was found; `why` says why it is not met."""

    criterion: Criterion
    found: Estimate | None
    is_met: bool
    why: Saying | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The outcome; it passes only if every criterion is met and the right application was evaluated."""

    criteria: Criteria
    criteria_sha256: str
    verdicts: tuple[Verdict, ...]
    objections: tuple[Saying, ...]

    @property
    def is_passed(self) -> bool:
        """True if nothing speaks against it."""
        return not self.objections and all(one.is_met for one in self.verdicts)


def load_criteria(path: Path) -> tuple[Criteria, str]:
    """Read what was agreed; also the SHA-256 of the file, which the signed page names.

    Raises
    ------
    EvaluationError
        If a key is unknown, missing or of another type, or a criterion says nothing that can be checked.
    """
    try:
        content = path.read_bytes()
        text = content.decode()
        table = tomllib.loads(text)
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: not valid TOML: {error}") from error
    if isinstance(table.get("agreed_on"), date):
        table["agreed_on"] = table["agreed_on"].isoformat()
    try:
        criteria = Reader(path, text).record(Criteria, path.name, table)
    except ConfigError as error:
        raise EvaluationError(str(error)) from error
    _check(path, criteria)
    return criteria, hashlib.sha256(content).hexdigest()


def _check(path: Path, criteria: Criteria) -> None:
    try:
        date.fromisoformat(criteria.agreed_on)
    except ValueError as error:
        raise EvaluationError(f"{path}: agreed_on must be a date such as 2026-03-01") from error
    if not criteria.criteria or not criteria.agreed_by.strip():
        raise EvaluationError(f"{path}: must hold at least one of [[criteria]], and agreed_by")
    for number, one in enumerate(criteria.criteria, start=1):
        if (one.at_least is None) == (one.at_most is None):
            raise EvaluationError(
                f"{path}: criterion {number} ({one.metric}) must have at_least or at_most, and not both"
            )
        if one.bound not in ("", *Bound):
            raise EvaluationError(f"{path}: criterion {number}: bound must be one of {', '.join(Bound)}")


def judge(criteria: Criteria, criteria_sha256: str, evaluation: Evaluation) -> Acceptance:
    """Hold what was found against what was agreed."""
    verdicts = tuple(_verdict(one, evaluation) for one in criteria.criteria)
    return Acceptance(criteria, criteria_sha256, verdicts, tuple(_objections(criteria, evaluation)))


def _objections(criteria: Criteria, evaluation: Evaluation) -> Iterator[Saying]:
    maker = evaluation.application
    if maker.name != criteria.application:
        yield Saying("other_application", (criteria.application, maker.name))
    if criteria.version and maker.version != criteria.version:
        yield Saying("other_version", (criteria.version, maker.version))
    if criteria.weights_sha256 and criteria.weights_sha256 not in {sha256 for _, _, sha256 in maker.weights}:
        yield Saying("other_weights")
    if date.fromisoformat(criteria.agreed_on) > date.fromisoformat(evaluation.made_at[:10]):
        yield Saying("agreed_after")
    if evaluation.data.missing:
        yield Saying("missing_images", (str(evaluation.data.missing),))


def _verdict(criterion: Criterion, evaluation: Evaluation) -> Verdict:
    found = _find(criterion, evaluation)
    if found is None or found.value is None:
        return Verdict(criterion, found, is_met=False, why=Saying("cannot_say"))
    if found.n < criterion.least_n:
        return Verdict(criterion, found, is_met=False, why=Saying("too_few", (str(found.n), str(criterion.least_n))))
    bound = {Bound.LOWER: found.low, Bound.UPPER: found.high, Bound.VALUE: found.value}[criterion.held_against]
    if bound is None:
        return Verdict(criterion, found, is_met=False, why=Saying("no_interval"))
    least, most = criterion.at_least, criterion.at_most
    is_met = (least is None or bound >= least) and (most is None or bound <= most)
    return Verdict(criterion, found, is_met, None if is_met else Saying("bound_is", (f"{bound:.3f}",)))


def _find(criterion: Criterion, evaluation: Evaluation) -> Estimate | None:
    if criterion.metric == "wrong_anatomy_refused":
        return evaluation.wrong_anatomy.refused if evaluation.wrong_anatomy else None
    kind = next((one for one in evaluation.kinds if one.kind == criterion.kind), None)
    if kind is None:
        return None
    if criterion.metric == "lesion_removal_vanished":
        return kind.removals.vanished if kind.removals else None
    found = _estimates(kind, criterion.scanner)
    return next((one for one in found if (one.metric, one.of) == (criterion.metric, criterion.of)), None)


def _estimates(kind: Kind, scanner: str) -> tuple[Estimate, ...]:
    if not scanner:
        return kind.estimates
    return next((one.estimates for one in kind.scanners if one.scanner == scanner), ())
