"""Frames of an image, classic or enhanced multi-frame, each with its place in the patient (PS3.3 C.7.6.16).

What a classic image says once at its top level, an enhanced one says in functional groups: shared by all frames
or for each frame. The order of frames means nothing; the place of each is its own.
"""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from node.dicom.elements import items, number, numbers, text, texts
from node.errors import GeometryError

__all__ = ["Frame", "frames_of", "is_localizer"]

FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame with what is said of its place; empty where nothing is.

    Parameters
    ----------
    number
        Counted from 1; None for the only frame of a classic image.
    rescale
        What holds Rescale Slope, Intercept and Type.
    stack_id
        The stack it belongs to; a stack is a group of frames that lie beside each other.
    temporal_position
        Which of several volumes in time.
    """

    number: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    rescale: Dataset
    thickness_mm: float | None = None
    stack_id: str = ""
    temporal_position: float | None = None
    is_localizer: bool = False


def is_localizer(ds: Dataset, keyword: str = "ImageType") -> bool:
    """True if value 3 of Image Type (or Frame Type) says so (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1, C.8.16.1.3)."""
    return "LOCALIZER" in texts(ds, keyword)[2:]


def frames_of(ds: Dataset) -> tuple[Frame, ...]:
    """Every frame of an image, in the order of its pixels; of a classic image the one it has.

    Raises
    ------
    GeometryError
        If there is not one item of functional groups for each frame.
    UnreadableInstanceError
        If a sequence cannot be parsed.
    """
    if PER_FRAME not in ds:
        position, orientation = numbers(ds, "ImagePositionPatient"), numbers(ds, "ImageOrientationPatient")
        spacing = numbers(ds, "PixelSpacing")
        return (Frame(None, position, orientation, spacing, ds, number(ds, "SliceThickness")),)
    shared = next(iter(items(ds, SHARED)), Dataset())
    groups = items(ds, PER_FRAME)
    count = int(number(ds, "NumberOfFrames") or 1)
    if len(groups) != count:
        uid = text(ds, "SOPInstanceUID")
        raise GeometryError(f"{uid}: expected functional groups for {count} frames, found {len(groups)}")
    of_all = _Macros(shared)
    return tuple(_frame(index, _Macros(group), of_all) for index, group in enumerate(groups, start=1))


class _Macros:
    """The functional group macros of one item, each parsed when it is asked for, and once."""

    def __init__(self, group: Dataset) -> None:
        self._group = group
        self._found: dict[str, Dataset | None] = {}

    def get(self, keyword: str) -> Dataset | None:
        if keyword not in self._found:
            self._found[keyword] = next(iter(items(self._group, keyword)), None)
        return self._found[keyword]


def _frame(index: int, own: _Macros, of_all: _Macros) -> Frame:
    def macro(keyword: str) -> Dataset:
        return own.get(keyword) or of_all.get(keyword) or Dataset()  # PS3.3 C.7.6.16.1.1: in one place or the other

    content, measures = macro("FrameContentSequence"), macro("PixelMeasuresSequence")
    return Frame(
        number=index,
        position=numbers(macro("PlanePositionSequence"), "ImagePositionPatient"),
        orientation=numbers(macro("PlaneOrientationSequence"), "ImageOrientationPatient"),
        spacing=numbers(measures, "PixelSpacing"),
        rescale=macro("PixelValueTransformationSequence"),
        thickness_mm=number(measures, "SliceThickness"),
        stack_id=text(content, "StackID"),
        temporal_position=number(content, "TemporalPositionIndex"),
        is_localizer=any(is_localizer(macro(keyword), "FrameType") for keyword in FRAME_TYPES),
    )
