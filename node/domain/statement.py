"""One truth, many forms: what the node says, before it becomes SR, text, ORU or a page.

A Statement is an Analysis put into codes and words by a report template. Every form renders the
same Statement, so a finding has one id, one number and one sentence wherever it is read.
"""

from dataclasses import dataclass
from datetime import datetime

from node.domain.algorithm import Algorithm
from node.domain.codes import Code
from node.domain.findings import Certainty, Region, Status

__all__ = ["Recommendation", "StatedFinding", "StatedMeasurement", "Statement"]


@dataclass(frozen=True, slots=True)
class StatedMeasurement:
    """A number in codes: concept, value, UCUM unit, and its method in words ("" if the concept says it)."""

    concept: Code
    value: float
    unit: Code
    label: str
    method: str = ""


@dataclass(frozen=True, slots=True)
class StatedFinding:
    """A Finding in codes and in one sentence of the Statement's language.

    `tracking_uid` depends on Study, model and finding id only, so it is stable across re-runs;
    `label` is the finding's short name in the Statement's language. `is_critical` if somebody must be told at once.
    """

    finding_id: str
    tracking_uid: str
    concept: Code
    category: Code
    label: str
    sentence: str
    is_abnormal: bool
    site: Code | None = None
    laterality: Code | None = None
    measurements: tuple[StatedMeasurement, ...] = ()
    regions: tuple[Region, ...] = ()
    score: float | None = None
    certainty: Certainty | None = None
    is_critical: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What a guideline advises for what was found; `source` names the guideline, `finding_ids` what it is for."""

    text: str
    source: str
    finding_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """All that is said about one Assignment, in one language.

    Parameters
    ----------
    summary
        One of 111242, 111241, 111245 (DCM) or 373121007 (SCT): the answer to (111017,DCM,"CAD
        Processing and Findings Summary").
    title
        What was done, such as ``Brain volume on T1 MR``.
    conclusion
        The one sentence a reader sees first.
    reason
        Why not evaluable or failed, else "".
    limits
        What the algorithm does not look at, one sentence each.
    responsibility
        That this is made by a machine and verified by nobody.
    language
        ``en`` or ``zh`` (zh-CN).
    is_correction
        True if an earlier generation of the Study was reported before.
    recommendations
        What guidelines advise, each with its source; empty if the template holds none that fits.
    """

    status: Status
    summary: Code
    title: str
    conclusion: str
    findings: tuple[StatedFinding, ...]
    algorithm: Algorithm
    made_at: datetime
    language: str
    responsibility: str
    reason: str = ""
    limits: tuple[str, ...] = ()
    is_correction: bool = False
    recommendations: tuple[Recommendation, ...] = ()
