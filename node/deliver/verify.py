"""Asking a destination whether it has for good what it took: accepted is not delivered.

One round asks about everything that is due, over a connection of its own, so that nothing that is sent waits for it.
What is not sure yet is in the rows, and the next round goes on from there.
"""

from dataclasses import replace

import structlog

from node.deliver.connections import Connection
from node.deliver.mllp import MllpConnection
from node.deliver.rounds import Checked, Round
from node.deliver.stored import check_stored
from node.deliver.verify_pacs import ask_pacs
from node.deliver.verify_web import ask_web
from node.errors import DeliveryError
from node.settings import DeliverSettings, DicomDestination, Verify
from node.store.database import Store
from node.store.verification import Check, Step, due_checks, mark_resent

__all__ = ["check"]

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 100


def check(
    store: Store, destination: Checked, connection: Connection, *, calling_ae: str, settings: DeliverSettings
) -> int:
    """Ask a destination about everything it took that is due; how many outputs that were.

    Parameters
    ----------
    connection
        What is sent to this destination; over it goes again what the destination has lost.
    """
    longest_s = max(settings.max_retry_s, settings.commitment_wait_s)
    due = due_checks(store, destination.name, most=MOST_AT_ONCE, longest_s=longest_s)
    this = Round(store, destination, settings)
    if destination.verify is Verify.NONE:
        for one in due:
            this.unverifiable(one, 'verify is "none"')
        return len(due)
    ready = [found for one in due if (found := _present(this, one, connection)) is not None]
    this.left = {one.delivery.delivery_id: one for one in ready}
    if not ready:
        return len(due)
    try:
        if isinstance(destination, DicomDestination):
            ask_pacs(this, destination, calling_ae=calling_ae)
        else:
            ask_web(this, destination)
    except DeliveryError as error:
        for one in list(this.left.values()):
            this.postpone(one, str(error))
    return len(due)


def _present(this: Round, one: Check, connection: Connection) -> Check | None:
    """What can be asked about now: a lost output is sent again before."""
    if one.step is not Step.RESEND:
        return one
    output = one.delivery.output
    if isinstance(connection, MllpConnection):
        raise TypeError(f"{this.destination.name} is no RIS, its connection is that of one")
    try:
        check_stored(output.path, output)
        answer = connection.send(output.path, output)
    except OSError as error:
        this.postpone(one, f"the stored bytes cannot be read: {error.strerror}", step=Step.RESEND)
        return None
    except DeliveryError as error:
        if error.is_permanent:
            this.bury(one, f"{one.note}; it could not be sent again: {error}")
        else:
            this.postpone(one, str(error), step=Step.RESEND)
        return None
    mark_resent(this.store, one.delivery.delivery_id, answer)
    log.warning("output sent again", output=output.output_id, destination=this.destination.name, reason=one.note)
    return replace(one, step=Step.ASK, answer=answer, was_asked=False, resends=one.resends + 1)
