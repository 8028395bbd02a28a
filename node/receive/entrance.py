"""The one thread that takes connections, and turns away those that have no place before a thread exists for them.

Somebody who is turned away is told so as the standard wants it, after the request has begun to arrive; nothing of
the request is kept, and whoever says nothing is forgotten after a second. The thread waits for no peer: a TLS
handshake is for the Association's own thread.
"""

import selectors
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from node.network.pdu import LONGEST_ASSOCIATE_BYTES, encode_pdu
from node.network.tls import ACCESS_DENIED, Context
from node.receive.guard import Guard

__all__ = ["LINGER_S", "Entrance", "Listener"]

LINGER_S = 1.0  # for a peer to hear our last word
MOST_TURNED_AWAY = 64
RETRY_S = 0.1  # when the system gives no connection: no descriptors, no memory
READ_BYTES = 1 << 14

Welcome = Callable[[socket.socket, str, Context | None], None]


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A port that is open; with a `context` it is one for TLS."""

    socket: socket.socket
    context: Context | None = None


@dataclass(slots=True)
class _TurnedAway:
    """A connection without a place: what it is told, until when it is listened to, and how much was heard."""

    refusal: bytes
    until: float
    is_told: bool = False
    heard_bytes: int = 0


class Entrance:
    """Takes connections from all `listeners` until it is closed.

    Parameters
    ----------
    welcome
        Called with each connection that the guard gave a place, its address, and its listener's TLS context; must
        not wait for the peer.
    """

    def __init__(self, listeners: Sequence[Listener], guard: Guard, welcome: Welcome) -> None:
        self._listeners = listeners
        self._guard = guard
        self._welcome = welcome
        self._turned_away: OrderedDict[socket.socket, _TurnedAway] = OrderedDict()
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        for listener in listeners:
            listener.socket.settimeout(0)
            self._selector.register(listener.socket, selectors.EVENT_READ, listener)
        self._thread = threading.Thread(target=self._run, name="entrance", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections."""
        self._closing.set()
        for listener in self._listeners:
            with suppress(OSError):
                listener.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread; closing alone does not
        self._thread.join()
        for listener in self._listeners:
            listener.socket.close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                for key, _ in self._selector.select(LINGER_S if self._turned_away else None):
                    if isinstance(key.data, Listener):
                        self._take(key.data)
                    elif isinstance(key.fileobj, socket.socket):
                        self._hear_out(key.fileobj)
                now = time.monotonic()
                while self._turned_away and next(iter(self._turned_away.values())).until <= now:
                    self._forget(next(iter(self._turned_away)))
        finally:
            for connection in list(self._turned_away):
                self._forget(connection)
            self._selector.close()

    def _take(self, listener: Listener) -> None:
        try:
            connection, address = listener.socket.accept()
        except BlockingIOError:  # the peer, or another process on the same port, was faster
            return
        except OSError:
            self._closing.wait(RETRY_S)
            return
        refusal = self._guard.enter(str(address[0]))
        if refusal is None:
            self._welcome(connection, str(address[0]), listener.context)
            return
        if len(self._turned_away) >= MOST_TURNED_AWAY:
            self._forget(next(iter(self._turned_away)))
        connection.settimeout(0)
        # A TLS client would not understand a PDU, and it has no key to read an encrypted one with.
        told = encode_pdu(refusal) if listener.context is None else ACCESS_DENIED
        self._turned_away[connection] = _TurnedAway(told, time.monotonic() + LINGER_S)
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear_out(self, connection: socket.socket) -> None:
        """Answer the first bytes of somebody without a place, and let the others pass so that the answer arrives."""
        visitor = self._turned_away.get(connection)
        if visitor is None:  # forgotten since this round began
            return
        try:
            count = len(connection.recv(READ_BYTES))
            visitor.heard_bytes += count
            if count and not visitor.is_told:
                visitor.is_told = True
                connection.send(visitor.refusal)
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            count = 0
        if not count or visitor.heard_bytes > LONGEST_ASSOCIATE_BYTES:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        del self._turned_away[connection]
        self._selector.unregister(connection)
        connection.close()
