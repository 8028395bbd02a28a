"""The same dataset in another encoding, value for value.

Only what surrounds the values changes: the VRs are written or left out, and sequences get undefined lengths. The
bytes of every value stay as they are, whatever character set or fault is in them. Works between explicit and implicit
VR little endian.

References
----------
PS3.5 7.1 (elements), 7.5 (sequences), A.1 and A.2.
"""

import struct
from collections.abc import Mapping

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from node.errors import UnreadableInstanceError

__all__ = ["Change", "recode"]

Change = tuple[bytes, bytes] | None
"""VR and value of an element that takes another's place, or None to leave it out."""

UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
LONGEST_SHORT = 0xFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
BITS_ALLOCATED, PIXEL_REPRESENTATION, PIXEL_DATA = 0x00280100, 0x00280103, 0x7FE00010
DEEPEST = 64
IMPLICIT = struct.Struct("<HHI")
EXPLICIT = struct.Struct("<HH2sH")
EXPLICIT_LONG = struct.Struct("<HH2sxxI")
SHORT = struct.Struct("<H")
LONG = struct.Struct("<I")


def recode(
    data: memoryview, *, from_implicit: bool, to_implicit: bool, changes: Mapping[int, Change] | None = None
) -> bytes:
    """Encode a dataset again.

    Parameters
    ----------
    data
        A whole dataset in implicit or explicit VR little endian; Pixel Data may be encapsulated if it is changed.
    changes
        What is different at the top level, by tag.

    Raises
    ------
    UnreadableInstanceError
        If an element reaches beyond the end or is not where it may be, or nesting is deeper than 64.
    """
    recoder = _Recoder(data, to_implicit=to_implicit)
    try:
        recoder.dataset(0, len(data), is_implicit=from_implicit, depth=0, changes=changes or {})
    except struct.error:
        raise UnreadableInstanceError("truncated: the dataset ends inside an element") from None
    return b"".join(recoder.parts)


