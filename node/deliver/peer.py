"""Whom we call, and the connection to it: the first address that answers, within one time limit.

References
----------
PS3.8 Table 9-21 (why an Association is rejected).
"""

import socket
import time
from dataclasses import dataclass

from node.errors import DeliveryError
from node.network.pdu import AssociateReject
from node.network.tls import Context as TlsContext

__all__ = ["ApplicationEntity", "connect", "rejection"]

REJECTIONS = {  # PS3.8 Table 9-21, (source, reason)
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "our AE title is not known there",
    (1, 7): "its AE title is another",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "it is busy",
    (3, 2): "it has too many Associations",
}


@dataclass(frozen=True, slots=True)
class ApplicationEntity:
    """Whom we call; `title` is what messages call it."""

    title: str
    host: str
    port: int
    ae_title: str
    timeout_s: float
    tls: TlsContext | None = None


def connect(peer: ApplicationEntity) -> socket.socket:
    """A connection to the first address that answers; all addresses together have `timeout_s`.

    Raises
    ------
    DeliveryError
        If none does.
    """
    deadline = time.monotonic() + peer.timeout_s
    try:
        # The resolver has time limits of its own, and none that could be passed to it.
        found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "its name is none"
        raise DeliveryError(f"{peer.title} cannot be reached: {peer.host} has no address: {reason}") from error
    reason = "out of time"
    for number, (family, kind, protocol, _, address) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(0.001, (deadline - time.monotonic()) / (len(found) - number)))
            connection.connect(address)
            return connection if peer.tls is None else _secure(connection, peer, peer.tls, deadline)
        except OSError as error:
            connection.close()
            reason = "out of time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
    raise DeliveryError(f"{peer.title} cannot be reached: {reason}")


def _secure(connection: socket.socket, peer: ApplicationEntity, tls: TlsContext, deadline: float) -> socket.socket:
    secured = tls.wrap_socket(connection, server_hostname=peer.host, do_handshake_on_connect=False)
    try:
        secured.settimeout(max(0.001, deadline - time.monotonic()))
        secured.do_handshake()
    except OSError:
        secured.close()
        raise
    return secured


def rejection(reject: AssociateReject) -> str:
    """Why a peer does not let us in, in words and in the numbers of the standard."""
    known = REJECTIONS.get((reject.source, reject.reason), "for a reason the standard does not know")
    return f"{known} ({reject.result}, {reject.source}, {reject.reason})"
