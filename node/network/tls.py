"""TLS for DICOM and HL7 connections: one profile for who calls us and for whom we call.

TLS 1.2 or later, forward secrecy and authenticated encryption only; 1.3 is preferred when the peer has it. There is
no way down to anything older, no compression, no renegotiation, and no session tickets to keep secret.

References
----------
PS3.15 B.12 (BCP 195, RFC 8996 and RFC 9325, TLS Secure Transport Connection Profile).
"""

import hashlib
import ssl
from pathlib import Path

from node.errors import ConfigError
from node.settings import DicomSettings, Hl7Settings

__all__ = ["ACCESS_DENIED", "Context", "check_tls", "client_context", "names_in", "server_context"]

Context = ssl.SSLContext
# RFC 9325 4.2: the suites of TLS 1.2 that a general server should use; those of 1.3 are all good.
SUITES = ":".join(
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    )
)
# RFC 8446 5.1 and 6: an alert record, fatal, access_denied; how a TLS client is turned away before it has a place
ACCESS_DENIED = bytes.fromhex("15 03 03 00 02 02 31")


def server_context(settings: DicomSettings | Hl7Settings, *, where: str = "[dicom]") -> Context:
    """What a port needs to take TLS connections; made once, at the start. `where` is the table, for errors.

    With ``tls_authorities`` a client must show a certificate that these have signed.

    Raises
    ------
    ConfigError
        If a file is missing, is not what it must be, or key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.num_tickets = 0
    _load_own(context, settings.tls_certificate, settings.tls_key, where)
    if settings.tls_authorities:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, settings.tls_authorities, where)
    return context


def check_tls(settings: DicomSettings) -> None:
    """Raise as `server_context` if the front door asks for TLS and its files are not what they must be."""
    if settings.tls_port:
        server_context(settings)


def client_context(
    authorities: str, *, certificate: str = "", key: str = "", where: str, check_name: bool = True
) -> Context:
    """What we need to call a peer over TLS; the peer must show a certificate that `authorities` signed.

    Parameters
    ----------
    certificate, key
        Ours, if the peer wants to see one; else "".
    where
        The table of the settings, for errors: ``[destinations.pacs]``.
    check_name
        The certificate must also name the host we call; wrap the socket with ``server_hostname``.

    Raises
    ------
    ConfigError
        As `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    context.check_hostname = check_name
    _load_authorities(context, authorities, where)
    if certificate:
        _load_own(context, certificate, key, where)
    return context


def names_in(connection: ssl.SSLSocket) -> frozenset[str]:
    """How the certificate that a peer has shown is known: its common names and its fingerprint; none if it has none."""
    encoded = connection.getpeercert(binary_form=True)
    if encoded is None:
        return frozenset()
    names = {f"sha256:{hashlib.sha256(encoded).hexdigest()}"}
    subject = (connection.getpeercert() or {}).get("subject", ())
    for part in subject if isinstance(subject, tuple) else ():
        for pair in part:
            if isinstance(pair, tuple) and pair[0] == "commonName" and isinstance(pair[1], str):
                # A name that looks like a fingerprint must not pass for one.
                names.add(pair[1] if not pair[1].startswith("sha256:") else "")
    return frozenset(names - {""})


def _restrict(context: Context) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # A stream that ends without a close_notify is no error of TLS: an Association has its own end (PS3.8), so one cut
    # short is noticed, and we can still say our last word to a peer that has finished.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # OpenSSL 3


def _load_own(context: Context, certificate: str, key: str, where: str) -> None:
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        _check_readable(path, name, where)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        message = f"{where} tls_certificate and tls_key are no certificate with its key: {error.reason or 'not PEM'}"
        raise ConfigError(message) from error
    except ValueError as error:
        raise ConfigError(f"{where} tls_key has a password; the node starts without a person to type it") from error


def _load_authorities(context: Context, path: str, where: str) -> None:
    _check_readable(path, "tls_authorities", where)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"{where} tls_authorities holds no certificates: {error.reason or 'not PEM'}") from error


def _check_readable(path: str, name: str, where: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{where} {name}: {path or 'no file'} cannot be read: {error.strerror}") from error


def _no_password() -> str:
    raise ValueError
