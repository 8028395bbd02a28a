"""A handler may hang, grow, crash or lie; the node gets an Analysis or an error, and no process stays."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.domain.findings import Analysis, Status
from node.domain.study import Study
from node.errors import InferenceError, InferenceLimitError
from node.infer import infer
from node.settings import InferSettings
from node.store.analyses import load_analysis
from tests.unit.infer.sites import (
    COLUMNS,
    ROWS,
    assignment_for,
    doubling_model,
    growing_model,
    logarithm_model,
    write_handler,
    write_model,
    write_study,
)

SETTINGS = InferSettings(max_time_s=60.0, max_memory_mb=4096, threads=1)


def run(site: Path, study: Study, handler: str = "h", settings: InferSettings = SETTINGS) -> Analysis:
    folder = infer(assignment_for(handler), study, site=site, folder=site / "out" / "a", settings=settings)
    return load_analysis(folder)


def saved(site: Path) -> list[str]:
    return sorted(path.name for path in (site / "out").iterdir()) if (site / "out").exists() else []


def wait_until_ended(pid: int) -> None:
    """Until a process that is not our child has ended; the limit is far beyond what it takes."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(30_000), f"process {pid} still runs"
    finally:
        os.close(descriptor)


def read_when_written(pipe: Path) -> bytes:
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(30_000), "the handler never started"
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_a_reading_becomes_a_durable_analysis(tmp_path: Path) -> None:
    write_model(tmp_path, "double", doubling_model())
    body = """
        import numpy as np
        from node.api import Finding, HeatMap, Measurement, Region, Segmentation
        uids = tuple(i.sop_instance_uid for i in study.instances)
        value = float(models["double"].run(np.array([[1.0, 3.0]], np.float32)).sum())
        region = Region(uids[0], ((0.0, 0.0), (10.0, 0.0), (10.0, 6.0)))
        finding = Finding("f-1", "mass", (Measurement("volume", value, "ml"),), (region,))
        heat = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
        segmentation = Segmentation("mass", np.ones((2, 6, 10), np.bool_), np.eye(4), uids, "f-1")
        return Reading(uids, (finding,), (HeatMap(uids[1], heat, heat, "score", 1.0, 0.5),), (segmentation,))
    """
    write_handler(tmp_path, "h", body, models=("double",))
    analysis = run(tmp_path, write_study(tmp_path / "in"))
    assert analysis.status is Status.FINDINGS
    assert analysis.findings[0].measurements[0].value == 8.0
    assert analysis.source_uids == ("2.25.10", "2.25.11")
    assert analysis.heat_maps[0].heat.shape == (ROWS, COLUMNS)
    assert analysis.segmentations[0].mask.all()
    assert len(analysis.algorithm.weights_sha256) == 64
    assert analysis.algorithm.device == "CPU"
    assert saved(tmp_path) == ["a"]


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    write_handler(tmp_path, "h")
    study = write_study(tmp_path / "in")
    assert run(tmp_path, study).status is Status.NO_FINDINGS
    write_handler(
        tmp_path, "h", "from node.api import NotEvaluableError\nraise NotEvaluableError('a phantom', key='phantom')"
    )
    analysis = run(tmp_path, study)
    assert (analysis.status, analysis.reason, analysis.reason_key) == (Status.NOT_EVALUABLE, "a phantom", "phantom")
    assert saved(tmp_path) == ["a"]


