"""The observations of an ORU: references, findings, numbers and words, one OBX segment each."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from textwrap import shorten

from pydicom.sr.codedict import codes

from node.deliver.profile import Profile
from node.domain.algorithm import Algorithm, Basis
from node.domain.codes import Code
from node.domain.findings import Status
from node.domain.statement import StatedFinding, StatedMeasurement, Statement
from node.errors import MessageError
from node.network.er7 import (
    NOTHING,
    Er7,
    components,
    escape,
    formatted,
    moment_field,
    repetitions,
    segment,
)

__all__ = ["NOT_OBTAINED", "NOT_SOUGHT", "OBSERVATIONS", "Form", "code_field", "observations", "result_status"]

LONGEST_SUB_ID = 20  # HL7 v2.5.1 7.4.2.4
LONGEST_TEXT = 199  # HL7 v2.5.1 2.A.74 (ST); the SR has the method in full
LONGEST_NUMBER = 16  # HL7 v2.5.1 2.A.47 (NM)
STORED, CORRECTED, NOT_OBTAINED, NOT_SOUGHT, DETAIL = Er7("R"), Er7("C"), Er7("X"), Er7("N"), Er7("O")  # table 0085
CODED = Er7("CE")  # HL7 table 0125
CRITICAL, ABNORMAL, NORMAL = Er7("AA"), Er7("A"), Er7("N")  # HL7 table 0078

# Observation identifiers. RAD-128 and the cardiology transactions of IHE give three of them meanings of their own.
STUDY_UID = Code(codes.DCM.Study.value, "DCM", "DICOM Study")
SERIES_UID = Code(codes.DCM.SeriesInstanceUID.value, "DCM", "Series Instance UID")
SOP_UID = Code(codes.DCM.PerformedProcedureStepSOPInstanceUID.value, "DCM", "SOP Instance UID")
FINDING = Code(codes.DCM.Finding.value, "DCM", "Finding")
SITE = Code(codes.SCT.FindingSite.value, "SCT", "Finding Site")
LATERALITY = Code(codes.SCT.Laterality.value, "SCT", "Laterality")
CERTAINTY = Code(codes.DCM.CertaintyOfFinding.value, "DCM", codes.DCM.CertaintyOfFinding.meaning)
SUMMARY = Code(
    codes.DCM.CADProcessingAndFindingsSummary.value, "DCM", codes.DCM.CADProcessingAndFindingsSummary.meaning
)
FINDINGS = Code(codes.LN.Findings.value, "LN", "Findings")
RECOMMENDATIONS = Code(codes.LN.Recommendations.value, "LN", "Recommendations")
IMPRESSIONS = Code(codes.LN.Impressions.value, "LN", "Impressions")
PERCENT = Code(codes.UCUM.Percent.value, "UCUM", "Percent")


def _row(code: Code, kind: str, what: str) -> tuple[str, str, str]:
    return f"{code.value} {code.meaning}", kind, what


OBSERVATIONS = (
    _row(STUDY_UID, "ST", "Study Instance UID of the images"),
    _row(SERIES_UID, "ST", "Series Instance UID of the first report that is named, if there is one"),
    _row(SOP_UID, "ST", "SOP Instance UID of each report of the same reading"),
    _row(FINDING, "coded", "each finding; what belongs to it follows and has the same OBX-4"),
    _row(SITE, "coded", "where it is, if the report template says so"),
    _row(LATERALITY, "coded", "its side, if it has one"),
    ("code of the report template", "NM", "each measurement, with its unit"),
    _row(CERTAINTY, "NM", "probability in %, of learned models only"),
    _row(FINDINGS, "TX", "the finding in a sentence; after the findings, what is not looked at"),
    _row(RECOMMENDATIONS, "TX", "what a guideline advises, with its source, if the report template holds any"),
    _row(IMPRESSIONS, "FT", "conclusion, why there is none, and that nobody has verified it"),
    _row(SUMMARY, "coded", "whether algorithms succeeded, and with findings"),
)
"""What `observations` writes, in its order: OBX-3, OBX-2 and what it says."""


@dataclass(frozen=True, slots=True)
class Form:
    """How one RIS wants observations: in which version, and coded values as ``CE`` or ``CWE``."""

    version: Profile
    coded_type: str = "CE"


def observations(
    statement: Statement,
    *,
    study_instance_uid: str,
    sr_series_uid: str,
    sr_uids: Iterable[str],
    node: str,
    form: Form,
) -> list[Er7]:
    """All OBX segments of one Statement; `node` is name and version of the application that sends it.

    Raises
    ------
    MessageError
        If a number is not finite or has no unit, or a code is incomplete.
    """
    fields = [*_references(study_instance_uid, sr_series_uid, sr_uids), *_results(statement, node)]
    return [segment("OBX", {1: Er7(str(number)), **_shaped(found, form)}) for number, found in enumerate(fields, 1)]


def _shaped(found: dict[int, Er7], form: Form) -> dict[int, Er7]:
    """The same observation as this version and this RIS want it."""
    shaped = dict(found)
    if shaped[2] == CODED:
        shaped[2] = Er7(form.coded_type)
    if form.version.needs_sub_id and not shaped.get(4):
        shaped[4] = Er7("1")
    if not form.version.has_equipment and 18 in shaped:
        node = shaped.pop(18).split("~")[0]
        del shaped[19]
        shaped[15] = components(NOTHING, Er7(node))
    return shaped


def result_status(statement: Statement) -> Er7:
    """OBX-11 (HL7 table 0085); a correction replaces what was sent before, whatever it says now."""
    if statement.is_correction:
        return CORRECTED
    return {Status.FAILED: NOT_OBTAINED, Status.NOT_EVALUABLE: NOT_SOUGHT}.get(statement.status, STORED)


def _references(study_uid: str, series_uid: str, sr_uids: Iterable[str]) -> Iterator[dict[int, Er7]]:
    """Where the images and the reports are: the Study first, as RAD-128 demands."""
    uids = [(STUDY_UID, study_uid, ""), (SERIES_UID, series_uid, "")]
    uids += [(SOP_UID, uid, str(number)) for number, uid in enumerate(sr_uids, 1)]
    for concept, uid, sub_id in uids:
        if uid:
            yield {2: Er7("ST"), 3: code_field(concept), 4: escape(sub_id), 5: escape(uid), 11: DETAIL}


def _results(statement: Statement, node: str) -> Iterator[dict[int, Er7]]:
    """What was found, in codes, numbers and words, each with the algorithm that says so."""
    algorithm = statement.algorithm
    origin = {
        11: result_status(statement),
        17: _method(algorithm),
        18: repetitions((escape(node), escape(algorithm.device))),
        19: moment_field(statement.made_at),
    }
    for finding in statement.findings:
        sub_id = _sub_id(finding.finding_id)
        for fields in _finding(finding, algorithm):
            yield {**origin, 4: sub_id, **fields}
    for number, sentence in enumerate(statement.limits, 1):
        yield {**origin, 2: Er7("TX"), 3: code_field(FINDINGS), 4: Er7(f"limit-{number}"), 5: escape(sentence)}
    for number, advice in enumerate(statement.recommendations, 1):
        text = escape(f"{advice.text} ({advice.source})")
        yield {**origin, 2: Er7("TX"), 3: code_field(RECOMMENDATIONS), 4: Er7(f"advice-{number}"), 5: text}
    words = [part for part in (statement.conclusion, statement.reason, statement.responsibility) if part]
    yield {**origin, 2: Er7("FT"), 3: code_field(IMPRESSIONS), 5: formatted("\n".join(words))}
    yield {**origin, 2: CODED, 3: code_field(SUMMARY), 5: code_field(statement.summary)}


def _finding(finding: StatedFinding, algorithm: Algorithm) -> Iterator[dict[int, Er7]]:
    flag = CRITICAL if finding.is_critical else ABNORMAL if finding.is_abnormal else NORMAL
    yield {2: CODED, 3: code_field(FINDING), 5: code_field(finding.concept), 8: flag}
    for concept, value in ((SITE, finding.site), (LATERALITY, finding.laterality)):
        if value is not None:
            yield {2: CODED, 3: code_field(concept), 5: code_field(value)}
    for measurement in finding.measurements:
        yield _measurement(measurement, algorithm)
    if finding.certainty is not None and algorithm.basis is Basis.LEARNED:
        if not 0.0 <= finding.certainty.probability <= 1.0:
            raise MessageError("a certainty must be a probability of 0 to 1")
        percent = _number(round(finding.certainty.probability * 100.0, 1))
        yield {2: Er7("NM"), 3: code_field(CERTAINTY), 5: percent, 6: code_field(PERCENT)}
    yield {2: Er7("TX"), 3: code_field(FINDINGS), 5: escape(finding.sentence)}


def _measurement(measurement: StatedMeasurement, algorithm: Algorithm) -> dict[int, Er7]:
    if not measurement.unit.value or not measurement.unit.scheme:
        raise MessageError(f"measurement {measurement.concept.meaning!r} has no unit")
    method = components(NOTHING, escape(shorten(measurement.method, LONGEST_TEXT, placeholder="...")))
    return {
        2: Er7("NM"),
        3: code_field(measurement.concept),
        5: _number(measurement.value),
        6: code_field(measurement.unit),
        17: repetitions((_method(algorithm), method)),
    }


def _method(algorithm: Algorithm) -> Er7:
    """OBX-17: the algorithm and its version, in a local coding scheme (HL7 table 0396)."""
    return components(escape(algorithm.name), escape(f"{algorithm.name} {algorithm.version}"), Er7("L"))


def code_field(code: Code) -> Er7:
    """A coded value as CE writes it (HL7 v2.5.1 2.A.10)."""
    if not code.value or not code.scheme:
        raise MessageError("a coded value needs a code and its scheme")
    return components(escape(code.value), escape(code.meaning), escape(code.scheme))


def _sub_id(finding_id: str) -> Er7:
    """OBX-4 of a finding: its id, or if that is too long, as much as fits and a digest that keeps it apart."""
    if len(finding_id) > LONGEST_SUB_ID:
        finding_id = f"{finding_id[:11]}-{hashlib.sha256(finding_id.encode()).hexdigest()[:8]}"
    return escape(finding_id)


def _number(value: float) -> Er7:
    """A number as NM writes it: digits and a point, no exponent, as exact as 16 characters allow."""
    if not math.isfinite(value):
        raise MessageError("a measurement must be a finite number")
    for written in (repr(float(value)), *(f"{value:.{digits}g}" for digits in range(15, 0, -1))):
        text = format(Decimal(written), "f")
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        if len(text) <= LONGEST_NUMBER:
            return Er7("0" if text == "-0" else text)
    raise MessageError("a measurement cannot be written in 16 characters")
