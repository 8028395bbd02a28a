"""A destination that is down is tried again without a person, and delays nobody else."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from node.demo.samples import make_samples
from node.store.schema import DELIVERIES
from tests.faults.running import RunningNode, running_node, wait_until

pytestmark = pytest.mark.timeout(200)


def _states(node: RunningNode, destination: str) -> list[tuple[str, int]]:
    query = sa.select(DELIVERIES.c.state, DELIVERIES.c.attempts).where(DELIVERIES.c.destination == destination)
    with node.store.reading() as connection:
        return [(row.state, row.attempts) for row in connection.execute(query)]


@pytest.mark.peer
@pytest.mark.parametrize(("down", "up"), [("pacs", "ris"), ("ris", "pacs")])
def test_results_wait_for_one_destination_while_the_other_has_them(tmp_path: Path, down: str, up: str) -> None:
    (chest, *_), _ = make_samples(tmp_path / "samples")
    with running_node(tmp_path) as node:
        peer = node.pacs if down == "pacs" else node.ris
        peer.stop()
        node.send(list(chest.files), until=float("inf"))

        def other_is_served_and_this_one_was_tried_again() -> bool:
            served = [state for state, _ in _states(node, up)]
            tried = [attempts for _, attempts in _states(node, down)]
            return bool(served) and set(served) <= {"accepted", "verified"} and max(tried, default=0) >= 2

        wait_until(other_is_served_and_this_one_was_tried_again, timeout_s=90, what="two attempts at a closed port")
        assert {state for state, _ in _states(node, down)} == {"pending"}
        peer.start()
        node.wait_until_at_rest(timeout_s=60)
        assert {state for state, _ in _states(node, down)} <= {"accepted", "verified"}
        node.check()
