"""An application entity that asks for Associations, with what the library does wrong put right."""

import socket
from ssl import SSLContext

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

__all__ = ["FindRequestor"]

# Process-wide switches of the library that keep its event log, which holds patient data, off.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False


class _Socket(AssociationSocket):
    """The library's socket leaks when refused or cut off, and hangs when the peer stops reading."""

    def connect(self, primitive: T_CONNECT) -> None:
        super().connect(primitive)
        if self.socket is not None:
            self.socket.settimeout(self.assoc.network_timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _shutdown_socket(self) -> None:
        held = self.socket
        super()._shutdown_socket()  # it does not come to closing when the peer has gone or never was
        if held is not None:
            held.close()


class FindRequestor(AE):
    """A Service Class User that waits for nothing longer than `timeout_s`."""

    def __init__(self, ae_title: str, *, timeout_s: float) -> None:
        """Take our AE title; one limit for connecting, negotiating, answers and silence."""
        super().__init__(ae_title=ae_title)
        self.connection_timeout = timeout_s
        self.acse_timeout = timeout_s
        self.dimse_timeout = timeout_s
        self.network_timeout = timeout_s

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[SSLContext, str] | None
    ) -> AssociationSocket:
        found = _Socket(assoc, address=address)
        found.tls_args = tls_args
        return found
