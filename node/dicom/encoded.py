"""A small dataset as bytes and back, for messages that carry no stored object: queries and reports."""

import warnings
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ImplicitVRLittleEndian

from node.dicom.elements import PARSE_FAULTS
from node.errors import UnreadableInstanceError

__all__ = ["decode_dataset", "encode_dataset"]


def encode_dataset(ds: Dataset, transfer_syntax_uid: str) -> bytes:
    """The bytes of a dataset in explicit or implicit VR little endian."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, transfer_syntax_uid == ImplicitVRLittleEndian
    write_dataset(file, ds)
    return bytes(file.getvalue())


def decode_dataset(data: bytes, transfer_syntax_uid: str) -> Dataset:
    """A dataset of a peer, its values still raw: read them with `node.dicom.elements`.

    Raises
    ------
    UnreadableInstanceError
        If it cannot be parsed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
            return read_dataset(BytesIO(data), is_implicit, is_little_endian=True)
    except PARSE_FAULTS as fault:
        raise UnreadableInstanceError(f"a dataset of a peer cannot be parsed ({type(fault).__name__})") from None
