"""Conversations with a RIS over MLLP: one message, then its answer, on a connection that stays open.

References
----------
HL7 v2 Implementation Guide, Transport Specification: MLLP, Release 1.
"""

import socket
import threading
import time
from types import TracebackType
from typing import Self

from node.deliver.er7 import Ack, codec, control_id_of, parse_ack
from node.errors import DeliveryError, MessageError
from node.settings import Hl7Destination

__all__ = ["FrameDecoder", "MllpConnection", "frame", "send_oru"]

START_BLOCK = b"\x0b"
END_BLOCK = b"\x1c"
CARRIAGE_RETURN = b"\r"
LONGEST_ANSWER_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 10.0
RECEIVE_BYTES = 65536
MOST_IDLE_READS = 16
TAKEN = frozenset({"AA", "CA"})  # HL7 table 0008: accept
CONTENT_REFUSED = frozenset({"AE", "CE"})  # error in the content: the same bytes will never be taken


def frame(message: bytes) -> bytes:
    """Put a message between MLLP's start and end block."""
    return START_BLOCK + message + END_BLOCK + CARRIAGE_RETURN


class FrameDecoder:
    """Find messages in bytes as they come; no sockets, so that client and listener share it.

    Bytes between two frames are skipped, and a start block inside a frame starts it afresh. A frame
    ends at 0x1C, because some senders forget the carriage return behind it.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start outside any frame; a message may have at most `max_bytes`."""
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._is_inside = False
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the messages they complete, in order.

        Raises
        ------
        MessageError
            If a message grows beyond the limit; the connection cannot be used any more.
        """
        self._buffer += data
        messages = []
        while self._is_inside or self._enter():
            end = self._buffer.find(END_BLOCK, self._searched)
            length = end if end >= 0 else len(self._buffer)
            if length > self._max_bytes:
                raise MessageError(f"a message may have {self._max_bytes} bytes, the peer sends more")
            if end < 0:
                self._searched = length
                break
            messages.append(bytes(self._buffer[:end]).rpartition(START_BLOCK)[2])
            del self._buffer[: end + 1]
            self._is_inside = False
        return messages

    def _enter(self) -> bool:
        start = self._buffer.find(START_BLOCK)
        del self._buffer[: start + 1 if start >= 0 else len(self._buffer)]
        self._is_inside = start >= 0
        self._searched = 0
        return self._is_inside


class MllpConnection:
    """The connection to one RIS; opened when first used, opened again when the RIS has closed it.

    May be shared by threads: one message is in flight at a time. After a failure the connection is
    closed, so that a late answer can never be taken for the answer to the next message.
    """

    def __init__(self, destination: Hl7Destination) -> None:
        """Remember the destination; nothing is opened yet."""
        self._destination = destination
        self._encoding = codec(destination.character_set)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._decoder = FrameDecoder(LONGEST_ANSWER_BYTES)

    def __enter__(self) -> Self:
        """Give the connection to a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection at the end of a ``with`` block."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next `exchange` opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, message: bytes) -> Ack:
        """Send a message and wait for the answer to it.

        An answer to another message, or one that cannot be read, is not ours: the wait goes on until
        the destination's `ack_timeout_s` is over.

        Raises
        ------
        DeliveryError
            If there is no connection or no answer of ours; the same message may be sent again.
        """
        control_id = control_id_of(message)
        name, limit_s = self._destination.name, self._destination.ack_timeout_s
        if not self._lock.acquire(timeout=limit_s + CONNECT_TIMEOUT_S):
            raise DeliveryError(f"{name}: message {control_id} waited for another message in flight")
        try:
            connection = self._usable_socket()
            deadline = time.monotonic() + limit_s
            connection.settimeout(limit_s)
            connection.sendall(frame(message))
            return self._answer(connection, control_id, deadline)
        except TimeoutError:
            self.close()
            raise DeliveryError(f"{name}: no acknowledgement of message {control_id} in time") from None
        except OSError as error:
            self.close()
            reason = error.strerror or type(error).__name__
            raise DeliveryError(f"{name}: message {control_id} was not acknowledged: {reason}") from error
        except MessageError as error:
            self.close()
            raise DeliveryError(f"{name}: message {control_id} was not acknowledged: {error}") from error
        finally:
            self._lock.release()

    def _usable_socket(self) -> socket.socket:
        if self._socket is not None and self._is_closed_by_peer(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._open()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._decoder = FrameDecoder(LONGEST_ANSWER_BYTES)
        return self._socket

    def _open(self) -> socket.socket:
        host, port = self._destination.host, self._destination.port
        try:
            return socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            reason = error.strerror or "no answer in time"
            raise DeliveryError(f"{self._destination.name}: {host} port {port} cannot be reached: {reason}") from error

    def _is_closed_by_peer(self, connection: socket.socket) -> bool:
        """True if the RIS closed the idle connection; what it said meanwhile answers nothing and is dropped."""
        connection.settimeout(0.0)
        try:
            for _ in range(MOST_IDLE_READS):
                idle_words = connection.recv(RECEIVE_BYTES)
                if not idle_words:
                    return True
                self._decoder.feed(idle_words)
        except BlockingIOError:
            return False
        except (OSError, MessageError):
            return True
        return True  # a peer that talks without being asked is not one to wait for

    def _answer(self, connection: socket.socket, control_id: str, deadline: float) -> Ack:
        while (left_s := deadline - time.monotonic()) > 0:
            connection.settimeout(left_s)
            data = connection.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the peer closed the connection before its acknowledgement")
            for answer in self._decoder.feed(data):
                try:
                    ack = parse_ack(answer, self._encoding)
                except MessageError:
                    continue
                if ack.control_id == control_id:
                    return ack
        raise TimeoutError


def send_oru(message: bytes, destination: Hl7Destination, connection: MllpConnection | None = None) -> str:
    """Send an ORU and say how the RIS took it.

    Parameters
    ----------
    message
        Stored bytes, in the destination's character set; a retry sends the same ones.
    connection
        An open connection to that destination; without one, a connection is made and closed.

    Returns
    -------
    MSA-1 of the answer, ``AA`` or ``CA``.

    Raises
    ------
    DeliveryError
        Permanent if the RIS refuses the content (AE, CE); else (AR, CR, no answer, no connection) the
        same bytes may be sent again. Names MSA-1, error codes and MSH-10, never words of the peer.
    """
    if connection is None:
        with MllpConnection(destination) as own:
            return send_oru(message, destination, own)
    ack = connection.exchange(message)
    if ack.code in TAKEN:
        return ack.code
    errors = f", error {', '.join(ack.error_codes)}" if ack.error_codes else ""
    raise DeliveryError(
        f"{destination.name}: message {ack.control_id} was answered {ack.code}{errors}",
        is_permanent=ack.code in CONTENT_REFUSED,
    )
