"""Reading the outline of a dataset without decoding it: who it is, and whether it is all there.

The receiver must know an object's identifiers and that it was not cut short, at the price of a few
seeks and with no recursion, so that nesting of any depth, wrong lengths and truncation end in one
clear error.  Works on little endian (PS3.5 A.1, A.2, A.4) and explicit big endian (A.3).
"""

import mmap
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.dicom.part10 import dataset_offset
from node.errors import UnreadableInstanceError

__all__ = ["Outline", "Scan", "scan_file"]

UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)  # PS3.5 7.1.2
SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)  # the same clause; others are unknown
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
DEEPEST = 64
LONGEST_VALUE = 1024
KEYWORDS = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "PatientID",
    "AccessionNumber",
)
WANTED = {tag_for_keyword(keyword): keyword for keyword in KEYWORDS}
MOST_MODALITY_BYTES = 16  # PS3.5 6.2, VR CS


@dataclass(frozen=True, slots=True)
class Outline:
    """Identifiers of an object as its dataset says, trimmed; "" where it says nothing.

    `patient_id` and `accession_number` are raw bytes in the object's own character set.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    specific_character_set: bytes
    patient_id: bytes
    accession_number: bytes


def scan_file(path: Path, transfer_syntax_uid: str) -> Outline:
    """Walk the top level of a Part 10 file's dataset from end to end.

    Raises
    ------
    UnreadableInstanceError
        If an element reaches beyond the end, the tags are out of order, or nesting is deeper than 64.
    """
    return Scan(transfer_syntax_uid).finish(path)


class Scan:
    """A walk that can begin while the object is still coming in, when there is nothing else to do."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        """Nothing is looked at yet."""
        self._walker = _Walker(transfer_syntax_uid)

    def begin(self, path: Path) -> None:
        """Walk as far as the file goes now; what is wrong with it is for `finish` to say."""
        with suppress(UnreadableInstanceError, OSError), _in_memory(path) as data:
            self._walker.walk(data)

    def finish(self, path: Path) -> Outline:
        """Walk the rest of a file that is whole; raises as `scan_file` does."""
        with _in_memory(path) as data:
            self._walker.walk(data)
        text = {keyword: self._walker.values.get(keyword, b"") for keyword in KEYWORDS}
        return Outline(
            sop_class_uid=_uid(text["SOPClassUID"]),
            sop_instance_uid=_uid(text["SOPInstanceUID"]),
            study_instance_uid=_uid(text["StudyInstanceUID"]),
            series_instance_uid=_uid(text["SeriesInstanceUID"]),
            modality=_code(text["Modality"]),
            specific_character_set=text["SpecificCharacterSet"],
            patient_id=text["PatientID"].strip(b" \0"),
            accession_number=text["AccessionNumber"].strip(b" \0"),
        )


def _in_memory(path: Path) -> mmap.mmap:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise UnreadableInstanceError("not a DICOM file: it is empty") from error
    finally:
        os.close(file)


def _is_vr(text: bytes) -> bool:
    return text.isalpha() and text.isupper()


def _uid(value: bytes) -> str:
    return value.rstrip(b" \0").decode("ascii", errors="replace")


def _code(value: bytes) -> str:
    """A Code String as it should be, "" if it is not one (PS3.5 6.2, VR CS)."""
    text = value.strip(b" \0")
    is_code = len(text) <= MOST_MODALITY_BYTES and text.replace(b"_", b"").replace(b" ", b"").isalnum()
    return text.decode("ascii").upper() if is_code and text.isascii() else ""


class _Walker:
    """One pass over an encoded dataset; `position` is the start of the first element that is not passed yet."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self.values: dict[str, bytes] = {}
        self.position = 0
        self.previous = -1
        self.is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        order = ">" if transfer_syntax_uid == ExplicitVRBigEndian else "<"
        self.long = struct.Struct(order + "I")
        self.explicit = struct.Struct(order + "HH2sH")
        self.implicit = struct.Struct(order + "HHI")

    def walk(self, data: mmap.mmap) -> None:
        """Pass every element up to the end, and note the wanted ones; after an error, it can go on with more data."""
        self.data, self.end = data, len(data)
        if not self.position:
            start = dataset_offset(data)
            if not self.is_implicit and start < self.end and not _is_vr(self.take(start, 8)[4:6]):
                self.is_implicit = True  # some senders write implicit VR whatever was negotiated; readers take it
            self.position = start
        while self.position < self.end:
            if not self.is_implicit:
                self.pass_plain()
                if self.position == self.end:
                    break
            self.pass_one()

    def pass_one(self) -> None:
        """Pass an element of any kind."""
        tag, length, position, is_implicit = self.element(self.position, is_implicit=self.is_implicit)
        if tag <= self.previous:
            raise UnreadableInstanceError(f"element {tag:08X} at byte {position} is out of order")
        if length == UNDEFINED:
            position = self.skip_undefined(position, is_implicit=is_implicit)
        else:
            if position + length > self.end:
                missing = position + length - self.end
                raise UnreadableInstanceError(f"truncated: element {tag:08X} lacks its last {missing} bytes")
            if tag in WANTED:
                if length > LONGEST_VALUE:
                    raise UnreadableInstanceError(f"{WANTED[tag]} is {length} bytes long")
                self.values[WANTED[tag]] = self.data[position : position + length]
            position += length
        self.position, self.previous = position, tag

    def pass_plain(self) -> None:
        """Pass the elements with a short VR, as most are, up to the first that is anything else or not as it must be.

        Without a call for each element the walk takes a third of the time.
        """
        data, unpack, wanted, short_vrs = self.data, self.explicit.unpack_from, WANTED, SHORT_VRS
        position, previous, end, last = self.position, self.previous, self.end, self.end - 8
        while position <= last:
            group, number, vr, length = unpack(data, position)
            tag = group << 16 | number
            behind = position + 8 + length
            if vr not in short_vrs or tag <= previous or behind > end:
                break
            if tag in wanted:
                if length > LONGEST_VALUE:
                    break
                self.values[wanted[tag]] = data[position + 8 : behind]
            position, previous = behind, tag
        self.position, self.previous = position, previous

    def element(self, position: int, *, is_implicit: bool) -> tuple[int, int, int, bool]:
        """Tag, length, position of the value, and whether a value of undefined length is implicit inside."""
        if position + 8 > self.end:
            raise UnreadableInstanceError(f"truncated: the object ends inside an element at byte {position}")
        length: int
        if is_implicit:
            group, number, length = self.implicit.unpack_from(self.data, position)
            return group << 16 | number, length, position + 8, True
        group, number, vr, length = self.explicit.unpack_from(self.data, position)
        tag = group << 16 | number
        if vr in SHORT_VRS:
            return tag, length, position + 8, False
        if group == 0xFFFE:
            return tag, self.long.unpack_from(self.data, position + 4)[0], position + 8, False
        if vr in LONG_VRS:
            length = self.long.unpack(self.take(position + 8, 4))[0]
            # PS3.5 6.2.2 note 2: UN of undefined length holds implicit VR little endian
            return tag, length, position + 12, vr == b"UN"
        if not _is_vr(vr):
            raise UnreadableInstanceError(f"element {tag:08X} at byte {position} has no VR")
        return tag, length, position + 8, False

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
