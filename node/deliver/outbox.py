"""One visit to one destination: everything an assignment still has for it, in one Association or connection.

A visit never waits for a destination that is down: it notes when to come again and ends. The same bytes
with the same SOP Instance UID or message control id are sent however often it takes.
"""

from collections.abc import Callable, Mapping

import structlog

from node.deliver.mllp import MllpConnection, send_oru
from node.deliver.scu import DicomConnection
from node.errors import DeliveryError, MessageError
from node.settings import DeliverSettings, Destination, DicomDestination
from node.store.database import Store
from node.store.files import file_digest
from node.store.outbox import blocked_until, mark_accepted, mark_dead, mark_postponed, pending_deliveries
from node.store.work import Delivery

__all__ = ["visit"]

log = structlog.get_logger(__name__)

SHORTEST_WAIT_S = 0.5
Send = Callable[[Delivery], str]


def visit(
    store: Store,
    assignment_id: str,
    name: str,
    *,
    destinations: Mapping[str, Destination],
    connections: Mapping[str, MllpConnection],
    settings: DeliverSettings,
    calling_ae: str,
) -> float | None:
    """Send what is pending of an assignment to one destination.

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
    if isinstance(destination, DicomDestination):
        with DicomConnection(destination, calling_ae=calling_ae) as pacs:
            return _send_all(store, pending, lambda item: pacs.send(item.output.path, item.output), settings)
    connection = connections[name]
    return _send_all(
        store, pending, lambda item: send_oru(item.output.path.read_bytes(), destination, connection), settings
    )


def _send_all(store: Store, pending: list[Delivery], send: Send, settings: DeliverSettings) -> float | None:
    for item in pending:
        earliest = blocked_until(store, item)
        if earliest is not None:
            blocked_s = earliest - store.clock() + SHORTEST_WAIT_S
            return min(settings.max_retry_s, max(SHORTEST_WAIT_S, blocked_s))  # the clock may have been set back
        wait_s = _send_one(store, item, send, settings)
        if wait_s is not None:
            return wait_s
    return None


def _send_one(store: Store, item: Delivery, send: Send, settings: DeliverSettings) -> float | None:
    identity = {"output": item.output.output_id, "destination": item.destination, "kind": str(item.output.kind)}
    try:
        if file_digest(item.output.path) != item.output.sha256:
            raise DeliveryError("the stored bytes are not the ones that were made", is_permanent=True)
        answer = send(item)
    except OSError as error:
        is_gone = isinstance(error, FileNotFoundError)  # else short of descriptors, a disk that comes back
        fault = DeliveryError(f"the stored bytes cannot be read: {error.strerror}", is_permanent=is_gone)
        return _not_taken(store, item, fault, settings, identity)
    except MessageError as error:  # the destination was an HL7 one only after this output was made
        return _not_taken(store, item, DeliveryError(str(error), is_permanent=True), settings, identity)
    except DeliveryError as error:
        return _not_taken(store, item, error, settings, identity)
    mark_accepted(store, item, answer)
    log.info("output accepted", **identity, answer=answer)
    return None


def _not_taken(
    store: Store, item: Delivery, error: DeliveryError, settings: DeliverSettings, identity: Mapping[str, str]
) -> float | None:
    age_s = store.clock() - item.queued_at
    if error.is_permanent or age_s > settings.give_up_after_h * 3600:
        reason = str(error) if error.is_permanent else f"given up after {age_s / 3600:.1f} h: {error}"
        mark_dead(store, item, reason)
        log.error("output became a dead letter", **identity, error=reason)
        return None
    delay_s = min(settings.max_retry_s, settings.first_retry_s * 2.0 ** min(item.attempts, 30))
    mark_postponed(store, item, str(error), delay_s=delay_s)
    log.warning("output postponed", **identity, error=str(error), delay_s=delay_s, attempt=item.attempts + 1)
    return delay_s
