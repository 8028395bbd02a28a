"""What a hostile sender can do to the store, through the real spool: nothing."""

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.filereader import dcmread
from pydicom.uid import CTImageStorage, MRImageStorage

from node.front import start_receiver
from node.network.dimse import Command, Kind
from node.receive import Receiver
from node.receive.upper import UpperReceiver
from node.settings import Settings, StoreSettings
from node.store.database import Store, open_store
from node.store.schema import INSTANCES, QUARANTINE
from tests.unit.network.conversations import message
from tests.wire.front_door import PATIENT, Bad, Node, serves, until

CHUNK = 4096


@contextmanager
def _kept(store: Store) -> Iterator[Node]:
    settings = Settings(dicom=PATIENT, store=StoreSettings(store.root, refuse_below_free_mb=1))
    receiver: Receiver = start_receiver(settings, store)
    assert isinstance(receiver, UpperReceiver)
    try:
        yield Node(store.root / "incoming", receiver)
    finally:
        receiver.stop(drain_s=5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    found.close()


def _rows(store: Store, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with store.reading() as connection:
        return list(connection.execute(sa.select(table)).all())


def _dataset(folder: Path, *, instance: bytes = b"") -> tuple[str, bytes]:
    """SOP Instance UID and encoded dataset of the real image, with another UID of the same length if one is given."""
    content = (folder / "a.dcm").read_bytes()
    uid = str(dcmread(folder / "a.dcm").SOPInstanceUID)
    dataset = content[144 + struct.unpack_from("<I", content, 140)[0] :]
    return uid, dataset.replace(uid.encode(), instance) if instance else dataset


def _store(uid: str, dataset: bytes, *, sop_class: str = str(CTImageStorage)) -> bytes:
    command = Command(Kind.STORE_REQUEST, 1, has_dataset=True, sop_class_uid=sop_class, sop_instance_uid=uid)
    return message(3, command, dataset)


def _status(answer: bytes) -> int:
    place = answer.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
    return int(struct.unpack_from("<H", answer, place + 8)[0])


def _files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("uid", ["../../../x", "/etc/passwd", "1.2.", "9" * 65, " "])
def test_a_uid_that_is_none_is_refused_and_writes_nothing_outside(
    store: Store, tmp_path: Path, ct_folder: Path, uid: str
) -> None:
    _, dataset = _dataset(ct_folder)
    outside = _files(tmp_path) - _files(store.root)
    with _kept(store) as node, Bad(node).comes_in() as bad:
        bad.socket.sendall(_store(uid, dataset))
        assert _status(bad.hears()) == 0xC000
        serves(node, ct_folder)
    assert _files(tmp_path) - _files(store.root) == outside
    assert len(_rows(store, INSTANCES)) == 1
    (row,) = _rows(store, QUARANTINE)
    assert Path(row.path).name == f"{row.quarantine_id}.dcm"


@pytest.mark.parametrize("what", ["class", "instance"])
def test_a_command_that_names_another_object_than_its_dataset_is_refused(
    store: Store, ct_folder: Path, what: str
) -> None:
    uid, dataset = _dataset(ct_folder)
    said = _store(uid, dataset, sop_class=str(MRImageStorage)) if what == "class" else _store("2.25.1", dataset)
    with _kept(store) as node, Bad(node).comes_in() as bad:
        bad.socket.sendall(said)
        assert _status(bad.hears()) == 0xA900
        assert _rows(store, INSTANCES) == []
        serves(node, ct_folder)
    assert len(_rows(store, QUARANTINE)) == 1


def test_the_same_uid_from_two_senders_at_once_is_the_one_or_the_other_and_never_a_mix(
    store: Store, ct_folder: Path
) -> None:
    uid, dataset = _dataset(ct_folder)
    pixels, end = len(dataset) - 20_000, len(dataset) - 1_000  # what follows the pixels stays
    contents = [dataset[:pixels] + bytes([number]) * (end - pixels) + dataset[end:] for number in (1, 2)]
    with _kept(store) as node, ExitStack() as stack:
        senders = [stack.enter_context(Bad(node).comes_in()) for _ in contents]
        wire = [_store(uid, content) for content in contents]
        for start in range(0, len(wire[0]), CHUNK):
            for sender, said in zip(senders, wire, strict=True):
                sender.socket.sendall(said[start : start + CHUNK])
        statuses = [_status(sender.hears()) for sender in senders]
        serves_another(node, ct_folder)
    assert sorted(statuses) == [0x0000, 0xC001]
    (row,) = [row for row in _rows(store, INSTANCES) if row.sop_uid == uid]
    kept = (store.root / row.path).read_bytes()
    assert kept.endswith(contents[statuses.index(0x0000)])
    (other,) = _rows(store, QUARANTINE)
    assert (store.root / other.path).read_bytes().endswith(contents[statuses.index(0xC001)])


def serves_another(node: Node, folder: Path) -> None:
    """An object of another UID is taken: the image itself is there in another form already."""
    uid, _ = _dataset(folder)
    other = uid[:-1] + ("1" if uid[-1] != "1" else "2")
    with Bad(node).comes_in() as honest:
        honest.socket.sendall(_store(other, _dataset(folder, instance=other.encode())[1]))
        assert _status(honest.hears()) == 0x0000


def test_what_breaks_off_has_no_row_and_no_file_and_the_sender_may_come_again(store: Store, ct_folder: Path) -> None:
    uid, dataset = _dataset(ct_folder)
    with _kept(store) as node:
        with Bad(node).comes_in() as bad:
            bad.socket.sendall(_store(uid, dataset)[:-1000])
            until(lambda: len(node.leftovers()) == 1)
            bad.reset()
        until(lambda: not node.leftovers())
        assert _rows(store, INSTANCES) == []
        serves(node, ct_folder)
    assert [row.sop_uid for row in _rows(store, INSTANCES)] == [uid]
