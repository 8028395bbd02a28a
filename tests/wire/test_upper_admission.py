"""Who may come in, how many at once, and through which port."""

import ipaddress
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from node.network.dimse import Command, Kind
from node.receive.spool import Answer
from node.receive.upper import UpperReceiver, serve
from node.settings import Peer
from tests.peers.modality import send_with_pynetdicom
from tests.unit.network.conversations import VERIFICATION, message
from tests.wire.front_door import (
    P_DATA_HEAD,
    PATIENT,
    REJECT_HEAD,
    REQUEST,
    Bad,
    opened,
    serves,
    until,
)


def test_only_allowed_peers_come_in(tmp_path: Path, ct_folder: Path) -> None:
    settings = replace(PATIENT, allowed_peers=(Peer("GOOD", "127.0.0.1"), Peer("*", "10.0.0.0/8")))
    with opened(tmp_path, settings) as node:
        with Bad(node, REQUEST) as bad:
            assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x01\x01\x03"
        serves(node, ct_folder)


def test_a_strange_address_is_refused_at_its_first_byte_and_gets_no_thread(tmp_path: Path) -> None:
    with opened(tmp_path, replace(PATIENT, allowed_peers=(Peer("*", "10.0.0.0/8"),))) as node:
        threads = threading.active_count()
        with Bad(node, REQUEST[:1]) as bad, Bad(node) as silent:
            assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x01\x01\x03"
            assert silent.hears() == b""
            assert threading.active_count() == threads


@pytest.mark.peer
def test_dcmtk_understands_a_refusal_at_the_door(tmp_path: Path) -> None:
    echoscu = shutil.which("echoscu")
    if echoscu is None:
        pytest.skip("DCMTK's echoscu is not installed")
    with opened(tmp_path, replace(PATIENT, allowed_peers=(Peer("*", "10.0.0.0/8"),))) as node:
        command = [echoscu, "127.0.0.1", str(node.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stderr


def test_an_ipv4_peer_of_a_socket_for_both_families_is_known(tmp_path: Path, ct_folder: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    settings = replace(PATIENT, host="::", allowed_peers=(Peer("GOOD", "127.0.0.0/8"),))
    assert ipaddress.ip_address("::ffff:127.0.0.1").version == 6
    with opened(tmp_path, settings) as node:
        serves(node, ct_folder)


@pytest.mark.parametrize("cap", ["max_associations", "max_associations_per_address"])
def test_one_too_many_is_refused_and_served_when_there_is_room(tmp_path: Path, ct_folder: Path, cap: str) -> None:
    with opened(tmp_path, replace(PATIENT, **{cap: 3})) as node:
        with ExitStack() as stack:
            inside = [stack.enter_context(Bad(node).comes_in()) for _ in range(3)]
            before = threading.active_count()
            for _ in range(200):
                with Bad(node, REQUEST) as bad:
                    assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x02\x03\x02"
            assert threading.active_count() == before
            for peer in inside:
                peer.socket.sendall(message(1, Command(Kind.ECHO_REQUEST, 1, sop_class_uid=VERIFICATION)))
                assert peer.hears().startswith(P_DATA_HEAD)
        until(lambda: not node.receiver.associations.inside)
        serves(node, ct_folder)


def test_an_address_that_is_taken_is_an_error_unless_it_is_shared(tmp_path: Path) -> None:
    with opened(tmp_path) as node, pytest.raises(OSError, match="in use"):
        serve(
            replace(PATIENT, port=node.port),
            tmp_path,
            accept=lambda _: Answer(0),
            released=lambda _: None,
            has_room=lambda: True,
        )


def test_two_receivers_share_a_port(tmp_path: Path, ct_folder: Path) -> None:
    (tmp_path / "incoming").mkdir()
    taken: list[Path] = []

    def start(port: int) -> UpperReceiver:
        return serve(
            replace(PATIENT, port=port, processes=2),
            tmp_path / "incoming",
            accept=lambda one: taken.append(one.path) or one.path.unlink() or Answer(0),
            released=lambda _: None,
            has_room=lambda: True,
        )

    first = start(0)
    second = start(first.port)
    for _ in range(8):
        assert send_with_pynetdicom(ct_folder, first.port) == {"a.dcm": 0}
    first.stop(drain_s=1)
    assert send_with_pynetdicom(ct_folder, second.port) == {"a.dcm": 0}
    second.stop(drain_s=1)
    assert len(taken) == 9
