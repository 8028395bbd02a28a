"""Which side of the patient is which side of a picture, for pictures that lose their place in space."""

import numpy as np
from pydicom.dataset import Dataset

from node.dicom.frames import frames_of

__all__ = ["opposite", "patient_orientation"]

OPPOSITES = str.maketrans("RLAPHF", "LRPAFH")
TOWARDS = (("L", "R"), ("P", "A"), ("H", "F"))  # PS3.3 C.7.6.2.1.1: x grows to the left, y to the back, z to the head
LETTERS = frozenset("RLAPHF")


def patient_orientation(ds: Dataset, frame_number: int | None = None) -> tuple[str, str] | None:
    """Patient side at the right edge and at the bottom edge of an image, or of one frame, counted from 1.

    Returns
    -------
    Letters of Patient Orientation (PS3.3 C.7.6.1.1.1), from Image Orientation (Patient) if the
    header has one, else as written; None if neither says it.
    """
    cosines = frames_of(ds)[(frame_number or 1) - 1].orientation
    if len(cosines) == 6:
        return _towards(cosines[:3]), _towards(cosines[3:])
    written = ds.get("PatientOrientation")
    parts = [str(part) for part in written] if written is not None and not isinstance(written, str) else []
    if len(parts) != 2 or not all(part and set(part) <= LETTERS for part in parts):
        return None
    return parts[0], parts[1]


def opposite(side: str) -> str:
    """The other side: ``R`` for ``L``."""
    return side.translate(OPPOSITES)


def _towards(direction: tuple[float, ...]) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return TOWARDS[axis][0 if direction[axis] > 0 else 1]
