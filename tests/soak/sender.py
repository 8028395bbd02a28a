"""A sender with a queue, and one that only asks whether the node is there; each can be a process of its own.

``python -m tests.soak.sender store ...`` sends objects until each is acknowledged and notes every
acknowledgement in a ledger before it sends the next; ``... echo`` times a C-ECHO over a new
Association again and again.
"""

import argparse
import contextlib
import json
import socket
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.network import Command, Kind, Machine
from node.network.events import AssociationAccepted, CommandReceived, Released
from node.network.items import PresentationContext, UserInformation
from node.network.negotiation import VERIFICATION
from node.network.pdu import AssociateRequest
from tests.soak.objects import SentObject, make_object

__all__ = ["Sender", "echo_time_s", "send_until_taken"]

ECHO_CONTEXT, STORE_CONTEXT = 1, 3
MAX_PDU_BYTES = 1 << 17
AGAIN_S = 0.05
PROBE_EVERY_S = 0.05
CONTEXTS = (
    PresentationContext(ECHO_CONTEXT, VERIFICATION, (str(ImplicitVRLittleEndian),)),
    PresentationContext(STORE_CONTEXT, str(CTImageStorage), (str(ExplicitVRLittleEndian),)),
)

E = TypeVar("E")


class Sender:
    """One Association; whatever is not the expected answer is a ConnectionError."""

    def __init__(self, port: int, *, calling_ae: str = "SOAK", timeout_s: float = 30.0) -> None:
        user = UserInformation(max_pdu_bytes=MAX_PDU_BYTES, implementation_class_uid="2.25.4")
        self._machine = Machine(AssociateRequest("WETREAD", calling_ae, CONTEXTS, user), max_pdu_bytes=MAX_PDU_BYTES)
        self._buffer = memoryview(bytearray(1 << 16))
        self._number = 0
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        try:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.sendall(self._machine.open())
            self._expect(AssociationAccepted)
        except OSError:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._connection.sendall(self._machine.release())
                self._expect(Released)
        finally:
            self._connection.close()

    def echo(self) -> int:
        """C-ECHO; its status."""
        return self._ask(ECHO_CONTEXT, Command(Kind.ECHO_REQUEST, self._next(), sop_class_uid=VERIFICATION))

    def store(self, sent: SentObject) -> int:
        """C-STORE; its status."""
        command = Command(
            Kind.STORE_REQUEST,
            self._next(),
            has_dataset=True,
            sop_class_uid=str(CTImageStorage),
            sop_instance_uid=sent.sop_instance_uid,
        )
        return self._ask(STORE_CONTEXT, command, sent.dataset)

    def _next(self) -> int:
        self._number = self._number % 0xFFFF + 1
        return self._number

    def _ask(self, context: int, command: Command, dataset: bytes = b"") -> int:
        parts: list[bytes | memoryview] = [self._machine.invoke(context, command)]
        if dataset:
            parts += self._machine.send_data(context, memoryview(dataset), is_last=True)
        self._connection.sendall(b"".join(parts))
        status = self._expect(CommandReceived).command.status
        return -1 if status is None else status

    def _expect(self, kind: type[E]) -> E:
        while True:
            count = self._connection.recv_into(self._buffer)
            if not count:
                raise ConnectionError("the receiver closed the connection")
            events = list(self._machine.receive(self._buffer[:count]))
            for event in events:
                if isinstance(event, kind):
                    return event
            if events:
                raise ConnectionError(f"the receiver said {events}")


def echo_time_s(port: int) -> float:
    """Seconds that an Association with one C-ECHO takes, from connect to release."""
    start = time.perf_counter()
    with Sender(port, calling_ae="PROBE") as sender:
        if sender.echo() != 0x0000:
            raise ConnectionError("a C-ECHO was refused")
    return time.perf_counter() - start


def send_until_taken(seed: str, numbers: range, port: int, ledger: Path, *, until: float) -> int:
    """Send objects one after the other, again when it must be; how often something was not taken at once."""
    again = 0
    left = list(numbers)
    with ledger.open("a", encoding="ascii", buffering=1) as noted:
        while left:
            try:
                with Sender(port, calling_ae=f"S{numbers.start}") as sender:
                    while left:
                        sent = make_object(seed, left[0])
                        if sender.store(sent) == 0x0000:
                            noted.write(f"{sent.sop_instance_uid} {sent.sha256}\n")
                            left.pop(0)
                            continue
                        again += 1
                        time.sleep(AGAIN_S)
            except OSError:
                again += 1
                time.sleep(AGAIN_S)
            if left and time.monotonic() > until:
                raise TimeoutError(f"{len(left)} objects were never taken")
    return again


def _probe(port: int, out: Path, stop: threading.Event) -> None:
    times, failures = [], 0
    while not stop.wait(PROBE_EVERY_S):
        try:
            times.append(echo_time_s(port))
        except OSError:
            failures += 1
    out.write_text(json.dumps({"times_s": times, "failures": failures}), encoding="ascii")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.soak.sender")
    parser.add_argument("what", choices=("store", "echo"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", default="")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=60.0)
    asked = parser.parse_args(arguments)
    if asked.what == "store":
        numbers = range(asked.first, asked.first + asked.count)
        again = send_until_taken(asked.seed, numbers, asked.port, asked.out, until=time.monotonic() + asked.limit_s)
        sys.stdout.write(f"{again}\n")
        return 0
    stop = threading.Event()
    ending = threading.Timer(asked.limit_s, stop.set)  # a prober ends however its test ends
    ending.start()

    def end_with_input() -> None:
        with contextlib.suppress(OSError):
            sys.stdin.read()
        stop.set()

    threading.Thread(target=end_with_input, daemon=True).start()
    _probe(asked.port, asked.out, stop)
    ending.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
