"""The one thread that takes connections, and turns away those that have no place before a thread exists for them.

Somebody who is turned away is told so as the standard wants it, after the request has begun to arrive; nothing of
the request is kept, and whoever says nothing is forgotten after a second.
"""

import selectors
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from node.network.pdu import LONGEST_ASSOCIATE_BYTES, AssociateReject, encode_pdu
from node.receive.guard import Guard

__all__ = ["LINGER_S", "Entrance"]

LINGER_S = 1.0  # for a peer to hear our last word
MOST_TURNED_AWAY = 64
RETRY_S = 0.1  # when the system gives no connection: no descriptors, no memory
READ_BYTES = 1 << 14


@dataclass(slots=True)
class _TurnedAway:
    """A connection without a place: what it is told, until when it is listened to, and how much was heard."""

    refusal: AssociateReject
    until: float
    is_told: bool = False
    heard_bytes: int = 0


class Entrance:
    """Takes connections from `listener` until it is closed.

    Parameters
    ----------
    welcome
        Called with each connection that the guard gave a place, and its address; must not wait for the peer.
    """

    def __init__(self, listener: socket.socket, guard: Guard, welcome: Callable[[socket.socket, str], None]) -> None:
        self._listener = listener
        self._guard = guard
        self._welcome = welcome
        self._turned_away: OrderedDict[socket.socket, _TurnedAway] = OrderedDict()
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        listener.settimeout(0)
        self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="entrance", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread; closing alone does not
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                for key, _ in self._selector.select(LINGER_S if self._turned_away else None):
                    if key.fileobj is self._listener:
                        self._take()
                    elif isinstance(key.fileobj, socket.socket):
                        self._hear_out(key.fileobj)
                now = time.monotonic()
                while self._turned_away and next(iter(self._turned_away.values())).until <= now:
                    self._forget(next(iter(self._turned_away)))
        finally:
            for connection in list(self._turned_away):
                self._forget(connection)
            self._selector.close()

    def _take(self) -> None:
        try:
            connection, address = self._listener.accept()
        except BlockingIOError:  # the peer, or another process on the same port, was faster
            return
        except OSError:
            self._closing.wait(RETRY_S)
            return
        refusal = self._guard.enter(str(address[0]))
        if refusal is None:
            self._welcome(connection, str(address[0]))
            return
        if len(self._turned_away) >= MOST_TURNED_AWAY:
            self._forget(next(iter(self._turned_away)))
        connection.settimeout(0)
        self._turned_away[connection] = _TurnedAway(refusal, time.monotonic() + LINGER_S)
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
                connection.send(encode_pdu(visitor.refusal))
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            count = 0
        if not count or visitor.heard_bytes > LONGEST_ASSOCIATE_BYTES:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        del self._turned_away[connection]
        self._selector.unregister(connection)
        connection.close()
