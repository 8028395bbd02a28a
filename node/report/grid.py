"""Source images as the grid that masks and maps are drawn on: their place in the patient and nothing else."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.elements import number, numbers, text
from node.dicom.frames import frames_of
from node.errors import ReportError
from node.report.header import Context

__all__ = ["identify_sources", "placed"]

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
GEOMETRY_SIZES = (3, 6, 2)
OF_THE_PATIENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet",
)  # fmt: skip

T = TypeVar("T", bound=np.generic)


def placed(
    context: Context,
    sop_instance_uids: Sequence[str],
    frame_numbers: Sequence[int | None],
    planes: npt.NDArray[T],
) -> tuple[list[Dataset], npt.NDArray[T], str]:
    """Find the images that planes are drawn on.

    Parameters
    ----------
    planes
        ``[slice, row, column]``, one for each of `sop_instance_uids`; `frame_numbers` may be empty.

    Returns
    -------
    Thin images; the planes with one for each of their frames, zero where nothing was drawn; and why the planes
    cannot be placed in the patient, or "". Planes of images without a Frame of Reference cannot (PS3.3 A.51), nor
    those of several enhanced images or of one whose frames are not all alike.

    Raises
    ------
    ReportError
        If planes and images do not match, or an image is not part of the study.
    """
    frames = [frame for frame in frame_numbers if frame is not None]
    if not frames:
        sources = [_thin(context, uid) for uid in sop_instance_uids]
        _check(planes, sources)
        return sources, planes, _why_not(sources)
    if len(set(sop_instance_uids)) > 1 or len(set(frames)) != len(planes):
        return [], planes, "its slices are frames of several enhanced images"
    ds, count, is_alike = _thin_enhanced(context, sop_instance_uids[0])
    if planes.shape[1:] != (ds.Rows, ds.Columns) or not set(frames) <= set(range(1, count + 1)):
        raise ReportError(f"a plane does not fit the frames of image {sop_instance_uids[0]}")
    if not is_alike:
        return [], planes, "the frames of the enhanced image differ in orientation or spacing"
    whole = np.zeros((count, *planes.shape[1:]), planes.dtype)
    whole[np.array(frames) - 1] = planes
    return [ds], whole, _why_not([ds])


def identify_sources(sources: Sequence[Dataset], header: Dataset) -> None:
    """Put patient and study of a result's header, in Unicode, onto thin images: what is drawn on them copies it."""
    for ds in sources:
        for keyword in OF_THE_PATIENT:
            ds[keyword] = header[keyword]


def _why_not(sources: Sequence[Dataset]) -> str:
    is_placed = all(text(ds, "FrameOfReferenceUID") for ds in sources)
    return "" if is_placed else "the images have no Frame of Reference UID"


def _thin(context: Context, sop_instance_uid: str) -> Dataset:
    """Only what a plane needs of a slice, whatever its transfer syntax was."""
    raw = context.source.raw_image(sop_instance_uid)
    ds = _identified(raw)
    if not text(ds, "FrameOfReferenceUID"):
        return ds
    for keyword, size in zip(GEOMETRY, GEOMETRY_SIZES, strict=True):
        found = numbers(raw, keyword)
        if len(found) != size:
            raise ReportError(f"image {sop_instance_uid} needs {size} numbers in {keyword} to carry a mask")
        setattr(ds, keyword, list(found))
    ds.SliceThickness = number(raw, "SliceThickness")
    return ds


def _thin_enhanced(context: Context, sop_instance_uid: str) -> tuple[Dataset, int, bool]:
    """An enhanced image with its planes and nothing else, how many frames it has, and whether they are alike."""
    raw = context.source.raw_image(sop_instance_uid)
    frames = frames_of(raw)
    first = frames[0]
    is_alike = all(frame.orientation == first.orientation and frame.spacing == first.spacing for frame in frames)
    is_placed = len(first.orientation) == 6 and len(first.spacing) == 2
    if not is_placed or any(len(frame.position) != 3 for frame in frames):
        raise ReportError(f"image {sop_instance_uid} needs a place for each frame to carry a mask")
    ds = _identified(raw)
    ds.NumberOfFrames = len(frames)
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(first.spacing), first.thickness_mm
    orientation.ImageOrientationPatient = list(first.orientation)
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [_plane(frame.position) for frame in frames]
    return ds, len(frames), is_alike


def _plane(position: tuple[float, ...]) -> Dataset:
    place, group = Dataset(), Dataset()
    place.ImagePositionPatient = list(position)
    group.PlanePositionSequence = [place]
    return group


def _identified(raw: Dataset) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, keyword, text(raw, keyword))
    ds.Modality = text(raw, "Modality")
    ds.PositionReferenceIndicator = ""
    ds.Rows, ds.Columns = (int(number(raw, keyword) or 0) for keyword in ("Rows", "Columns"))
    if text(raw, "LossyImageCompression") == "01":
        ds.LossyImageCompression = "01"
    return ds


def _check(planes: npt.NDArray[T], sources: Sequence[Dataset]) -> None:
    shape = planes.shape
    if len(shape) != 3 or shape[0] != len(sources) or any(shape[1:] != (ds.Rows, ds.Columns) for ds in sources):
        found = " x ".join(map(str, shape))
        raise ReportError(f"a mask of {found} (slices, rows, columns) does not fit its {len(sources)} images")
