"""Requests to a web service: one at a time, over a connection that is kept, and never without an end.

A peer has `timeout_s` to be reached, as long to take each stretch of what is sent, and as long for its whole answer;
every limit counts from its beginning, so dripping bytes win no time. No redirect is followed, no proxy and no
password file of the environment is used: results go to the address that the site wrote down, or nowhere.
"""

import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from node.deliver.bounded import BoundedTransport
from node.errors import ConfigError, DeliveryError
from node.network.tls import client_context
from node.settings import WebDestination

__all__ = ["WebAnswer", "WebClient", "check_secret", "is_final", "refusal", "stretches"]

STRETCH_BYTES = 1 << 18
LARGEST_BODY = 1 << 20  # all that a peer sends us are answers
# RFC 9110 15.5: these speak of the moment or of our credentials, not of the content; the others refuse it for good
MAY_PASS = frozenset({401, 403, 407, 408, 421, 423, 425, 429})


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """What a service said: its status, the beginning of its body, and how long it asks us to wait (0: it does not)."""

    status: int
    body: bytes
    retry_after_s: float

    @property
    def is_success(self) -> bool:
        """True for 2xx."""
        return self.status // 100 == 2


class WebClient:
    """Who speaks to one web service. May be shared by threads: one request is under way at a time."""

    def __init__(self, destination: WebDestination) -> None:
        """Remember the service; nothing is opened yet.

        Raises
        ------
        ConfigError
            If its secret is not in the environment, or a certificate or key is not what it must be.
        """
        check_secret(destination)
        self._name = destination.name
        self._base = destination.url.rstrip("/")
        self._lock = threading.Lock()
        self._client = httpx.Client(
            transport=BoundedTransport(_tls(destination)),
            auth=_credentials(destination),
            timeout=destination.timeout_s,
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connection; the next request cannot be made any more."""
        self._client.close()

    def get(self, path: str, *, headers: Mapping[str, str]) -> WebAnswer:
        """Ask for something below the destination's address, and hear the answer to its end.

        Raises
        ------
        DeliveryError
            As `post`.
        """
        return self._exchange("GET", path, None, {**headers, "Accept-Encoding": "identity"})

    def options(self, path: str) -> WebAnswer:
        """Ask what may be asked of something below the destination's address.

        Raises
        ------
        DeliveryError
            As `post`.
        """
        return self._exchange("OPTIONS", path, None, {"Accept-Encoding": "identity"})

    def post(self, path: str, content: Iterable[bytes], *, size_bytes: int, headers: Mapping[str, str]) -> WebAnswer:
        """Send a request and hear the answer to its end.

        Parameters
        ----------
        path
            Below the destination's address, such as ``/studies``; "" for the address itself.
        content
            The body in pieces, of `size_bytes` together.

        Raises
        ------
        DeliveryError
            If the service cannot be reached or its answer does not come, whole and in time; the same request may be
            made again.
        OSError
            If the content cannot be read.
        """
        said = {**headers, "Content-Length": str(size_bytes), "Accept-Encoding": "identity"}
        return self._exchange("POST", path, content, said)

    def _exchange(
        self, method: str, path: str, content: Iterable[bytes] | None, headers: Mapping[str, str]
    ) -> WebAnswer:
        with self._lock:
            try:
                with self._client.stream(method, self._base + path, content=content, headers=headers) as response:
                    body = _read(response.iter_raw())
                    return WebAnswer(response.status_code, body, _retry_after_s(response.headers.get("Retry-After")))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise DeliveryError(f"{self._name}: the service cannot be reached: {_reason(error)}") from None
            except httpx.TimeoutException:
                raise DeliveryError(f"{self._name}: the service did not take or answer the request in time") from None
            except httpx.HTTPError as error:  # its words may be the peer's
                kind = type(error).__name__
                raise DeliveryError(f"{self._name}: the service did not answer to the end ({kind})") from None


def check_secret(destination: WebDestination) -> None:
    """Refuse a destination whose secret was not in the environment when the settings were read, or cannot be sent.

    Raises
    ------
    ConfigError
        With the name of the variable.
    """
    if destination.secret_variable and not destination.secret:
        message = f"secret_variable: there is no {destination.secret_variable} in the environment"
        raise ConfigError(f"[destinations.{destination.name}] {message}")
    if not (destination.secret.reveal().isascii() and destination.secret.reveal().isprintable()):
        message = f"secret_variable: {destination.secret_variable} must hold printable ASCII characters only"
        raise ConfigError(f"[destinations.{destination.name}] {message}")


def is_final(status: int) -> bool:
    """True if a status refuses the content, so that the same request will never be taken."""
    return status // 100 == 4 and status not in MAY_PASS


def refusal(name: str, output_id: str, answer: WebAnswer) -> DeliveryError:
    """What to raise for an answer that is no success."""
    hint = "; redirects are not followed, url must be where it ends" if answer.status // 100 == 3 else ""
    return DeliveryError(
        f"{name}: {output_id} was answered {answer.status}{hint}",
        is_permanent=is_final(answer.status),
        least_wait_s=answer.retry_after_s,
    )


def stretches(path: Path) -> Iterator[bytes]:
    """The bytes of a file in pieces."""
    with path.open("rb") as file:
        while piece := file.read(STRETCH_BYTES):
            yield piece


def _reason(error: BaseException) -> str:
    """The system's own words for a connection that did not come about; they name no peer."""
    fault: BaseException | None = error
    while fault is not None:
        if isinstance(fault, ssl.SSLError):
            return f"TLS, {fault.reason or 'no handshake'}"
        if isinstance(fault, OSError) and fault.strerror:
            return fault.strerror
        fault = fault.__cause__ or fault.__context__
    return "no answer in time"


def _read(pieces: Iterator[bytes]) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > LARGEST_BODY:
            break
    return bytes(body[:LARGEST_BODY])


def _retry_after_s(text: str | None) -> float:
    """Seconds of Retry-After (RFC 9110 10.2.3); its other form, a date, is left to our own patience."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 8 else 0.0


def _credentials(destination: WebDestination) -> httpx.Auth | None:
    if not destination.secret:
        return None
    if destination.user:
        return httpx.BasicAuth(destination.user, destination.secret.reveal())
    return _Bearer(destination.secret.reveal())


def _tls(destination: WebDestination) -> ssl.SSLContext | None:
    if not destination.url.lower().startswith("https:"):
        return None
    where = f"[destinations.{destination.name}]"
    if destination.tls_authorities:
        certificate, key = destination.tls_certificate, destination.tls_key
        return client_context(destination.tls_authorities, certificate=certificate, key=key, where=where)
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    if destination.tls_certificate:
        raise ConfigError(f"{where} tls_certificate needs tls_authorities, the certificates to know the service by")
    return context


class _Bearer(httpx.Auth):
    """A bearer token (RFC 6750 2.1)."""

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]  # no answer is awaited
        request.headers["Authorization"] = self._value
        yield request
