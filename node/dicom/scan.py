"""Reading the outline of a dataset without decoding it: who it is, and whether it is all there.

The receiver must know an object's identifiers and that it was not cut short, at the price of a few
seeks and with no recursion, so that nesting of any depth, wrong lengths and truncation end in one
clear error.  Works on little endian (PS3.5 A.1, A.2, A.4) and explicit big endian (A.3).
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.dicom.part10 import dataset_offset
from node.errors import UnreadableInstanceError

__all__ = ["Outline", "scan_file"]

UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)  # PS3.5 7.1.2
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
DEEPEST = 64
LONGEST_VALUE = 1024
KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "AccessionNumber")
WANTED = {tag_for_keyword(keyword): keyword for keyword in KEYWORDS}


@dataclass(frozen=True, slots=True)
class Outline:
    """Identifiers of an object as its dataset says, trimmed; "" where it says nothing.

    `patient_id` and `accession_number` are raw bytes in the object's own character set.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: bytes
    accession_number: bytes


def scan_file(path: Path, transfer_syntax_uid: str) -> Outline:
    """Walk the top level of a Part 10 file's dataset from end to end.

    Raises
    ------
    UnreadableInstanceError
        If an element reaches beyond the end, the tags are out of order, or nesting is deeper than 64.
    """
    with path.open("rb") as file:
        start = dataset_offset(file)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            values = _Walker(data, transfer_syntax_uid).walk(start)
    text = {keyword: values.get(keyword, b"") for keyword in KEYWORDS}
    return Outline(
        sop_class_uid=_uid(text["SOPClassUID"]),
        sop_instance_uid=_uid(text["SOPInstanceUID"]),
        study_instance_uid=_uid(text["StudyInstanceUID"]),
        series_instance_uid=_uid(text["SeriesInstanceUID"]),
        patient_id=text["PatientID"].strip(b" \0"),
        accession_number=text["AccessionNumber"].strip(b" \0"),
    )


def _is_vr(text: bytes) -> bool:
    return text.isalpha() and text.isupper()


def _uid(value: bytes) -> str:
    return value.rstrip(b" \0").decode("ascii", errors="replace")


class _Walker:
    """One pass over an encoded dataset; holds only the position and the syntax."""

    def __init__(self, data: mmap.mmap, transfer_syntax_uid: str) -> None:
        self.data = data
        self.end = len(data)
        self.is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
        self.tag = struct.Struct(order + "HH")
        self.short = struct.Struct(order + "H")
        self.long = struct.Struct(order + "I")

    def walk(self, position: int) -> dict[str, bytes]:
        """Values of the wanted top-level elements; every byte up to the end is accounted for."""
        values: dict[str, bytes] = {}
        previous = -1
        if not self.is_implicit and not _is_vr(self.take(position, 8)[4:6]):
            self.is_implicit = True  # some senders write implicit VR whatever was negotiated; readers take it
        while position < self.end:
            tag, length, position, is_implicit = self.element(position, is_implicit=self.is_implicit)
            if tag <= previous:
                raise UnreadableInstanceError(f"element {tag:08X} at byte {position} is out of order")
            previous = tag
            keyword = WANTED.get(tag)
            if length == UNDEFINED:
                position = self.skip_undefined(position, is_implicit=is_implicit)
                continue
            if position + length > self.end:
                missing = position + length - self.end
                raise UnreadableInstanceError(f"truncated: element {tag:08X} lacks its last {missing} bytes")
            if keyword is not None:
                if length > LONGEST_VALUE:
                    raise UnreadableInstanceError(f"{keyword} is {length} bytes long")
                values[keyword] = self.data[position : position + length]
            position += length
        return values

    def element(self, position: int, *, is_implicit: bool) -> tuple[int, int, int, bool]:
        """Tag, length, position of the value, and whether a value of undefined length is implicit inside."""
        head = self.take(position, 8)
        group, number = self.tag.unpack_from(head)
        tag = group << 16 | number
        if is_implicit or group == 0xFFFE:
            return tag, self.long.unpack_from(head, 4)[0], position + 8, is_implicit
        vr = head[4:6]
        if vr in LONG_VRS:
            length = self.long.unpack(self.take(position + 8, 4))[0]
            # PS3.5 6.2.2 note 2: UN of undefined length holds implicit VR little endian
            return tag, length, position + 12, vr == b"UN"
        if not _is_vr(vr):
            raise UnreadableInstanceError(f"element {tag:08X} at byte {position} has no VR")
        return tag, self.short.unpack_from(head, 6)[0], position + 8, False

    def skip_undefined(self, position: int, *, is_implicit: bool) -> int:
        """Position after a sequence or encapsulated value of undefined length, without recursion."""
        # Each open level is "sequence" (items follow) or "item" (elements follow), with its own VR rule.
        levels: list[tuple[bool, bool]] = [(True, is_implicit)]
        while levels:
            if len(levels) > 2 * DEEPEST:
                raise UnreadableInstanceError(f"sequences are nested deeper than {DEEPEST}")
            is_sequence, implicit_here = levels[-1]
            tag, length, position, implicit_inside = self.element(position, is_implicit=implicit_here)
            if tag in (ITEM_END, SEQUENCE_END):
                if (tag == SEQUENCE_END) != is_sequence:
                    raise UnreadableInstanceError(f"delimiter {tag:08X} at byte {position} closes nothing")
                levels.pop()
            elif is_sequence and tag != ITEM:
                raise UnreadableInstanceError(f"element {tag:08X} at byte {position} stands where an item must")
            elif length == UNDEFINED:
                levels.append((not is_sequence, implicit_here if is_sequence else implicit_inside))
            else:
                position += length
                if position > self.end:
                    raise UnreadableInstanceError(
                        f"truncated: {position - self.end} bytes are missing inside {tag:08X}"
                    )
        return position

    def take(self, position: int, count: int) -> bytes:
        """`count` bytes at `position`."""
        if position + count > self.end:
            raise UnreadableInstanceError(f"truncated: the object ends inside an element at byte {position}")
        return self.data[position : position + count]
