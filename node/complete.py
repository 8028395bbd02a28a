"""Complete: when is a study whole?

DICOM has no "last image" message. Two signals settle a study, whichever comes first: no new image for
`quiet_s`, or every Association that brought images was released and `after_release_s` passed. Images
that come later make the next generation, which is read and reported again; nothing is ignored.
"""

from node.settings import CompleteSettings
from node.store.database import Store
from node.store.studies import freeze_whole, unfinished_generations

__all__ = ["settle", "unsettled"]


def settle(store: Store, settings: CompleteSettings) -> list[tuple[str, int]]:
    """Freeze every study that is whole now; (Study Instance UID, generation) of each."""
    return freeze_whole(store, quiet_s=settings.quiet_s, after_release_s=settings.after_release_s)


def unsettled(store: Store) -> list[tuple[str, int]]:
    """Generations that were frozen but have not been routed, whatever became of the process that froze them."""
    return unfinished_generations(store)
