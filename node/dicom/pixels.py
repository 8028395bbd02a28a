"""Pixels as numbers, and as a viewer would show them.

The order is that of PS3.4 N.2: stored values, Modality LUT, VOI, Presentation LUT shape. Compressed
pixels are decoded by pydicom with the pylibjpeg decoders; that happens in a child process, because a
decoder may crash on a hostile object.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels, pixel_array

from node.dicom.elements import PARSE_FAULTS, items, number, numbers, text
from node.dicom.read import read_dataset
from node.domain.study import Instance
from node.domain.volume import Image, Mask, Pixels
from node.errors import PixelError

__all__ = ["SHOWN_PERCENTILES", "display_values", "frame_values", "read_image", "slice_values"]

MOST_PIXELS = 256 * 1024 * 1024
REAL_SPACING_MM = (0.01, 10.0)  # finest mammography detectors are at 0.05 mm
CALIBRATED = {"GEOMETRY", "FIDUCIAL"}  # PS3.3 10.7.1.1 Pixel Spacing Calibration Type
SHOWN_PERCENTILES = (1.0, 99.0)


def read_image(instance: Instance) -> Image:
    """Read a projection radiograph, as numbers and as a viewer shows it.

    Spacing is given only where millimetres in the patient may be read off:

    - Pixel Spacing that was calibrated, or differs from Imager Pixel Spacing, or stands alone;
    - else Imager Pixel Spacing divided by the Estimated Radiographic Magnification Factor.

    Imager Pixel Spacing without a magnification factor, or a Pixel Spacing that repeats it, is the
    detector plane: a nodule measured with it is 5 to 20 % too large, so it counts as none.

    Raises
    ------
    PixelError
        See `slice_values`.
    UnreadableInstanceError
        If the file cannot be parsed.

    References
    ----------
    PS3.3 10.7.1.3, C.8.11.3.1.2 (MONOCHROME1), Presentation LUT Shape C.11.6.
    """
    ds = read_dataset(instance.path, with_pixels=True)
    modality_values = slice_values(ds)
    array = modality_values
    if _is_inverse(ds):
        array = modality_values.max() + modality_values.min() - modality_values
    return Image(array, display_values(ds, modality_values), _spacing_mm(ds), instance.sop_instance_uid)


def slice_values(ds: Dataset) -> Pixels:
    """Decode one frame and apply its Modality LUT.

    Returns
    -------
    ``float32[row, column]`` in the unit of the Modality LUT (HU for CT). MONOCHROME1 is not inverted
    here. Pixels that hold the Pixel Padding Value get the value that is shown blackest among the
    real ones: air in CT, the collimated border in a radiograph.

    Raises
    ------
    PixelError
        If there is not exactly one grey frame of at most 256 Mpixel, or it cannot be decoded, or
        the decoder returned another size than the header says.
    """
    shape = _checked_shape(ds)
    with _decoding(ds):
        decoded = pixel_array(ds, raw=True, correct_unused_bits=False)
    return _values(ds, decoded, shape, ds)


def frame_values(ds: Dataset, rescales: Mapping[int, Dataset]) -> Iterator[tuple[int, Pixels]]:
    """Decode frames of an enhanced image, one after the other, and apply the Modality LUT of each.

    Parameters
    ----------
    rescales
        The frames that are wanted, counted from 1, each with the item that holds its Rescale Slope and Intercept.

    Returns
    -------
    Frame numbers in the order of the file, each with values as `slice_values` gives them.

    Raises
    ------
    PixelError
        See `slice_values`; the limit of pixels is for one frame.
    """
    shape = _checked_shape(ds, is_multi_frame=True)
    count = max(rescales, default=0)
    with _decoding(ds):
        frames = iter(iter_pixels(ds, raw=True, correct_unused_bits=False))
    for frame in range(1, count + 1):
        with _decoding(ds):
            decoded = next(frames, None)
        if decoded is None:
            raise PixelError(f"{_name(ds)}: {count} frames were expected, the decoder returned {frame - 1}")
        if frame in rescales:
            yield frame, _values(ds, decoded, shape, rescales[frame])


def _values(ds: Dataset, decoded: npt.NDArray[np.integer], shape: tuple[int, int], rescale: Dataset) -> Pixels:
    if decoded.shape != shape:
        raise PixelError(f"{_name(ds)}: {shape} pixels were expected, the decoder returned {decoded.shape}")
    if decoded.dtype.kind not in "iu":
        raise PixelError(f"{_name(ds)}: whole numbers were expected as stored values, found {decoded.dtype}")
    padding = _padding(ds, decoded)
    values = _modality_values(ds, _stored_values(ds, decoded), rescale)
    if not np.isfinite(values).all():
        raise PixelError(f"{_name(ds)}: the Modality LUT gives values that are not finite")
    if padding is not None and padding.any() and not padding.all():
        real = values[~padding]
        values[padding] = real.max() if _is_inverse(ds) else real.min()
    return values


def display_values(ds: Dataset, values: Pixels) -> Pixels:
    """Show one frame as a viewer would: 0 is black, 1 is white.

    The VOI LUT Sequence is used if there is one, else the first Window Center and Width, else the
    1st to the 99th percentile of the values.

    Parameters
    ----------
    values
        As `slice_values` returned.

    References
    ----------
    PS3.3 C.11.2 (VOI LUT), C.11.2.1.2 (LINEAR, LINEAR_EXACT), C.11.2.1.3 (SIGMOID), C.11.6.
    """
    shown = _voi_lut(ds, values)
    if shown is None:
        shown = _window(ds, values)
    if shown is None:
        low, high = np.percentile(values, SHOWN_PERCENTILES)
        shown = (values - low) / max(float(high - low), np.finfo(np.float32).eps)
    shown = np.clip(shown, 0.0, 1.0).astype(np.float32)
    return 1.0 - shown if _is_inverse(ds) else shown


def _checked_shape(ds: Dataset, *, is_multi_frame: bool = False) -> tuple[int, int]:
    """Rows and columns, checked before anything is decoded."""
    rows, columns = int(number(ds, "Rows") or 0), int(number(ds, "Columns") or 0)
    frames = number(ds, "NumberOfFrames")
    frame_count = 1 if frames is None or is_multi_frame else int(frames)
    if rows <= 0 or columns <= 0 or rows * columns * max(frame_count, 1) > MOST_PIXELS:
        raise PixelError(f"{_name(ds)}: 1 to {MOST_PIXELS} pixels were expected, found {frame_count}x{rows}x{columns}")
    samples = int(number(ds, "SamplesPerPixel") or 1)
    if frame_count != 1 or samples != 1:
        raise PixelError(f"{_name(ds)}: one grey frame was expected, found {frame_count} of {samples} samples")
    if "PixelData" not in ds:
        raise PixelError(f"{_name(ds)}: Pixel Data is missing")
    return rows, columns


@contextmanager
def _decoding(ds: Dataset) -> Iterator[None]:
    """Turn every way in which a decoder fails into a `PixelError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # excess padding and the like; the shape is checked by the caller
            yield
    except (*PARSE_FAULTS, RuntimeError) as fault:
        raise PixelError(f"{_name(ds)}: pixels cannot be decoded ({type(fault).__name__})") from None
    except BaseException as fault:
        # The RLE decoder is Rust; its panics are no Exception and have no importable type.
        if type(fault).__name__ != "PanicException":
            raise
        raise PixelError(f"{_name(ds)}: pixels cannot be decoded (the decoder panicked)") from None


def _stored_values(ds: Dataset, decoded: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Take the stored bits out of the allocated ones, and spread the sign bit (PS3.5 8.1.1)."""
    bits = int(number(ds, "BitsStored") or 0)
    allocated = 8 * decoded.dtype.itemsize
    stored = decoded.astype(np.int64)
    if not 0 < bits < allocated:
        return stored
    high_bit = number(ds, "HighBit")
    is_native = not ds.file_meta.TransferSyntaxUID.is_compressed
    if is_native and high_bit is not None and bits - 1 < high_bit < allocated:
        stored >>= int(high_bit) + 1 - bits
    stored &= (1 << bits) - 1
    if number(ds, "PixelRepresentation") == 1:
        stored -= (stored >> (bits - 1)) << bits
    return stored


def _padding(ds: Dataset, decoded: npt.NDArray[np.integer]) -> Mask | None:
    """Pixels that hold no image (PS3.3 C.7.5.1.1.2), compared bit by bit: senders get the sign wrong."""
    padding_value, limit = number(ds, "PixelPaddingValue"), number(ds, "PixelPaddingRangeLimit")
    if padding_value is None:
        return None
    mask = (1 << 8 * decoded.dtype.itemsize) - 1
    if limit is None or limit == padding_value:
        return np.asarray((decoded.astype(np.int64) & mask) == (int(padding_value) & mask), dtype=np.bool_)
    low, high = sorted((int(padding_value), int(limit)))
    return np.asarray((decoded >= low) & (decoded <= high), dtype=np.bool_)


def _modality_values(ds: Dataset, stored: npt.NDArray[np.int64], rescale: Dataset) -> Pixels:
    tables = items(rescale, "ModalityLUTSequence")
    if tables:
        first, table, _ = _table(tables[0], is_signed=number(ds, "PixelRepresentation") == 1)
        return table[np.clip(stored - first, 0, len(table) - 1)]
    slope, intercept = number(rescale, "RescaleSlope"), number(rescale, "RescaleIntercept")
    if slope == 0:
        raise PixelError(f"{_name(ds)}: Rescale Slope is 0")
    with np.errstate(over="ignore"):  # what is not finite is refused by the caller
        scaled = stored * (1.0 if slope is None else slope) + (intercept or 0.0)
        return np.asarray(scaled, dtype=np.float32)


def _table(item: Dataset, *, is_signed: bool) -> tuple[int, Pixels, int]:
    """First value mapped, the table, and the bits of its entries (PS3.3 C.11.1.1)."""
    descriptor = numbers(item, "LUTDescriptor")
    if len(descriptor) != 3 or "LUTData" not in item:
        raise PixelError("a LUT has no three-valued LUT Descriptor or no LUT Data")
    length, first, bits = (int(value) & 0xFFFF for value in descriptor)
    length = length or 0x10000
    first -= 0x10000 if is_signed and first >= 0x8000 else 0
    raw = item.get_item("LUTData", keep_deferred=True)
    if isinstance(raw.value, bytes):
        order = ">" if getattr(raw, "is_little_endian", True) is False else "<"
        is_packed = len(raw.value) in {length, length + 1} and length > 1
        table = np.frombuffer(raw.value[: len(raw.value) // 2 * 2], dtype="u1" if is_packed else f"{order}u2")
    else:
        table = np.asarray(numbers(item, "LUTData"))
    if len(table) < length:
        raise PixelError(f"a LUT of {length} entries was expected, found {len(table)}")
    return first, table[:length].astype(np.float32), bits


def _voi_lut(ds: Dataset, values: Pixels) -> Pixels | None:
    tables = items(ds, "VOILUTSequence")
    if not tables:
        return None
    is_signed = number(ds, "PixelRepresentation") == 1 or bool(values.min() < 0)
    first, table, bits = _table(tables[0], is_signed=is_signed)
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
    highest = float((1 << bits) - 1) if 8 <= bits <= 16 else float(table.max())
    return table[index] / max(highest, float(table.max()), 1.0)


def _window(ds: Dataset, values: Pixels) -> Pixels | None:
    center, width = number(ds, "WindowCenter"), number(ds, "WindowWidth")
    function = text(ds, "VOILUTFunction").strip() or "LINEAR"
    if center is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)), dtype=np.float32)
    if function == "LINEAR_EXACT":
        return np.asarray((values - center) / width + 0.5, dtype=np.float32)
    if width == 1:
        return (values > center - 0.5).astype(np.float32)
    return np.asarray((values - (center - 0.5)) / (width - 1.0) + 0.5, dtype=np.float32)


def _is_inverse(ds: Dataset) -> bool:
    """True if the lowest value is shown white; a radiograph says it once or twice, never to undo it."""
    return (
        text(ds, "PhotometricInterpretation").strip() == "MONOCHROME1"
        or text(ds, "PresentationLUTShape").strip() == "INVERSE"
    )


def _spacing_mm(ds: Dataset) -> tuple[float, float] | None:
    pixel, imager = _real_pair(ds, "PixelSpacing"), _real_pair(ds, "ImagerPixelSpacing")
    is_calibrated = text(ds, "PixelSpacingCalibrationType").strip() in CALIBRATED
    if pixel is not None and (is_calibrated or pixel != imager):
        return pixel
    factor = number(ds, "EstimatedRadiographicMagnificationFactor")
    if imager is None or factor is None or factor < 1.0:
        return None
    return imager[0] / factor, imager[1] / factor


def _real_pair(ds: Dataset, keyword: str) -> tuple[float, float] | None:
    found = numbers(ds, keyword)
    if len(found) != 2 or not all(REAL_SPACING_MM[0] <= value <= REAL_SPACING_MM[1] for value in found):
        return None
    return found[0], found[1]


def _name(ds: Dataset) -> str:
    return text(ds, "SOPInstanceUID")
