"""Element values as plain Python values, whatever the sender wrote into them.

pydicom converts a value when it is first asked for, and raises or warns (quoting it) when the value
is not what its VR says. Headers come from peers, so here a value is either readable or absent.
"""

import math
import struct
import warnings
from collections.abc import Callable, MutableSequence

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.valuerep import PersonName

from node.errors import UnreadableInstanceError

__all__ = [
    "PARSE_FAULTS",
    "TEXT_VRS",
    "Decode",
    "Plain",
    "items",
    "number",
    "numbers",
    "text",
    "texts",
    "values",
    "vr_of",
]

Plain = str | int | float
Decode = Callable[[bytes | str, str], str]
"""Turns the bytes of a text element (or what pydicom made of them) with its VR into Unicode."""

TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # PS3.5 6.1.2.3: subject to Specific Character Set
CODE_VRS = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI", "UR"})  # default repertoire only
SINGLE_VRS = frozenset({"LT", "ST", "UT", "UR"})  # PS3.5 6.2: a backslash does not part values
NUMBER_CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
FLOAT_VRS = frozenset({"DS", "FL", "FD"})
PARSE_FAULTS = (
    EOFError, OSError, struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError,
    OverflowError, RecursionError, MemoryError, BytesLengthException,
)  # fmt: skip
"""What pydicom raises on hostile input."""
LONGEST_NUMBER = 64  # characters; DS has 16 and IS 12 (PS3.5 6.2)


def text(ds: Dataset, keyword: str) -> str:
    """First value of an attribute as text, "" if it is absent or unreadable."""
    found = _values_by_keyword(ds, keyword)
    return str(found[0]) if found else ""


def texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """All values of an attribute of the default repertoire as text; empty if it is absent or unreadable."""
    return tuple(str(value) for value in _values_by_keyword(ds, keyword))


def number(ds: Dataset, keyword: str) -> float | None:
    """First value of an attribute as a finite number, None if it is absent or unreadable."""
    found = numbers(ds, keyword)
    return found[0] if found else None


def numbers(ds: Dataset, keyword: str) -> tuple[float, ...]:
    """All values of an attribute as finite numbers; empty if it is absent or one is unreadable."""
    found = _values_by_keyword(ds, keyword)
    return tuple(float(value) for value in found if not isinstance(value, str))


def items(ds: Dataset, keyword: str | int) -> list[Dataset]:
    """Items of a sequence attribute (keyword or tag); empty if it is absent.

    Raises
    ------
    UnreadableInstanceError
        If the sequence cannot be parsed.
    """
    tag = tag_for_keyword(keyword) if isinstance(keyword, str) else keyword
    if tag is None or tag not in ds:
        return []
    element = ds.get_item(tag, keep_deferred=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            # Not ds[tag]: that would put the parsed sequence into the original.
            parsed = convert_raw_data_element(element, ds=ds) if isinstance(element, RawDataElement) else element
    except PARSE_FAULTS:
        raise UnreadableInstanceError(f"sequence {element.tag} cannot be parsed") from None
    return [item for item in parsed.value or () if isinstance(item, Dataset)]


def vr_of(element: DataElement | RawDataElement, ds: Dataset) -> str:
    """The VR to read an element by: as written, or from the dictionary if the file does not say it."""
    vr = element.VR or "UN"
    is_silent = vr == "UN" and isinstance(element, RawDataElement) and not element.tag.is_private
    if is_silent and dictionary_has_tag(element.tag):
        vr = dictionary_VR(element.tag)
    if vr in {"US or SS", "US or SS or OW"}:
        is_signed = element.tag != 0x00280103 and number(ds, "PixelRepresentation") == 1  # PS3.5 A.1
        is_table = vr == "US or SS or OW" and isinstance(element, RawDataElement) and element.length > 0xFFFE
        return "OW" if is_table else ("SS" if is_signed else "US")
    return "OW" if vr in {"OB or OW", "US or OW"} else vr


def values(element: DataElement | RawDataElement, vr: str, decode: Decode) -> tuple[Plain, ...] | None:
    """Every value of an element, as text or number.

    Parameters
    ----------
    vr
        As `vr_of` says.
    decode
        For elements that hold text.

    Returns
    -------
    Empty if the element is; None if it is binary, a sequence, or cannot be read as its VR says.
    """
    if isinstance(element, RawDataElement):
        return _raw_values(element, vr, decode)
    listed = _listed(element.value)
    if vr in TEXT_VRS | CODE_VRS:
        parts = tuple(_text_of(value, vr, decode) for value in listed)
        return None if None in parts else tuple(part for part in parts if part is not None)
    if vr in {"DS", "IS"} or vr in NUMBER_CODES:
        return _finite(listed, vr)
    return None


def _values_by_keyword(ds: Dataset, keyword: str) -> tuple[Plain, ...]:
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in ds:
        return ()
    element = ds.get_item(tag, keep_deferred=True)
    return values(element, vr_of(element, ds), _decode_default) or ()


def _decode_default(value: bytes | str, _vr: str) -> str:
    return value.decode("ascii", errors="replace") if isinstance(value, bytes) else value


def _raw_values(raw: RawDataElement, vr: str, decode: Decode) -> tuple[Plain, ...] | None:
    content = raw.value or b""
    if vr in TEXT_VRS | CODE_VRS:
        whole = decode(content, vr) if not content.isascii() or b"\x1b" in content else content.decode("ascii")
        parts = [whole] if vr in SINGLE_VRS else whole.split("\\")
        found = tuple(_clean(part, vr) for part in parts)
        return () if found == ("",) else found
    if vr in {"DS", "IS"}:
        return _finite([part.strip(b" \0") for part in content.split(b"\\") if part.strip(b" \0")], vr)
    if vr in NUMBER_CODES:
        code = NUMBER_CODES[vr]
        size = struct.calcsize("<" + code)
        if len(content) % size:
            return None
        order = "<" if raw.is_little_endian else ">"
        return _finite(list(struct.unpack(f"{order}{len(content) // size}{code}", content)), vr)
    return None


def _listed(value: object) -> list[object]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MutableSequence | tuple) else [value]


def _text_of(value: object, vr: str, decode: Decode) -> str | None:
    if isinstance(value, PersonName):
        stored: bytes | None = value.original_string
        return _clean(decode(stored or str(value), vr), vr)
    return _clean(decode(value, vr), vr) if isinstance(value, str | bytes) else None


def _clean(value: str, vr: str) -> str:
    """Take off padding and control characters; line breaks stay only where PS3.5 6.2 allows them."""
    kept = "\t\n\f\r" if vr in {"LT", "ST", "UT"} else ""
    return "".join(c for c in value if (c >= " " and not "\x7f" <= c <= "\x9f") or c in kept).rstrip(" ")


def _finite(found: list[object], vr: str) -> tuple[Plain, ...] | None:
    """Numbers of one element; None if one of them is no finite number."""
    numeric: list[Plain] = []
    for value in found:
        if isinstance(value, bytes) and (b"_" in value or len(value) > LONGEST_NUMBER):
            return None  # Python would read 1_000
        if not isinstance(value, bytes | str | int | float):
            return None
        try:
            as_float = float(value)
        except (ValueError, OverflowError):
            return None
        if not math.isfinite(as_float):
            return None
        if vr in FLOAT_VRS:
            numeric.append(as_float)
        else:
            numeric.append(int(value) if isinstance(value, int) else int(as_float))
    return tuple(numeric)
