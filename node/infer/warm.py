"""A child process as the node sees it: what it was asked, what it answers, how it ends.

It has a process group of its own, which is killed as a whole whatever happens, so nothing a handler started outlives
its child.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from node.errors import InferenceError
from node.infer.job import OPENED, Answer, Rested, decode_said

__all__ = ["Child", "ChildEndedError", "start_process"]

CHILD = "node.infer.child"
PACKAGES = Path(__file__).parents[2]
# All that a child sees of the environment: the node's own settings hold passwords.
INHERITED = (
    "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES", "PATH",
    "PYTHONPATH", "TMPDIR",
)  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
REST_LIMIT_S = 30.0
CHUNK = 1 << 16  # an Answer has at most 1000 characters of words


class ChildEndedError(InferenceError):
    """A child ended without an answer.

    Parameters
    ----------
    exit_code
        Negative for the signal that ended it.
    complaint
        The last line it wrote when it could not even start.
    was_shared
        True if it read other studies at that time, any of which may be why.
    """

    def __init__(self, exit_code: int, complaint: str, *, was_shared: bool) -> None:
        super().__init__(f"its process ended without an answer, exit code {exit_code}")
        self.exit_code, self.complaint, self.was_shared = exit_code, complaint, was_shared


def start_process(threads: int) -> "subprocess.Popen[bytes]":
    """Start a child; it ends when the thread that calls this ends, however that ends."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", CHILD, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # the child closes it before it reads a job, so it never names a patient
        bufsize=0,
        env=_environment(os.environ, threads),
        start_new_session=True,
    )


def _environment(own: Mapping[str, str], threads: int) -> dict[str, str]:
    environment = {name: own[name] for name in INHERITED if name in own}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGES), own.get("PYTHONPATH"))))
    environment["MALLOC_ARENA_MAX"] = "2"  # each arena reserves address space, which RLIMIT_AS counts
    return environment | dict.fromkeys(THREAD_VARIABLES, str(threads))


class Child:
    """A process that was started, and the thread that listens to it.

    Parameters
    ----------
    process
        Just started.
    changed
        Called from the listening thread when the child has rested or ended, and every `tick_s` while nothing happens.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", changed: Callable[["Child"], None], *, tick_s: float
    ) -> None:
        self._process = process
        self._changed = changed
        self._tick_s = tick_s
        self._answers: dict[int, Future[Answer]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._complaint = ""
        self.is_open = False
        self.is_resting = False
        self.has_ended = False
        self.rested: Rested | None = None
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
        threading.Thread(target=self._listen, name=f"child {process.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_gone(self) -> bool:
        """True if the process has ended, also if the thread that listens to it does not know yet."""
        with self._lock:
            ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return self.has_ended or os.waitid(os.P_PID, self._process.pid, ended) is not None

    def ask(self, number: int, line: bytes, *, limit_s: float) -> Answer:
        """Give it a message, and wait for the Answer with this number.

        Raises
        ------
        TimeoutError
            If there is none by then; the child should be killed.
        ChildEndedError
            If it ended before.
        """
        deadline = time.monotonic() + limit_s
        answer: Future[Answer] = Future()
        with self._lock:
            if self.has_ended:
                raise ChildEndedError(self._process.returncode, "", was_shared=True)
            self._answers[number] = answer
        with contextlib.suppress(BrokenPipeError), self._writing:  # it has ended: the thread that listens says how
            self._write(line, deadline)
        return answer.result(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End it and all that it started, at once."""
        with self._lock:
            if not self.has_ended:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _write(self, line: bytes, deadline: float) -> None:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise BrokenPipeError
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        rest = memoryview(line)
        while rest:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            rest = rest[os.write(pipe.fileno(), rest) :]

    def _listen(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            return
        ended = os.pidfd_open(self._process.pid)
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(ended, select.POLLIN)
        heard = b""
        try:
            while True:
                events = dict(poll.poll((REST_LIMIT_S if self.is_resting else self._tick_s) * 1000))
                if pipe.fileno() in events:
                    chunk = os.read(pipe.fileno(), CHUNK)
                    *lines, heard = (heard + chunk).split(b"\n")
                    if not chunk or len(heard) > CHUNK or not all(map(self._hear, lines)):
                        break
                elif events or self.is_resting:
                    break
                else:
                    self._changed(self)
        finally:
            os.close(ended)
            self._end()

    def _hear(self, line: bytes) -> bool:
        """Take what it said; False if that is nothing it may say."""
        try:
            said = decode_said(line)
        except InferenceError:
            self._complaint = "it said something that is not an answer"
            return False
        if isinstance(said, Rested):
            self.rested, self.is_resting = said, False
            self._changed(self)
            return True
        with self._lock:
            answer = self._answers.pop(said.number, None)
            self.is_open = self.is_open or said.number == OPENED
            self.is_resting = not self._answers and said.number != OPENED
        if answer is not None:
            answer.set_result(said)
        return True

    def _end(self) -> None:
        self.kill()
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            exit_code = self._process.wait()
            self.has_ended, self.is_resting = True, False
            answers, self._answers = self._answers, {}
        complaint = self._complaint
        if self._process.stderr is not None:
            if not self.is_open:
                complaint = self._process.stderr.read(CHUNK).decode(errors="replace").strip().rpartition("\n")[2]
            self._process.stderr.close()
        for answer in answers.values():
            answer.set_exception(ChildEndedError(exit_code, complaint, was_shared=len(answers) > 1))
        with self._writing:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._changed(self)
