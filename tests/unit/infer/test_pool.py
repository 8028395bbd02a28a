"""A child that stays reads like one that is new, and one that fails, grows or leaves something behind does not stay."""

import os
import signal
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import helper

from node.domain.findings import Status
from node.domain.study import Study
from node.domain.work import Assignment
from node.errors import InferenceError, InferenceLimitError, WetreadError
from node.infer import Pool, infer
from node.settings import InferSettings
from node.store.analyses import load_analysis
from tests.unit.infer.sites import (
    assignment_for,
    doubling_model,
    logarithm_model,
    onnx_of,
    write_handler,
    write_model,
    write_study,
)
from tests.unit.infer.test_runner import wait_until_ended

SETTINGS = InferSettings(max_time_s=60.0, max_memory_mb=4096, threads=1, warm_children=2)
TELL = """
import os
from node.api import NotEvaluableError
raise NotEvaluableError(f"process {os.getpid()}")
"""


class Site:
    """A site, one study in it, and the children that read it."""

    def __init__(self, folder: Path, pool: Pool, settings: InferSettings) -> None:
        self.folder, self.pool, self.settings = folder, pool, settings
        self.study = write_study(folder / "in")

    def read(self, study: Study | None = None, assignment: Assignment | None = None, handler: str = "h") -> str:
        """The status of the Analysis, or why the images were not evaluable."""
        item = assignment or assignment_for(handler)
        folder = self.folder / "out" / item.assignment_id
        given = self.study if study is None else study
        infer(item, given, site=self.folder, folder=folder, settings=self.settings, pool=self.pool)
        analysis = load_analysis(folder)
        return analysis.reason if analysis.status is Status.NOT_EVALUABLE else str(analysis.status)


@contextmanager
def opened(folder: Path, clock: Callable[[], float] = lambda: 0.0, **settings: object) -> Iterator[Site]:
    found = replace(SETTINGS, **settings)  # type: ignore[arg-type]
    pool = Pool(found, clock=clock)
    try:
        yield Site(folder, pool, found)
    finally:
        pool.close()
        assert pool.pids() == []


def pid_in(reason: str) -> int:
    return int(reason.removeprefix("process "))


