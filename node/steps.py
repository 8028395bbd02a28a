"""The effect of each step of the work: route a study, read it, say it.

Each is run at least once and may be run again after a crash: it finds its own traces and adds nothing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from node import deliver, infer, report, route
from node.api import Handler
from node.dicom.charset import normalise
from node.dicom.read import order_of, patient_of, read_dataset
from node.domain.findings import Analysis
from node.domain.statement import Statement
from node.domain.study import Order, Patient, Study
from node.domain.work import Assignment, Output, OutputKind
from node.errors import DicomError, InferenceError, MessageError, ReportError, StoreError, TemplateError
from node.paths import write_atomically
from node.report.template import Template
from node.settings import Destination, Hl7Destination, Settings
from node.store import studies, work
from node.store.analyses import load_analysis, save_analysis
from node.store.database import Store

__all__ = ["Site", "infer_assignment", "patient_key", "report_assignment", "report_failure", "route_study"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """All that the steps need: the store and what the site decided, loaded and checked at start."""

    folder: Path
    settings: Settings
    store: Store
    handlers: Mapping[str, Handler]
    templates: Mapping[str, Template]
    version: str


def route_study(site: Site, study_uid: str, generation: int) -> list[str]:
    """Decide who reads a study; the ids of its Assignments."""
    store = site.store
    study = route.gather(study_uid, generation, studies.instances_of(store, study_uid, generation))
    assignments, tries = route.route(study, site.settings.rules, site.handlers)
    reason = "no rule took the study"
    if studies.patient_count(store, study_uid) > 1:
        assignments, reason = [], "its images name more than one Patient ID, so they are not read together"
    studies.add_assignments(store, study_uid, generation, assignments, tries, reason=reason)
    for assignment in assignments:
        log.info("study routed", study_instance_uid=study_uid, handler=assignment.handler, rule=assignment.rule)
    if not assignments:
        log.info("study not routed", study_instance_uid=study_uid, reason=reason)
    return [item.assignment_id for item in work.assignments_of(store, study_uid, generation)]


def infer_assignment(site: Site, assignment_id: str) -> str:
    """Let the handler read the study once; "" if it did, else why the attempt failed."""
    store = site.store
    assignment = work.assignment(store, assignment_id)
    if work.state_of(store, assignment_id) != "assigned":
        return ""  # done before a crash
    folder = _analysis_folder(store, assignment)
    try:
        infer.infer(
            assignment, _study(store, assignment), site=site.folder, folder=folder, settings=site.settings.infer
        )
        analysis = load_analysis(folder)
    except (InferenceError, StoreError) as error:
        log.warning("analysis failed", assignment=assignment_id, handler=assignment.handler, error=str(error))
        return str(error)
    _note(store, assignment, analysis, folder)
    return ""


def report_failure(site: Site, assignment_id: str, reason: str) -> None:
    """Say, as a result like any other, that the analysis failed and why."""
    assignment = work.assignment(site.store, assignment_id)
    folder = _analysis_folder(site.store, assignment)
    analysis = infer.failed_analysis(site.handlers[assignment.handler], _study(site.store, assignment), reason)
    save_analysis(analysis, folder)
    _note(site.store, assignment, analysis, folder)


def _note(store: Store, assignment: Assignment, analysis: Analysis, folder: Path) -> None:
    work.mark_analysed(
        store,
        assignment,
        status=str(analysis.status),
        reason=analysis.reason,
        folder=str(folder.relative_to(store.root)),
        workflow=assignment.assignment_id,
    )
    log.info("study analysed", assignment=assignment.assignment_id, handler=assignment.handler, status=analysis.status)


def report_assignment(site: Site, assignment_id: str) -> str:
    """Build every result of an Assignment and commit them with their outbox rows; "" or why it cannot be done.

    Built again after a crash, results have the same bytes: their time is the time of the analysis.
    """
    store = site.store
    assignment = work.assignment(store, assignment_id)
    if work.state_of(store, assignment_id) in ("reported", "failed"):
        return ""  # done before a crash; what was made must not be made again with other bytes
    try:
        _report(site, assignment)
    except (DicomError, MessageError, ReportError, StoreError, TemplateError) as error:
        work.mark_assignment_failed(store, assignment, str(error), workflow=assignment_id)
        log.error("report failed", assignment=assignment_id, handler=assignment.handler, error=str(error))
        return str(error)
    log.info("study reported", assignment=assignment_id, handler=assignment.handler)
    return ""


def _report(site: Site, assignment: Assignment) -> None:
    store, settings = site.store, site.settings
    analysis = load_analysis(_analysis_folder(store, assignment))
    template = site.templates[analysis.template]
    made_at = datetime.fromtimestamp(work.analysed_at(store, assignment.assignment_id), UTC)
    study = _study(store, assignment)
    corrected = tuple(output for output in work.corrected_outputs(store, assignment) if output.kind.is_dicom)
    statement = report.state(
        analysis,
        template,
        study_instance_uid=study.study_instance_uid,
        language=settings.report.language,
        made_at=made_at,
        is_correction=bool(corrected),
    )
    folder = store.root / "results" / _short(assignment.assignment_id)
    outputs = report.build(
        analysis, statement, template, study=study, folder=folder, settings=settings.report, previous=corrected
    )
    header = normalise(read_dataset(study.instances[0].path))
    patient, order = patient_of(header), order_of(header)
    wanted = {name: settings.destinations.get(name) for name in assignment.destinations}
    messages = _messages(
        site, assignment, statement, patient=patient, order=order, outputs=outputs, wanted=wanted, folder=folder
    )
    work.mark_reported(
        store,
        assignment,
        [*outputs, *messages.values()],
        _deliveries(outputs, messages, wanted),
        patient_key=patient_key(patient, study.study_instance_uid),
        summary=_summary(statement),
        workflow=assignment.assignment_id,
    )


def patient_key(patient: Patient, study_instance_uid: str) -> str:
    """Digest by which messages of one patient keep their order; one without a Patient ID is known by the study."""
    who = (patient.issuer, patient.patient_id) if patient.patient_id else ("", "", study_instance_uid)
    return hashlib.sha256("\0".join(who).encode()).hexdigest()


def _messages(
    site: Site,
    assignment: Assignment,
    statement: Statement,
    *,
    patient: Patient,
    order: Order,
    outputs: tuple[Output, ...],
    wanted: Mapping[str, Destination | None],
    folder: Path,
) -> dict[str, Output]:
    """One ORU for each RIS; its control id depends on assignment and destination only."""
    reports = [output for output in outputs if output.kind in (OutputKind.TEXT_SR, OutputKind.MEASUREMENT_SR)]
    messages = {}
    for name, destination in wanted.items():
        if not isinstance(destination, Hl7Destination):
            continue
        control_id = deliver.derive_control_id(assignment.assignment_id, name)
        content = deliver.build_oru(
            statement,
            patient=patient,
            order=order,
            destination=destination,
            message_control_id=control_id,
            sr_uids=tuple(output.output_id for output in reports),
            sr_series_uid=str(read_dataset(reports[0].path).SeriesInstanceUID),
            application_version=site.version,
            made_at=statement.made_at,
        )
        path = folder / f"{control_id}.hl7"
        write_atomically(path, content)
        sha256 = hashlib.sha256(content).hexdigest()
        messages[name] = Output(control_id, OutputKind.ORU, path, sha256, len(content))
    return messages


def _deliveries(
    outputs: tuple[Output, ...], messages: Mapping[str, Output], wanted: Mapping[str, Destination | None]
) -> list[tuple[str, str]]:
    """What goes where; to a destination that is no more, everything, which makes dead letters with that reason."""
    pairs = []
    for name, destination in wanted.items():
        if destination is None:
            pairs += [(output.output_id, name) for output in outputs]
        elif isinstance(destination, Hl7Destination):
            pairs.append((messages[name].output_id, name))
        else:
            pairs += [(output.output_id, name) for output in outputs if output.kind in destination.objects]
    return pairs


def _summary(statement: Statement) -> list[dict[str, object]]:
    return [
        {
            "finding": finding.label,
            "finding_id": finding.finding_id,
            "sentence": finding.sentence,
            "is_abnormal": finding.is_abnormal,
            "score": finding.score,
            "certainty": None if finding.certainty is None else asdict(finding.certainty),
            "measurements": [
                {"label": item.label, "value": item.value, "unit": item.unit.value} for item in finding.measurements
            ],
        }
        for finding in statement.findings
    ]


def _study(store: Store, assignment: Assignment) -> Study:
    study = route.gather(
        assignment.study_instance_uid,
        assignment.generation,
        studies.instances_of(store, assignment.study_instance_uid, assignment.generation),
    )
    mine = tuple(series for series in study.series if series.series_instance_uid in assignment.series_uids)
    return Study(study.study_instance_uid, study.generation, mine)


def _analysis_folder(store: Store, assignment: Assignment) -> Path:
    return store.root / "analyses" / _short(assignment.assignment_id)


def _short(assignment_id: str) -> str:
    """A folder name for an Assignment: its id is a UID of ours, so its digits are safe in a path."""
    return assignment_id.removeprefix("2.25.")
