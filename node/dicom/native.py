"""An uncompressed copy of a stored object, for a peer that does not take it as it is.

References
----------
PS3.5 10.1 (every application takes the default transfer syntax), PS3.3 C.7.6.1.1.5 (lossy compression stays flagged).
"""

import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom import uid as syntaxes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.pixels.utils import decompress
from pydicom.uid import AllTransferSyntaxes, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.dicom.elements import PARSE_FAULTS, number, text
from node.dicom.part10 import FileMeta
from node.dicom.read import read_dataset
from node.dicom.recode import Change, recode
from node.dicom.uid import derive_uid
from node.errors import PixelError

__all__ = ["NATIVE_SYNTAXES", "Copy", "native_copy", "read_encoded"]

NATIVE_SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
DEFLATED = str(syntaxes.DeflatedExplicitVRLittleEndian)
MOST_BYTES = 1 << 29  # of an object and of its decoded pixels: both are in memory at once
LOSSLESS_SYNTAXES = frozenset(  # decoded, they give the pixels that were encoded, bit for bit
    {
        syntaxes.JPEGLossless,
        syntaxes.JPEGLosslessSV1,
        syntaxes.JPEGLSLossless,
        syntaxes.JPEG2000Lossless,
        syntaxes.HTJ2KLossless,
        syntaxes.HTJ2KLosslessRPCL,
        syntaxes.RLELossless,
    }
)


@dataclass(frozen=True, slots=True)
class Copy:
    """An object in another form: who it is now, and its encoded dataset."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: bytes


def native_copy(path: Path, meta: FileMeta, *, to: str) -> Copy:
    """Encode an object anew without compression.

    A copy with the same pixels is the same object and keeps its UID. One of a lossy compressed object may differ from
    another decoder's, so it is a derived object with a UID of its own, always the same one, and says that it was lossy
    compressed.

    Parameters
    ----------
    to
        Explicit or implicit VR little endian.

    Raises
    ------
    PixelError
        If it is too large, or its pixels cannot be decoded, or its transfer syntax is not known.
    UnreadableInstanceError
        If the object cannot be parsed.
    """
    own = meta.transfer_syntax_uid
    if own not in AllTransferSyntaxes or own == ExplicitVRBigEndian:
        raise PixelError(f"{meta.sop_instance_uid}: there is no way from {own} to an uncompressed copy")
    changes: dict[int, Change] = {}
    sop_instance_uid = meta.sop_instance_uid
    if own not in NATIVE_SYNTAXES and own != DEFLATED:
        changes = _decoded(path, meta)
        if own not in LOSSLESS_SYNTAXES:
            sop_instance_uid = derive_uid("native", sop_instance_uid)
            changes |= _flags(path, sop_instance_uid)
    encoded = recode(
        memoryview(read_encoded(path, meta)),
        from_implicit=own == ImplicitVRLittleEndian,
        to_implicit=to == ImplicitVRLittleEndian,
        changes=changes,
    )
    return Copy(meta.sop_class_uid, sop_instance_uid, to, encoded)


def read_encoded(path: Path, meta: FileMeta) -> bytes:
    """The dataset's bytes, inflated if they are deflated.

    Raises
    ------
    PixelError
        If there are more than 512 MB of them.
    """
    size = path.stat().st_size - meta.dataset_offset
    if size <= MOST_BYTES:
        with path.open("rb") as file:
            file.seek(meta.dataset_offset)
            data = file.read()
        if meta.transfer_syntax_uid != DEFLATED:
            return data
        try:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 A.5: RFC 1951, without a head
            data = inflater.decompress(data, MOST_BYTES)
        except zlib.error:
            raise PixelError(f"{meta.sop_instance_uid}: cannot be inflated") from None
        if not inflater.unconsumed_tail:
            return data
    raise PixelError(f"{meta.sop_instance_uid}: has more than {MOST_BYTES} bytes, too many for a copy")


def _decoded(path: Path, meta: FileMeta) -> dict[int, Change]:
    """What is different in an object whose pixels are decoded."""
    ds = read_dataset(path, with_pixels=True)
    size_bytes = _pixel_bytes(ds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            # Not as RGB: that is a calculation of its own, with rounding.
            decompress(ds, as_rgb=False, generate_instance_uid=False)
    except (*PARSE_FAULTS, RuntimeError) as fault:
        raise PixelError(f"{meta.sop_instance_uid}: pixels cannot be decoded ({type(fault).__name__})") from None
    except BaseException as fault:
        # The RLE decoder is Rust; its panics are no Exception and have no importable type.
        if type(fault).__name__ != "PanicException":
            raise
        raise PixelError(f"{meta.sop_instance_uid}: pixels cannot be decoded (the decoder panicked)") from None
    pixels = bytes(ds.PixelData)
    if len(pixels) != size_bytes + size_bytes % 2:
        raise PixelError(f"{meta.sop_instance_uid}: {size_bytes} bytes of pixels were expected, found {len(pixels)}")
    changes: dict[int, Change] = {
        _tag("PixelData"): (b"OB" if ds.BitsAllocated <= 8 else b"OW", pixels),
        _tag("PhotometricInterpretation"): (b"CS", text(ds, "PhotometricInterpretation").encode("ascii")),
        _tag("ExtendedOffsetTable"): None,
        _tag("ExtendedOffsetTableLengths"): None,
    }
    if "PlanarConfiguration" in ds:
        changes[_tag("PlanarConfiguration")] = (b"US", int(ds.PlanarConfiguration).to_bytes(2, "little"))
    return changes


def _pixel_bytes(ds: Dataset) -> int:
    """How many bytes the decoded pixels have, checked before anything is decoded."""
    rows, columns, bits = (int(number(ds, keyword) or 0) for keyword in ("Rows", "Columns", "BitsAllocated"))
    samples, frames = (int(number(ds, keyword) or 1) for keyword in ("SamplesPerPixel", "NumberOfFrames"))
    size = rows * columns * samples * frames * ((bits + 7) // 8)
    if not 0 < size <= MOST_BYTES or min(rows, columns, samples, frames) < 1:
        raise PixelError(f"{text(ds, 'SOPInstanceUID')}: 1 to {MOST_BYTES} bytes of pixels were expected, found {size}")
    return size


def _flags(path: Path, sop_instance_uid: str) -> dict[int, Change]:
    """What a derived object says of itself (PS3.3 C.7.6.1.1.2, C.7.6.1.1.5)."""
    ds = read_dataset(path)
    image_type = ds.get_item("ImageType")
    rest = bytes(image_type.value or b"").split(b"\\")[1:] if image_type is not None else [b"SECONDARY"]
    return {
        _tag("ImageType"): (b"CS", b"\\".join([b"DERIVED", *rest]).rstrip()),
        _tag("SOPInstanceUID"): (b"UI", sop_instance_uid.encode("ascii")),
        _tag("LossyImageCompression"): (b"CS", b"01"),
    }


def _tag(keyword: str) -> int:
    found = tag_for_keyword(keyword)
    if found is None:
        raise LookupError(keyword)
    return int(found)
