"""One round of asking a destination: what was found out of each output, noted at once."""

from dataclasses import dataclass, field

import structlog

from node.deliver.patience import delay_s, is_over
from node.settings import DeliverSettings, DicomDestination, OrthancDestination, StowDestination
from node.store.database import Store
from node.store.verification import (
    Check,
    Step,
    mark_lost_to_query,
    mark_never_verified,
    mark_unverifiable,
    mark_verified,
    postpone_check,
)

__all__ = ["FOUND", "Checked", "Round"]

log = structlog.get_logger(__name__)

Checked = DicomDestination | StowDestination | OrthancDestination
"""A destination that can be asked what it has."""

FOUND = "find"
FRUITLESS_QUERIES = 5  # some two and a half minutes: an archive may be slow to make its index


@dataclass(slots=True)
class Round:
    """One round with one destination; `left` is what is not decided in it yet."""

    store: Store
    destination: Checked
    settings: DeliverSettings
    left: dict[str, Check] = field(default_factory=dict)

    def verified(self, one: Check, by: str) -> None:
        """It is there."""
        self.left.pop(one.delivery.delivery_id, None)
        if mark_verified(self.store, one.delivery.delivery_id, by):
            log.info("output verified", output=one.delivery.output.output_id, destination=self.destination.name)

    def postpone(self, one: Check, reason: str, *, step: Step = Step.ASK) -> None:
        """It is not sure: ask again later, or give up when the time is over."""
        self.left.pop(one.delivery.delivery_id, None)
        if not self.gives_up(one, reason):
            wait_s = delay_s(one.checks, self.settings)
            postpone_check(self.store, one.delivery.delivery_id, reason, delay_s=wait_s, step=step)

    def gives_up(self, one: Check, reason: str) -> bool:
        """True if it was asked about for long enough; then it is a dead letter."""
        age_s = self.store.clock() - one.accepted_at
        if not is_over(age_s, one.checks, self.settings, patience_h=self.settings.verify_for_h):
            return False
        self.left.pop(one.delivery.delivery_id, None)
        self.bury(one, f"never verified in {age_s / 3600:.1f} h: {reason}")
        return True

    def bury(self, one: Check, reason: str) -> None:
        """It will never be sure."""
        if mark_never_verified(self.store, one.delivery.delivery_id, reason):
            output = one.delivery.output.output_id
            log.error("output became a dead letter", output=output, destination=self.destination.name, error=reason)

    def not_found(self, one: Check, reason: str) -> None:
        """It says that it is not there: after some such answers it is sent once more, then asked until the end."""
        if one.checks + 1 < FRUITLESS_QUERIES or one.resends:
            self.postpone(one, reason)
            return
        self.left.pop(one.delivery.delivery_id, None)
        mark_lost_to_query(self.store, one.delivery.delivery_id, reason)

    def unverifiable(self, one: Check, reason: str) -> None:
        """It cannot say: the output stays accepted."""
        self.left.pop(one.delivery.delivery_id, None)
        mark_unverifiable(self.store, [one.delivery.delivery_id], f"not verifiable: {reason}")
