"""How long to wait for the next image, learned from the pauses in the studies a sender has sent.

Of the last 100 studies of one sender and modality, the pause that all but one in twenty stayed below, times a
margin: a retake that comes minutes later makes a revised result, it must not make every later study wait.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from node.settings import CompleteSettings
from node.store.database import Store
from node.store.gathering import pauses_of

__all__ = ["Patience", "patience"]

LAST_STUDIES = 100
LEAST_STUDIES = 20  # with fewer, one in twenty is none, and the longest pause has hardly been seen
SHARE = 0.95
MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a study without a new image waits, while a sender is there and after all have gone.

    `quiet_basis` and `release_basis` say where these times come from, in words.
    """

    quiet_s: float
    release_s: float
    quiet_basis: str = "as configured"
    release_basis: str = "as configured"


def patience(store: Store, settings: CompleteSettings, calling_ae: str, modality: str) -> Patience:
    """How long to wait for images of this sender and modality.

    The quiet time is learned from all pauses, also those after which more images came than were waited for.
    The wait after a release is learned from the latter alone, and is never shorter than configured.
    """
    as_configured = Patience(settings.quiet_s, settings.after_release_s)
    if not settings.learn:
        return as_configured
    pauses = pauses_of(store, calling_ae, modality, most_s=settings.most_quiet_s, studies=LAST_STUDIES)
    if len(pauses) < LEAST_STUDIES:
        return as_configured
    quiet_s = MARGIN * _usual_longest([one.longest_s for one in pauses])
    release_s = MARGIN * _usual_longest([one.after_release_s for one in pauses])
    basis = f"learned from {len(pauses)} studies of {calling_ae} / {modality or 'no modality'}"
    quiet_s = min(max(quiet_s, settings.least_quiet_s), settings.most_quiet_s)
    if release_s <= settings.after_release_s:
        return Patience(quiet_s, settings.after_release_s, basis)
    return Patience(quiet_s, min(release_s, max(settings.most_quiet_s, settings.after_release_s)), basis, basis)


def _usual_longest(pauses_s: Sequence[float]) -> float:
    """What all but one in twenty do not exceed."""
    return sorted(pauses_s)[math.ceil(SHARE * len(pauses_s)) - 1]
