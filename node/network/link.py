"""One TCP connection to a DICOM peer, with or without TLS: every wait has an end, no small packet is held back.

Two habits of TCP together cost 40 ms an object: the sender's system holds a small packet back until the one
before is acknowledged, and the receiver's system is slow to acknowledge. The first is switched off for what we
send; the second for what we receive, after each read, because the system switches it on again.
"""

import contextlib
import select
import socket
import ssl
import time

from node.network.tls import Context, names_in

__all__ = ["Link"]

LINGER_BYTES = 1 << 16


class Link:
    """A connected socket.

    A peer that is gone is not an error here: `receive` gives 0 and `send` False, whether it closed, was reset or
    lost its network.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket."""
        self._socket = connection
        self._timeout_s = -1.0
        self._is_woken = False
        with contextlib.suppress(OSError):  # the peer may be gone already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self, context: Context, *, timeout_s: float) -> frozenset[str]:
        """Make it a TLS connection, with us as the side that is called.

        Returns
        -------
        The names of the certificate the peer has shown.

        Raises
        ------
        OSError
            If the peer breaks off, has no certificate that will do, speaks something else, or is slow.
        """
        secured = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = secured
        if self._is_woken:  # in the moment in which there was no socket to wake
            raise ConnectionAbortedError
        self._set_timeout(timeout_s)
        secured.do_handshake()
        return names_in(secured)

    def receive(self, into: memoryview, *, timeout_s: float) -> int:
        """Wait for bytes; their count, 0 if the peer is gone.

        Raises
        ------
        TimeoutError
            If none came in time.
        """
        if timeout_s <= 0:
            raise TimeoutError("the peer's time is up")
        try:
            self._set_timeout(timeout_s)
            count = self._socket.recv_into(into)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except TimeoutError:
            raise
        except OSError:
            return 0
        return count

    def send(self, data: bytes, *, timeout_s: float) -> bool:
        """Send all of it; False if the peer is gone or does not read."""
        try:
            self._set_timeout(timeout_s)
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def has_news(self) -> bool:
        """True if bytes of the peer, or its end, are here and not received yet; does not wait."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):  # the socket is closed
            return True

    def wake(self) -> None:
        """Let another thread's `receive` end as if the peer were gone; what is being sent is still sent."""
        self._is_woken = True
        with contextlib.suppress(OSError):
            self._shut(socket.SHUT_RD)

    def close(self, *, linger_s: float = 0.0) -> None:
        """End the connection.

        Parameters
        ----------
        linger_s
            How long to wait for the peer to close first. A system that closes with unread bytes resets the
            connection, and the peer may then lose the last thing we said.
        """
        with contextlib.suppress(OSError):
            self._say_closed()
            self._shut(socket.SHUT_WR)
            deadline = time.monotonic() + linger_s
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not socket.socket.recv(self._socket, LINGER_BYTES):  # below TLS: nobody reads it any more
                    break
        self._socket.close()

    def _say_closed(self) -> None:
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(0)  # RFC 8446 6.1: a close_notify is sent; the peer's is not waited for
            with contextlib.suppress(OSError, ValueError):  # no handshake, nothing to close
                self._socket.unwrap()

    def _shut(self, how: int) -> None:
        socket.socket.shutdown(self._socket, how)  # that of an SSLSocket would take TLS off and go on in plain text

    def _set_timeout(self, timeout_s: float) -> None:
        if timeout_s != self._timeout_s:
            self._socket.settimeout(timeout_s)
            self._timeout_s = timeout_s
