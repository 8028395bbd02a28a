"""The receiver on our own upper layer: its ports, the one thread that opens them, and how it is closed again."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node.network.tls import server_context
from node.receive.associations import Associations
from node.receive.entrance import Entrance, Listener
from node.receive.event_report import Reported
from node.receive.guard import Clock, Guard, Watermark
from node.receive.spool import Answer, Incoming
from node.receive.touched import TouchedStudies
from node.settings import DicomSettings

__all__ = ["UpperReceiver", "serve"]

BACKLOG = 1024  # a burst waits here; what finds no room is tried again by its system, a second later
LAST_WORD_S = 5.0  # for open Associations to end when they were told to


@dataclass(slots=True)
class UpperReceiver:
    """A running receiver; `port` is the real one when 0 was asked for. A port that is not open is 0."""

    port: int
    tls_port: int
    associations: Associations
    entrance: Entrance

    @property
    def open_associations(self) -> int:
        """How many Associations are open now."""
        return len(self.associations.inside)

    def stop(self, *, drain_s: float) -> None:
        """Refuse new Associations, let open ones finish for `drain_s`, abort what is left."""
        self.associations.guard.is_closing = True
        self.entrance.close()
        if not self.associations.wait_until_empty(drain_s):
            self.associations.end_all()
            self.associations.wait_until_empty(LAST_WORD_S)


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
    clock: Clock = time.monotonic,
) -> UpperReceiver:
    """Open the front door.

    Parameters
    ----------
    incoming
        Folder on the store's volume for objects that are not complete yet.
    accept
        Called in the Association's thread for every object; its answer is the sender's answer.
    released
        Called with the studies an Association touched, once no other open Association touches them.
    has_room
        False refuses every new Association and object as transient, so that senders come back later.
    has_ample_room
        What must be so before they are taken again; `has_room` if not given.
    reported
        Called in the Association's thread for every storage commitment report; None offers no such context.
    writes_early
        True lets the disk begin with an object while it is received; for an `accept` that waits for the disk.
    touched
        How the studies are told to the other processes that share the ports.

    Raises
    ------
    ConfigError
        If a file for TLS is not what it must be.
    OSError
        If an address is taken or not ours.
    """
    guard = Guard(settings, Watermark(has_room, has_ample_room=has_ample_room, clock=clock), clock=clock)
    associations = Associations(
        settings, incoming, accept, released, reported, guard, clock, touched, writes_early=writes_early
    )
    context = server_context(settings) if settings.tls_port else None
    listeners: list[Listener] = []
    try:
        if settings.accept_plain:
            listeners.append(Listener(_listen(settings, settings.port)))
        if context is not None:
            listeners.append(Listener(_listen(settings, settings.tls_port), context))
    except OSError:
        for listener in listeners:
            listener.socket.close()
        raise
    return UpperReceiver(
        port=listeners[0].socket.getsockname()[1] if settings.accept_plain else 0,
        tls_port=settings.tls_port,
        associations=associations,
        entrance=Entrance(listeners, guard, associations.welcome),
    )


def _listen(settings: DicomSettings, port: int) -> socket.socket:
    return socket.create_server(
        (settings.host, port),
        family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
        backlog=BACKLOG,
        reuse_port=settings.processes > 1,  # the system deals the connections out among the processes
        dualstack_ipv6=settings.host == "::",
    )
