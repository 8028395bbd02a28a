"""Text of any sender as Unicode.

A name that is wrong on one result is a result for another patient, so every header is put into
Unicode once, here, by our own decoder: pydicom leaves the escape of ISO 2022 IR 58 in the text, and
cannot know that bytes labelled ISO_IR 100 are Chinese. What was stored is never changed.
"""

import re
from collections.abc import Sequence

import structlog
from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import Tag

from node.dicom.elements import Plain, items, text, values, vr_of
from node.dicom.iso2022 import read_escaped
from node.dicom.mislabelled import Reading, read_unescaped
from node.dicom.repertoires import ASCII, LATIN_1, codec_of
from node.errors import UnreadableInstanceError

__all__ = ["declared_sets", "decode_label", "decode_text", "normalise", "normalise_with_remarks"]

log = structlog.get_logger(__name__)

LONGEST_LABEL = 64  # PS3.5 6.2, VR LO
DEEPEST_SEQUENCE = 32  # a real SR tree is about 10 deep; hundreds are an attack on the parser
SPECIFIC_CHARACTER_SET = Tag("SpecificCharacterSet")
UNKNOWN_SET = "its label names no known character set"
ANY_ESCAPE = re.compile(r"\x1b(?:\$[()].|\$.|[()\-].)?")


def normalise(ds: Dataset) -> Dataset:
    """Copy a header with all its text in Unicode; what had to be assumed is in the log.

    Pass a Dataset straight from `node.dicom.read.read_dataset`: text that pydicom has already
    decoded with the wrong set may be beyond repair.

    Returns
    -------
    A copy, SpecificCharacterSet ``ISO_IR 192``. Bulk data are shared, not copied. An element whose
    value is not what its VR says (such as a DS of "abc") is left out: a result must not repeat it.

    Raises
    ------
    UnreadableInstanceError
        If a sequence cannot be parsed, or sequences are nested more than 32 deep.
    """
    copy, remarks = normalise_with_remarks(ds)
    if remarks:
        uid = text(ds, "SOPInstanceUID")
        log.info("text needed an assumption", kind="; ".join(remarks), sop_instance_uid=uid)
    return copy


def normalise_with_remarks(ds: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Like `normalise`, and what had to be assumed in words that quote nothing, such as a guessed character set."""
    remarks: set[str] = set()
    copy = _normalise(ds, ("",), 0, remarks)
    copy.SpecificCharacterSet = "ISO_IR 192"
    if hasattr(ds, "file_meta"):
        copy.file_meta = ds.file_meta
    return copy, tuple(sorted(remarks))


def declared_sets(ds: Dataset) -> tuple[str, ...] | None:
    """Codecs of the sets that a Dataset declares, initial set first; None if it declares nothing."""
    names = _names(ds)
    return None if names is None else tuple(codec_of(name) or ASCII for name in names)


def decode_text(value: bytes | str, declared: Sequence[str] | None, vr: str = "LO") -> str:
    """Decode one text value in full, before it is parted into values, groups or components.

    Escape sequences are followed (see `node.dicom.iso2022`); bytes that the declared sets cannot mean
    are read by what they are (see `node.dicom.mislabelled`). Never raises.

    Parameters
    ----------
    value
        Bytes as stored, or the text pydicom has made of them.
    declared
        As `declared_sets` says.
    vr
        Decides which characters are delimiters.
    """
    return _read(value, tuple(declared or (ASCII,)), vr).text


def decode_label(value: bytes, specific_character_set: bytes) -> str:
    """Decode an identifier as `normalise` would, from the bytes of two elements alone, to find a study by.

    Parameters
    ----------
    value
        An element of VR LO or SH.
    specific_character_set
        The value of that element in the same Dataset, empty if it is absent.
    """
    if value.isascii() and value.isalnum():  # as nearly all are, and the same in every set
        return value.decode(ASCII)[:LONGEST_LABEL]
    names = specific_character_set.decode(ASCII, errors="replace").split("\\")
    decoded = decode_text(value, tuple(codec_of(name.strip(" \0")) or ASCII for name in names))
    return "".join(c for c in decoded if c >= " " and not "\x7f" <= c <= "\x9f").strip(" ")[:LONGEST_LABEL]


def _normalise(ds: Dataset, inherited: Sequence[str], depth: int, remarks: set[str]) -> Dataset:
    if depth > DEEPEST_SEQUENCE:
        raise UnreadableInstanceError(f"sequences are nested more than {DEEPEST_SEQUENCE} deep")
    copy = Dataset()
    own = _names(ds)
    names = inherited if own is None else own  # an item has the sets of what it is in, or its own (PS3.3 C.12.1.1.2)
    if any(codec_of(name) is None for name in names):
        remarks.add(UNKNOWN_SET)
    codecs = tuple(codec_of(name) or ASCII for name in names)

    def decode(value: bytes | str, vr: str) -> str:
        reading = _read(value, codecs, vr)
        remarks.update(reading.remarks)
        return reading.text

    for tag in sorted(ds.keys()):
        element = ds.get_item(tag, keep_deferred=True)
        vr = vr_of(element, ds)
        if tag == SPECIFIC_CHARACTER_SET or tag.element == 0:  # group lengths are no longer true
            continue
        if vr == "SQ":
            inner = [_normalise(item, names, depth + 1, remarks) for item in items(ds, tag)]
            copy[tag] = DataElement(tag, "SQ", ItemSequence(inner))
            continue
        content = _content(element, vr, values(element, vr, decode))
        if content is not None:
            is_undefined = isinstance(element, RawDataElement) and element.length == 0xFFFFFFFF
            is_undefined = is_undefined or getattr(element, "is_undefined_length", False)
            copy[tag] = DataElement(tag, vr, content, None, is_undefined, validation_mode=config.IGNORE)
    return copy


def _content(
    element: DataElement | RawDataElement, vr: str, found: tuple[Plain, ...] | None
) -> list[Plain] | list[str] | Plain | bytes | None:
    """What the copy holds; None if the element cannot be kept."""
    if found is None:
        is_bulk = isinstance(element.value, bytes) and vr in {"OB", "OW", "OD", "OF", "OL", "OV", "UN"}
        return element.value if is_bulk else None
    if vr == "DS" and isinstance(element, RawDataElement):  # the sender's own digits
        written = [part.strip(" \0") for part in (element.value or b"").decode("ascii").split("\\")]
        return written if len(written) > 1 else written[0]
    return (list(found) if len(found) > 1 else found[0]) if found else ""


def _names(ds: Dataset) -> tuple[str, ...] | None:
    if SPECIFIC_CHARACTER_SET not in ds:
        return None
    found = values(ds.get_item(SPECIFIC_CHARACTER_SET, keep_deferred=True), "CS", _as_ascii) or ("",)
    return tuple(str(name) for name in found)


def _as_ascii(value: bytes | str, _vr: str) -> str:
    return value.decode(ASCII, errors="replace") if isinstance(value, bytes) else value


def _read(value: bytes | str, codecs: tuple[str, ...], vr: str) -> Reading:
    if isinstance(value, str):
        stored = _stored(value, codecs[0])
        if stored is None:
            return Reading(ANY_ESCAPE.sub("", value))
        value = stored
    return read_escaped(value, codecs, vr) if b"\x1b" in value else read_unescaped(value, codecs)


def _stored(text: str, initial: str) -> bytes | None:
    """The bytes pydicom decoded, where they can be had back without doubt."""
    if text.isascii() or initial not in {LATIN_1, ASCII}:
        return text.encode(ASCII) if text.isascii() else None
    try:
        return text.encode(LATIN_1)
    except UnicodeEncodeError:
        return None
