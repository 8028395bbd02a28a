"""Who may come in, how many at once, and how slowly they may speak.

A stranger or one too many is turned away before a thread or a buffer exists for it, and whoever is inside keeps
its place only as long as bytes keep coming. All clocks are monotonic: setting the wall clock ends nothing.
"""

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable

import structlog

from node.network.negotiation import CALLING_AE_NOT_RECOGNISED, LIMIT_EXCEEDED, check_request
from node.network.pdu import AssociateReject, AssociateRequest
from node.settings import DicomSettings, Peer

__all__ = ["MINIMUM_BYTES_PER_S", "Guard", "Patience", "Watermark"]

log = structlog.get_logger(__name__)

MINIMUM_BYTES_PER_S = 4096.0  # half of what an ISDN line carries; nothing that brings images is slower
REOPENS_AFTER_S = 5.0
NO_NAMES: frozenset[str] = frozenset()
MOST_REPORTS_PER_S = 20

Clock = Callable[[], float]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Patience:
    """How long a peer may still be waited for: a store of seconds that its bytes fill and its silence empties.

    A peer that stops is cut off after `most_s`; one that drips is cut off too, because bytes that come slower than
    `bytes_per_s` bring less time than they take. `bytes_per_s` None is a plain deadline.
    """

    def __init__(self, most_s: float, *, now: float, bytes_per_s: float | None = None) -> None:
        self._most_s = most_s
        self._bytes_per_s = bytes_per_s
        self.restart(now)

    def restart(self, now: float) -> None:
        """Fill the store; something new begins."""
        self._ends_at = now + self._most_s

    def earn(self, size_bytes: int, now: float) -> None:
        """Add the time that bytes are worth."""
        if self._bytes_per_s is not None:
            self._ends_at = min(now + self._most_s, self._ends_at + size_bytes / self._bytes_per_s)

    def left(self, now: float) -> float:
        """Seconds that are left; none or fewer than none when the time is up."""
        return self._ends_at - now


class Watermark:
    """Whether the store has room, without wavering.

    After a "no" the answer stays "no" until there has been ample room for some seconds, so that a sender is not let in
    for one object and refused the next.

    Parameters
    ----------
    has_room
        False once the disk is too full to take more.
    has_ample_room
        True when it is empty enough to begin again; `has_room` if not given.
    """

    def __init__(
        self, has_room: Callable[[], bool], *, has_ample_room: Callable[[], bool] | None = None, clock: Clock
    ) -> None:
        self._has_room = has_room
        self._has_ample_room = has_ample_room or has_room
        self._clock = clock
        self._is_full = False
        self._room_since: float | None = None
        self._lock = threading.Lock()

    def has_room(self) -> bool:
        """Ask the disk, and remember."""
        found = self._has_ample_room() if self._is_full else self._has_room()
        now = self._clock()
        with self._lock:
            if not found:
                self._is_full, self._room_since = True, None
            elif self._is_full:
                self._room_since = now if self._room_since is None else self._room_since
                self._is_full = now - self._room_since < REOPENS_AFTER_S
            return not self._is_full


class Guard:
    """The rules of the front door; one for all Associations of a receiver."""

    def __init__(self, settings: DicomSettings, watermark: Watermark, *, clock: Clock) -> None:
        """Take the rules from the settings and see the door open."""
        self.watermark = watermark
        self.is_closing = False
        self._most = _share(settings.max_associations, settings.processes)
        self._most_per_address = _share(settings.max_associations_per_address, settings.processes)
        self._clock = clock
        self._allowed = [(peer, _network(peer)) for peer in settings.allowed_peers]
        self._inside: Counter[str] = Counter()
        self._reports_since = clock()
        self._reports = 0
        self._left_out = 0
        self._lock = threading.Lock()

    def enter(self, address: str) -> AssociateReject | None:
        """Take a place for a connection that was just made, before anything is spent on it.

        Returns
        -------
        None if it has a place, which `leave` gives back; else the refusal.
        """
        if not any(_holds(network, address) for _, network in self._allowed):
            return self._refuse(CALLING_AE_NOT_RECOGNISED, "peer not allowed", address)
        with self._lock:
            is_full = (
                self.is_closing or self._inside.total() >= self._most or self._inside[address] >= self._most_per_address
            )
            if not is_full:
                self._inside[address] += 1
                return None
        return self._refuse(LIMIT_EXCEEDED, "no room for another association", address)

    def leave(self, address: str) -> None:
        """Give a place back."""
        with self._lock:
            self._inside[address] -= 1
            if not self._inside[address]:
                del self._inside[address]

    def judge(
        self, request: AssociateRequest, address: str, names: frozenset[str] = NO_NAMES
    ) -> AssociateReject | None:
        """Look at who says to be calling, and at the `names` of its certificate; the refusal, or None to let it in."""
        impossible = check_request(request)
        if impossible is not None:
            return self._refuse(impossible, "protocol version or application context", address, request.calling_ae)
        if not any(
            peer.ae_title in ("*", request.calling_ae)
            and _holds(network, address)
            and (not peer.certificate or peer.certificate in names)
            for peer, network in self._allowed
        ):
            return self._refuse(CALLING_AE_NOT_RECOGNISED, "peer not allowed", address, request.calling_ae)
        if self.is_closing:
            return self._refuse(LIMIT_EXCEEDED, "the node is being stopped", address, request.calling_ae)
        if not self.watermark.has_room():
            return self._refuse(LIMIT_EXCEEDED, "disk nearly full", address, request.calling_ae)
        return None

    def report(self, event: str, *, reason: str, address: str, calling_ae: str) -> None:
        """Put something that should not happen into the log; a flood of it becomes some lines and a number."""
        now = self._clock()
        with self._lock:
            if now - self._reports_since >= 1.0:
                self._reports_since, self._reports = now, 0
            self._reports += 1
            if self._reports > MOST_REPORTS_PER_S:
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        if left_out:
            log.warning("reports left out", count=left_out)
        log.warning(event, reason=reason, calling_ae=calling_ae, address=address)

    def _refuse(self, answer: AssociateReject, reason: str, address: str, calling_ae: str = "") -> AssociateReject:
        self.report("association rejected", reason=reason, address=address, calling_ae=calling_ae)
        return answer


def _share(most: int, processes: int) -> int:
    """What one of several processes may have of a limit of the node."""
    return -(-most // processes)


def _network(peer: Peer) -> Network | None:
    return None if peer.address == "*" else ipaddress.ip_network(peer.address, strict=False)


def _holds(network: Network | None, address: str) -> bool:
    if network is None:
        return True
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped  # how a socket for both families shows an IPv4 peer
    return found in network
