"""Let a child process read an Assignment, hold it to its limits, and take its answer."""

import hashlib
import math
import signal
from dataclasses import replace
from pathlib import Path

from node.api import Handler
from node.domain.study import Study
from node.domain.work import Assignment
from node.errors import HandlerError, InferenceError, InferenceLimitError
from node.infer.job import Answer, Job, Opening
from node.infer.known import state_of_files
from node.infer.pool import Kind, Pool
from node.infer.warm import ChildEndedError
from node.settings import InferSettings
from node.store.analyses import DOCUMENT, discard_partial

__all__ = ["infer"]

CPU_GRACE_S = 10


def infer(
    assignment: Assignment,
    study: Study,
    *,
    site: Path,
    folder: Path,
    settings: InferSettings,
    pool: Pool | None = None,
) -> Path:
    """Let the handler of an Assignment read its Series, in a process that can be killed.

    Parameters
    ----------
    study
        The Study; the handler is given only the Series of the Assignment.
    site
        The folder that holds ``handlers/`` and ``models/``.
    folder
        Where the Analysis is saved; it becomes this folder, and one already there is replaced.
    pool
        Children that stay loaded; without one a child is started for this Assignment alone.

    Returns
    -------
    `folder`, with an Analysis that is durable: findings, no findings or not evaluable.

    Raises
    ------
    InferenceLimitError
        If the time or memory limit of the handler or of `settings` was reached.
    InferenceError
        If the handler, a model or an image is not what it must be, or the child ended without an answer.
    WetreadError
        If the pool was closed meanwhile.
    """
    if pool is None:
        once = Pool(replace(settings, warm_children=0))
        try:
            return infer(assignment, study, site=site, folder=folder, settings=settings, pool=once)
        finally:
            once.close()
    handler = _handler(pool, site, assignment.handler)
    where = f"handler {handler.name}"
    memory_limit_mb = min(handler.memory_limit_mb, settings.max_memory_mb)
    ceiling_s = min(handler.time_limit_s, settings.max_time_s)
    job = Job(
        number=0,
        folder=folder.absolute(),
        study=_given(assignment, study),
        cpu_limit_s=math.ceil(ceiling_s) * settings.threads + CPU_GRACE_S,
        priority=int(assignment.priority),
    )
    try:
        kind = _kind(handler, site.absolute(), memory_limit_mb, ceiling_s, settings)
        answer = pool.read(kind, job, assignment_id=assignment.assignment_id, ceiling_s=ceiling_s)
    except ChildEndedError as error:
        raise _ended(where, error) from error
    except InferenceError as error:
        raise type(error)(f"{where}: {error}") from error
    except OSError as error:
        raise InferenceError(f"{where}: no process could be started: {error.strerror}") from error
    finally:
        discard_partial(folder)
    _accept(where, answer, folder, memory_limit_mb)
    return folder


def _handler(pool: Pool, site: Path, name: str) -> Handler:
    try:
        return pool.handlers.load(site, name)
    except HandlerError as error:
        raise InferenceError(str(error)) from error


def _kind(handler: Handler, site: Path, memory_limit_mb: int, ceiling_s: float, settings: InferSettings) -> Kind:
    # Only on a GPU do studies share a child: it holds the weights once, and batches are worth while.
    together = settings.children if settings.device in ("cuda", "tensorrt") else 1
    opening = Opening(handler.name, site, settings.threads, settings.device, memory_limit_mb, together, ceiling_s)
    return Kind(opening, state_of_files(site, handler.name, handler.models))


def _given(assignment: Assignment, study: Study) -> Study:
    series = tuple(series for series in study.series if series.series_instance_uid in assignment.series_uids)
    missing = set(assignment.series_uids) - {one.series_instance_uid for one in series}
    if missing or not series:
        raise InferenceError(f"assignment {assignment.assignment_id}: Series not in the Study: {', '.join(missing)}")
    return replace(study, series=series)


def _ended(where: str, error: ChildEndedError) -> InferenceError:
    if error.exit_code < 0:
        number = -error.exit_code
        kind = InferenceLimitError if number == signal.SIGXCPU else InferenceError
        return kind(f"{where}: its process was ended by signal {number} ({signal.strsignal(number)})")
    why = f": {error.complaint}" if error.complaint else ""
    return InferenceError(f"{where}: its process ended without an answer, exit code {error.exit_code}{why}")


def _accept(where: str, answer: Answer, folder: Path, memory_limit_mb: int) -> None:
    if answer.is_limit:
        raise InferenceLimitError(f"{where}: stopped at its memory limit of {memory_limit_mb} MB")
    if not answer.analysis_sha256:
        raise InferenceError(f"{where}: {answer.error} {answer.message}")
    try:
        found = hashlib.sha256((folder / DOCUMENT).read_bytes()).hexdigest()
    except OSError as error:
        raise InferenceError(f"{where}: its Analysis is not there: {error.strerror}") from error
    if found != answer.analysis_sha256:
        raise InferenceError(f"{where}: its Analysis was changed after it was saved")
