"""The front door, by whichever receiver the site chose; both keep the same promises and pass the same tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from node.receive import scp, upper
from node.receive.spool import Answer, Incoming
from node.settings import DicomSettings

__all__ = ["Receiver", "serve"]


class Receiver(Protocol):
    """A running receiver."""

    @property
    def port(self) -> int:
        """The real one when 0 was asked for."""
        ...

    @property
    def open_associations(self) -> int:
        """How many Associations are open now."""
        ...

    def stop(self, *, drain_s: float) -> None:
        """Refuse new Associations, let open ones finish for `drain_s`, abort what is left."""
        ...


def serve(
    settings: DicomSettings,
    incoming: Path,
    *,
    accept: Callable[[Incoming], Answer],
    released: Callable[[list[str]], None],
    has_room: Callable[[], bool],
) -> Receiver:
    """Open the front door with the receiver of ``[dicom] receiver``.

    Parameters
    ----------
    incoming
        Folder on the store's volume for objects that are not complete yet.
    accept
        Called in the Association's thread for every object; its answer is the sender's answer.
    released
        Called with the studies an Association touched, once no other open Association touches them.
    has_room
        False refuses new Associations as transient, so that senders come back later.

    Raises
    ------
    OSError
        If the address is taken or not ours.
    """
    receiver = scp.serve if settings.receiver == "pynetdicom" else upper.serve
    return receiver(settings, incoming, accept=accept, released=released, has_room=has_room)
