"""Which studies open Associations bring images of, when several receiver processes share a port.

A study may be taken for whole once no Association that brought images of it is open any more, wherever that is. Each
process keeps an empty file for each study its own Associations touch, and looks for those of the others.
"""

import hashlib
import shutil
from pathlib import Path

from node.process import read_ready, receiver_role

__all__ = ["TouchedStudies"]


class TouchedStudies:
    """The studies that Associations of process `number` of `count` touch, told to the others; for one thread at a time.

    Whoever releases takes its own file away before it looks, so of two that release at the same moment at least one
    finds that nobody is left. What a dead process left behind does not count.
    """

    def __init__(self, run: Path, number: int, count: int) -> None:
        """Begin with none, whatever a process of this number left behind."""
        self._run = run
        self._number = number
        self._others = [other for other in range(1, count + 1) if other != number]
        self._folder = run / "touched" / str(number)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def add(self, study_instance_uid: str) -> None:
        """Tell that an Association of ours touches a study."""
        (self._folder / _name(study_instance_uid)).touch()

    def remove(self, study_instance_uid: str) -> None:
        """Tell that none of ours does any more."""
        (self._folder / _name(study_instance_uid)).unlink(missing_ok=True)

    def is_elsewhere(self, study_instance_uid: str) -> bool:
        """True if an open Association of another living process touches it."""
        name = _name(study_instance_uid)
        return any(
            (self._run / "touched" / str(other) / name).exists() and read_ready(self._run, receiver_role(other))
            for other in self._others
        )


def _name(study_instance_uid: str) -> str:
    """No word of a peer's becomes a path."""
    return hashlib.sha256(study_instance_uid.encode()).hexdigest()
