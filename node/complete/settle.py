"""The clock over rows that freezes a study when it is whole."""

from collections.abc import Callable
from functools import cache

from node.complete.learn import Patience, patience
from node.settings import CompleteSettings, Sender
from node.store import gathering
from node.store.database import Store
from node.store.gathering import OpenStudy, Verdict
from node.store.studies import Unfinished, unfinished_generations

__all__ = ["due_studies", "is_answered", "settle", "unsettled"]

ANSWER_WITHIN_S = 60.0  # a count that has not come by then is not waited for: whoever asks may have died


def settle(store: Store, settings: CompleteSettings) -> list[tuple[str, int]]:
    """Freeze every study that is whole now; (Study Instance UID, generation) of each that is to be routed."""
    senders = {sender.ae_title: sender for sender in settings.senders}
    verdicts = []
    for due in due_studies(store, settings):
        verdict = _confirmed(store, settings, due, senders.get(due.study.calling_ae))
        if verdict is not None:
            verdicts.append(verdict)
    return gathering.freeze(store, verdicts) if verdicts else []


def unsettled(store: Store) -> list[Unfinished]:
    """Generations that were frozen but have not been routed, whatever became of the process that froze them."""
    return unfinished_generations(store)


def due_studies(store: Store, settings: CompleteSettings) -> list[Verdict]:
    """Open studies that a clock or a person takes to be whole now, whatever their sender says it holds."""

    @cache
    def patience_of(calling_ae: str, modality: str) -> Patience:
        return patience(store, settings, calling_ae, modality)

    shortest_s = min(settings.quiet_s, settings.least_quiet_s) if settings.learn else settings.quiet_s
    found = gathering.open_studies(store, quiet_s=shortest_s, after_release_s=settings.after_release_s)
    now = store.clock()
    verdicts = (_due(study, patience_of, now) for study in found)
    return [verdict for verdict in verdicts if verdict is not None]


def _due(study: OpenStudy, patience_of: Callable[[str, str], Patience], now: float) -> Verdict | None:
    if study.forced_at is not None:
        return Verdict(study, "forced", since=study.forced_at)
    wait = patience_of(study.calling_ae, study.modality)
    if study.released_at is not None and study.released_at <= now - wait.release_s:
        basis = f"{wait.release_s:g} s, {wait.release_basis}"
        return Verdict(study, "release", basis, study.released_at + wait.release_s)
    if study.last_instance_at <= now - wait.quiet_s:
        basis = f"{wait.quiet_s:g} s, {wait.quiet_basis}"
        return Verdict(study, "quiet", basis, study.last_instance_at + wait.quiet_s)
    if study.last_instance_at > now + wait.quiet_s:
        return Verdict(study, "quiet", "the clock was set back")
    return None


def is_answered(study: OpenStudy) -> bool:
    """True if its sender was asked since its last image came, whether or not it answered."""
    return study.asked_at is not None and study.asked_at > study.last_instance_at


def _confirmed(store: Store, settings: CompleteSettings, due: Verdict, sender: Sender | None) -> Verdict | None:
    """What the sender's count makes of a study that is due: whole, not yet, or no matter."""
    study, now = due.study, store.clock()
    if sender is None or due.signal == "forced":
        return due
    if not is_answered(study):
        return None if 0 <= now - due.since < ANSWER_WITHIN_S else due
    if study.expected_count is None:
        return Verdict(study, due.signal, f"{due.basis}; the sender did not say how many images it holds")
    count = gathering.instance_count(store, study.study_uid)
    if count >= study.expected_count:
        return Verdict(study, "count", f"the sender holds {study.expected_count}")
    if 0 <= now - study.last_instance_at < settings.most_wait_s:
        return None
    missing = f"the sender holds {study.expected_count}, which did not come within {settings.most_wait_s:g} s"
    return Verdict(study, due.signal, f"{due.basis}; {missing}")
