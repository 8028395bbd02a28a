"""The node, wired: receive, complete, route, infer, report, deliver.

The receiver process keeps objects and does nothing else. The worker process settles studies and does the
rest, as durable workflows: each effect is a step, and a workflow that a dead process left behind goes on
where it stopped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from node import __version__, complete, infer, report
from node.audit import write_anchor
from node.deliver import MllpConnection
from node.deliver.outbox import visit
from node.domain.work import Priority
from node.engine import Engine, Queue
from node.errors import ConfigError
from node.receive import Receiver, accept, serve
from node.settings import Hl7Destination, Settings
from node.steps import Site, infer_assignment, report_assignment, report_failure, route_study
from node.store import studies, work
from node.store.database import Store, open_store
from node.store.files import free_megabytes, sweep_incoming
from node.store.intake import mark_released
from node.store.outbox import Batch, open_batches

__all__ = ["Worker", "open_site", "start_receiver", "start_worker"]

log = structlog.get_logger(__name__)

TRIES = 3  # a step may fail for reasons that pass: no room on the disk, a database that is locked for too long


def open_site(folder: Path, settings: Settings) -> Site:
    """Load and check everything the site decides, and open its store.

    Raises
    ------
    WetreadError
        If a handler, template, model card, rule or the store is not what it must be.
    """
    infer.check_onnxruntime()
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
    return Site(folder, settings, open_store(settings.store.path), handlers, templates, __version__)


def start_receiver(settings: Settings, store: Store) -> Receiver:
    """Open the front door on a store; what an interrupted receive left behind is swept first."""
    count = sweep_incoming(store.root)
    if count:
        log.info("unfinished objects swept", count=count)
    least_mb = settings.store.refuse_below_free_mb
    return serve(
        settings.dicom,
        store.root / "incoming",
        accept=partial(accept, store, refuse_below_free_mb=least_mb),
        released=partial(mark_released, store),
        has_room=lambda: free_megabytes(store.root) >= least_mb,
    )


@dataclass(slots=True)
class Worker:
    """The worker of one store: settles studies and runs what follows, durably.

    `engine` is set when it has started; workflows that were left behind begin to run at that moment.
    """

    site: Site
    connections: Mapping[str, MllpConnection]
    engine: Engine = field(init=False)

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
            calling_ae=settings.dicom.ae_title,
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
        """Freeze the studies that are whole now and hand them over."""
        for study_uid, generation in complete.settle(self.site.store, self.site.settings.complete):
            log.info("study complete", study_instance_uid=study_uid, generation=generation)
            self.enqueue_study(study_uid, generation)

    def sweep(self) -> None:
        """Files, rows and queue are separate stores: hand over again what fell between them, and end what failed."""
        store, engine = self.site.store, self.engine
        for study_uid, generation in complete.unsettled(store):
            count, is_alive = engine.chain(_study_prefix(study_uid, generation))
            if not is_alive and count < TRIES:
                self.enqueue_study(study_uid, generation, number=count + 1)
            elif not is_alive:
                studies.mark_generation_failed(store, study_uid, generation, f"routing failed {count} times")
        for assignment in work.unfinished_assignments(store):
            count, is_alive = engine.chain(_reading_prefix(assignment.assignment_id))
            if not is_alive and count < TRIES:
                self.enqueue_assignment(assignment.assignment_id, number=count + 1)
            elif not is_alive:
                reason = f"reading failed {count} times; the log says why"
                work.mark_assignment_failed(store, assignment, reason, workflow=assignment.assignment_id)
        for batch in open_batches(store):
            count, is_alive = engine.chain(_visit_prefix(batch))
            if not is_alive:
                self.enqueue_visit(batch, visit_number=count + 1)
        with store.reading() as connection:
            write_anchor(connection, store.root / "audit.anchor")

    def stop(self, *, drain_s: float) -> None:
        """Let running steps end; what is left goes on at the next start."""
        self.engine.stop(drain_s=drain_s)
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
    connections = {
        name: MllpConnection(destination)
        for name, destination in settings.destinations.items()
        if isinstance(destination, Hl7Destination)
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
    worker.sweep()
    return worker


def _study_prefix(study_uid: str, generation: int) -> str:
    return f"study:{study_uid}:{generation}:"


def _reading_prefix(assignment_id: str) -> str:
    return f"reading:{assignment_id}:"


def _visit_prefix(batch: Batch) -> str:
    return f"visit:{batch.assignment_id}:{batch.destination}:"
