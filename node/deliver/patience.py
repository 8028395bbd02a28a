"""How long to wait before the next attempt, and after how many it may be the last."""

from node.settings import DeliverSettings

__all__ = ["LEAST_ATTEMPTS", "delay_s", "is_over"]

LEAST_ATTEMPTS = 20  # a clock that was set forward, or a node that was off, has made nobody old


def delay_s(attempts: int, settings: DeliverSettings) -> float:
    """Seconds to the next attempt after so many before this one: doubled each time, up to the longest."""
    return min(settings.max_retry_s, settings.first_retry_s * 2.0 ** min(attempts, 30))


def is_over(age_s: float, attempts: int, settings: DeliverSettings, *, patience_h: float) -> bool:
    """True if the time is up and there were enough attempts, this one included."""
    return age_s > patience_h * 3600 and attempts + 1 >= _least_attempts(settings, patience_h)


def _least_attempts(settings: DeliverSettings, patience_h: float) -> int:
    """How many attempts there are whatever the clock says: 20, or as many as the patience has room for."""
    waited_s, attempts = 0.0, 1
    while attempts < LEAST_ATTEMPTS and (waited_s := waited_s + delay_s(attempts - 1, settings)) <= patience_h * 3600:
        attempts += 1
    return attempts
