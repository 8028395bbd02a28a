"""A process ends with its parent, stops when asked, and is only ready while it lives."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.process import is_alive, read_ready, say_ready, without_settings

ROOT = Path(__file__).parents[2]


def _python(program: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)


def _ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    return process.pid


def test_a_role_is_ready_with_its_port_while_its_process_lives(tmp_path: Path) -> None:
    say_ready(tmp_path, "receiver", port=11112)
    assert read_ready(tmp_path, "receiver") == {"pid": os.getpid(), "port": 11112, "tls_port": 0}
    assert read_ready(tmp_path, "worker") == {}


def test_what_a_dead_process_said_does_not_count(tmp_path: Path) -> None:
    record = {"role": "worker", "pid": _ended_pid(), "port": 0}
    (tmp_path / "worker.json").write_text(json.dumps(record))
    assert read_ready(tmp_path, "worker") == {}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b'{"pid": 1}', b'{"pid": "x", "port": 1}', b'{"pid": null, "port": 1}', b"\xff"]
)
def test_a_record_that_cannot_be_read_is_no_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "worker.json").write_bytes(content)
    assert read_ready(tmp_path, "worker") == {}


def test_a_zombie_is_not_alive() -> None:
    process = _python("")
    assert process.stdout is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet reaped
    assert not is_alive(process.pid)
    process.communicate()
    assert not is_alive(process.pid)
    assert is_alive(os.getpid())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_asked_for_by_signal(number: signal.Signals) -> None:
    program = (
        "from node.process import stop_requested\n"
        "stop = stop_requested(); print('waiting', flush=True)\n"
        "stop.wait(); print('stopped')"
    )
    with _python(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(number)
        assert process.communicate(timeout=30)[0] == b"stopped\n"
    assert process.returncode == 0


def test_a_signal_that_comes_inside_the_events_own_lock_does_not_hang() -> None:
    program = (
        "import signal\nfrom node.process import stop_requested\nstop = stop_requested()\n"
        "with stop._cond: signal.raise_signal(signal.SIGTERM)\n"  # the moment in which `wait` holds it
        "print(stop.wait(20))"
    )
    with _python(program) as process:
        try:
            assert process.communicate(timeout=40)[0] == b"True\n"
        finally:
            process.kill()


def test_a_process_is_asked_to_stop_when_its_parent_is_killed() -> None:
    child = (
        "import sys; from node.process import die_with_parent, stop_requested\n"
        "stop = stop_requested(); die_with_parent(int(sys.argv[1])); print('ready', flush=True)\n"
        "stop.wait(); print('stopped', flush=True)"
    )
    parent = f"import os, subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())]).wait()"
    with _python(parent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b"stopped\n"  # the child closes the pipe when it ends


def test_a_process_whose_parent_is_already_gone_stops_at_once() -> None:
    program = (
        "from node.process import die_with_parent, stop_requested\n"
        f"stop = stop_requested(); die_with_parent({_ended_pid()}); print(stop.wait(20))"
    )
    with _python(program) as process:
        assert process.communicate(timeout=60)[0] == b"True\n"


def test_an_environment_without_settings_keeps_everything_else() -> None:
    assert without_settings({"WETREAD_STORE__PATH": "/srv", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_a_signal_that_another_thread_gets_is_heard_by_one_that_waits() -> None:
    program = (
        "import os, signal, threading\nfrom node.process import stop_requested\nstop = stop_requested()\n"
        "quiet, _ = os.pipe()\n"
        "def take():\n signal.pthread_kill(threading.get_ident(), signal.SIGTERM); os.read(quiet, 1)\n"
        "def later():\n stopped.wait(1); take()\n"  # until the main thread waits
        "stopped = threading.Event()\nthreading.Thread(target=later, daemon=True).start()\n"
        "print(stop.wait(20))"
    )
    with _python(program) as process:
        try:
            assert process.communicate(timeout=40)[0] == b"True\n"
        finally:
            process.kill()
