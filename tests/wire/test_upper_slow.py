"""Those that are slow, or say nothing: they are cut off in time, and nobody else waits for them."""

import threading
from contextlib import ExitStack
from pathlib import Path

from tests.wire.front_door import ABORT_HEAD, REQUEST, SHORT_OF_TIME, Bad, half_a_store, opened, serves, until


def test_senders_that_stop_after_60_bytes_are_cut_and_do_not_lock_the_door(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, ExitStack() as stack:
        stalled = [stack.enter_context(Bad(node, REQUEST[:60])) for _ in range(20)]
        serves(node, ct_folder)
        assert all(bad.hears() == b"" for bad in stalled)
        serves(node, ct_folder)


def test_silent_connections_are_capped_and_cut(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, ExitStack() as stack:
        threads = threading.active_count()
        silent = [stack.enter_context(Bad(node)) for _ in range(200)]
        assert threading.active_count() <= threads + SHORT_OF_TIME.max_associations_per_address
        assert all(bad.hears() == b"" for bad in silent)
        serves(node, ct_folder)


def test_a_request_that_drips_is_cut_at_its_deadline(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node) as bad:
        assert drips(bad, REQUEST)
        serves(node, ct_folder)


def test_an_idle_association_is_aborted_at_its_limit(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node).comes_in() as idle:
        serves(node, ct_folder)
        assert idle.hears().startswith(ABORT_HEAD)
        assert idle.hears() == b""


def test_a_sender_that_stalls_inside_an_object_is_cut_and_leaves_nothing(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node).comes_in() as stalled:
        stalled.socket.sendall(half_a_store())
        until(lambda: len(node.leftovers()) == 1)
        serves(node, ct_folder)
        assert stalled.hears().startswith(ABORT_HEAD)
        until(lambda: not node.leftovers())


def test_a_sender_of_single_bytes_is_cut_and_leaves_nothing(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node).comes_in() as slow:
        slow.socket.sendall(half_a_store())
        assert drips(slow, bytes(1000))
        until(lambda: not node.leftovers())
        serves(node, ct_folder)


def drips(bad: Bad, data: bytes) -> bool:
    """Send one byte at a time, 20 a second, until the node has had enough."""
    bad.socket.settimeout(0.05)
    for place in range(len(data)):
        try:
            bad.socket.sendall(data[place : place + 1])
            bad.socket.recv(100)
        except TimeoutError:
            continue
        except OSError:
            return True
        return True
    return False
