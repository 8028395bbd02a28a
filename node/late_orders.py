"""What an order does that comes late: before the reading it hastens it, after the result it is told to the RIS.

Both run at every sweep and may be cut short anywhere: what was done is found again, and is not done twice.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from node import deliver, report
from node.deliver.said import named_reports, order_of_message
from node.domain.findings import Analysis
from node.domain.orders import most_urgent
from node.domain.statement import Statement
from node.domain.study import Order, Patient
from node.domain.work import Assignment, Output, OutputKind, Priority
from node.errors import DicomError, MessageError, ReportError, StoreError, TemplateError
from node.paths import write_atomically
from node.steps import Site, analysis_folder, as_ris, ordered, patient_key, results_folder, study_of
from node.store import late_orders, work
from node.store.analyses import load_analysis
from node.store.files import verify_instance
from node.store.late_orders import Late
from node.store.orders import StoredOrder

__all__ = ["hasten_readings", "resend_results"]

log = structlog.get_logger(__name__)

Hasten = Callable[[str, Priority], None]


@dataclass(frozen=True, slots=True)
class _Known:
    """Whose a result is and what was ordered by now; `parts` name the orders, `at` is when the last of them came."""

    patient: Patient
    order: Order
    parts: tuple[str, ...]
    at: datetime


def hasten_readings(site: Site, hasten: Hasten) -> int:
    """Make what waits to be read as urgent as its orders are; how many Assignments.

    Parameters
    ----------
    hasten
        Moves the work on an Assignment forward in its queue; it comes before the row, so that a crash between them
        leaves nothing undone.
    """
    count = 0
    for assignment_id in late_orders.hasty_orders(site.store):
        item = work.assignment(site.store, assignment_id)
        study = study_of(site.store, item)
        if not study.instances:
            continue
        try:
            _, _, orders = ordered(site.store, study)
        except DicomError:  # what is wrong with the image is said when it is read
            continue
        urgency = most_urgent([one.context for one in orders])
        if urgency is not None and urgency < item.priority:
            hasten(assignment_id, urgency)
            is_done = late_orders.hasten(site.store, item, urgency, _ids(orders))
            log.info("reading made more urgent", assignment=assignment_id, handler=item.handler)
            count += is_done
    return count


def resend_results(site: Site) -> int:
    """Make the messages of results again whose orders came after them, if the site wants that; how many Assignments.

    An order counts for as long as a delivery is tried: a site that begins to want this does not get years again.
    """
    if not site.settings.report.resend_after_late_order:
        return 0
    since = site.store.clock() - timedelta(hours=site.settings.deliver.give_up_after_h).total_seconds()
    count = 0
    for late in late_orders.late_orders(site.store, since=since):
        item = work.assignment(site.store, late.assignment_id)
        try:
            count += _resend(site, item, late)
        except (DicomError, MessageError, ReportError, StoreError, TemplateError) as error:
            late_orders.leave_orders(site.store, item, late.order_ids, str(error))
            log.error("message not made again", assignment=item.assignment_id, handler=item.handler, error=str(error))
        except OSError as error:  # the disk may have room at the next sweep
            log.warning("message not made again", assignment=item.assignment_id, error=str(error.strerror))
    return count


def _resend(site: Site, item: Assignment, late: Late) -> bool:
    study = study_of(site.store, item)
    if not study.instances:
        raise StoreError("its images were removed")
    verify_instance(study.instances[0])  # whose patient stands on the message
    patient, order, orders = ordered(site.store, study)
    used = set(late.order_ids) & _ids(orders)
    if not used:
        late_orders.leave_orders(site.store, item, late.order_ids)
        return False
    known = _Known(
        patient=patient,
        order=order,
        parts=tuple(str(order_id) for order_id in sorted(_ids(orders) | set(late.order_ids))),
        at=_made_at(site, item, orders),
    )
    messages = _messages(site, item, known)
    if not messages:
        late_orders.leave_orders(site.store, item, late.order_ids)
        return False
    is_done = late_orders.resend(
        site.store,
        item,
        list(messages.values()),
        [(output.output_id, name) for name, output in messages.items()],
        patient_key=patient_key(patient, study.study_instance_uid),
        order_ids=used,
        left_ids=set(late.order_ids) - used,
    )
    if is_done:
        log.info("message made again for a late order", assignment=item.assignment_id, handler=item.handler)
    return is_done


def _made_at(site: Site, item: Assignment, orders: Sequence[StoredOrder]) -> datetime:
    """When the last of the orders came, but not before the result itself, also if the clock was set back."""
    analysed_at = work.analysed_at(site.store, item.assignment_id)
    return datetime.fromtimestamp(max(analysed_at, *(one.at for one in orders)), UTC)


def _messages(site: Site, item: Assignment, known: _Known) -> dict[str, Output]:
    """The ORU for each RIS to which it says more of the order than the one before.

    Its id and its time depend on the orders only, so made again after a crash it is the same message.
    """
    analysis = load_analysis(analysis_folder(site.store, item))
    found = {}
    for name, before in late_orders.last_messages(site.store, item.assignment_id).items():
        destination = as_ris(site.settings.destinations.get(name))
        if destination is None:
            continue
        control_id = deliver.derive_control_id(item.assignment_id, name, *known.parts)
        earlier = before.path.read_bytes()
        series_uid, sr_uids = named_reports(earlier, destination)
        content = deliver.build_oru(
            _statement(site, item, analysis, destination.language or site.settings.report.language),
            patient=known.patient,
            order=known.order,
            destination=destination,
            message_control_id=control_id,
            sr_uids=sr_uids,
            sr_series_uid=series_uid,
            application_version=site.version,
            made_at=known.at,
        )
        if order_of_message(content, destination) == order_of_message(earlier, destination):
            continue
        path = results_folder(site.store, item) / f"{control_id}.hl7"
        write_atomically(path, content)
        found[name] = Output(control_id, OutputKind.ORU, path, hashlib.sha256(content).hexdigest(), len(content))
    return found


def _statement(site: Site, item: Assignment, analysis: Analysis, language: str) -> Statement:
    if analysis.template not in site.templates:
        raise TemplateError(f"there is no report template {analysis.template} any more")
    return report.state(
        analysis,
        site.templates[analysis.template],
        study_instance_uid=item.study_instance_uid,
        language=language,
        made_at=datetime.fromtimestamp(work.analysed_at(site.store, item.assignment_id), UTC),
        is_correction=True,
    )


def _ids(orders: Sequence[StoredOrder]) -> set[int]:
    return {order_id for one in orders for order_id in one.ids}
