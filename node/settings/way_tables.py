"""What must hold in the tables of destinations that are web services or folders."""

import os.path
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from node.domain.work import OutputKind
from node.settings.reader import Reader
from node.settings.ways import (
    FolderDestination,
    HttpDestination,
    OrthancDestination,
    Secret,
    StowDestination,
    Verify,
    WebDestination,
)

__all__ = ["WAYS", "way_destination"]


@dataclass(frozen=True, slots=True)
class _Way:
    """A kind of destination: its record and the objects that it can carry, with the sentence that says so."""

    record: type[WebDestination] | type[FolderDestination]
    takes: Callable[[OutputKind], bool]
    what: str


WAYS: Mapping[str, _Way] = {
    "stow": _Way(StowDestination, lambda kind: kind.is_dicom, "DICOM objects"),
    "orthanc": _Way(OrthancDestination, lambda kind: kind.is_dicom, "DICOM objects"),
    "http": _Way(HttpDestination, lambda kind: kind in (OutputKind.JSON, OutputKind.FHIR), '"json" or "fhir"'),
    "folder": _Way(FolderDestination, lambda _: True, "any kind"),
}


def way_destination(
    reader: Reader, kind: str, table: Mapping[str, Any], environment: Mapping[str, str]
) -> WebDestination | FolderDestination:
    """A destination of one of the `WAYS` from its table, with paths that start at the site's folder.

    Parameters
    ----------
    table
        Its keys but `kind`, with `name`.
    environment
        Where the secret is; one that is missing here is missed when the destination is first needed, so that a
        command can be given without it.

    Raises
    ------
    ConfigError
        With the line of the key that is not what it must be.
    """
    way, name = WAYS[kind], str(table["name"])
    where = f"destinations.{name}"
    if "secret" in table:
        message = f"[{where}] secret does not stand in this file; name its environment variable in secret_variable"
        raise reader.error(message, name, "secret")
    found = reader.record(way.record, where, table)
    for one in found.objects:
        if not way.takes(one):
            message = f'[{where}] objects: a destination of kind "{kind}" takes {way.what}, found {str(one)!r}'
            raise reader.error(message, name, "objects")
    if not found.objects:
        raise reader.error(f"[{where}] objects must name at least one", name, "objects")
    if isinstance(found, FolderDestination):
        if not found.path:
            raise reader.error(f"[{where}] path must name a folder", name, "path")
        return replace(found, path=_resolved(reader, found.path))
    return _web(reader, where, found, environment)


def _web(reader: Reader, where: str, found: WebDestination, environment: Mapping[str, str]) -> WebDestination:
    name = found.name
    why_not = _why_no_service(found.url)
    if why_not:  # the address itself is not repeated: people put passwords there
        raise reader.error(f"[{where}] url {why_not}", name, "url")
    if not 0.1 <= found.timeout_s <= 3600:
        raise reader.error(f"[{where}] timeout_s must be 0.1 to 3600, found {found.timeout_s}", name, "timeout_s")
    if not isinstance(found, HttpDestination) and found.verify is Verify.COMMITMENT:
        raise reader.error(f"[{where}] verify cannot be commitment: that is asked over DICOM", name, "verify")
    if found.user and not found.secret_variable:
        message = f"[{where}] user needs secret_variable, the environment variable that holds the password"
        raise reader.error(message, name, "user")
    if found.secret_variable.startswith("WETREAD_"):
        message = f"[{where}] secret_variable must not begin with WETREAD_: such variables are keys of this file"
        raise reader.error(message, name, "secret_variable")
    if bool(found.tls_certificate) != bool(found.tls_key):
        raise reader.error(f"[{where}] tls_certificate and tls_key go together", name, "tls_certificate")
    return replace(
        found,
        tls_authorities=_resolved(reader, found.tls_authorities),
        tls_certificate=_resolved(reader, found.tls_certificate),
        tls_key=_resolved(reader, found.tls_key),
        secret=Secret(environment.get(found.secret_variable, "") if found.secret_variable else ""),
    )


def _why_no_service(url: str) -> str:
    """Why a text is not the address of a web service, "" if it is."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # what a socket does with it; an error there would come too late
    except ValueError:
        return "is no address of a web service"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "must begin with http:// or https:// and name a host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or password; see user and secret_variable"
    if parts.query or parts.fragment:
        return "must end with its path: no ? and no #"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must be written in ASCII without spaces"
    return ""


def _resolved(reader: Reader, path: str) -> str:
    return os.path.normpath(reader.path.parent.resolve() / path) if path else ""
