"""A disk that is full, fills up or cannot be written: its senders get a status and come again."""

from pathlib import Path

from node.network.dimse import Command, Kind
from node.network.pdu import data_head
from node.receive.landing import LOOK_AT_DISK_BYTES
from tests.unit.network.conversations import message
from tests.wire.front_door import REJECT_HEAD, REQUEST, Bad, opened, serves, store, until


def test_a_full_disk_refuses_associations_and_objects_as_transient(tmp_path: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as inside:
        node.is_roomy = False
        with Bad(node, REQUEST) as bad:
            assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x02\x03\x02"
        inside.socket.sendall(store(1, bytes(50_000)))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xa7" in inside.hears()
        assert node.leftovers() == []
        assert node.taken == []


def test_a_disk_that_fills_up_in_the_middle_of_an_object_ends_in_a_status(tmp_path: Path, ct_folder: Path) -> None:
    fragment = data_head(3, 16378, is_command=False, is_last=False) + bytes(16378)
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        command = Command(Kind.STORE_REQUEST, 1, has_dataset=True, sop_class_uid="1.2", sop_instance_uid="1.3")
        peer.socket.sendall(message(3, command))
        peer.socket.sendall(fragment)
        until(lambda: len(node.leftovers()) == 1)
        node.is_roomy = False
        for _ in range(LOOK_AT_DISK_BYTES // 16378 + 10):
            peer.socket.sendall(fragment)
        until(lambda: not node.leftovers())
        peer.socket.sendall(data_head(3, 0, is_command=False, is_last=True))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xa7" in peer.hears()


def test_a_folder_that_cannot_be_written_ends_in_a_status(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        node.incoming.rmdir()
        peer.socket.sendall(store(1, bytes(50_000)))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xa7" in peer.hears()
        node.incoming.mkdir()
        serves(node, ct_folder)
