"""kill -9 of any process of a node at any moment, by a chance that is the same on every run."""

import random
import time

from tests.faults.running import RunningNode

__all__ = ["kill_at_random"]


def kill_at_random(node: RunningNode, chance: random.Random, *, count: int, pause_s: tuple[float, float]) -> list[str]:
    """Kill `count` processes one after the other, with pauses; the roles that were hit.

    Only the supervisor's end needs a person, so it alone is started again.
    """
    killed: list[str] = []
    while len(killed) < count:
        time.sleep(chance.uniform(*pause_s))
        processes = node.processes()
        kinds = sorted({role.split()[0] for role in processes})
        if not kinds:
            continue
        kind = chance.choice(kinds)
        pid = chance.choice([pid for role, pid in sorted(processes.items()) if role.startswith(kind)])
        node.kill(pid)
        killed.append(kind)
        if kind == "supervisor":
            node.start()
    return killed
