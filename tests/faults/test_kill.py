"""kill -9 of any process at any moment: every study ends delivered, each result exactly once."""

import random
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.demo.samples import make_samples
from node.store.schema import ASSIGNMENTS
from tests.faults.killing import kill_at_random
from tests.faults.running import running_node

KILLS = 10
LONGEST_S = 280.0


@pytest.mark.peer
@pytest.mark.timeout(400)
def test_ten_kills_of_any_process_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    samples, missing = make_samples(tmp_path / "samples")
    if missing:
        pytest.skip("; ".join(missing))
    files = [path for sample in samples for path in sample.files]
    chance = random.Random(20261122)  # noqa: S311  which process is killed when, the same on every run
    with running_node(tmp_path) as node:
        until = time.monotonic() + LONGEST_S
        sender = threading.Thread(target=node.send, args=(files,), kwargs={"until": until})
        sender.start()
        killed = kill_at_random(node, chance, count=KILLS, pause_s=(0.3, 3.0))
        sender.join(until - time.monotonic())
        assert not sender.is_alive()
        node.wait_until_at_rest(timeout_s=until - time.monotonic())
        assert sorted(node.acknowledged) == sorted(files)
        assert len(set(killed)) > 1
        with node.store.reading() as connection:
            states = {row.handler: row.state for row in connection.execute(sa.select(ASSIGNMENTS))}
        node.check()
    assert states == {"brain_mr": "reported", "chest_xray": "reported"}
