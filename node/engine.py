"""Durable work: what was begun is finished, whatever process dies in between.

The only module that imports DBOS. A workflow is a plain function that calls `Engine.step` for every
effect; after a crash it is run again and finished steps give their recorded results. Steps are
at-least-once, so every effect is idempotent.

Rules that keep recorded work alive: `VERSION` stays pinned (work recorded under another one is never
resumed), steps are only appended to a workflow, a changed workflow gets a new name, and the executor id
is fixed and locked (a dead worker's work comes back when the same id starts again, or another one whose
site was given a new id: in one folder of locks it sees that the old one is dead).
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSClient, DBOSConfig, SetEnqueueOptions, SetWorkflowID
from dbos._dbos import _get_dbos_instance

from node.domain.work import Priority
from node.errors import AlreadyRunningError, StoreError
from node.lock import lock_executor

__all__ = ["FAILED", "Engine", "Queue", "forget_work"]

log = structlog.get_logger(__name__)

T = TypeVar("T")
VERSION = "wetread-1"
POLL_S = 0.2
PAGE = 500
# A study cannot harm the worker (it is read in a child), so a worker that dies is not the study's fault;
# the bound only stops a worker that dies for ever.
MAX_RECOVERIES = 100
FAILED = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "CANCELLED")
FINISHED = ("SUCCESS", *FAILED)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of this node.

    `concurrency` bounds how many of its workflows run at once; with `is_partitioned` each partition
    (a destination) runs one at a time, so one that is down delays nothing else.
    """

    name: str
    concurrency: int
    is_partitioned: bool = False