def test_a_dicom_error_that_escapes_is_not_evaluable(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", "from node.api import GeometryError\nraise GeometryError('a gap of 5 mm')")
    analysis = run(tmp_path, write_study(tmp_path / "in"))
    assert (analysis.status, analysis.reason_key) == (Status.NOT_EVALUABLE, "unreadable")
    assert analysis.reason == "the images cannot be read: a gap of 5 mm"


def test_a_hanging_handler_and_all_it_started_are_killed_at_the_time_limit(tmp_path: Path) -> None:
    body = f"""
        import os, pathlib, signal, subprocess, threading
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        other = subprocess.Popen(["sleep", "600"])
        pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{other.pid}}")
        threading.Event().wait()
    """
    write_handler(tmp_path, "h", body, time_limit_s=6.0)
    with pytest.raises(InferenceLimitError, match="handler h: stopped at its time limit of 6 s"):
        run(tmp_path, write_study(tmp_path / "in"))
    for pid in (tmp_path / "pids").read_text(encoding="ascii").split():
        wait_until_ended(int(pid))
    assert saved(tmp_path) == []


def test_the_limit_of_the_settings_holds_for_a_patient_handler(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", "while True: pass", time_limit_s=600.0)
    with pytest.raises(InferenceLimitError, match="time limit of 1 s"):
        run(tmp_path, write_study(tmp_path / "in"), settings=InferSettings(max_time_s=1.0, threads=1))


def test_a_handler_that_allocates_is_stopped_at_the_memory_limit(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", "x = bytearray(1 << 31)", memory_limit_mb=1024)
    with pytest.raises(InferenceLimitError, match="handler h: stopped at its memory limit of 1024 MB"):
        run(tmp_path, write_study(tmp_path / "in"))


def test_a_handler_that_hides_a_memory_error_is_still_stopped_at_the_limit(tmp_path: Path) -> None:
    body = """
        import numpy as np
        try:
            np.zeros(1 << 30)
        except MemoryError:
            raise ValueError("something else")
    """
    write_handler(tmp_path, "h", body, memory_limit_mb=1024)
    with pytest.raises(InferenceLimitError):
        run(tmp_path, write_study(tmp_path / "in"))


def test_a_model_that_outgrows_the_memory_limit_is_stopped_at_it(tmp_path: Path) -> None:
    write_model(tmp_path, "huge", growing_model())
    body = """
        import numpy as np
        models["huge"].run(np.array([[30000, 30000]], np.float32))
    """
    write_handler(tmp_path, "h", body, models=("huge",), memory_limit_mb=2048)
    with pytest.raises(InferenceLimitError, match="memory limit of 2048 MB"):
        run(tmp_path, write_study(tmp_path / "in"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", r"ended by signal 9 \(Killed\)"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", r"ended by signal 11 \(Segmentation fault\)"),
        ("import os\nos._exit(0)", "ended without an answer, exit code 0"),
        ("import sys\nsys.exit(0)", r"SystemExit at h\.py:6"),
        ("raise ValueError(f'CANARY {study}')", r"ValueError at h\.py:5$"),
        ("import json\njson.loads('CANARY')", r"JSONDecodeError at h\.py:6$"),
        ("open('/absent/CANARY')", r"FileNotFoundError at h\.py:5 \(No such file or directory\)$"),
        ("return None", "HandlerError handler h: expected a Reading, found NoneType"),
        ("return Reading(('2.25.99',))", "HandlerError .*must all belong to the Series"),
    ],
)
def test_a_handler_that_fails_is_named_without_its_words(tmp_path: Path, body: str, said: str) -> None:
    write_handler(tmp_path, "h", body)
    with pytest.raises(InferenceError, match=rf"^handler h: .*{said}") as caught:
        run(tmp_path, write_study(tmp_path / "in"))
    assert not isinstance(caught.value, InferenceLimitError)
    assert "CANARY" not in str(caught.value)
    assert saved(tmp_path) == []


def test_a_handler_that_is_not_there_or_broken_fails_its_assignment_only(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", "import node.settings")
    study = write_study(tmp_path / "in")
    with pytest.raises(InferenceError, match=r"h\.py, line 5: imports node\.settings"):
        run(tmp_path, study)
    with pytest.raises(InferenceError, match="no handler 'absent'"):
        run(tmp_path, study, "absent")


def test_a_model_that_gives_nan_fails_the_analysis(tmp_path: Path) -> None:
    write_model(tmp_path, "log", logarithm_model())
    body = """
        import numpy as np
        models["log"].run(np.array([[-1.0, 1.0]], np.float32))
    """
    write_handler(tmp_path, "h", body, models=("log",))
    with pytest.raises(InferenceError, match="ModelOutputError log: output y: 1 of 2 are not finite"):
        run(tmp_path, write_study(tmp_path / "in"))


def test_a_model_with_the_wrong_hash_is_off_and_the_others_run(tmp_path: Path) -> None:
    write_model(tmp_path, "good", doubling_model())
    folder = write_model(tmp_path, "changed", doubling_model())
    (folder / "model.onnx").write_bytes(logarithm_model())
    write_handler(tmp_path, "bad", models=("changed",))
    write_handler(tmp_path, "fine", models=("good",))
    study = write_study(tmp_path / "in")
    with pytest.raises(InferenceError, match=r"ModelHashError .*the model is off"):
        run(tmp_path, study, "bad")
    assert run(tmp_path, study, "fine").status is Status.NO_FINDINGS


def test_a_changed_image_stops_before_the_handler(tmp_path: Path) -> None:
    write_handler(tmp_path, "h", f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    study = write_study(tmp_path / "in")
    path = study.instances[1].path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InferenceError, match=r"StoreError the file of SOP Instance 2\.25\.11 was changed"):
        run(tmp_path, study)
    path.unlink()
    with pytest.raises(InferenceError, match=r"StoreError the file of SOP Instance 2\.25\.11 is gone"):
        run(tmp_path, study)
    path.write_bytes(b"no DICOM file")
    with pytest.raises(InferenceError, match="UnreadableInstanceError"):
        run(tmp_path, study)
    assert not (tmp_path / "ran").exists()


def test_what_a_handler_prints_goes_nowhere_and_its_threads_hold_nothing_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = """
        import os, sys, threading
        print("CANARY", flush=True)
        print("CANARY", file=sys.stderr, flush=True)
        os.write(1, b"CANARY" * 100_000)
        assert sys.stdin.read() == ""
        threading.Thread(target=threading.Event().wait).start()
        return Reading(tuple(i.sop_instance_uid for i in study.instances))
    """
    write_handler(tmp_path, "h", body)
    assert run(tmp_path, write_study(tmp_path / "in")).status is Status.NO_FINDINGS
    assert capfd.readouterr() == ("", "")


def test_the_child_has_limits_few_threads_and_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WETREAD_ENGINE__URL", "CANARY")
    body = """
        import os, resource, sys
        from node.api import NotEvaluableError
        facts = (
            "WETREAD_ENGINE__URL" in os.environ, os.environ["OMP_NUM_THREADS"],
            resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_AS)[0] >> 20,
            os.getpgid(0) == os.getpid(), [m for m in ("dbos", "sqlalchemy", "pynetdicom", "onnx") if m in sys.modules],
            len(study.series[0].header["ImageComments"]), study.series[0].header["PixelSpacing"],
        )
        raise NotEvaluableError(repr(facts))
    """
    write_handler(tmp_path, "h", body, memory_limit_mb=2048)
    study = write_study(tmp_path / "in", comment="x" * 300_000)  # more than a pipe holds at once
    assert run(tmp_path, study).reason == "(False, '1', (0, 0), 2048, True, [], 300000, [0.5, 0.5])"


def test_only_the_series_of_the_assignment_are_given(tmp_path: Path) -> None:
    write_handler(tmp_path, "h")
    study = write_study(tmp_path / "in")
    other = Study(study.study_instance_uid, 1, ())
    with pytest.raises(InferenceError, match=r"Series not in the Study: 2\.25\.2"):
        run(tmp_path, other)


def test_the_child_ends_with_the_node(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    body = f"""
        import os, threading
        with open({str(pipe)!r}, "w") as file:
            file.write(str(os.getpid()))
        threading.Event().wait()
    """
    write_handler(tmp_path, "h", body)
    code = (
        "import sys; from pathlib import Path; from tests.unit.infer.test_runner import run, write_study; "
        "run(Path(sys.argv[1]), write_study(Path(sys.argv[1]) / 'in'))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment) as node:
        try:
            pid = int(read_when_written(pipe))
        finally:
            os.kill(node.pid, signal.SIGKILL)
    wait_until_ended(pid)
