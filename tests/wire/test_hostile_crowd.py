"""Many bad ones at once, and clocks that jump: an honest sender loses nothing."""

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.wire.front_door import (
    ABORT_HEAD,
    ACCEPT_HEAD,
    P_DATA_HEAD,
    PATIENT,
    REQUEST,
    SHORT_OF_TIME,
    Bad,
    Node,
    half_a_store,
    opened,
    serves,
    store,
    until,
)

HOSTILE_ADDRESS = "127.0.0.2"
PROBES = 10_000
MOST_PROBING_S = 5.0


def _hostile(node: Node, number: int) -> Bad:
    """One of a crowd: silent, stuck in its request, idle inside, stuck in an object, or endlessly sending rubbish."""
    said = ((), (REQUEST[:60],), (REQUEST,), (REQUEST, half_a_store()), (REQUEST, b"\xff" * 1000))[number % 5]
    return Bad(node, *said, source=HOSTILE_ADDRESS)


def test_64_hostile_sockets_from_one_address_cost_a_sender_elsewhere_nothing(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node, ExitStack() as stack:
        for number in range(64):
            stack.enter_context(_hostile(node, number))
        with Bad(node).comes_in() as honest:
            for number in range(1, 51):
                honest.socket.sendall(store(number, number.to_bytes(2, "big") * 20_000))
                assert honest.hears().startswith(P_DATA_HEAD)
        for number in range(1, 51):
            assert node.objects[f"2.25.{number}"].endswith(number.to_bytes(2, "big") * 20_000)
        serves(node, ct_folder)
        assert node.receiver.open_associations <= PATIENT.max_associations_per_address + 1


def test_probes_of_a_load_balancer_leave_no_thread_and_no_descriptor(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node:
        serves(node, ct_folder)
        until(lambda: not node.receiver.open_associations)
        threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
        deadline = time.monotonic() + MOST_PROBING_S
        count = 0
        while count < PROBES and time.monotonic() < deadline:
            with Bad(node):
                count += 1
        assert threading.active_count() <= threads + SHORT_OF_TIME.max_associations_per_address
        until(lambda: not node.receiver.open_associations)
        until(lambda: threading.active_count() <= threads)
        until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)
        serves(node, ct_folder)
        assert count > PROBES // 10  # each is cheap: even a machine that is busy elsewhere takes a thousand


@pytest.mark.parametrize("years", [-10, 10])
def test_a_wall_clock_that_jumps_ends_nothing(
    tmp_path: Path, ct_folder: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    data = store(1, bytes(40_000))
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(data[:20_000])
        until(lambda: len(node.leftovers()) == 1)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + years * 365 * 86_400)
        peer.socket.sendall(data[20_000:])
        assert peer.hears().startswith(P_DATA_HEAD)
        monkeypatch.undo()
        serves(node, ct_folder)


def test_deadlines_follow_the_monotonic_clock_and_nothing_else(tmp_path: Path, ct_folder: Path) -> None:
    passed = [0.0]
    with opened(tmp_path, clock=lambda: passed[0]) as node, Bad(node).comes_in() as slow:
        slow.socket.sendall(half_a_store())
        until(lambda: len(node.leftovers()) == 1)
        passed[0] += PATIENT.network_timeout_s + 1
        slow.socket.sendall(b"\0")
        assert slow.hears().startswith(ABORT_HEAD)
        until(lambda: not node.leftovers())
        serves(node, ct_folder)


def test_an_empty_machine_is_left_behind_by_a_crowd(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node:
        serves(node, ct_folder)
        until(lambda: not node.receiver.open_associations)
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(3):
            with ExitStack() as stack:
                for number in range(64):
                    stack.enter_context(_hostile(node, number))
                with Bad(node, REQUEST) as honest:
                    assert honest.hears().startswith(ACCEPT_HEAD)
        until(lambda: not node.receiver.open_associations)
        until(lambda: threading.active_count() <= threads)
        until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)  # noqa: PTH208
        assert node.leftovers() == []
