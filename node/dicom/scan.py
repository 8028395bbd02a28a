"""Reading the outline of a dataset without decoding it: who it is, and whether it is all there.

The receiver must know an object's identifiers and that it was not cut short, at the price of a few
seeks and with no recursion, so that nesting of any depth, wrong lengths and truncation end in one
clear error.  Works on little endian (PS3.5 A.1, A.2, A.4) and explicit big endian (A.3).
"""

import mmap
import os
import re
import struct
import sys
from array import array
from contextlib import suppress
from dataclasses import dataclass
from operator import lt
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
WANTED = {int(tag_for_keyword(keyword) or 0): keyword for keyword in KEYWORDS}
MOST_MODALITY_BYTES = 16  # PS3.5 6.2, VR CS
LONGEST_IN_RUN = 64
SHORT_VALUE = b"|".join(
    re.escape(length.to_bytes(2, "little")) + b".{%d}" % length for length in range(0, LONGEST_IN_RUN + 1, 2)
)
PLAIN = b".{4}(?:%s)(?:%s)" % (b"|".join(sorted(SHORT_VRS)), SHORT_VALUE)  # explicit VR little endian
RUN = re.compile(b"(?:%s)*+" % PLAIN, re.DOTALL)
ELEMENT = re.compile(PLAIN.replace(b".{4}", b"(.{4})", 1).replace(b"(?:" + SHORT_VALUE, b"(" + SHORT_VALUE), re.DOTALL)


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
    """A walk that can go along with an object while it is still coming in."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        """Nothing is looked at yet."""
        self._walker = _Walker(transfer_syntax_uid)
        self._seen = 0

    def see(self, piece: memoryview) -> None:
        """Look at the next stretch of a dataset as it passes; what is wrong with it is for `finish` to say.

        An element that begins in one stretch and ends in another stays for `finish`, unless it is of no interest.
        """
        start, self._seen = self._seen, self._seen + len(piece)
        if start <= self._walker.position < self._seen:
            with suppress(UnreadableInstanceError, struct.error):
                self._walker.walk(piece, start, may_grow=True)

    def finish(self, path: Path) -> Outline:
        """Walk the rest of a file that is whole; raises as `scan_file` does.

        If every stretch was seen and all of it passed, the file is not even opened.
        """
        if not self._seen or self._walker.position != self._seen:
            self._walker.step_back(self._seen)
            with _in_memory(path) as file, memoryview(file)[dataset_offset(file) :] as data:
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
    """One pass over an encoded dataset; `position` is the start of the first element that is not passed yet.

    What is walked over may end anywhere, and grow until the next walk.
    """

    def __init__(self, transfer_syntax_uid: str) -> None:
        self.values: dict[str, bytes] = {}
        self.position = 0
        self.previous = -1
        self.before = (0, -1)  # position and tag before the last element that `pass_one` passed
        self.may_grow = False
        self.is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        self.has_runs = transfer_syntax_uid != ExplicitVRBigEndian
        order = "<" if self.has_runs else ">"
        self.long = struct.Struct(order + "I")
        self.explicit = struct.Struct(order + "HH2sH")
        self.implicit = struct.Struct(order + "HHI")

    def walk(self, data: memoryview, start: int = 0, *, may_grow: bool = False) -> None:
        """Pass every element of a stretch that begins at `start`, and note the wanted ones.

        After an error, it can go on with more data. If the dataset `may_grow`, a value of no interest may reach beyond
        the end.
        """
        self.data, self.start, self.end, self.may_grow = data, start, len(data), may_grow
        if not self.position and not self.is_implicit and self.end and not _is_vr(self.take(0, 8)[4:6]):
            self.is_implicit = True  # some senders write implicit VR whatever was negotiated; readers take it
        self.position -= start
        try:
            while self.position < self.end:
                if self.has_runs and not self.is_implicit:
                    self.pass_run()
                if self.position < self.end:
                    self.pass_one()
        finally:
            self.position += start

    def step_back(self, end: int) -> None:
        """Go back before a value that was to end behind the `end` of what there is."""
        if self.position > end:
            self.position, self.previous = self.before

    def pass_one(self) -> None:
        """Pass an element of any kind."""
        tag, length, position, is_implicit = self.element(self.position, is_implicit=self.is_implicit)
        if tag <= self.previous:
            raise UnreadableInstanceError(f"element {tag:08X} at byte {position} is out of order")
        if length == UNDEFINED:
            position = self.skip_undefined(position, is_implicit=is_implicit)
        else:
            missing = position + length - self.end
            if missing > 0 and (tag in WANTED or not self.may_grow):
                raise UnreadableInstanceError(f"truncated: element {tag:08X} lacks its last {missing} bytes")
            if tag in WANTED:
                if length > LONGEST_VALUE:
                    raise UnreadableInstanceError(f"{WANTED[tag]} is {length} bytes long")
                self.values[WANTED[tag]] = bytes(self.data[position : position + length])
            position += length
        self.before = (self.start + self.position, self.previous)
        self.position, self.previous = position, tag

    def pass_run(self) -> None:
        """Pass all elements with a short VR and a short value, as most are, up to the first that is not.

        The machine for regular expressions does so in a fifth of the time that a loop takes. A run that is not in
        order is left to `pass_one`, which says where.
        """
        found = RUN.match(self.data, self.position)
        if found is None or found.end() == self.position:
            return
        elements = ELEMENT.findall(self.data, self.position, found.end())
        numbers = array("H", b"".join(head for head, _ in elements))
        if sys.byteorder == "big":
            numbers.byteswap()
        tags = [group << 16 | number for group, number in zip(numbers[::2], numbers[1::2], strict=True)]
        if tags[0] <= self.previous or not all(map(lt, tags, tags[1:])):
            self.has_runs = False
            return
        for tag in WANTED.keys() & set(tags):
            self.values[WANTED[tag]] = elements[tags.index(tag)][1][2:]  # behind the length
        self.position, self.previous = found.end(), tags[-1]

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
        return bytes(self.data[position : position + count])
