"""The file header around a dataset (PS3.10 7.1): where the dataset starts, and a header of our own."""

import struct
from typing import BinaryIO

from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from node.errors import UnreadableInstanceError

__all__ = ["dataset_offset", "file_header"]

PREAMBLE_BYTES = 128
GROUP_LENGTH = struct.Struct("<HH2sHI")  # (0002,0000) UL 4: bytes that follow in group 0002
LONGEST_HEADER_BYTES = 1 << 20


def dataset_offset(file: BinaryIO) -> int:
    """Position of the first byte of the dataset in a Part 10 file.

    Raises
    ------
    UnreadableInstanceError
        If the preamble, the prefix or the group length is missing.
    """
    file.seek(0)
    start = file.read(PREAMBLE_BYTES + 4 + GROUP_LENGTH.size)
    if len(start) < PREAMBLE_BYTES + 4 + GROUP_LENGTH.size or start[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != b"DICM":
        raise UnreadableInstanceError("not a DICOM file: the prefix DICM was expected at byte 128")
    group, element, vr, length, rest = GROUP_LENGTH.unpack_from(start, PREAMBLE_BYTES + 4)
    if (group, element, vr, length) != (2, 0, b"UL", 4) or rest > LONGEST_HEADER_BYTES:
        raise UnreadableInstanceError("not a DICOM file: File Meta Information Group Length was expected")
    return len(start) + int(rest)


def file_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta information for a dataset as it came over the wire."""
    body = _element(0x01, b"OB", b"\x00\x01")
    for element, text in (
        (0x02, sop_class_uid),
        (0x03, sop_instance_uid),
        (0x10, transfer_syntax_uid),
        (0x12, PYDICOM_IMPLEMENTATION_UID),
    ):
        body += _element(element, b"UI", text.encode("ascii") + b"\0" * (len(text) % 2))
    return b"\0" * PREAMBLE_BYTES + b"DICM" + GROUP_LENGTH.pack(2, 0, b"UL", 4, len(body)) + body


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        return struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
