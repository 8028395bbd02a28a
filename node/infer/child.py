"""The process in which a handler reads studies: it may hang, crash or grow, and only it is lost.

Started as ``python -m node.infer.child PARENT`` by `node.infer.warm`; messages are those of `node.infer.job`. Models
stay loaded from one study to the next, the handler's own file does not. What a handler prints goes nowhere, because it
may name a patient.
"""

import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from node.api import Handler
from node.dicom.read import read_dataset
from node.domain.findings import Analysis
from node.domain.study import Study
from node.errors import DicomError, NotEvaluableError, WetreadError
from node.infer import confine
from node.infer.batching import Batcher
from node.infer.fresh import fresh_handler
from node.infer.job import OPENED, Answer, Job, Opening, Rested, decode_job, decode_opening, encode
from node.infer.loaded import LoadedModel
from node.infer.models import load_manifest
from node.infer.reading import ImageSize, analysis_of, not_evaluable_analysis
from node.infer.session import may_use_gpu, open_model
from node.store.analyses import save_analysis
from node.store.files import verify_instance

__all__ = ["main", "open_models"]

UNREADABLE = "unreadable"
LONGEST_MESSAGE = 1000

GiveModels = Callable[[int], Mapping[str, LoadedModel]]
"""The models of a handler as a study of some priority is given them."""


def main(parent_pid: int) -> int:
    """Open what the first line says, then read a study for each line; 0 when there are no more."""
    confine.end_with(parent_pid)
    jobs_from, answers_to = confine.take_standard_streams()
    confine.step_back()
    with open(jobs_from, "rb") as jobs:  # noqa: PTH123  a descriptor, no path
        try:
            opening = decode_opening(jobs.readline())
            reader = _Reader(opening, answers_to)
        except (Exception, SystemExit) as error:  # noqa: BLE001  the edge of the process: every end is explained
            _say(answers_to, _explain(OPENED, error))
            return 1
        _say(answers_to, Answer(OPENED))
        for line in jobs:
            if opening.together == 1:  # in the main thread, where a handler may also set signals
                reader.serve(decode_job(line))
            else:
                threading.Thread(target=reader.serve, args=(decode_job(line),), daemon=True).start()
    return 0


class _Reader:
    """A handler and its models, open for one study after the other, or for several at once."""

    def __init__(self, opening: Opening, answers_to: int) -> None:
        if not may_use_gpu(opening.device):
            confine.bound_memory(opening.memory_limit_mb)
        self._fresh = fresh_handler(opening.site / "handlers", opening.handler)
        self._handler = self._fresh()
        self._give = open_models(opening, self._handler)
        self._is_shared = opening.together > 1
        self._answers_to = answers_to
        self._threads = threading.active_count()
        self._busy = 0
        self._lock = threading.Lock()
        gc.collect()
        gc.freeze()  # what is loaded by now stays, and is not looked at after each study

    def serve(self, job: Job) -> None:
        """Read a study and answer; then clean up if no other is being read."""
        with self._lock:
            self._busy += 1
        answer = self._answer(job)
        with self._lock:
            _say(self._answers_to, answer)
            self._busy -= 1
            if not self._busy:
                _say(self._answers_to, self._rest())

    def _answer(self, job: Job) -> Answer:
        try:
            confine.allow_cpu_time(job.cpu_limit_s)
            analysis = _read(self._handler, job.study, self._give(job.priority))
            return Answer(job.number, analysis_sha256=save_analysis(analysis, job.folder))
        except (Exception, SystemExit) as error:  # noqa: BLE001  the edge of the process: every end is explained
            return _explain(job.number, error)

    def _rest(self) -> Rested:
        self._handler = self._fresh()
        gc.collect()
        confine.return_memory()
        left = confine.left_running(threading.active_count() if self._is_shared else self._threads)
        return Rested(confine.memory_mb(), left)


def open_models(opening: Opening, handler: Handler, *, clock: Callable[[], float] = time.monotonic) -> GiveModels:
    """Load a handler's models; where several studies are read at once, requests to them are put together."""
    opened: dict[str, LoadedModel] = {}
    batchers: dict[str, Batcher] = {}
    for name in handler.models:
        folder = opening.site / "models" / name
        card = load_manifest(folder).card
        model = open_model(
            card, folder, threads=opening.threads, device=opening.device, time_limit_s=opening.time_limit_s
        )
        opened[name] = model
        if opening.together > 1 and Batcher.helps(model):
            batchers[name] = Batcher(model, clock=clock)

    def give(priority: int) -> Mapping[str, LoadedModel]:
        return {name: batchers[name].model_for(priority) if name in batchers else opened[name] for name in opened}

    return give


def _read(handler: Handler, study: Study, models: Mapping[str, LoadedModel]) -> Analysis:
    for instance in study.instances:
        verify_instance(instance)
    cards = [model.card for model in models.values()]

    def device() -> str:  # asked after the reading: a run may have had to go elsewhere
        return next((model.device for model in models.values()), "CPU")

    try:
        reading = handler.analyse(study, models)
    except NotEvaluableError as error:
        return not_evaluable_analysis(handler, study, str(error), key=error.key, cards=cards, device=device())
    except DicomError as error:
        reason = f"the images cannot be read: {error}"
        return not_evaluable_analysis(handler, study, reason, key=UNREADABLE, cards=cards, device=device())
    return analysis_of(reading, handler, study, cards=cards, device=device(), size_of=_sizes(study))


def _sizes(study: Study) -> Callable[[str], ImageSize]:
    paths = {instance.sop_instance_uid: instance.path for instance in study.instances}

    @functools.cache
    def size_of(sop_instance_uid: str) -> ImageSize:
        ds = read_dataset(paths[sop_instance_uid])
        return int(ds.Rows), int(ds.Columns), int(ds.get("NumberOfFrames") or 1)

    return size_of


def _explain(number: int, error: BaseException) -> Answer:
    """Tell what went wrong without a word that may name a patient: of a foreign error, type and place only."""
    name = type(error).__name__
    if _is_memory_error(error):
        return Answer(number, error=name, message="the memory limit was reached", is_limit=True)
    if isinstance(error, WetreadError):
        return Answer(number, error=name, message=str(error)[:LONGEST_MESSAGE])
    why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return Answer(number, error=name, message=f"at {_place(error)}{why}")


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


def _say(answers_to: int, message: Answer | Rested) -> None:
    line = memoryview(encode(message))
    while line:
        line = line[os.write(answers_to, line) :]


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1])))  # not sys.exit: a thread that a handler left running must not hold it back
