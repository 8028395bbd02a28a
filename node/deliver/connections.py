"""The connection that belongs to each kind of destination."""

from node.deliver.folder import FolderConnection
from node.deliver.http import HttpConnection
from node.deliver.mllp import MllpConnection
from node.deliver.orthanc import OrthancConnection
from node.deliver.scu import DicomConnection
from node.deliver.stow import StowConnection
from node.settings import (
    Destination,
    DicomDestination,
    FolderDestination,
    Hl7Destination,
    HttpDestination,
    StowDestination,
)

__all__ = ["Connection", "connection_to"]

Connection = DicomConnection | MllpConnection | StowConnection | OrthancConnection | HttpConnection | FolderConnection


def connection_to(destination: Destination, *, calling_ae: str) -> Connection:
    """Make the connection to a destination; nothing is opened yet.

    Raises
    ------
    ConfigError
        If its secret, certificate or key is not what it must be.
    """
    if isinstance(destination, DicomDestination):
        return DicomConnection(destination, calling_ae=calling_ae)
    if isinstance(destination, Hl7Destination):
        return MllpConnection(destination)
    if isinstance(destination, StowDestination):
        return StowConnection(destination)
    if isinstance(destination, HttpDestination):
        return HttpConnection(destination)
    if isinstance(destination, FolderDestination):
        return FolderConnection(destination)
    return OrthancConnection(destination)
