"""The front door, by whichever receiver the site chose; both keep the same promises and pass the same tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from node.errors import ConfigError
from node.receive import scp, upper
from node.receive.event_report import Reported
from node.receive.spool import Answer, Incoming
from node.receive.touched import TouchedStudies
from node.settings import DicomSettings

__all__ = ["Receiver", "serve"]


class Receiver(Protocol):
    """A running receiver."""

    @property
    def port(self) -> int:
        """The real one when 0 was asked for; 0 if nothing is taken without TLS."""
        ...

    @property
    def tls_port(self) -> int:
        """The port for TLS; 0 if there is none."""
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
    has_ample_room: Callable[[], bool] | None = None,
    reported: Reported | None = None,
    touched: TouchedStudies | None = None,
    writes_early: bool = True,
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
    has_ample_room
        What must be so before they are taken again; `has_room` if not given.
    reported
        Called in the Association's thread for every storage commitment report; None takes none.
    writes_early
        True lets the disk begin with an object while it is received; for an `accept` that waits for the disk.
    touched
        How the studies are told to the other processes that share the port, if there are any.

    Raises
    ------
    ConfigError
        If a file for TLS is not what it must be, or the receiver cannot do what is asked of it.
    OSError
        If the address is taken or not ours.
    """
    if settings.receiver != "pynetdicom":
        return upper.serve(
            settings,
            incoming,
            accept=accept,
            released=released,
            has_room=has_room,
            has_ample_room=has_ample_room,
            reported=reported,
            touched=touched,
            writes_early=writes_early,
        )
    if settings.tls_port or settings.processes > 1 or reported is not None:
        raise ConfigError('[dicom] receiver = "pynetdicom" offers no TLS, no shared port and no storage commitment')
    return scp.serve(
        settings, incoming, accept=accept, released=released, has_room=has_room, has_ample_room=has_ample_room
    )
