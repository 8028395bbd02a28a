"""HTTP connections whose every wait has an end: the library's own limits count from byte to byte, these do not."""

import ssl
import time
from collections.abc import Iterable

import httpcore
import httpx

__all__ = ["BoundedTransport"]

LONGEST_IDLE_S = 10.0


class BoundedTransport(httpx.HTTPTransport):
    """The library's transport over streams that keep to their limits, one connection at a time."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        """Open nothing yet; `tls` is for https."""
        super().__init__(verify=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=LONGEST_IDLE_S,
            network_backend=_BoundedBackend(),
        )


class _BoundedBackend(httpcore.NetworkBackend):
    """Opens connections whose streams are `_BoundedStream`."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        found = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _BoundedStream(found)


class _BoundedStream(httpcore.NetworkStream):
    """One connection: a stretch of the request and the whole answer each have the time limit as a whole."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._answer_until: float | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if timeout is None:
            return self._inner.read(max_bytes)
        if self._answer_until is None:
            self._answer_until = time.monotonic() + timeout
        left_s = self._answer_until - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout
        return self._inner.read(max_bytes, left_s)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._answer_until = None
        connection = self._inner.get_extra_info("socket")
        until = None if timeout is None else time.monotonic() + timeout
        left = memoryview(buffer)
        try:
            while left:
                if until is not None:
                    connection.settimeout(max(until - time.monotonic(), 0.001))
                left = left[connection.send(left) :]
                if until is not None and left and time.monotonic() > until:
                    raise httpcore.WriteTimeout
        except TimeoutError:
            raise httpcore.WriteTimeout from None
        except OSError as error:
            raise httpcore.WriteError from error

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _BoundedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)