class _Recoder:
    """One pass over a dataset; `parts` is the new encoding so far."""

    def __init__(self, data: memoryview, *, to_implicit: bool) -> None:
        self.data = data
        self.to_implicit = to_implicit
        self.parts: list[bytes | memoryview] = []
        self.bits_allocated = 16
        self.is_signed = False

    def dataset(
        self,
        position: int,
        end: int,
        *,
        is_implicit: bool,
        depth: int,
        changes: Mapping[int, Change],
        is_item: bool = False,
    ) -> int:
        """Elements up to `end`, or up to the end of an item of undefined length; the position after them."""
        if depth > DEEPEST:
            raise UnreadableInstanceError(f"sequences are nested deeper than {DEEPEST}")
        waiting = sorted(changes)
        while position < end:
            tag, vr, length, start = self.head(position, is_implicit=is_implicit)
            if tag == ITEM_END and is_item:
                return start
            if tag >> 16 == 0xFFFE:
                raise UnreadableInstanceError(f"delimiter {tag:08X} at byte {position} closes nothing")
            while waiting and waiting[0] < tag:
                self.change(waiting[0], changes[waiting.pop(0)])
            is_mine = tag not in changes and tag & 0xFFFF != 0  # group lengths would be wrong now (PS3.5 7.2)
            position = self.element(tag, vr, length, start, end, is_implicit=is_implicit, depth=depth, is_kept=is_mine)
        for tag in waiting:
            self.change(tag, changes[tag])
        if is_item:
            raise UnreadableInstanceError("truncated: an item has no end")
        return position

    def element(
        self, tag: int, vr: bytes, length: int, start: int, end: int, *, is_implicit: bool, depth: int, is_kept: bool
    ) -> int:
        """Write one element, unless it is left out; the position after it."""
        if length == UNDEFINED or vr == b"SQ":
            if tag == PIXEL_DATA:
                if is_kept:
                    raise UnreadableInstanceError("Pixel Data of undefined length in an uncompressed transfer syntax")
                return self.skip_fragments(start)
            mark, kept = len(self.parts), (self.bits_allocated, self.is_signed)
            # PS3.5 6.2.2 note 2: UN of undefined length holds implicit VR little endian
            inside = is_implicit or vr == b"UN"
            self.parts.append(self.encode_head(tag, b"SQ", UNDEFINED))
            position = self.sequence(start, length, end, is_implicit=inside, depth=depth + 1)
            self.parts.append(IMPLICIT.pack(SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0))
            self.bits_allocated, self.is_signed = kept
            if not is_kept:
                del self.parts[mark:]
            return position
        if start + length > end:
            raise UnreadableInstanceError(f"truncated: element {tag:08X} lacks its last {start + length - end} bytes")
        value = self.data[start : start + length]
        if length == SHORT.size and tag in (BITS_ALLOCATED, PIXEL_REPRESENTATION):
            (found,) = SHORT.unpack(value)
            self.bits_allocated = found if tag == BITS_ALLOCATED else self.bits_allocated
            self.is_signed = found == 1 if tag == PIXEL_REPRESENTATION else self.is_signed
        if is_kept:
            self.parts += (self.encode_head(tag, vr or self.vr_of(tag, length), length), value)
        return start + length

    def sequence(self, position: int, length: int, end: int, *, is_implicit: bool, depth: int) -> int:
        """Items, each rewritten with undefined length."""
        is_open = length == UNDEFINED
        stop = end if is_open else position + length
        if stop > end:
            raise UnreadableInstanceError("truncated: a sequence reaches beyond its end")
        while position < stop:
            tag, _, item_length, start = self.head(position, is_implicit=is_implicit)
            if tag == SEQUENCE_END and is_open:
                return start
            is_item_open = item_length == UNDEFINED
            item_end = stop if is_item_open else start + item_length
            if tag != ITEM or item_end > stop:
                raise UnreadableInstanceError(f"element {tag:08X} at byte {position} stands where an item must")
            self.parts.append(IMPLICIT.pack(ITEM >> 16, ITEM & 0xFFFF, UNDEFINED))
            position = self.dataset(
                start, item_end, is_implicit=is_implicit, depth=depth, changes={}, is_item=is_item_open
            )
            self.parts.append(IMPLICIT.pack(ITEM_END >> 16, ITEM_END & 0xFFFF, 0))
        if is_open:
            raise UnreadableInstanceError("truncated: a sequence has no end")
        return position

    def skip_fragments(self, position: int) -> int:
        """Pass over encapsulated Pixel Data (PS3.5 A.4)."""
        while True:
            tag, _, length, start = self.head(position, is_implicit=True)
            if tag == SEQUENCE_END:
                return start
            if tag != ITEM or length == UNDEFINED:
                raise UnreadableInstanceError(f"element {tag:08X} at byte {position} stands where a fragment must")
            position = start + length

    def head(self, position: int, *, is_implicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR, length and where the value starts; no VR if the encoding says none and it is not a sequence."""
        group, number, length = IMPLICIT.unpack_from(self.data, position)
        tag = group << 16 | number
        if group == 0xFFFE:
            return tag, b"", length, position + 8
        if is_implicit:
            is_sequence = dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
            return tag, b"SQ" if is_sequence else b"", length, position + 8
        _, _, vr, short = EXPLICIT.unpack_from(self.data, position)
        if vr in LONG_VRS:
            return tag, vr, int(LONG.unpack_from(self.data, position + 8)[0]), position + 12
        if not (vr.isalpha() and vr.isupper()):
            raise UnreadableInstanceError(f"element {tag:08X} at byte {position} has no VR")
        return tag, vr, short, position + 8

    def vr_of(self, tag: int, length: int) -> bytes:
        """The VR to write where the source says none."""
        if tag >> 16 & 1:
            return b"LO" if 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"  # PS3.5 7.8.1: private creators
        vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
        if vr == "OB or OW":
            return b"OB" if tag == PIXEL_DATA and self.bits_allocated <= 8 else b"OW"  # PS3.5 A.2
        if vr == "US or OW" or (vr == "US or SS or OW" and length > LONGEST_SHORT):
            return b"OW"
        if vr.startswith("US or SS"):
            return b"SS" if self.is_signed else b"US"
        return vr.encode()

    def encode_head(self, tag: int, vr: bytes, length: int) -> bytes:
        group, number = tag >> 16, tag & 0xFFFF
        if self.to_implicit:
            return IMPLICIT.pack(group, number, length)
        if vr not in LONG_VRS and length > LONGEST_SHORT:
            vr = b"UN"  # PS3.5 6.2.2: what is too long for its VR
        if vr in LONG_VRS:
            return EXPLICIT_LONG.pack(group, number, vr, length)
        return EXPLICIT.pack(group, number, vr, length)

    def change(self, tag: int, change: Change) -> None:
        if change is not None:
            vr, value = change
            value += (b"\0" if vr in (b"UI", b"OB", b"OW", b"UN") else b" ") * (len(value) % 2)
            self.parts += (self.encode_head(tag, vr, len(value)), value)
