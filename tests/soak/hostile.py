"""Broken conversations and broken objects by the thousand: the receiver stays, and serves the next honest sender."""

import random
import socket
import time
import warnings
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from pydicom.uid import CTImageStorage

from node.dicom.charset import normalise
from node.dicom.pixels import slice_values
from node.dicom.read import header_of, order_of, patient_of, read_dataset
from node.errors import DicomError
from node.network import Command, Kind
from node.store.schema import INSTANCES, QUARANTINE
from tests.faults.running import wait_until
from tests.invariants import Footprint, check_canaries, check_footprint, check_store
from tests.soak.mutations import mutate
from tests.soak.objects import NAME_CANARY, PATIENT_CANARY, SentObject, chance_of, make_object, write_part10
from tests.soak.receiver import ReceiverProcess, receiver_process
from tests.soak.sender import Sender, echo_time_s
from tests.unit.network.conversations import ECHO, OPEN, RELEASE, message

__all__ = ["soak_file_mutations", "soak_wire_mutations"]

LONGEST_ANSWER_S = 10.0
PATIENCE_S = 2.0  # of the receiver with a peer that says nothing more
ROUND = 50  # hostile acts between two honest senders
STALLING = 0.01  # share of peers that stay and say nothing more
NEW, ASIDE = 0x0000, (0xA900, 0xC000, 0xC001)


def soak_wire_mutations(folder: Path, *, count: int, seed: str, until: float) -> dict[str, str]:
    """Send `count` broken conversations; after each round an honest sender is served. The figures."""
    folder.mkdir(parents=True)
    chance = chance_of(seed, "wire")
    acknowledged: dict[str, str] = {}
    worst_s, made = 0.0, 0
    with receiver_process(folder, patience_s=PATIENCE_S) as receiver:
        _serve_honestly(receiver, f"{seed}/honest", 0, acknowledged)
        before = receiver.footprint()
        while made < count and time.monotonic() < until:
            made += 1
            worst_s = max(worst_s, _converse(chance, receiver, f"{seed}/{made}"))
            if made % ROUND == 0 or made == count:
                _serve_honestly(receiver, f"{seed}/honest", made, acknowledged)
        _check_it_is_as_before(receiver, before, acknowledged)
    return {
        "broken conversations": str(made),
        "exits, hangs": "0, 0",
        "slowest end of one": f"{worst_s:.2f} s",
        "honest objects between them": f"{len(acknowledged)}, all there",
    }


def soak_file_mutations(folder: Path, *, count: int, seed: str, until: float) -> dict[str, str]:
    """Send `count` broken datasets in honest conversations, and read each as the worker would; the figures."""
    folder.mkdir(parents=True)
    chance = chance_of(seed, "files")
    acknowledged: dict[str, str] = {}
    refused: dict[int, int] = {}
    unread = made = 0
    with receiver_process(folder, patience_s=LONGEST_ANSWER_S) as receiver:
        _serve_honestly(receiver, f"{seed}/honest", 0, acknowledged)
        before = receiver.footprint()
        while made < count and time.monotonic() < until:
            with Sender(receiver.port, timeout_s=LONGEST_ANSWER_S) as sender:
                for _ in range(min(ROUND, count - made)):
                    made += 1
                    sent = _broken_object(chance, f"{seed}/{made}")
                    status = sender.store(sent)
                    assert status == NEW or status in ASIDE, f"object {made} was answered {status:#06x}"
                    if status == NEW:
                        acknowledged[sent.sop_instance_uid] = sent.sha256
                    else:
                        refused[status] = refused.get(status, 0) + 1
                    unread += not _can_be_read(folder / "one.dcm", sent)
            _serve_honestly(receiver, f"{seed}/honest", made, acknowledged)
        _check_it_is_as_before(receiver, before, acknowledged)
    store = receiver.open_store()
    try:
        with store.reading() as connection:
            query = sa.select(QUARANTINE.c.status, sa.func.count()).group_by(QUARANTINE.c.status)
            rows = {int(status): int(number) for status, number in connection.execute(query)}
            kept = connection.execute(sa.select(sa.func.count()).select_from(INSTANCES)).scalar_one()
    finally:
        store.close()
    assert rows == refused, f"quarantine holds {rows}, senders were told {refused}"
    assert kept == len(acknowledged)
    check_canaries(receiver.root, (NAME_CANARY, PATIENT_CANARY), folder / "stderr.log")
    return {
        "broken objects": str(made),
        "put aside, one row each": ", ".join(f"{number} with {status:#06x}" for status, number in sorted(rows.items())),
        "taken": str(made - sum(refused.values())),
        "refused by the reader behind": str(unread),
    }


def _converse(chance: random.Random, receiver: ReceiverProcess, seed: str) -> float:
    """Say something broken and listen to the end; the seconds that the receiver took to end it."""
    sent = make_object(seed, 0, rows=16)
    command = Command(
        Kind.STORE_REQUEST,
        1,
        has_dataset=True,
        sop_class_uid=str(CTImageStorage),
        sop_instance_uid=sent.sop_instance_uid,
    )
    store = message(3, command, sent.dataset, fragment=chance.choice((200, 1000, 16378)))
    parts = [OPEN, *chance.choice(([ECHO], [store], [ECHO, store], [store, ECHO])), RELEASE]
    broken = chance.randrange(len(parts))
    parts[broken] = mutate(chance, parts[broken], b"".join(parts))
    if chance.random() < 0.1:
        chance.shuffle(parts)
    is_stalling = chance.random() < STALLING
    start = time.monotonic()
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as connection:
        connection.settimeout(LONGEST_ANSWER_S)
        connection.sendall(b"".join(parts))
        if not is_stalling:
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
    assert receiver.is_running, f"the receiver ended\n{receiver.log()}"
    return time.monotonic() - start


def _broken_object(chance: random.Random, seed: str) -> SentObject:
    honest = make_object(seed, 0, rows=chance.choice((2, 16)))
    return SentObject(honest.sop_instance_uid, honest.study_instance_uid, mutate(chance, honest.dataset))


def _can_be_read(path: Path, sent: SentObject) -> bool:
    """Read an object as the worker does; anything but an error of ours is a fault of the reader."""
    write_part10(path, sent)
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom says much about such files
            ds = read_dataset(path, with_pixels=True)
            header = normalise(ds)
            header_of(header)
            patient_of(header)
            order_of(header)
            slice_values(ds)
    except DicomError:
        return False
    finally:
        assert time.monotonic() - start < LONGEST_ANSWER_S
    return True


def _serve_honestly(receiver: ReceiverProcess, seed: str, number: int, acknowledged: dict[str, str]) -> None:
    assert echo_time_s(receiver.port) < LONGEST_ANSWER_S
    sent = make_object(seed, number, rows=16)
    with Sender(receiver.port, calling_ae="HONEST", timeout_s=LONGEST_ANSWER_S) as sender:
        assert sender.store(sent) == NEW
    acknowledged[sent.sop_instance_uid] = sent.sha256


def _check_it_is_as_before(receiver: ReceiverProcess, before: Footprint, acknowledged: dict[str, str]) -> None:
    """Nothing is held for those who are gone, and what was acknowledged is there."""
    wait_until(
        lambda: receiver.footprint().threads <= before.threads,
        timeout_s=LONGEST_ANSWER_S,
        what="every Association ended",
    )
    check_footprint(before, receiver.footprint())
    assert receiver.stop() == 0
    store = receiver.open_store()
    try:
        check_store(store, acknowledged)
    finally:
        store.close()
