"""Receivers of ORU messages on loopback: one that behaves, and one that does what real ones do on bad days."""

import contextlib
import enum
import socket
import threading
from collections.abc import Iterator

from node.demo.ris import acknowledge
from node.settings import Hl7Destination

__all__ = ["Answer", "BadRis", "destination", "refused_port"]

START, END = b"\x0b", b"\x1c\r"


class Answer(enum.Enum):
    """What the RIS does with one message."""

    ACCEPT = enum.auto()
    COMMIT = enum.auto()
    ERROR = enum.auto()
    COMMIT_ERROR = enum.auto()
    REJECT = enum.auto()
    COMMIT_REJECT = enum.auto()
    SILENCE = enum.auto()
    FOREIGN_ID = enum.auto()
    FOREIGN_THEN_OURS_IN_ONE_PACKET = enum.auto()
    SPLIT = enum.auto()
    WITHOUT_CARRIAGE_RETURN = enum.auto()
    LINE_FEEDS = enum.auto()
    NEWER_VERSION = enum.auto()
    GARBAGE_THEN_OURS = enum.auto()
    ENDLESS = enum.auto()
    ACCEPT_THEN_CLOSE = enum.auto()
    CLOSE_WITHOUT_ANSWER = enum.auto()
    ACCEPT_TWICE = enum.auto()
    COMMIT_AND_ACCEPT_IN_ONE_PACKET = enum.auto()
    COMMIT_THEN_ACCEPT_BYTE_BY_BYTE = enum.auto()
    COMMIT_THEN_ERROR = enum.auto()


CODES = {
    Answer.COMMIT: ("CA", ""),
    Answer.ERROR: ("AE", "207"),
    Answer.COMMIT_ERROR: ("CE", "101"),
    Answer.REJECT: ("AR", "202"),
    Answer.COMMIT_REJECT: ("CR", ""),
}


class BadRis:
    """A raw MLLP listener that follows a script, one `Answer` for each message; the last one goes on for ever."""

    def __init__(self, *script: Answer) -> None:
        self._script = list(script)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        self.messages: list[bytes] = []
        self.connections_accepted = 0
        self.has_closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "BadRis":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections_accepted += 1
                self._connections.append(connection)
                with contextlib.suppress(OSError):
                    self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        received = b""
        while data := connection.recv(65536):
            received += data
            while END in received:
                block, received = received.split(END, 1)
                message = block.partition(START)[2]
                self.messages.append(message)
                answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                if not self._answer(connection, message, answer):
                    connection.close()
                    self.has_closed.set()
                    return

    def _answer(self, connection: socket.socket, message: bytes, answer: Answer) -> bool:
        """True if the connection stays open."""
        ours = START + acknowledge(message) + END
        foreign = START + acknowledge(message, "AE", control_id=b"SOMEBODY-ELSE") + END
        commit = START + acknowledge(message, "CA") + END
        error = START + acknowledge(message, "AE", error="207") + END
        forms = {
            Answer.COMMIT_AND_ACCEPT_IN_ONE_PACKET: commit + ours,
            Answer.COMMIT_THEN_ACCEPT_BYTE_BY_BYTE: commit + ours,
            Answer.COMMIT_THEN_ERROR: commit + error,
            Answer.ACCEPT: ours,
            Answer.ACCEPT_THEN_CLOSE: ours,
            Answer.ACCEPT_TWICE: ours + ours,
            Answer.SPLIT: ours,
            Answer.FOREIGN_ID: foreign,
            Answer.FOREIGN_THEN_OURS_IN_ONE_PACKET: foreign + ours,
            Answer.WITHOUT_CARRIAGE_RETURN: ours[:-1],
            Answer.LINE_FEEDS: ours[:-2].replace(b"\r", b"\r\n") + END,
            Answer.NEWER_VERSION: ours.replace(b"2.5.1", b"2.9"),
            Answer.GARBAGE_THEN_OURS: b"\xff\x00hello" + START + b"\xff\xfe|^MSA" + END + ours,
            Answer.ENDLESS: START + b"x" * (2 << 20),
        }
        if answer in CODES:
            code, number = CODES[answer]
            forms[answer] = START + acknowledge(message, code, error=number) + END
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = forms.get(answer, b"")
        is_split = answer in (Answer.SPLIT, Answer.COMMIT_THEN_ACCEPT_BYTE_BY_BYTE)
        size = 1 if is_split else max(1, len(data))
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
        return answer not in (Answer.ACCEPT_THEN_CLOSE, Answer.CLOSE_WITHOUT_ANSWER)


def destination(port: int, *, ack_timeout_s: float = 5.0, character_set: str = "UNICODE UTF-8") -> Hl7Destination:
    return Hl7Destination("ris", "127.0.0.1", port, ack_timeout_s=ack_timeout_s, character_set=character_set)


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A port that nobody listens on, held so that nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
