"""The working side of the node, wired: complete, route, infer, report, deliver.

The receiver process (`node.front`) keeps objects and does nothing else. The worker process settles studies and does
the rest, as durable workflows: each effect is a step, and a workflow that a dead process left behind goes on
where it stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from node import __version__, complete, infer, report
from node.audit import write_anchor
from node.deliver import DicomConnection, MllpConnection, check_destination
from node.deliver.connections import Connection, connection_to
from node.deliver.outbox import visit
from node.deliver.rounds import Checked
from node.deliver.verify import check
from node.domain.work import Priority
from node.engine import Engine, Queue
from node.errors import ConfigError, StoreError
from node.late_orders import hasten_readings, resend_results
from node.network.tls import server_context
from node.settings import Hl7Destination, Settings
from node.steps import Site, infer_assignment, report_assignment, report_failure, route_study
from node.store import studies, work
from node.store.check import open_sound_store
from node.store.erase import finish_removals
from node.store.nightly import check_share
from node.store.orders import forget_orders_before
from node.store.outbox import Batch, open_batches
from node.store.removal import ERASE
from node.store.retention import sweep_partial, tidy

__all__ = [
    "Worker",
    "open_site",
    "start_worker",
    "work_prefixes",
]

log = structlog.get_logger(__name__)

FINISHED_WORK_KEPT = timedelta(days=7)  # what has ended is told by the rows; the engine's memory is for repeats
TRIES = 3  # a step may fail for reasons that pass: no room on the disk, a database that is locked for too long


def open_site(folder: Path, settings: Settings) -> Site:
    """Load and check everything the site decides, and open its store.

    Raises
    ------
    WetreadError
        If a handler, template, model card, rule or the store is not what it must be.
    """
    infer.check_onnxruntime(settings.infer.device)
    handlers = infer.load_handlers(folder / "handlers")
    templates = report.load_templates(folder / "sr_templates")
    for rule in settings.rules:
        if rule.handler not in handlers:
            raise ConfigError(f"rule {rule.name!r} names the handler {rule.handler!r}; known are {', '.join(handlers)}")
    for handler in handlers.values():
        if handler.template not in templates:
            raise ConfigError(f"handler {handler.name} names the template {handler.template!r}, which is not there")
        for key in handler.not_looked_at:
            templates[handler.template].limit(key, settings.report.language)
    for destination in settings.destinations.values():
        if isinstance(destination, Hl7Destination):
            check_destination(destination)
            MllpConnection(destination)  # opens nothing, but reads its certificates
    if settings.hl7.port and settings.hl7.tls:
        server_context(settings.hl7, where="[hl7]")
    store, children = open_sound_store(settings.store.path), infer.Pool(settings.infer)
    return Site(folder, settings, store, handlers, templates, __version__, children)


@dataclass(slots=True)
class Worker:
    """The worker of one store: settles studies and runs what follows, durably.

    `engine` is set when it has started; workflows that were left behind begin to run at that moment.
    """

    site: Site
    connections: Mapping[str, Connection]
    engine: Engine = field(init=False)
    asker: complete.Asker = field(init=False)

    def __post_init__(self) -> None:
        """Make ready to ask senders what they hold."""
        settings = self.site.settings
        self.asker = complete.Asker(self.site.store, settings.complete, settings.dicom.ae_title)

    # The workflows. Recorded work refers to their names and to the order of their steps: only ever append.

    def read_study(self, study_uid: str, generation: int) -> None:
        """Route a study that is whole and hand each Assignment on."""
        for assignment_id in self.engine.step("route", route_study, self.site, study_uid, generation):
            self.enqueue_assignment(assignment_id)

    def read_assignment(self, assignment_id: str, attempts: int) -> None:
        """Infer, report, and fill the outbox; an analysis that fails every time is reported as failed.

        `attempts` is recorded with the work: another setting at the next start must not change its steps.
        """
        error = ""
        for attempt in range(1, attempts + 1):
            error = self.engine.step(f"infer {attempt}", infer_assignment, self.site, assignment_id)
            if not error:
                break
        if error:
            self.engine.step("report failure", report_failure, self.site, assignment_id, error)
        if not self.engine.step("report", report_assignment, self.site, assignment_id):
            assignment = work.assignment(self.site.store, assignment_id)
            for name in assignment.destinations:
                self.enqueue_visit(Batch(assignment_id, name, assignment.priority), visit_number=1)

    def visit_destination(self, assignment_id: str, name: str, visit_number: int, priority: int) -> None:
        """Send what is pending to one destination; if it does not take all, come again later."""
        delay_s = self.engine.step("visit", self._visit, assignment_id, name)
        if delay_s is not None:
            batch = Batch(assignment_id, name, Priority(priority))
            self.enqueue_visit(batch, visit_number=visit_number + 1, delay_s=delay_s)

    def _visit(self, assignment_id: str, name: str) -> float | None:
        settings = self.site.settings
        return visit(
            self.site.store,
            assignment_id,
            name,
            destinations=settings.destinations,
            connections=self.connections,
            settings=settings.deliver,
        )

    # Handing over; an id that was handed over before is not run again.

    def enqueue_study(self, study_uid: str, generation: int, *, number: int = 1) -> None:
        """Hand a frozen study to the engine."""
        workflow_id = f"{_study_prefix(study_uid, generation)}{number}"
        self.engine.enqueue("studies", self.read_study, workflow_id, study_uid, generation, priority=Priority.STAT)

    def enqueue_assignment(self, assignment_id: str, *, number: int = 1) -> None:
        """Hand an Assignment to the engine, STAT before routine."""
        priority = work.assignment(self.site.store, assignment_id).priority
        workflow_id, attempts = f"{_reading_prefix(assignment_id)}{number}", self.site.settings.infer.attempts
        self.engine.enqueue("readings", self.read_assignment, workflow_id, assignment_id, attempts, priority=priority)

    def enqueue_visit(self, batch: Batch, *, visit_number: int, delay_s: float | None = None) -> None:
        """Hand a visit to the queue of its destination; others do not wait for it."""
        self.engine.enqueue(
            "visits",
            self.visit_destination,
            f"{_visit_prefix(batch)}{visit_number}",
            batch.assignment_id,
            batch.destination,
            visit_number,
            int(batch.priority),
            priority=batch.priority,
            partition=batch.destination,
            delay_s=delay_s,
        )

    # What the timers do.

    def settle(self) -> None:
        """Freeze the studies that are whole now and hand them over, and take up those that waited long enough."""
        store = self.site.store
        for connection in self.connections.values():
            if isinstance(connection, DicomConnection):
                connection.close_if_idle()
        for study_uid, generation in complete.settle(store, self.site.settings.complete):
            log.info("study complete", study_instance_uid=study_uid, generation=generation)
            self.enqueue_study(study_uid, generation)
        for study_uid, generation in studies.end_waits(store):
            log.info("study waits no longer", study_instance_uid=study_uid, generation=generation)
            count, _ = self.engine.chain(_study_prefix(study_uid, generation))
            self.enqueue_study(study_uid, generation, number=count + 1)

    def ask(self) -> None:
        """Ask the senders of studies that are due whether they hold more; slow, so it has a timer of its own."""
        self.asker.ask()

    def verifiable(self) -> list[str]:
        """Names of the destinations that can be asked what they have; each has a timer of its own."""
        return [name for name, one in self.site.settings.destinations.items() if isinstance(one, Checked)]

    def verify(self, name: str) -> None:
        """Ask a destination whether it has what it took; slow, so the others do not wait for it."""
        settings = self.site.settings
        destination = settings.destinations[name]
        if isinstance(destination, Checked):
            check(
                self.site.store,
                destination,
                self.connections[name],
                calling_ae=settings.dicom.ae_title,
                settings=settings.deliver,
            )

    def sweep(self) -> None:
        """Files, rows and queue are separate stores: hand over again what fell between them, and end what failed."""
        store, engine = self.site.store, self.engine
        for left in complete.unsettled(store):
            study_uid, generation = left.study_uid, left.generation
            count, is_alive = engine.chain(_study_prefix(study_uid, generation))
            tries = count - left.waits
            if not is_alive and tries < TRIES:
                self.enqueue_study(study_uid, generation, number=count + 1)
            elif not is_alive:
                studies.mark_generation_failed(store, study_uid, generation, f"routing failed {tries} times")
        for assignment in work.unfinished_assignments(store):
            count, is_alive = engine.chain(_reading_prefix(assignment.assignment_id))
            if not is_alive and count < TRIES:
                self.enqueue_assignment(assignment.assignment_id, number=count + 1)
            elif not is_alive:
                reason = f"reading failed {count} times; the log says why"
                work.mark_assignment_failed(store, assignment, reason, workflow=assignment.assignment_id)
        hasten_readings(self.site, self._hasten)
        resend_results(self.site)
        for batch in open_batches(store):
            count, is_alive = engine.chain(_visit_prefix(batch))
            if not is_alive:
                self.enqueue_visit(batch, visit_number=count + 1)
        count = engine.shorten_delays(longest_s=self.site.settings.deliver.max_retry_s)
        if count:
            log.warning("clock was set back, waits shortened", count=count)
        with store.reading() as connection:
            write_anchor(connection, store.root / "audit.anchor")

    def _hasten(self, assignment_id: str, priority: Priority) -> None:
        count, is_alive = self.engine.chain(_reading_prefix(assignment_id))
        if is_alive:
            self.engine.hasten(f"{_reading_prefix(assignment_id)}{count}", priority)

    def tidy(self) -> None:
        """Finish removals that were cut short, remove what was kept long enough, and let the engine forget old work."""
        store, engine = self.site.store, self.engine
        try:
            for gone in finish_removals(store):
                if gone.kind == ERASE:
                    engine.forget(work_prefixes(gone.study_uid, gone.assignment_ids))
            done = tidy(store, self.site.settings.store)
            self._forget_orders()
        except StoreError as error:  # a backup or a check needs the files; the next time will do
            log.warning("tidying put off", reason=str(error))
            return
        count = done.too_old + done.for_room + done.quarantined
        if count:
            log.info("store tidied", count=count)
        unfinished = [_study_prefix(left.study_uid, left.generation) for left in complete.unsettled(store)]
        unfinished += [_reading_prefix(item.assignment_id) for item in work.unfinished_assignments(store)]
        unfinished += [_visit_prefix(batch) for batch in open_batches(store)]
        before = datetime.fromtimestamp(store.clock(), UTC) - FINISHED_WORK_KEPT
        engine.forget_finished(before=before, keep=unfinished)

    def _forget_orders(self) -> None:
        kept_days = self.site.settings.hl7.keep_days
        if kept_days:
            before = self.site.store.clock() - timedelta(days=kept_days).total_seconds()
            forget_orders_before(self.site.store, before=before)

    def check_share(self) -> None:
        """Compare tonight's share of the stored images with their digests; what is found stands in the status."""
        store = self.site.store
        share = check_share(store, night=int(store.clock() // timedelta(days=1).total_seconds()))
        log.info("nightly check ended", count=share.instances)
        for one in share.damage:
            log.error("stored object damaged", kind=one.kind, reason=one.reason)

    def stop(self, *, drain_s: float) -> None:
        """Let running steps end; what is left goes on at the next start."""
        self.engine.stop(drain_s=drain_s)
        if self.site.children is not None:
            self.site.children.close()
        for connection in self.connections.values():
            connection.close()


def start_worker(site: Site) -> Worker:
    """Start the durable engine on a site and take up what was left behind.

    Raises
    ------
    AlreadyRunningError
        If another process of this store has the same executor id.
    """
    settings, store = site.settings, site.store
    connections: dict[str, Connection] = {
        name: connection_to(destination, calling_ae=settings.dicom.ae_title)
        for name, destination in settings.destinations.items()
    }
    worker = Worker(site, connections)
    worker.engine = Engine(
        url=settings.engine.url or f"sqlite:///{store.root / 'engine.db'}",
        executor_id=settings.engine.executor_id,
        lock_folder=store.root / "run",
        queues=(
            Queue("studies", concurrency=2),
            Queue("readings", concurrency=settings.infer.children),
            Queue("visits", concurrency=len(settings.destinations) + 1, is_partitioned=True),
        ),
        workflows=(worker.read_study, worker.read_assignment, worker.visit_destination),
    )
    worker.engine.launch()
    sweep_partial(store.root, now=store.clock())
    worker.sweep()
    return worker


def work_prefixes(study_uid: str, assignment_ids: Sequence[str]) -> list[str]:
    """What the ids of all work on a study start with."""
    return [f"study:{study_uid}:", *(f"{kind}:{name}:" for name in assignment_ids for kind in ("reading", "visit"))]


def _study_prefix(study_uid: str, generation: int) -> str:
    return f"study:{study_uid}:{generation}:"


def _reading_prefix(assignment_id: str) -> str:
    return f"reading:{assignment_id}:"


def _visit_prefix(batch: Batch) -> str:
    return f"visit:{batch.assignment_id}:{batch.destination}:"