def test_a_child_stays_and_none_is_left_when_the_pool_is_closed(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", TELL)
    with opened(tmp_path) as site:
        with ThreadPoolExecutor(1) as other:  # the child must not end with the thread that needed it first
            first = other.submit(site.read).result()
        assert site.read() == first
        assert site.read() == first
    wait_until_ended(pid_in(first))


def test_a_child_that_died_between_two_studies_is_replaced(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", TELL)
    with opened(tmp_path) as site:
        first = site.read()
        os.kill(pid_in(first), signal.SIGKILL)
        wait_until_ended(pid_in(first))
        assert site.read() != first


def test_a_hanging_study_is_stopped_with_all_it_started_and_the_next_one_is_read(tmp_path: Path) -> None:
    body = f"""
        import os, pathlib, subprocess, threading
        if study.series[0].header["ImageComments"] == "hang":
            other = subprocess.Popen(["sleep", "600"])
            pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(other.pid))
            threading.Event().wait()
        return Reading(tuple(i.sop_instance_uid for i in study.instances))
    """
    write_handler(tmp_path, "h", body)
    with opened(tmp_path, max_time_s=8.0) as site:
        assert site.read() == "no_findings"
        with pytest.raises(InferenceLimitError, match="handler h: stopped at its time limit of 8 s"):
            site.read(write_study(tmp_path / "in", comment="hang"))
        wait_until_ended(int((tmp_path / "pid").read_text(encoding="ascii")))
        assert site.read() == "no_findings"


def test_a_child_that_leaks_is_replaced(tmp_path: Path) -> None:
    body = f"""
        import sys
        sys.kept = [*getattr(sys, "kept", []), bytearray(b"x" * (40 << 20))]
        {TELL.strip().replace(chr(10), chr(10) + "        ")}
    """
    write_handler(tmp_path, "h", body)
    with opened(tmp_path, max_growth_mb=60) as site:
        pids = [site.read() for _ in range(4)]
    assert pids[0] == pids[1] == pids[2]  # grown by 0, 40 and 80 MB since its first study
    assert pids[3] != pids[0]


def test_a_child_with_threads_left_running_is_replaced(tmp_path: Path) -> None:
    left = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    write_handler(tmp_path, "h", f"import threading\n{left}\n{TELL}")
    with opened(tmp_path) as site:
        first = site.read()
        assert site.read() != first


def test_a_process_that_a_handler_left_running_is_ended_though_it_hid(tmp_path: Path) -> None:
    body = f"""
        import pathlib, subprocess
        hidden = subprocess.Popen(["setsid", "sh", "-c", "sleep 600 & echo $!"], stdout=subprocess.PIPE)
        pathlib.Path({str(tmp_path / "pid")!r}).write_bytes(hidden.stdout.readline())
        return Reading(tuple(i.sop_instance_uid for i in study.instances))
    """
    write_handler(tmp_path, "h", body)
    with opened(tmp_path) as site:
        assert site.read() == "no_findings"
        wait_until_ended(int((tmp_path / "pid").read_text(encoding="ascii")))


def test_a_changed_handler_or_model_is_never_read_with_the_old_one(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", doubling_model())
    body = textwrap.dedent("""
        import numpy as np
        from node.api import NotEvaluableError
        raise NotEvaluableError(f"{said} {models['m'].run(np.ones((1, 2), np.float32))[0, 0]}")
    """)
    write_handler(tmp_path, "h", "said = 'old'" + body, models=("m",))
    with opened(tmp_path) as site:
        assert site.read() == "old 2.0"
        write_handler(tmp_path, "h", "said = 'new'" + body, models=("m",))
        assert site.read() == "new 2.0"
        write_model(tmp_path, "m", logarithm_model())
        assert site.read() == "new 0.0"
        (folder / "model.onnx").write_bytes(doubling_model())
        with pytest.raises(InferenceError, match=r"ModelHashError .*the model is off"):
            site.read()


def test_nothing_that_a_handler_kept_of_one_patient_is_there_for_the_next(tmp_path: Path) -> None:
    path = write_handler(tmp_path, "h", "seen.append(study)\n" + TELL.replace("process", "{len(seen)} in"))
    path.write_text("seen = []\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with opened(tmp_path) as site:
        first = site.read()
        assert first.startswith("1 in ")
        assert site.read() == first


def test_what_a_handler_prints_goes_nowhere_in_the_second_study_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = """
        import os, sys
        print("CANARY", flush=True)
        os.write(2, b"CANARY")
        assert sys.stdin.read() == ""
        return Reading(tuple(i.sop_instance_uid for i in study.instances))
    """
    write_handler(tmp_path, "h", body)
    with opened(tmp_path) as site:
        assert [site.read(), site.read()] == ["no_findings"] * 2
    assert capfd.readouterr() == ("", "")


def test_a_model_that_gives_nan_or_another_shape_fails_that_study_alone(tmp_path: Path) -> None:
    write_model(tmp_path, "log", logarithm_model())
    turned = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    write_model(tmp_path, "turned", onnx_of([turned], input_shape=["n", 2], output_shape=["a", "b"]))
    body = """
        import numpy as np
        comment = study.series[0].header["ImageComments"]
        models["log"].run(np.full((1, 2), -1.0 if comment == "nan" else 1.0, np.float32))
        models["turned"].run(np.zeros((3 if comment == "shape" else 2, 2), np.float32))
        return Reading(tuple(i.sop_instance_uid for i in study.instances))
    """
    write_handler(tmp_path, "h", body, models=("log", "turned"))
    with opened(tmp_path) as site:
        assert site.read() == "no_findings"
        with pytest.raises(InferenceError, match="2 of 2 are not finite"):
            site.read(write_study(tmp_path / "in", comment="nan"))
        with pytest.raises(InferenceError, match=r"expected shape \[-1, 2\], found \[2, 3\]"):
            site.read(write_study(tmp_path / "in", comment="shape"))
        assert site.read() == "no_findings"


def test_a_child_is_replaced_after_its_number_of_studies_and_the_longest_unused_goes_first(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", TELL)
    write_handler(tmp_path, "other", TELL)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    with opened(tmp_path, clock, studies_per_child=2, warm_children=1) as site:
        pids = [site.read() for _ in range(3)]
        assert pids[0] == pids[1] != pids[2]
        site.read(handler="other")  # one child is kept, and that is this one
        wait_until_ended(pid_in(pids[2]))


def test_a_child_that_was_not_needed_for_long_is_ended(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", TELL)
    now = [0.0]
    with opened(tmp_path, lambda: now[0], warm_for_s=1.0) as site:
        first = site.read()
        assert site.read() == first
        now[0] = 1.0
        wait_until_ended(pid_in(first))


def test_the_memory_limit_holds_in_the_second_study_too(tmp_path: Path) -> None:
    body = """
        if study.series[0].header["ImageComments"] == "much":
            bytearray(1 << 31)
        return Reading(tuple(i.sop_instance_uid for i in study.instances))
    """
    write_handler(tmp_path, "h", body, memory_limit_mb=1024)
    with opened(tmp_path) as site:
        assert site.read() == "no_findings"
        with pytest.raises(InferenceLimitError, match="handler h: stopped at its memory limit of 1024 MB"):
            site.read(write_study(tmp_path / "in", comment="much"))
        assert site.read() == "no_findings"


def test_a_study_that_is_cut_off_when_the_node_stops_has_not_failed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    write_handler(tmp_path, "h", f"open({str(pipe)!r}, 'w').write('x')\nimport threading\nthreading.Event().wait()")
    with opened(tmp_path) as site, ThreadPoolExecutor(1) as thread:
        study = thread.submit(site.read)
        assert pipe.read_text(encoding="ascii") == "x"
        site.pool.close()
        with pytest.raises(WetreadError, match="the node is stopping") as caught:
            study.result()
        assert not isinstance(caught.value, InferenceError)
        with pytest.raises(WetreadError, match="the node is stopping"):
            site.read()


def _together(site: Site, studies: dict[str, Study]) -> dict[str, object]:
    """Read studies at once, each as an Assignment of its own; what came of each, or its error."""
    found: dict[str, object] = {}

    def read(name: str) -> None:
        try:
            found[name] = site.read(studies[name], replace(assignment_for("h"), assignment_id=name))
        except WetreadError as error:
            found[name] = error

    threads = [threading.Thread(target=read, args=(name,)) for name in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


MEET = "import threading\nmeeting = threading.Barrier(2)\n"


def test_on_a_gpu_studies_share_a_child(tmp_path: Path) -> None:
    path = write_handler(tmp_path, "h", "meeting.wait(60)\n" + TELL)
    path.write_text(MEET + path.read_text(encoding="utf-8"), encoding="utf-8")
    with opened(tmp_path, children=2, device="cuda") as site:
        found = _together(site, {"a-1": site.study, "a-2": site.study})
    assert found["a-1"] == found["a-2"]


def test_a_study_that_takes_a_shared_child_with_it_fails_alone(tmp_path: Path) -> None:
    body = f"""
        import os, pathlib, signal
        if study.series[0].header["ImageComments"] == "kill":
            try:
                meeting.wait(60 if not pathlib.Path({str(tmp_path / "met")!r}).exists() else 0.001)
            except threading.BrokenBarrierError:
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        if not pathlib.Path({str(tmp_path / "met")!r}).exists():
            pathlib.Path({str(tmp_path / "met")!r}).touch()
            meeting.wait(60)
            threading.Event().wait()
        return Reading(tuple(i.sop_instance_uid for i in study.instances))
    """
    path = write_handler(tmp_path, "h", body)
    path.write_text(MEET + path.read_text(encoding="utf-8"), encoding="utf-8")
    with opened(tmp_path, children=2, device="cuda") as site:
        bad = write_study(tmp_path / "bad", comment="kill")
        found = _together(site, {"a-1": site.study, "a-2": bad})
    assert found["a-1"] == "no_findings"
    assert "ended by signal 9" in str(found["a-2"])


def test_a_gpu_that_is_not_there_fails_loudly(tmp_path: Path) -> None:
    write_model(tmp_path, "m", doubling_model())
    write_handler(tmp_path, "h", models=("m",))
    with opened(tmp_path, device="cuda") as site, pytest.raises(InferenceError, match="the device cuda was asked for"):
        site.read()
