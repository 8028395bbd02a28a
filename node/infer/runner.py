"""Start a child process for an Assignment, hold it to its limits, and take its answer.

The child has a process group of its own, which is killed as a whole whatever happens, so nothing a
handler started outlives its Assignment.
"""

import contextlib
import hashlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from node.api import Handler
from node.domain.study import Study
from node.domain.work import Assignment
from node.errors import HandlerError, InferenceError, InferenceLimitError
from node.infer.handlers import load_handler
from node.infer.job import Answer, Job, decode_answer, encode
from node.settings import InferSettings
from node.store.analyses import DOCUMENT, discard_partial

__all__ = ["infer"]

CHILD = "node.infer.child"
PACKAGES = Path(__file__).parents[2]
# All that a child sees of the environment: the node's own settings hold passwords.
INHERITED = (
    "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES", "PATH",
    "PYTHONPATH", "TMPDIR",
)  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CPU_GRACE_S = 10


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a child process ended; `complaint` is the last line it wrote when it could not even start."""

    exit_code: int
    answer: bytes
    complaint: str


def infer(assignment: Assignment, study: Study, *, site: Path, folder: Path, settings: InferSettings) -> Path:
    """Let the handler of an Assignment read its Series, in a process that can be killed.

    Parameters
    ----------
    study
        The Study; the handler is given only the Series of the Assignment.
    site
        The folder that holds ``handlers/`` and ``models/``.
    folder
        Where the Analysis is saved; it becomes this folder, and one already there is replaced.

    Returns
    -------
    `folder`, with an Analysis that is durable: findings, no findings or not evaluable.

    Raises
    ------
    InferenceLimitError
        If the time or memory limit of the handler or of `settings` was reached.
    InferenceError
        If the handler, a model or an image is not what it must be, or the child ended without an answer.
    """
    handler = _handler(site, assignment.handler)
    time_limit_s = min(handler.time_limit_s, settings.max_time_s)
    job = Job(
        parent_pid=os.getpid(),
        handler=handler.name,
        site=site.absolute(),
        folder=folder.absolute(),
        study=_given(assignment, study),
        threads=settings.threads,
        memory_limit_mb=min(handler.memory_limit_mb, settings.max_memory_mb),
        cpu_limit_s=math.ceil(time_limit_s) * settings.threads + CPU_GRACE_S,
    )
    try:
        ended = _run_child(encode(job), time_limit_s, _environment(os.environ, settings.threads))
    except subprocess.TimeoutExpired as error:
        raise InferenceLimitError(f"handler {handler.name}: stopped at its time limit of {time_limit_s:g} s") from error
    except OSError as error:
        raise InferenceError(f"handler {handler.name}: no process could be started: {error.strerror}") from error
    finally:
        discard_partial(folder)
    _accept(handler, ended, folder, job.memory_limit_mb)
    return folder


def _handler(site: Path, name: str) -> Handler:
    try:
        return load_handler(site / "handlers", name)
    except HandlerError as error:
        raise InferenceError(str(error)) from error


def _given(assignment: Assignment, study: Study) -> Study:
    series = tuple(series for series in study.series if series.series_instance_uid in assignment.series_uids)
    missing = set(assignment.series_uids) - {one.series_instance_uid for one in series}
    if missing or not series:
        raise InferenceError(f"assignment {assignment.assignment_id}: Series not in the Study: {', '.join(missing)}")
    return replace(study, series=series)


def _environment(own: Mapping[str, str], threads: int) -> dict[str, str]:
    environment = {name: own[name] for name in INHERITED if name in own}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGES), own.get("PYTHONPATH"))))
    environment["MALLOC_ARENA_MAX"] = "2"  # each arena reserves address space, which RLIMIT_AS counts
    return environment | dict.fromkeys(THREAD_VARIABLES, str(threads))


def _run_child(job: bytes, time_limit_s: float, environment: Mapping[str, str]) -> _Ended:
    command = [sys.executable, "-P", "-m", CHILD]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # the child closes it before it reads the job, so it never names a patient
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            content, complaint = process.communicate(job, timeout=time_limit_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return _Ended(process.returncode, content, complaint.decode(errors="replace").strip().rpartition("\n")[2])


def _accept(handler: Handler, ended: _Ended, folder: Path, memory_limit_mb: int) -> None:
    where = f"handler {handler.name}"
    if ended.exit_code < 0:
        number = -ended.exit_code
        kind = InferenceLimitError if number == signal.SIGXCPU else InferenceError
        raise kind(f"{where}: its process was ended by signal {number} ({signal.strsignal(number)})")
    if not ended.answer:
        why = f": {ended.complaint}" if ended.complaint else ""
        raise InferenceError(f"{where}: its process ended without an answer, exit code {ended.exit_code}{why}")
    answer: Answer = decode_answer(ended.answer)
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
