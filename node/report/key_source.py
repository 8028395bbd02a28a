"""A key image as it was stored, for a page whose algorithm makes no heat map."""

import structlog

from node.dicom.frames import frames_of
from node.dicom.pixels import display_values, frame_values, slice_values
from node.dicom.read import read_dataset
from node.domain.volume import Heat
from node.errors import DicomError
from node.report.header import Context
from node.report.key_objects import KeyImage

__all__ = ["KeyPicture", "key_picture"]

log = structlog.get_logger(__name__)

KeyPicture = tuple[Heat, tuple[float, float] | None]
"""``float32[row, column]``, 0 to 1 as its display VOI shows it, and (row, column) mm of its grid, None if not real."""


def key_picture(context: Context, image: KeyImage) -> KeyPicture | None:
    """Read a source image as a viewer shows it; None, with a warning, if its pixels cannot be read.

    The page says its findings without a picture too, and an image is no reason to keep them back.
    """
    uid, frame_number = image
    try:
        ds = read_dataset(context.source.instance(uid).path, with_pixels=True)
        frames = frames_of(ds)  # one for all where an old multi-frame object says nothing of each
        frame = frames[frame_number - 1] if frame_number is not None and len(frames) > 1 else frames[0]
        if frame_number is None:
            values = slice_values(ds)
        else:
            values = next(found for _, found in frame_values(ds, {frame_number: frame.rescale}))
        shown = display_values(ds, values)
    except DicomError as error:
        log.warning("key image left out", sop_instance_uid=uid, reason=str(error))
        return None
    row_mm, column_mm = frame.spacing if len(frame.spacing) == 2 else (0.0, 0.0)
    return shown, (row_mm, column_mm) if row_mm > 0 and column_mm > 0 else None
