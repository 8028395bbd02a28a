"""A process of its own with a durable engine: it dies in a step, is stopped in a step, or finishes what was left."""

import os
import signal
import sys
import threading
from pathlib import Path

from node.domain.work import Priority
from node.engine import Engine, Queue

LIMIT_S = 30.0
in_second_step, may_go_on, is_done = threading.Event(), threading.Event(), threading.Event()


def main(folder: Path, mode: str, executor_id: str = "tester") -> None:
    def note(word: str) -> None:
        with (folder / "steps.txt").open("a", encoding="ascii") as file:
            file.write(word + "\n")

    def second() -> None:
        note("second")
        if mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        in_second_step.set()
        if mode == "stop":
            may_go_on.wait(LIMIT_S)

    def work(_name: str) -> None:
        engine.step("first", note, "first")
        engine.step("second", second)
        engine.step("third", note, "third")
        engine.step("done", is_done.set)

    engine = Engine(
        url=f"sqlite:///{folder / 'engine.db'}",
        executor_id=executor_id,
        lock_folder=folder,
        queues=(Queue("work", concurrency=1),),
        workflows=(work,),
    )
    engine.launch()
    if mode != "finish":
        engine.enqueue("work", work, "the-work", "x", priority=Priority.ROUTINE)
    if mode == "stop":
        in_second_step.wait(LIMIT_S)
        engine.stop(drain_s=1)
        may_go_on.set()
        return
    is_done.wait(LIMIT_S)
    engine.stop(drain_s=5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
