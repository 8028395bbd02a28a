"""One visit to one destination: everything an assignment still has for it, over a connection that is kept.

A visit never waits for a destination that is down: it notes when to come again and ends. The same bytes
with the same SOP Instance UID or message control id are sent however often it takes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from node.deliver.connections import Connection
from node.deliver.folder import THERE, WRITTEN
from node.deliver.mllp import MllpConnection, send_oru
from node.deliver.orthanc import STORED
from node.deliver.patience import LEAST_ATTEMPTS, delay_s, is_over
from node.deliver.stored import check_stored
from node.errors import DeliveryError, MessageError
from node.settings import (
    DeliverSettings,
    Destination,
    DicomDestination,
    Hl7Destination,
    OrthancDestination,
    StowDestination,
    Verify,
)
from node.store.database import Store
from node.store.outbox import blocked_until, mark_accepted, mark_dead, mark_postponed, pending_deliveries
from node.store.work import Delivery

__all__ = ["LEAST_ATTEMPTS", "Connection", "visit"]

log = structlog.get_logger(__name__)

SHORTEST_WAIT_S = 0.5
UNCONDITIONAL = ("0x0000", "AA", "CA", "200", "201", "202", "204", STORED, WRITTEN, THERE)
Send = Callable[[Delivery], str]


def visit(
    store: Store,
    assignment_id: str,
    name: str,
    *,
    destinations: Mapping[str, Destination],
    connections: Mapping[str, Connection],
    settings: DeliverSettings,
) -> float | None:
    """Send what is pending of an assignment to one destination.

    Parameters
    ----------
    connections
        One for each destination, kept from visit to visit.

    Returns
    -------
    Seconds after which to visit again, or None when nothing is pending any more: every output was
    accepted or is a dead letter with its reason.
    """
    pending = pending_deliveries(store, assignment_id, name)
    destination = destinations.get(name)
    if destination is None:
        for item in pending:
            mark_dead(store, item, f"there is no [destinations.{name}] any more")
        return None
    return _send_all(store, pending, _way(destination, connections[name]), settings)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a destination is sent to, and how it is known that it has for good what it took."""

    send: Send
    verified_by: Mapping[str, str] = field(default_factory=dict)  # by its answer, "" for any
    is_checked: bool = False
    note: str = ""


def _way(destination: Destination, connection: Connection) -> _Way:
    send = _sender(destination, connection)
    if isinstance(destination, Hl7Destination):
        return _Way(
            send, {"AA": "answer"}, note="not verifiable: the RIS keeps it, and does not say what becomes of it"
        )
    if not isinstance(destination, DicomDestination | StowDestination | OrthancDestination):
        return _Way(send, {"": "answer"})
    if destination.verify is Verify.NONE:
        return _Way(send, note='not verifiable: verify is "none"')
    return _Way(send, is_checked=True)


def _sender(destination: Destination, connection: Connection) -> Send:
    if not isinstance(connection, MllpConnection):
        return lambda item: connection.send(item.output.path, item.output)
    if not isinstance(destination, Hl7Destination):
        raise TypeError(f"{destination.name} is no RIS, its connection is that of one")
    return lambda item: send_oru(item.output.path.read_bytes(), destination, connection)


def _send_all(store: Store, pending: list[Delivery], way: _Way, settings: DeliverSettings) -> float | None:
    for item in pending:
        earliest = blocked_until(store, item)
        if earliest is not None:
            blocked_s = earliest - store.clock() + SHORTEST_WAIT_S
            return min(settings.max_retry_s, max(SHORTEST_WAIT_S, blocked_s))  # the clock may have been set back
        wait_s = _send_one(store, item, way, settings)
        if wait_s is not None:
            return wait_s
    return None


def _send_one(store: Store, item: Delivery, way: _Way, settings: DeliverSettings) -> float | None:
    identity = {"output": item.output.output_id, "destination": item.destination, "kind": str(item.output.kind)}
    try:
        check_stored(item.output.path, item.output)
        answer = way.send(item)
    except OSError as error:
        is_gone = isinstance(error, FileNotFoundError)  # else short of descriptors, a disk that comes back
        fault = DeliveryError(f"the stored bytes cannot be read: {error.strerror}", is_permanent=is_gone)
        return _not_taken(store, item, fault, settings, identity)
    except MessageError as error:  # the destination was an HL7 one only after this output was made
        return _not_taken(store, item, DeliveryError(str(error), is_permanent=True), settings, identity)
    except DeliveryError as error:
        return _not_taken(store, item, error, settings, identity)
    verified_by = way.verified_by.get(answer, way.verified_by.get("", ""))
    note = "" if verified_by else way.note
    mark_accepted(store, item, answer, verified_by=verified_by, is_checked=way.is_checked, note=note)
    if answer in UNCONDITIONAL:
        log.info("output accepted", **identity, answer=answer)
    else:
        log.warning("output accepted with a warning", **identity, answer=answer)
    return None


def _not_taken(
    store: Store, item: Delivery, error: DeliveryError, settings: DeliverSettings, identity: Mapping[str, str]
) -> float | None:
    age_s = store.clock() - item.queued_at
    if error.is_permanent or is_over(age_s, item.attempts, settings, patience_h=settings.give_up_after_h):
        reason = str(error) if error.is_permanent else f"given up after {age_s / 3600:.1f} h: {error}"
        mark_dead(store, item, reason)
        log.error("output became a dead letter", **identity, error=reason)
        return None
    asked_s = min(error.least_wait_s, settings.max_retry_s)
    wait_s = max(asked_s, delay_s(item.attempts, settings))
    mark_postponed(store, item, str(error), delay_s=wait_s)
    log.warning("output postponed", **identity, error=str(error), delay_s=wait_s, attempt=item.attempts + 1)
    return wait_s
