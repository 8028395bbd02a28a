"""When studies are released, and how the receiver ends."""

import threading
from pathlib import Path

import pytest

from node.network.pdu import data_head
from tests.wire.front_door import ABORT_HEAD, LIMIT_S, P_DATA_HEAD, Bad, half_a_store, opened, store, until


def test_a_study_is_released_when_the_last_association_that_touches_it_is(tmp_path: Path) -> None:
    release = b"\x05\0\0\0\0\x04\0\0\0\0"
    with opened(tmp_path) as node, Bad(node).comes_in() as first, Bad(node).comes_in() as second:
        for peer in (first, second):
            peer.socket.sendall(store(1, b"abcd"))
            assert peer.hears().startswith(P_DATA_HEAD)
        first.socket.sendall(release)
        assert first.hears().startswith(b"\x06\0")
        assert first.hears() == b""
        assert node.released == []
        second.socket.sendall(release)
        assert second.hears().startswith(b"\x06\0")
        until(lambda: node.released == [["study of BAD"]])


def test_stopping_lets_an_object_finish_and_refuses_new_ones(tmp_path: Path) -> None:
    data = store(1, bytes(40_000))
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(data[:20_000])
        until(lambda: len(node.leftovers()) == 1)
        stopping = threading.Thread(target=node.receiver.stop, kwargs={"drain_s": LIMIT_S})
        stopping.start()
        until(lambda: "entrance" not in {thread.name for thread in threading.enumerate()})
        with pytest.raises(ConnectionRefusedError):
            Bad(node)
        peer.socket.sendall(data[20_000:])
        assert peer.hears().startswith(P_DATA_HEAD)
        peer.socket.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        assert peer.hears().startswith(b"\x06\0")
        peer.socket.close()
        stopping.join(LIMIT_S)
        assert not stopping.is_alive()
        assert len(node.taken) == 1


def test_stopping_aborts_what_does_not_end(tmp_path: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as peer, Bad(node).comes_in() as idle:
        peer.socket.sendall(half_a_store())
        until(lambda: len(node.leftovers()) == 1)
        node.receiver.stop(drain_s=0.05)
        assert node.leftovers() == []
        assert peer.hears().startswith(ABORT_HEAD)
        assert idle.hears().startswith(ABORT_HEAD)


def test_stopping_ends_a_sender_that_never_pauses(tmp_path: Path) -> None:
    fragment = data_head(3, 16378, is_command=False, is_last=False) + bytes(16378)
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(store(1, bytes(40_000))[:-7256])

        def send_on() -> None:
            try:
                while True:
                    peer.socket.sendall(fragment)
            except OSError:
                return

        sending = threading.Thread(target=send_on)
        sending.start()
        until(lambda: len(node.leftovers()) == 1)
        node.receiver.stop(drain_s=0.05)
        assert node.leftovers() == []
        sending.join(LIMIT_S)
        assert not sending.is_alive()
