"""An Analysis put into codes and words: the one truth that every form of a result repeats."""

import math
from datetime import datetime

from node.domain.algorithm import Algorithm, Basis
from node.domain.findings import Analysis, Finding, Measurement, Status
from node.domain.statement import Recommendation, StatedFinding, StatedMeasurement, Statement
from node.errors import ReportError
from node.report.concepts import LATERALITY, SUMMARY
from node.report.identity import tracking_uid
from node.report.template import RecommendationTemplate, Template
from node.report.words import WORDS, fill

__all__ = ["state"]

LONGEST_NAME = 64  # PS3.5 6.2, VR LO


def state(
    analysis: Analysis,
    template: Template,
    *,
    study_instance_uid: str,
    language: str,
    made_at: datetime,
    is_correction: bool,
) -> Statement:
    """Say what was found, in codes and in one language.

    Parameters
    ----------
    language
        ``en`` or ``zh``.
    made_at
        When the report is made; every object and message of it carries this time.
    is_correction
        True if an earlier generation of the Study was reported before.

    Raises
    ------
    TemplateError
        If the template does not know a kind, quantity or limit.
    ReportError
        If the analysis contradicts itself or says what it must not: a number without a finite value
        or in another unit, a probability from a rule-based algorithm, a failure without a reason.
    """
    if language not in WORDS:
        raise ReportError(f"language must be one of {', '.join(WORDS)}, found {language!r}")
    if made_at.tzinfo is None:
        raise ReportError("the time of a report must carry its time zone")
    _check(analysis, template)
    findings = tuple(
        _finding(finding, analysis, template, study_instance_uid, language) for finding in analysis.findings
    )
    reason = template.reasons.get(analysis.reason_key, {}).get(language, analysis.reason).rstrip(" .。")
    said = {
        "count": str(len(findings)) if findings else "",
        "sentences": WORDS[language].gap.join(item.sentence for item in findings),
        "reason": reason,
    }
    return Statement(
        status=analysis.status,
        summary=SUMMARY[analysis.status],
        title=template.title[language],
        conclusion=fill(template.conclusions[analysis.status][language], said),
        findings=findings,
        algorithm=analysis.algorithm,
        made_at=made_at,
        language=language,
        responsibility=template.responsibility[language],
        reason=reason,
        limits=tuple(template.limit(key, language) for key in analysis.not_looked_at),
        is_correction=is_correction,
        recommendations=_recommendations(analysis, template, language),
    )


def _recommendations(analysis: Analysis, template: Template, language: str) -> tuple[Recommendation, ...]:
    """What fits an abnormal finding; a plain measurement and a study without findings get no advice."""
    found = []
    for row in template.recommendations:
        ids = tuple(finding.finding_id for finding in analysis.findings if _fits(finding, row))
        if ids:
            found.append(Recommendation(row.text[language], row.source[language], ids))
    return tuple(found)


def _fits(finding: Finding, row: RecommendationTemplate) -> bool:
    if not finding.is_abnormal or row.finding not in ("", finding.kind):
        return False
    values = [item.value for item in finding.measurements if item.quantity == row.quantity]
    return not row.quantity or any(row.minimum <= value < row.below for value in values)


def _finding(
    finding: Finding, analysis: Analysis, template: Template, study_instance_uid: str, language: str
) -> StatedFinding:
    row, words = template.finding(finding.kind), WORDS[language]
    if finding.laterality and finding.laterality not in LATERALITY:
        raise ReportError(f"finding {finding.finding_id}: laterality must be R, L, B or empty")
    certainty = finding.certainty
    said = {"id": finding.finding_id, "laterality": template.laterality.get(finding.laterality, {}).get(language, "")}
    if finding.score is not None:
        said["score"] = f"{_finite(finding.score, finding.finding_id):.2f}"
    if finding.qualities:
        said["qualities"] = words.clause.join(template.quality(key, language) for key in finding.qualities)
    if certainty is not None:
        said["certainty"] = (
            f"{100.0 * certainty.probability:.0f} %{words.opening}{words.tier[certainty.tier]}{words.closing}"
        )
    for measurement in finding.measurements:
        said[measurement.quantity] = _number_in_words(measurement, template)
    return StatedFinding(
        finding_id=finding.finding_id,
        tracking_uid=tracking_uid(study_instance_uid, analysis.algorithm.name, finding.finding_id),
        concept=row.concept,
        category=row.category,
        label=row.label[language],
        sentence=fill(row.sentence[language], said),
        is_abnormal=finding.is_abnormal,
        is_critical=finding.is_abnormal and row.is_critical(certainty),
        site=row.site,
        laterality=LATERALITY.get(finding.laterality),
        measurements=tuple(_measurement(item, finding, template, language) for item in finding.measurements),
        regions=finding.regions,
        score=None if finding.score is None else float(finding.score),
        certainty=certainty,
    )


def _measurement(measurement: Measurement, finding: Finding, template: Template, language: str) -> StatedMeasurement:
    row = template.measurement(measurement.quantity)
    if measurement.unit != row.unit.value:
        raise ReportError(
            f"finding {finding.finding_id}: {measurement.quantity} must be in {row.unit.value}, "
            f"found {measurement.unit!r}"
        )
    value = _finite(measurement.value, finding.finding_id)
    method = template.phrase(measurement.method, language)
    return StatedMeasurement(row.concept, value, row.unit, row.label[language], method)


def _number_in_words(measurement: Measurement, template: Template) -> str:
    row = template.measurement(measurement.quantity)
    unit = "" if row.unit.value == "1" else f" {row.unit.value}"
    return f"{measurement.value:.{row.decimals}f}{unit}"


def _finite(value: float, finding_id: str) -> float:
    if not math.isfinite(value):
        raise ReportError(f"finding {finding_id}: a number must be finite, found {value}")
    return float(value)


def _check(analysis: Analysis, template: Template) -> None:
    if analysis.template != template.name:
        raise ReportError(f"the analysis asks for template {analysis.template!r}, found {template.name!r}")
    _check_algorithm(analysis.algorithm)
    if analysis.status in {Status.NOT_EVALUABLE, Status.FAILED} and not analysis.reason:
        raise ReportError(f"an analysis that is {analysis.status.value} must say why")
    if analysis.status in {Status.NOT_EVALUABLE, Status.FAILED} and analysis.findings:
        raise ReportError(f"an analysis that is {analysis.status.value} must have no findings")
    if analysis.status is Status.FINDINGS and not analysis.findings:
        raise ReportError("an analysis with findings must name them")
    ids = [finding.finding_id for finding in analysis.findings]
    if len(set(ids)) < len(ids):
        raise ReportError("two findings of one analysis have the same id")
    for finding in analysis.findings:
        certainty = finding.certainty
        if certainty is None:
            continue
        if analysis.algorithm.basis is not Basis.LEARNED:
            raise ReportError(f"finding {finding.finding_id}: a rule-based algorithm must not state a probability")
        if not 0.0 <= certainty.probability <= 1.0:
            raise ReportError(f"finding {finding.finding_id}: a probability must be 0 to 1")


def _check_algorithm(algorithm: Algorithm) -> None:
    for name in ("name", "version", "manufacturer"):
        value = getattr(algorithm, name)
        if not 0 < len(value) <= LONGEST_NAME or "\\" in value:
            raise ReportError(f"algorithm {name} must have 1 to {LONGEST_NAME} characters and no backslash")
