"""Those that break off, or break the rules: they leave nothing, and the next one is served."""

import os
import struct
import threading
from pathlib import Path

import pytest

from node.network.dimse import Command, Kind
from node.network.pdu import data_head
from node.receive.spool import Answer, Incoming
from tests.unit.network.conversations import message
from tests.wire.front_door import (
    ABORT_HEAD,
    ACCEPT_HEAD,
    P_DATA_HEAD,
    PATIENT,
    REQUEST,
    Bad,
    Node,
    half_a_store,
    opened,
    serves,
    store,
    until,
)


def test_connections_that_close_at_once_leave_nothing_behind(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node:
        serves(node, ct_folder)
        until(lambda: not node.receiver.associations.inside)
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
        for number in range(400):
            bad = Bad(node)
            bad.reset() if number % 2 else bad.socket.close()
        until(lambda: lets_in(node))
        serves(node, ct_folder)
        until(lambda: threading.active_count() <= threads)
        until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)  # noqa: PTH208


def lets_in(node: Node) -> bool:
    """Whether the node has a place for one more from here; it frees them in the order in which they came."""
    with Bad(node, REQUEST) as peer:
        return peer.hears().startswith(ACCEPT_HEAD)


HOSTILE = {
    "an A-ASSOCIATE-RQ of 4 GiB": (False, struct.pack(">BxI", 1, 2**32 - 1)),
    "a PDU of 4 GiB": (True, struct.pack(">BxI", 4, 2**32 - 1)),
    "a PDU one byte longer than was negotiated": (True, struct.pack(">BxI", 4, PATIENT.max_pdu_bytes + 1)),
    "a P-DATA of 300 MB": (True, struct.pack(">BxI", 4, 300 << 20) + bytes(100_000)),
    "a fragment longer than its PDU": (True, struct.pack(">BxIIBB", 4, 100, 2**32 - 1, 3, 0)),
    "an unknown PDU": (True, struct.pack(">BxI", 9, 4)),
    "a web browser": (False, b"GET / HTTP/1.1\r\nHost: wetread\r\n\r\n"),
    "a TLS client": (False, bytes.fromhex("160301020001000001fc0303")),
    "data before the request": (False, store(1, b"abcd")),
    "a second request": (True, REQUEST),
    "a dataset without a command": (True, data_head(3, 4, is_command=False, is_last=True) + b"abcd"),
    "a command without an end": (True, (data_head(3, 9000, is_command=True, is_last=False) + bytes(9000)) * 20),
    "a context that was not accepted": (True, store(1, b"abcd", context_id=9)),
    "a second object before the answer": (True, store(1, b"abcd") + store(2, b"abcd")),
    "200 objects before an answer": (True, b"".join(store(number, bytes(2000)) for number in range(1, 201))),
    "a release inside an object": (
        True,
        store(1, bytes(40_000))[: -(40_000 - 16_378) - 24] + struct.pack(">BxII", 5, 4, 0),
    ),
    "an answer to nothing": (True, message(1, Command(Kind.ECHO_RESPONSE, 1, status=0))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_breach_of_the_rules_is_aborted(tmp_path: Path, ct_folder: Path, name: str) -> None:
    is_inside, said = HOSTILE[name]
    with opened(tmp_path) as node, Bad(node) as bad:
        if is_inside:
            bad.comes_in()
        bad.socket.sendall(said)
        assert bad.hears().startswith(ABORT_HEAD)
        until(lambda: not node.leftovers())
        serves(node, ct_folder)
    assert len(node.taken) == 1


@pytest.mark.parametrize("ending", ["abort", "close", "reset"])
def test_an_object_that_breaks_off_leaves_nothing(tmp_path: Path, ct_folder: Path, ending: str) -> None:
    with opened(tmp_path) as node:
        bad = Bad(node).comes_in()
        bad.socket.sendall(store(1, bytes(100)))
        assert bad.hears().startswith(P_DATA_HEAD)
        bad.socket.sendall(half_a_store())
        until(lambda: len(node.leftovers()) == 1)
        if ending == "abort":
            bad.socket.sendall(b"\x07\0\0\0\0\x04\0\0\0\0")
        elif ending == "reset":
            bad.reset()
        bad.socket.close()
        until(lambda: not node.leftovers())
        until(lambda: not node.receiver.associations.inside)
        assert node.released == []  # its sender will come again
        serves(node, ct_folder)


def test_no_word_of_a_peer_becomes_a_path(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as bad:
        for number, name in enumerate(("../../../tmp/x", "/etc/passwd", "1.2\0.3", "é" * 70, "")):
            bad.socket.sendall(store(number, b"abcd", instance=name or " "))
            assert bad.hears().startswith(P_DATA_HEAD)
        assert {one.path.parent for one in node.taken} == {node.incoming}
        assert node.taken[0].sop_instance_uid == "../../../tmp/x"
        serves(node, ct_folder)


def test_an_error_of_ours_ends_one_association_only(
    tmp_path: Path, ct_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: ended.append(failed.exc_type))
    broken = threading.Event()
    broken.set()

    def fail_once(one: Incoming) -> Answer:
        if broken.is_set():
            broken.clear()
            raise ZeroDivisionError
        one.path.unlink()
        return Answer(0)

    with opened(tmp_path, accept=fail_once) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(store(1, b"abcd"))
        assert peer.hears().startswith(ABORT_HEAD)
        until(lambda: not node.leftovers())
        serves(node, ct_folder)
    assert ended == [ZeroDivisionError]
