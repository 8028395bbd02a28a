"""The file header around a dataset (PS3.10 7.1): where the dataset starts, and a header of our own."""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from node.dicom.uid import is_valid_uid
from node.errors import UnreadableInstanceError

__all__ = ["FileMeta", "dataset_offset", "file_header", "read_file_meta"]

PREAMBLE_BYTES = 128
GROUP_LENGTH = struct.Struct("<HH2sHI")  # (0002,0000) UL 4: bytes that follow in group 0002
LONGEST_HEADER_BYTES = 1 << 20
META_BYTES = 1 << 13  # what is read first; real headers have a few hundred bytes
META_ELEMENT = struct.Struct("<HH2sH")  # PS3.10 7.1: always explicit VR little endian
META_LENGTH = struct.Struct("<I")
LONG_META_VRS = (b"OB", b"OW", b"SQ", b"UN", b"UT")  # PS3.5 7.1.2
SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the header of a Part 10 file says of its dataset, and where the dataset starts."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int


class Readable(Protocol):
    """A file, or a file in memory."""

    def seek(self, offset: int, /) -> object:
        """Go to a byte."""
        ...

    def read(self, count: int, /) -> bytes:
        """Bytes from there."""
        ...


def dataset_offset(file: Readable) -> int:
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


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Read the header by walking its elements; a group length that is wrong or missing does not matter.

    Raises
    ------
    UnreadableInstanceError
        If the prefix is missing, the header is cut short, or it lacks SOP class, SOP instance or transfer syntax.
    """
    file.seek(0)
    start = file.read(META_BYTES)
    if start[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != b"DICM":
        raise UnreadableInstanceError("not a DICOM file: the prefix DICM was expected at byte 128")
    try:
        values, offset = _walk_meta(start, is_whole=len(start) < META_BYTES)
    except struct.error:
        values, offset = _walk_whole_meta(start + file.read(LONGEST_HEADER_BYTES))
    sop_class, sop_instance, transfer_syntax = (
        _uid(values.get(element, b"")) for element in (SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX)
    )
    if not (sop_class and sop_instance and transfer_syntax):
        raise UnreadableInstanceError("the File Meta Information lacks SOP class, SOP instance or transfer syntax")
    return FileMeta(sop_class, sop_instance, transfer_syntax, offset)


def _walk_whole_meta(data: bytes) -> tuple[dict[int, bytes], int]:
    try:
        return _walk_meta(data, is_whole=True)
    except struct.error:
        raise UnreadableInstanceError("the File Meta Information is cut short") from None


def _walk_meta(data: bytes, *, is_whole: bool) -> tuple[dict[int, bytes], int]:
    """Values of group 0002 and the position after it; struct.error if `data` ends before that is sure."""
    values: dict[int, bytes] = {}
    position = PREAMBLE_BYTES + 4
    while position < len(data):
        group, element, vr, length = META_ELEMENT.unpack_from(data, position)
        if group != 2:
            return values, position
        position += META_ELEMENT.size
        if vr in LONG_META_VRS:
            (length,) = META_LENGTH.unpack_from(data, position)
            position += META_LENGTH.size
        if position + length > len(data):
            raise struct.error
        values[element] = data[position : position + length]
        position += length
    if not is_whole:
        raise struct.error  # the header may go on beyond what was read
    return values, position


def _uid(value: bytes) -> str:
    text = value.rstrip(b" \0").decode("ascii", errors="replace")
    return text if is_valid_uid(text) else ""


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
