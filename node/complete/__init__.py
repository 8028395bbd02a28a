"""Complete: when is a study whole?

DICOM has no "last image" message. Signals settle a study, whichever comes first: no new image for the quiet
time of its sender and modality, or every Association that brought images was released for a while, or a
person says so. Where the sender can be asked what it holds, its count confirms that or makes the study wait.
Images that come later make the next generation, which is read and reported again; nothing is ignored.
"""

from node.complete.ask import Asker
from node.complete.learn import Patience, patience
from node.complete.settle import settle, unsettled

__all__ = ["Asker", "Patience", "patience", "settle", "unsettled"]