class Engine:
    """The durable engine of this process: prepare it, then launch it; one at a time in a process."""

    def __init__(
        self,
        *,
        url: str,
        executor_id: str,
        lock_folder: Path,
        queues: Sequence[Queue],
        workflows: Sequence[Callable[..., None]],
    ) -> None:
        """Take the executor's lock and make workflows known; nothing runs before `launch`.

        Parameters
        ----------
        url
            ``sqlite:///path`` or ``postgresql://...``.
        workflows
            Every function that may be enqueued; a function's name is the workflow's recorded name.

        Raises
        ------
        AlreadyRunningError
            If another living process has the same executor id.
        StoreError
            If the file of the queues is damaged.
        """
        self._queues = tuple(queues)
        self._executor_id, self._lock_folder = executor_id, lock_folder
        self._is_on_one_machine = url.startswith("sqlite")
        self._lock = lock_executor(lock_folder, executor_id)
        if self._is_on_one_machine:
            try:
                _prepare_sqlite(url)
            except StoreError:
                os.close(self._lock)
                raise
        config: DBOSConfig = {
            "name": "wetread",
            "system_database_url": url,
            "application_version": VERSION,
            "executor_id": executor_id,
            "log_level": "ERROR",
            "enable_otlp": False,
        }
        DBOS(config=config)
        self._workflows = {workflow.__name__: _registered(workflow) for workflow in workflows}

    def launch(self) -> None:
        """Start, and resume what this executor id left unfinished, or another one that is dead."""
        logging.getLogger("dbos").setLevel(logging.CRITICAL)  # its errors quote arguments; ours are in the store
        DBOS.launch()
        for queue in self._queues:
            DBOS.register_queue(
                queue.name,
                worker_concurrency=queue.concurrency,
                partition_worker_concurrency=1 if queue.is_partitioned else None,
                polling_interval_sec=POLL_S,
                on_conflict="always_update",
            )
        if self._is_on_one_machine:  # elsewhere the lock of an executor on another machine cannot be seen
            self._take_over()

    def _take_over(self) -> None:
        """Resume what other executor ids began and cannot finish: their locks are free, so they are dead."""
        begun = DBOS.list_workflows(status="PENDING", app_version=VERSION, load_input=False, load_output=False)
        for executor_id in {one.executor_id for one in begun if one.executor_id} - {self._executor_id}:
            try:
                lock = lock_executor(self._lock_folder, executor_id)
            except AlreadyRunningError:
                continue
            found = DBOS._recover_pending_workflows([executor_id])
            os.close(lock)
            log.warning("work of a dead executor taken over", process=executor_id, count=len(found))

    def shorten_delays(self, *, longest_s: float) -> int:
        """Let no delayed work wait longer than this from now; how many would have.

        A delay ends at a time of the day, so work delayed before the clock was set back would wait for that
        time to come again.
        """
        latest = (time.time() + longest_s) * 1000.0
        delayed = DBOS.list_workflows(status="DELAYED", load_input=False, load_output=False)
        late = [one.workflow_id for one in delayed if (one.delay_until_epoch_ms or 0) > latest]
        for workflow_id in late:
            DBOS.set_workflow_delay(workflow_id, delay_seconds=longest_s)
        return len(late)

    def enqueue(
        self,
        queue: str,
        workflow: Callable[..., None],
        workflow_id: str,
        *arguments: str | int,
        priority: Priority,
        partition: str | None = None,
        delay_s: float | None = None,
    ) -> None:
        """Hand over work durably; an id that was handed over before is not run again.

        The priority is always given, because work without one runs before all other.
        """
        with (
            SetWorkflowID(workflow_id),
            SetEnqueueOptions(priority=int(priority), queue_partition_key=partition, delay_seconds=delay_s),
        ):
            DBOS.enqueue_workflow(queue, self._workflows[workflow.__name__], *arguments)

    def step(self, name: str, function: Callable[..., T], *arguments: object) -> T:
        """Run one effect of a workflow and record its result (small and picklable: paths and hashes, never pixels)."""
        return DBOS.run_step({"name": name}, function, *arguments)

    def hasten(self, workflow_id: str, priority: Priority) -> bool:
        """Move work forward that still waits in its queue; false if it waits no more.

        DBOS has no call for it. Its queue reads the priority of a row whenever it takes the next one.
        """
        database = _get_dbos_instance()._sys_db
        rows = database.tables.workflow_status
        query = (
            sa.update(rows)
            .where(rows.c.workflow_uuid == workflow_id, rows.c.status == "ENQUEUED", rows.c.priority > int(priority))
            .values(priority=int(priority))
        )
        with database.engine.begin() as connection:
            return bool(connection.execute(query).rowcount)

    def status_of(self, workflow_id: str) -> str | None:
        """How a piece of work is doing (``SUCCESS``, ``ERROR``, ...); None if it was never handed over."""
        status = DBOS.get_workflow_status(workflow_id)
        return None if status is None else status.status

    def chain(self, prefix: str) -> tuple[int, bool]:
        """How long a chain of work with the ids prefix1, prefix2, ... is, and whether its last is still to be done.

        Each hands over the next, so there is no gap and the end is found by halving: a look for the prefix
        would read every row there ever was.
        """
        least, beyond = 0, 1
        while self.status_of(f"{prefix}{beyond}") is not None:
            least, beyond = beyond, beyond * 2
        while beyond - least > 1:
            middle = (least + beyond) // 2
            if self.status_of(f"{prefix}{middle}") is None:
                beyond = middle
            else:
                least = middle
        return least, least > 0 and self.status_of(f"{prefix}{least}") not in FINISHED

    def forget_finished(self, *, before: datetime, keep: Sequence[str]) -> int:
        """Remove work that ended before a moment, but no chain whose ids start with one of `keep`; how much went."""
        count = kept = 0
        while True:
            found = DBOS.list_workflows(
                status=list(FINISHED), completed_before=before.isoformat(), limit=PAGE, offset=kept,
                load_input=False, load_output=False,
            )  # fmt: skip
            ids = [item.workflow_id for item in found if not item.workflow_id.startswith(tuple(keep))]
            if ids:
                DBOS.delete_workflows(ids)
            count, kept = count + len(ids), kept + len(found) - len(ids)
            if len(found) < PAGE:
                return count

    def forget(self, prefixes: Sequence[str]) -> None:
        """Remove all work whose ids start with one of `prefixes`, as if it had never been handed over."""
        while found := DBOS.list_workflows(
            workflow_id_prefix=list(prefixes), limit=PAGE, load_input=False, load_output=False
        ):
            DBOS.delete_workflows([item.workflow_id for item in found])

    def stop(self, *, drain_s: float) -> None:
        """Let running steps end, at most `drain_s`; what is left is resumed at the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=int(drain_s), destroy_registry=True)
        os.close(self._lock)


def forget_work(url: str, prefixes: Sequence[str]) -> None:
    """Remove all work whose ids start with one of `prefixes`, from a process that runs no engine."""
    client = DBOSClient(system_database_url=url)
    try:
        while found := client.list_workflows(
            workflow_id_prefix=list(prefixes), limit=PAGE, load_input=False, load_output=False
        ):
            client.delete_workflows([item.workflow_id for item in found])
    finally:
        client.destroy()


def _registered(workflow: Callable[..., None]) -> Callable[..., None]:
    def run(*arguments: str | int) -> None:
        try:
            workflow(*arguments)
        except Exception as error:
            # Its type alone: its words may name a patient.
            log.error("work failed", workflow=workflow.__name__, error=type(error).__name__)
            raise

    run.__qualname__ = workflow.__name__
    return DBOS.workflow(name=workflow.__name__, max_recovery_attempts=MAX_RECOVERIES)(run)


def _prepare_sqlite(url: str) -> None:
    """Write-ahead logging is a property of the file, so it is set once; ``synchronous`` stays at SQLite's FULL.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    path = url.removeprefix("sqlite:///")
    try:
        with closing(sqlite3.connect(path, timeout=30.0)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        raise StoreError(f"the queue of work {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise StoreError(
            f"the queue of work {path} is damaged: move it and the files beside it ({Path(path).name}-wal, -shm) away "
            "and start again, then all that is unfinished is handed over anew; if the store is damaged too: wetread "
            "recover"
        )
