"""The process in which one handler reads one Study: it may hang, crash or grow, and only it is lost.

Started as ``python -m node.infer.child`` by `node.infer.runner`, with a `Job` on standard input; it
gives an `Answer` on standard output. What a handler prints goes nowhere, because it may name a patient.
"""

import ctypes
import functools
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from node.api import Handler, Model
from node.dicom.read import read_dataset
from node.domain.findings import Analysis
from node.domain.models import ModelCard
from node.domain.study import Study
from node.errors import DicomError, NotEvaluableError, WetreadError
from node.infer.handlers import load_handler
from node.infer.job import Answer, Job, decode_job, encode
from node.infer.models import load_manifest
from node.infer.reading import ImageSize, analysis_of, not_evaluable_analysis
from node.infer.session import OnnxModel, open_model
from node.store.analyses import save_analysis
from node.store.files import verify_instance

__all__ = ["main"]

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
NICENESS = 5  # receiving goes first when cores are shared
MEGABYTE = 1 << 20
UNREADABLE = "unreadable"
LONGEST_MESSAGE = 1000


def main() -> int:
    """Do the one job on standard input; 0 if an Analysis was saved."""
    answer_to = _take_standard_streams()
    answer = _answer(sys.stdin.buffer.read())
    os.write(answer_to, encode(answer))
    return 0 if answer.analysis_sha256 else 1


def _answer(content: bytes) -> Answer:
    try:
        job = decode_job(content)
        _end_with(job.parent_pid)
        _limit(job)
        os.nice(NICENESS)
        return Answer(analysis_sha256=save_analysis(_analyse(job), job.folder))
    except (Exception, SystemExit) as error:  # noqa: BLE001  the edge of the process: every end is explained
        return _explain(error)


def _analyse(job: Job) -> Analysis:
    for instance in job.study.instances:
        verify_instance(instance)
    handler = load_handler(job.site / "handlers", job.handler)
    models = {name: _open(job.site / "models" / name, job.threads) for name in handler.models}
    return _read(handler, job.study, models)


def _open(folder: Path, threads: int) -> OnnxModel:
    return open_model(load_manifest(folder).card, folder, threads=threads)


def _read(handler: Handler, study: Study, models: Mapping[str, OnnxModel]) -> Analysis:
    cards: list[ModelCard] = [model.card for model in models.values()]
    device = next((model.device for model in models.values()), "CPU")
    given: Mapping[str, Model] = models
    try:
        reading = handler.analyse(study, given)
    except NotEvaluableError as error:
        return not_evaluable_analysis(handler, study, str(error), key=error.key, cards=cards, device=device)
    except DicomError as error:
        reason = f"the images cannot be read: {error}"
        return not_evaluable_analysis(handler, study, reason, key=UNREADABLE, cards=cards, device=device)
    return analysis_of(reading, handler, study, cards=cards, device=device, size_of=_sizes(study))


def _sizes(study: Study) -> Callable[[str], ImageSize]:
    paths = {instance.sop_instance_uid: instance.path for instance in study.instances}

    @functools.cache
    def size_of(sop_instance_uid: str) -> ImageSize:
        ds = read_dataset(paths[sop_instance_uid])
        return int(ds.Rows), int(ds.Columns), int(ds.get("NumberOfFrames") or 1)

    return size_of


def _explain(error: BaseException) -> Answer:
    """Tell what went wrong without a word that may name a patient: of a foreign error, type and place only."""
    name = type(error).__name__
    if _is_memory_error(error):
        return Answer(error=name, message="the memory limit was reached", is_limit=True)
    if isinstance(error, WetreadError):
        return Answer(error=name, message=str(error)[:LONGEST_MESSAGE])
    why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return Answer(error=name, message=f"at {_place(error)}{why}")


def _is_memory_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """File and line where it was raised; the handler's own line if it passed one."""
    trace, place = error.__traceback__, "an unknown place"
    is_in_handler = False
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        is_handlers = path.parent.name == "handlers"
        if is_handlers or not is_in_handler:
            place = f"{path.name}:{trace.tb_lineno}"
        is_in_handler = is_in_handler or is_handlers
        trace = trace.tb_next
    return place


def _take_standard_streams() -> int:
    """Keep standard output for the answer alone: what a handler or a library prints goes nowhere."""
    answer_to = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    return answer_to


def _end_with(parent_pid: int) -> None:
    """End when the thread that started this process ends, also if the node is killed."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def _limit(job: Job) -> None:
    _lower(resource.RLIMIT_CORE, 0)  # a core dump holds the images
    _lower(resource.RLIMIT_AS, job.memory_limit_mb * MEGABYTE)
    _lower(resource.RLIMIT_CPU, job.cpu_limit_s)


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (limit, limit))


if __name__ == "__main__":
    os._exit(main())  # not sys.exit: a thread that a handler left running must not hold the answer back
