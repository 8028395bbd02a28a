"""Conversations with a RIS over MLLP: one message, then its answer, on a connection that stays open.

References
----------
HL7 v2 Implementation Guide, Transport Specification: MLLP, Release 1.
"""

import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Self

from node.deliver.ack import Ack, control_id_of, parse_ack
from node.errors import DeliveryError, MessageError
from node.network.er7 import ENCODING_CHARACTERS, Er7, codec, escape, join_segments, segment
from node.network.mllp import FrameDecoder, frame
from node.network.tls import Context as TlsContext
from node.network.tls import client_context
from node.settings import Hl7Destination

__all__ = ["MllpConnection", "send_oru"]

LONGEST_ANSWER_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 10.0
RECEIVE_BYTES = 65536
MOST_IDLE_READS = 16
LONGEST_CONTROL_ID = 20  # HL7 v2.5.1 2.15.9.10
COMMIT_CODES = frozenset({"CA", "CE", "CR"})
TAKEN = frozenset({"AA", "CA"})  # HL7 table 0008: accept
CONTENT_REFUSED = frozenset({"AE", "CE"})  # error in the content: the same bytes will never be taken


class MllpConnection:
    """The connection to one RIS; opened when first used, opened again when the RIS has closed it.

    May be shared by threads: one message is in flight at a time. After a failure the connection is
    closed, so that a late answer can never be taken for the answer to the next message.
    """

    def __init__(self, destination: Hl7Destination) -> None:
        """Remember the destination; nothing is opened yet.

        Raises
        ------
        ConfigError
            If its character set is unknown or a file for TLS is not what it must be.
        """
        self._destination = destination
        self._encoding = codec(destination.character_set)
        self._tls = _tls_context(destination)
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
        the destination's `ack_timeout_s` is over. In enhanced mode a commit answer (CA) is followed by the
        application's own, in the same packet or a later one; that one counts.

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
            connection = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
            return connection if self._tls is None else _secure(connection, self._tls, host)
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
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except (OSError, MessageError):
            return True
        return True  # a peer that talks without being asked is not one to wait for

    def _answer(self, connection: socket.socket, control_id: str, deadline: float) -> Ack:
        is_commit_enough = self._destination.acknowledgement != "enhanced"
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
                if ack.control_id != control_id:
                    continue
                if ack.asks_for_commit and ack.own_id and ack.code not in COMMIT_CODES:
                    connection.sendall(frame(self._commit(ack)))
                if is_commit_enough or ack.code != "CA":
                    return ack
        raise TimeoutError

    def _commit(self, ack: Ack) -> bytes:
        """Tell the RIS that its answer arrived, if it asked for that (HL7 v2.5.1 2.9.3)."""
        ours = self._destination
        msh = {
            2: ENCODING_CHARACTERS, 3: escape(ours.sending_application), 5: escape(ours.receiving_application),
            9: Er7("ACK"), 10: escape(f"C{ack.control_id}"[:LONGEST_CONTROL_ID]), 11: Er7("P"), 12: Er7(ours.version),
        }  # fmt: skip
        msa = segment("MSA", {1: Er7("CA"), 2: escape(ack.own_id)})
        return join_segments((segment("MSH", msh), msa)).encode(self._encoding, errors="replace")


def _tls_context(destination: Hl7Destination) -> TlsContext | None:
    if not destination.tls:
        return None
    return client_context(
        destination.tls_authorities,
        certificate=destination.tls_certificate,
        key=destination.tls_key,
        where=f"[destinations.{destination.name}]",
    )


def _secure(connection: socket.socket, tls: TlsContext, host: str) -> socket.socket:
    try:
        return tls.wrap_socket(connection, server_hostname=host)  # within the time limit of the connection
    except OSError:
        connection.close()
        raise


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
