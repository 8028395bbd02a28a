"""The last look at a result before it is sent: its bytes are the ones that were made.

It is looked at once for every time it is sent, whichever way it goes, by the fastest method that its row has.
"""

from pathlib import Path

from node.domain.work import Output
from node.errors import DeliveryError
from node.store.digest import is_same_file

__all__ = ["check_stored"]


def check_stored(path: Path, output: Output) -> None:
    """Refuse a file that is not what was made.

    Raises
    ------
    DeliveryError
        Permanent, if its bytes are others.
    OSError
        If it cannot be read.
    """
    if not is_same_file(path, output.digest or f"sha256:{output.sha256}"):
        raise DeliveryError("the stored bytes are not the ones that were made", is_permanent=True)
