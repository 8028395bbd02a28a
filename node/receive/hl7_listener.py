"""The ear for HL7 messages over MLLP: a thread takes connections, and each has a thread of its own.

A stranger, or one too many, is closed before a thread exists for it. A connection may be silent for long between two
messages, as those of hospital systems are, but a message that has begun must come to its end in time, and so must the
first one: whoever connects and says nothing loses its place soon.
"""

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog

from node.errors import MessageError
from node.network.er7 import codec
from node.network.mllp import FrameDecoder, frame
from node.network.tls import Context, server_context
from node.settings import Hl7Settings

__all__ = ["Hl7Listener", "serve_hl7"]

log = structlog.get_logger(__name__)

Take = Callable[[bytes], list[bytes]]

BACKLOG = 64
RECEIVE_BYTES = 65536
ANSWER_LIMIT_S = 30.0
RETRY_S = 0.1  # when the system gives no connection: no descriptors, no memory
KILO = 1024


class Hl7Listener:
    """A running listener; `port` is the real one when 0 was asked for."""

    def __init__(self, listener: socket.socket, settings: Hl7Settings, take: Take, context: Context | None) -> None:
        """Begin to take connections; `serve_hl7` opens the socket."""
        self.port = int(listener.getsockname()[1])
        self._listener, self._settings, self._take, self._context = listener, settings, take, context
        self._networks = [ipaddress.ip_network(one, strict=False) for one in settings.allowed_peers]
        self._open: dict[socket.socket, str] = {}
        self._idle: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hl7-entrance", daemon=True)
        self._thread.start()

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        with self._changed:
            return len(self._open)

    def stop(self, *, drain_s: float) -> None:
        """Take no more connections, let messages that have begun be answered for `drain_s`, close what is left."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread; closing alone does not
        self._thread.join()
        self._listener.close()
        with self._changed:
            for connection in self._idle:
                _shut(connection)
            self._changed.wait_for(lambda: not self._open, timeout=drain_s)
            for connection in self._open:
                _shut(connection)
            self._changed.wait_for(lambda: not self._open, timeout=drain_s)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                connection, found = self._listener.accept()
            except OSError:
                self._closing.wait(RETRY_S)
                continue
            address = str(found[0])
            reason = self._enter(connection, address)
            if reason:
                log.warning("connection for messages refused", reason=reason, address=address)
                connection.close()
                continue
            name = f"hl7-{address}"
            threading.Thread(target=self._attend, args=(connection, address), name=name, daemon=True).start()

    def _enter(self, connection: socket.socket, address: str) -> str:
        """Give a connection a place; why not, or ""."""
        if not any(_plain(address) in network for network in self._networks):
            return "address not allowed"
        with self._changed:
            inside = Counter(self._open.values())
            if self._closing.is_set():
                return "the node is being stopped"
            if len(self._open) >= self._settings.max_connections:
                return "no room for another connection"
            if inside[address] >= self._settings.max_connections_per_address:
                return "no room for another connection of this address"
            self._open[connection] = address
        return ""

    def _attend(self, connection: socket.socket, address: str) -> None:
        """A connection from its beginning to its end; whatever happens on it ends nothing else."""
        used = connection
        try:
            used = self._prepare(connection)
            if isinstance(used, ssl.SSLSocket):
                used.do_handshake()
            self._converse(used)
        except TimeoutError:
            log.info("connection for messages was silent too long", address=address)
        except MessageError as error:
            log.warning("connection for messages ended", reason=str(error), address=address)
        except OSError as error:
            log.info("connection for messages ended", reason=error.strerror or type(error).__name__, address=address)
        except Exception as error:  # noqa: BLE001  a thread's edge: the sender gets no answer and comes again
            log.error("connection for messages failed", error=type(error).__name__, address=address)
        finally:
            with self._changed:
                self._open.pop(connection, None)
                self._open.pop(used, None)
                self._idle.discard(used)
                self._changed.notify_all()
            used.close()

    def _prepare(self, connection: socket.socket) -> socket.socket:
        connection.settimeout(self._settings.message_timeout_s)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return connection
        secured = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._changed:  # the plain socket has given up its descriptor
            self._open[secured] = self._open.pop(connection)
        return secured

    def _converse(self, connection: socket.socket) -> None:
        decoder = FrameDecoder(self._settings.max_message_kb * KILO)
        begun_at: float | None = time.monotonic()  # the first message counts as begun
        while True:
            data = self._listen(connection, begun_at, is_between=begun_at is None)
            if not data:
                return
            for message in decoder.feed(data):
                begun_at = None
                for answer in self._take(message):
                    connection.settimeout(ANSWER_LIMIT_S)
                    connection.sendall(frame(answer))
                if self._closing.is_set():
                    return
            if begun_at is None and decoder.is_inside:
                begun_at = time.monotonic()

    def _listen(self, connection: socket.socket, begun_at: float | None, *, is_between: bool) -> bytes:
        """The next bytes, none if the peer has finished; in time, whether a message has begun or not."""
        limit_s = self._settings.idle_timeout_s
        if begun_at is not None:
            limit_s = begun_at + self._settings.message_timeout_s - time.monotonic()
        if limit_s <= 0:
            raise TimeoutError
        connection.settimeout(limit_s)
        with self._changed:
            if is_between and self._closing.is_set():
                return b""
            if is_between:
                self._idle.add(connection)
        try:
            return connection.recv(RECEIVE_BYTES)
        finally:
            with self._changed:
                self._idle.discard(connection)


def serve_hl7(settings: Hl7Settings, take: Take) -> Hl7Listener:
    """Listen for HL7 messages.

    Parameters
    ----------
    take
        Called in the connection's thread with each message; gives the answers to send back, in order.

    Raises
    ------
    ConfigError
        If a file for TLS is not what it must be, or the character set is not known.
    OSError
        If the address is taken or not ours.
    """
    codec(settings.character_set)
    context = server_context(settings, where="[hl7]") if settings.tls else None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server(
        (settings.host, settings.port), family=family, backlog=BACKLOG, dualstack_ipv6=settings.host == "::"
    )
    return Hl7Listener(listener, settings, take, context)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped  # how a socket for both families shows an IPv4 peer
    return found


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        connection.shutdown(socket.SHUT_RDWR)
