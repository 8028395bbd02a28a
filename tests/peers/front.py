"""The node's front door on a free port, with its store behind it; and a tap that hears what a sender says to it."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.dicom.part10 import dataset_offset
from node.front import start_receiver
from node.network.dimse import Kind, decode_command
from node.receive import Receiver
from node.settings import DicomSettings, Settings, StoreSettings
from node.store.database import Store, open_store
from node.store.schema import INSTANCES, QUARANTINE

__all__ = ["FrontDoor", "Tap", "dataset_of", "front_door"]

P_DATA = 4  # PS3.8 9.3.5
ASSOCIATE_RQ = 1
COMMAND_BIT, LAST_BIT = 1, 2  # PS3.8 E.2
LIMIT_S = 20.0


def dataset_of(path: Path) -> bytes:
    """The encoded dataset of a Part 10 file."""
    with path.open("rb") as file:
        file.seek(dataset_offset(file))
        return file.read()


@dataclass(frozen=True)
class FrontDoor:
    """A receiver and its store."""

    store: Store
    receiver: Receiver

    @property
    def port(self) -> int:
        return self.receiver.port

    def instances(self) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(sa.select(INSTANCES)).all())

    def quarantine(self) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(sa.select(QUARANTINE).order_by(QUARANTINE.c.at)).all())

    def files(self) -> dict[str, Path]:
        """Where the object with a SOP Instance UID is kept."""
        return {str(row.sop_uid): self.store.root / str(row.path) for row in self.instances()}

    def datasets(self) -> dict[str, bytes]:
        """SOP Instance UID and encoded dataset of every object that was kept."""
        return {uid: dataset_of(path) for uid, path in self.files().items()}


@contextmanager
def front_door(folder: Path, dicom: DicomSettings | None = None, *, least_mb: int = 0) -> Iterator[FrontDoor]:
    """Open a receiver on a store as long as the ``with`` block lasts."""
    store = open_store(folder / "store")
    settings = Settings(
        dicom=dicom or DicomSettings(port=0, network_timeout_s=LIMIT_S),
        store=StoreSettings(store.root, refuse_below_free_mb=least_mb),
    )
    receiver = start_receiver(settings, store)
    try:
        yield FrontDoor(store, receiver)
    finally:
        receiver.stop(drain_s=5)
        store.close()


class Tap:
    """A port that passes everything on to another one, both ways, and keeps what came from the sender's side."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._said: list[bytearray] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "Tap":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sender, _ = self._listener.accept()
                node = socket.create_connection(("127.0.0.1", self._to))
                heard = bytearray()
                self._said.append(heard)
                both = (
                    threading.Thread(target=_pass_on, args=(sender, node, heard), daemon=True),
                    threading.Thread(target=_pass_on, args=(node, sender, bytearray()), daemon=True),
                )
                self._threads.extend(both)
                for thread in both:
                    thread.start()
                threading.Thread(target=_close_after, args=(both, sender, node), daemon=True).start()

    def requests(self) -> list[bytes]:
        """The body of each A-ASSOCIATE-RQ."""
        return [body for heard in self._said for kind, body in _pdus(heard) if kind == ASSOCIATE_RQ]

    def datasets(self) -> dict[str, bytes]:
        """SOP Instance UID of each C-STORE-RQ and the dataset that went over the wire after it."""
        found: dict[str, bytes] = {}
        for heard in self._said:
            command, dataset = bytearray(), bytearray()
            for kind, body in _pdus(heard):
                for control, fragment in _values(body) if kind == P_DATA else ():
                    (command if control & COMMAND_BIT else dataset).extend(fragment)
                    if control & LAST_BIT and not control & COMMAND_BIT:
                        decoded = decode_command(bytes(command))
                        assert decoded.kind == Kind.STORE_REQUEST
                        found[decoded.sop_instance_uid] = bytes(dataset)
                        command.clear()
                        dataset.clear()
                    elif control & LAST_BIT and not decode_command(bytes(command)).has_dataset:
                        command.clear()
        return found


def _pass_on(source: socket.socket, target: socket.socket, heard: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            heard += data
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _close_after(threads: tuple[threading.Thread, ...], *ends: socket.socket) -> None:
    for thread in threads:
        thread.join()
    for end in ends:
        end.close()


def _pdus(heard: bytearray) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 6 <= len(heard):
        kind, length = struct.unpack_from(">BxI", heard, position)
        yield kind, bytes(heard[position + 6 : position + 6 + length])
        position += 6 + length


def _values(body: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(body):
        length, control = struct.unpack_from(">IxB", body, position)
        yield control, body[position + 6 : position + 4 + length]
        position += 4 + length
