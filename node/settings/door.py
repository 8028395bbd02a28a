"""What must hold between the keys of ``[dicom]``, so that a front door is never wider open than the site meant."""

import ipaddress
import re
from dataclasses import replace
from pathlib import Path

from node.settings.reader import Reader
from node.settings.records import DicomSettings, Peer

__all__ = ["check_door", "resolve_door"]

FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


def check_door(reader: Reader, dicom: DicomSettings) -> None:
    """Refuse keys that contradict each other.

    Raises
    ------
    ConfigError
        With the line of the key that cannot stay as it is.
    """
    if not 1 <= len(dicom.ae_title.strip()) <= 16:  # PS3.5 6.2, VR AE
        raise reader.error("[dicom] ae_title must have 1 to 16 characters", "dicom", "ae_title")
    for key, is_wrong, what in _contradictions(dicom):
        if is_wrong:
            raise reader.error(f"[dicom] {what}", "dicom", key)
    for peer in dicom.allowed_peers:
        _check_peer(reader, peer, dicom)


def _contradictions(dicom: DicomSettings) -> tuple[tuple[str, bool, str], ...]:
    """The key, whether it is wrong, and what is."""
    is_pynetdicom = dicom.receiver == "pynetdicom"
    has_tls = bool(dicom.tls_port)
    shares = dicom.processes > 1
    return (
        ("receiver", is_pynetdicom and has_tls, 'receiver = "pynetdicom" offers no TLS; it needs tls_port = 0'),
        ("receiver", is_pynetdicom and shares, 'receiver = "pynetdicom" shares no port; it needs processes = 1'),
        ("accept_plain", not (dicom.accept_plain or has_tls), "accept_plain = false leaves no port without a tls_port"),
        ("port", shares and dicom.accept_plain and not dicom.port, "port must not be 0 when processes share it"),
        ("tls_port", has_tls and dicom.accept_plain and dicom.tls_port == dicom.port, "tls_port must not be port"),
        ("tls_certificate", has_tls and not dicom.tls_certificate, "tls_port needs a tls_certificate"),
        ("tls_key", has_tls and not dicom.tls_key, "tls_port needs a tls_key"),
    )


def _check_peer(reader: Reader, peer: Peer, dicom: DicomSettings) -> None:
    try:
        if peer.address != "*":
            ipaddress.ip_network(peer.address, strict=False)
    except ValueError as error:
        message = f"[dicom] allowed_peers: {peer.address!r} is no address or network"
        raise reader.error(message, "dicom", peer.address) from error
    if peer.certificate and not (dicom.tls_port and dicom.tls_authorities):
        message = "[dicom] allowed_peers: a certificate is only asked for with a tls_port and tls_authorities"
        raise reader.error(message, "dicom", peer.certificate)
    if peer.certificate.startswith("sha256:") and not FINGERPRINT.fullmatch(_plain(peer.certificate)):
        message = "[dicom] allowed_peers: a fingerprint is sha256: and 64 hexadecimal digits"
        raise reader.error(message, "dicom", peer.certificate)


def resolve_door(dicom: DicomSettings, folder: Path) -> DicomSettings:
    """The same with paths that start at the site's folder, and fingerprints as TLS says them: small, no colons."""
    peers = tuple(
        replace(peer, certificate=_plain(peer.certificate)) if peer.certificate.startswith("sha256:") else peer
        for peer in dicom.allowed_peers
    )
    return replace(
        dicom,
        allowed_peers=peers,
        tls_certificate=_resolved(dicom.tls_certificate, folder),
        tls_key=_resolved(dicom.tls_key, folder),
        tls_authorities=_resolved(dicom.tls_authorities, folder),
    )


def _resolved(path: str, folder: Path) -> str:
    return str((folder / path).resolve()) if path else ""


def _plain(fingerprint: str) -> str:
    return "sha256:" + fingerprint.removeprefix("sha256:").replace(":", "").lower()
