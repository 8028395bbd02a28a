"""A web service on loopback that answers what a test wants, in pieces, in half, elsewhere, or never."""

import contextlib
import enum
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Reply", "Request", "WebFault", "WebService", "refused_url"]


class WebFault(enum.Enum):
    """What the service does instead of a whole answer."""

    CLOSE = enum.auto()  # it reads the request and hangs up
    SILENCE = enum.auto()  # it reads the request and says nothing
    DRIP = enum.auto()  # its answer never ends, a byte at a time
    HALF = enum.auto()  # it promises more bytes than it sends
    RESET = enum.auto()  # it hangs up before it has read anything


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers, body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Request:
    """What came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class WebService:
    """A service that follows a script; the last reply goes on for ever. `connections` counts those it took."""

    def __init__(self, *script: Reply | WebFault, tls: ssl.SSLContext | None = None) -> None:
        self._script = list(script) or [Reply(200)]
        self._tls = tls
        self._let_go = threading.Event()
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/results"

    def __enter__(self) -> "WebService":
        service = self

        class Handler(_Handler):
            owner = service

        self._server = _Server(("127.0.0.1", 0), Handler)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def next_reply(self) -> Reply | WebFault:
        with self._lock:
            return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def wait(self, seconds: float) -> bool:
        """True when the test is over."""
        return self._let_go.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 8

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is none of our errors."""


class _Handler(BaseHTTPRequestHandler):
    owner: WebService
    protocol_version = "HTTP/1.1"
    timeout = 20

    def setup(self) -> None:
        super().setup()
        self.owner.connections += 1

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        reply = self.owner.next_reply()
        if reply is WebFault.RESET:
            self._hang_up()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.owner.requests.append(Request(self.path, dict(self.headers.items()), body))
        if isinstance(reply, Reply):
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return
        self._misbehave(reply)

    def _misbehave(self, fault: WebFault) -> None:
        if fault is WebFault.SILENCE:
            self.owner.wait(15)
        elif fault is WebFault.DRIP:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            with contextlib.suppress(OSError):
                while not self.owner.wait(0.02):
                    self.wfile.write(b"x")
        elif fault is WebFault.HALF:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the library's
        """Say nothing."""


@contextlib.contextmanager
def refused_url() -> Iterator[str]:
    """An address where nobody listens, held so that nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/results"
