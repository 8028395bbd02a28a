"""The effect of each step of the work: route a study, read it, say it.

Each is run at least once and may be run again after a crash: it finds its own traces and adds nothing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from node import deliver, infer, report, route
from node.api import Handler
from node.dicom.charset import normalise
from node.dicom.persons import contradiction
from node.dicom.read import order_of, patient_of, read_dataset
from node.domain.findings import Analysis
from node.domain.orders import most_urgent
from node.domain.statement import Statement
from node.domain.study import Order, Patient, Study
from node.domain.work import Assignment, Output, OutputKind
from node.errors import DicomError, InferenceError, MessageError, ReportError, StoreError, TemplateError
from node.paths import write_atomically
from node.report.template import Template
from node.settings import Destination, FolderDestination, Hl7Destination, Settings
from node.store import studies, work
from node.store.analyses import load_analysis, save_analysis
from node.store.database import Store
from node.store.files import verify_instance
from node.store.orders import FOR_PRIORITY, FOR_REPORT, StoredOrder, complete_order, note_use

__all__ = [
    "Site",
    "analysis_folder",
    "as_ris",
    "infer_assignment",
    "ordered",
    "patient_key",
    "report_assignment",
    "report_failure",
    "results_folder",
    "route_study",
    "study_of",
]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """All that the steps need: the store and what the site decided, loaded and checked at start.

    `children` keep models loaded between studies; without them each study has a child of its own.
    """

    folder: Path
    settings: Settings
    store: Store
    handlers: Mapping[str, Handler]
    templates: Mapping[str, Template]
    version: str
    children: infer.Pool | None = None


def route_study(site: Site, study_uid: str, generation: int) -> list[str]:
    """Decide who reads a study; the ids of its Assignments."""
    store, most_wait_s = site.store, site.settings.complete.most_wait_s
    settled = studies.frozen(store, study_uid, generation)
    study = route.gather(study_uid, generation, studies.instances_of(store, study_uid, generation))
    why_no_wait = "" if settled.may_wait else _why_no_wait(settled)
    held = "" if studies.is_let_go(store, study_uid) else route.held_by(study, site.settings.holds)
    if held:
        studies.keep_held(store, study_uid, generation, held)
        log.info("study held", study_instance_uid=study_uid, generation=generation, reason=held)
        return []
    routing = route.route(study, site.settings.rules, site.handlers, most_wait_s=most_wait_s, why_no_wait=why_no_wait)
    assignments, tries, reason = routing.assignments, routing.tries, "no rule took the study"
    if studies.patient_count(store, study_uid) > 1:
        assignments, reason = (), "its images name more than one Patient ID, so they are not read together"
    elif contradicts := contradiction(instance.path for instance in study.instances):
        assignments, reason = (), f"its images differ in {contradicts}, so they are not read together"
    elif routing.wait_s:
        wait_until = settled.last_instance_at + routing.wait_s
        studies.hold(store, study_uid, generation, tries, reason=routing.waits_for, wait_until=wait_until)
        log.info("study waits", study_instance_uid=study_uid, generation=generation, reason=routing.waits_for)
        return []
    orders, assignments = _by_urgency(store, study, assignments)
    studies.add_assignments(store, study_uid, generation, assignments, tries, reason=reason)
    for assignment in assignments:
        log.info("study routed", study_instance_uid=study_uid, handler=assignment.handler, rule=assignment.rule)
    if not assignments:
        log.info("study not routed", study_instance_uid=study_uid, reason=reason)
    ids = [item.assignment_id for item in work.assignments_of(store, study_uid, generation)]
    note_use(store, orders, ids, FOR_PRIORITY)
    return ids


def _by_urgency(
    store: Store, study: Study, assignments: tuple[Assignment, ...]
) -> tuple[list[StoredOrder], tuple[Assignment, ...]]:
    """The orders that make the reading more urgent than its rule says, and Assignments that are."""
    if not assignments:
        return [], assignments
    try:
        _, _, orders = ordered(store, study)
    except DicomError:  # what is wrong with the image is said when it is read
        return [], assignments
    urgency = most_urgent([one.context for one in orders])
    if urgency is None or all(item.priority <= urgency for item in assignments):
        return [], assignments
    return orders, tuple(replace(item, priority=min(item.priority, urgency)) for item in assignments)


def _why_no_wait(settled: studies.Frozen) -> str:
    if settled.signal == "forced":
        return "when a person called the study whole"
    return f"{settled.waited_s:g} s after its last image"


def infer_assignment(site: Site, assignment_id: str) -> str:
    """Let the handler read the study once; "" if it did, else why the attempt failed."""
    store = site.store
    assignment = work.assignment(store, assignment_id)
    if work.state_of(store, assignment_id) != "assigned":
        return ""  # done before a crash
    folder = analysis_folder(store, assignment)
    try:
        infer.infer(
            assignment,
            study_of(store, assignment),
            site=site.folder,
            folder=folder,
            settings=site.settings.infer,
            pool=site.children,
        )
        analysis = load_analysis(folder)
    except (InferenceError, StoreError) as error:
        log.warning("analysis failed", assignment=assignment_id, handler=assignment.handler, error=str(error))
        return str(error)
    _note(store, assignment, analysis, folder)
    return ""


def report_failure(site: Site, assignment_id: str, reason: str) -> None:
    """Say, as a result like any other, that the analysis failed and why."""
    if work.state_of(site.store, assignment_id) != "assigned":
        return  # done before a crash, or discarded meanwhile
    assignment = work.assignment(site.store, assignment_id)
    folder = analysis_folder(site.store, assignment)
    analysis = infer.failed_analysis(site.handlers[assignment.handler], study_of(site.store, assignment), reason)
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
    if work.state_of(store, assignment_id) in ("reported", "failed", "discarded"):
        return ""  # done before a crash, and must not be made again with other bytes; or not wanted any more
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
    analysis = load_analysis(analysis_folder(store, assignment))
    template = site.templates[analysis.template]
    made_at = datetime.fromtimestamp(work.analysed_at(store, assignment.assignment_id), UTC)
    study = study_of(store, assignment)
    named = (study.instances[0].sop_instance_uid, *analysis.source_uids[:1])
    for instance in (one for one in study.instances if one.sop_instance_uid in named):
        verify_instance(instance)  # whose patient stands on the results; a failed analysis may not have looked
    corrected = tuple(output for output in work.corrected_outputs(store, assignment) if output.kind.is_dicom)
    wanted = {name: settings.destinations.get(name) for name in assignment.destinations}
    kinds = report.kinds_by_language(wanted.values(), settings.report.language)
    statements = {
        language: report.state(
            analysis,
            template,
            study_instance_uid=study.study_instance_uid,
            language=language,
            made_at=made_at,
            is_correction=bool(corrected),
        )
        for language in kinds
    }
    statement, *others = statements.values()
    patient, order, orders = ordered(store, study)
    folder = results_folder(store, assignment)
    outputs = report.build(
        analysis,
        statement,
        template,
        study=study,
        folder=folder,
        settings=settings.report,
        previous=corrected,
        kinds=kinds[statement.language],
        translations=[(other, kinds[other.language]) for other in others],
        order=order if orders else None,
    )
    subject = report.Subject(
        patient=patient,
        order=order,
        generation=assignment.generation,
        source_uids=analysis.source_uids,
        objects=outputs,
        node_version=site.version,
        station_name=settings.report.station_name,
        institution=settings.report.institution,
        patient_id_system=settings.report.patient_id_system,
    )
    documents = report.write_documents(
        wanted.values(), statements, subject, folder=folder, site_language=settings.report.language
    )
    messages = _messages(
        site, assignment, statements, patient=patient, order=order, outputs=outputs, wanted=wanted, folder=folder
    )
    note_use(store, orders, [assignment.assignment_id], FOR_REPORT)
    work.mark_reported(
        store,
        assignment,
        [*outputs, *documents, *messages.values()],
        report.deliveries((*outputs, *documents), messages, wanted, settings.report.language),
        patient_key=patient_key(patient, study.study_instance_uid),
        summary=_summary(statement),
        workflow=assignment.assignment_id,
    )


def ordered(store: Store, study: Study) -> tuple[Patient, Order, list[StoredOrder]]:
    """Whose the images are and what was ordered: by their header, and by the order messages that belong to them."""
    header = normalise(read_dataset(study.instances[0].path))
    patient = patient_of(header)
    order, orders = complete_order(store, patient, order_of(header))
    return patient, order, orders


def patient_key(patient: Patient, study_instance_uid: str) -> str:
    """Digest by which messages of one patient keep their order; one without a Patient ID is known by the study."""
    who = (patient.issuer, patient.patient_id) if patient.patient_id else ("", "", study_instance_uid)
    return hashlib.sha256("\0".join(who).encode()).hexdigest()


def _messages(
    site: Site,
    assignment: Assignment,
    statements: Mapping[str, Statement],
    *,
    patient: Patient,
    order: Order,
    outputs: tuple[Output, ...],
    wanted: Mapping[str, Destination | None],
    folder: Path,
) -> dict[str, Output]:
    """One ORU for each RIS, and for a folder that asks for one; its id depends on assignment and destination only."""
    messages = {}
    for name, found in wanted.items():
        destination = as_ris(found)
        if destination is None:
            continue
        control_id = deliver.derive_control_id(assignment.assignment_id, name)
        language = destination.language or site.settings.report.language
        reports = report.named_reports(outputs, language)
        statement = statements[language]
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


def as_ris(destination: Destination | None) -> Hl7Destination | None:
    """A destination as one that gets an ORU, None if it gets none; a folder gets it as a RIS without settings would."""
    if isinstance(destination, FolderDestination) and OutputKind.ORU in destination.objects:
        return Hl7Destination(destination.name, host="", port=0, language=destination.language)
    return destination if isinstance(destination, Hl7Destination) else None


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


def study_of(store: Store, assignment: Assignment) -> Study:
    """The Study as an Assignment holds it: its Series alone."""
    study = route.gather(
        assignment.study_instance_uid,
        assignment.generation,
        studies.instances_of(store, assignment.study_instance_uid, assignment.generation),
    )
    mine = tuple(series for series in study.series if series.series_instance_uid in assignment.series_uids)
    return Study(study.study_instance_uid, study.generation, mine)


def analysis_folder(store: Store, assignment: Assignment) -> Path:
    """Where the Analysis of an Assignment is kept."""
    return store.root / "analyses" / _short(assignment.assignment_id)


def results_folder(store: Store, assignment: Assignment) -> Path:
    """Where the results of an Assignment are kept."""
    return store.root / "results" / _short(assignment.assignment_id)


def _short(assignment_id: str) -> str:
    """A folder name for an Assignment: its id is a UID of ours, so its digits are safe in a path."""
    return assignment_id.removeprefix("2.25.")
