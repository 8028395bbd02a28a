"""Text of any sender as Unicode.

A name that is wrong on one result is a result for another patient, so every header is put into
Unicode once, here, by our own decoder: pydicom leaves the escape of ISO 2022 IR 58 in the text, and
cannot know that bytes labelled ISO_IR 100 are Chinese. What was stored is never changed.
"""

import re
from collections.abc import Iterator, Sequence

import structlog
from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import Tag

from node.dicom.elements import Plain, items, text, values, vr_of
from node.errors import UnreadableInstanceError

__all__ = ["declared_sets", "decode_text", "normalise"]

log = structlog.get_logger(__name__)

DEEPEST_SEQUENCE = 32  # a real SR tree is about 10 deep; hundreds are an attack on the parser
LATIN_1 = "latin-1"
CHINESE = "gb18030"  # reads GB 2312 and GBK as well
SPECIFIC_CHARACTER_SET = Tag("SpecificCharacterSet")

# PS3.3 C.12.1.1.2: registration number of the set -> codec
CODECS = {
    "6": "ascii", "13": "shift_jis", "58": CHINESE, "87": "iso2022_jp_2", "100": LATIN_1, "101": "iso8859_2",
    "109": "iso8859_3", "110": "iso8859_4", "126": "iso8859_7", "127": "iso8859_6", "138": "iso8859_8",
    "144": "iso8859_5", "148": "iso8859_9", "149": "euc_kr", "159": "iso2022_jp_2", "166": "tis_620",
    "192": "utf-8", "203": "iso8859_15",
}  # fmt: skip
BY_NAME = {"GB18030": CHINESE, "GBK": CHINESE, "GB2312": CHINESE, "UTF8": "utf-8"}
REGISTRATION = re.compile(r"ISO(?:2022)?(?:IR)?([0-9]{1,3})")

# PS3.3 Tables C.12-3 and C.12-4: escape sequence -> codec; the Japanese codecs read their escapes themselves
ESCAPES = {
    b"\x1b(B": "ascii", b"\x1b-A": LATIN_1, b"\x1b-B": "iso8859_2", b"\x1b-C": "iso8859_3", b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7", b"\x1b-G": "iso8859_6", b"\x1b-H": "iso8859_8", b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9", b"\x1b-T": "tis_620", b"\x1b(J": "shift_jis", b"\x1b)I": "shift_jis",
    b"\x1b$)C": "euc_kr", b"\x1b$)A": CHINESE,
}  # fmt: skip
JAPANESE_ESCAPES = (b"\x1b$B", b"\x1b$@", b"\x1b$(D")
FRAGMENT = re.compile(rb"(\x1b(?:\$[()].|[($)\-][^$()]))?([^\x1b]*)", re.DOTALL)
IDEOGRAPH = "[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]"
IDEOGRAPHS = re.compile(f"{IDEOGRAPH}+")
ASCII_OR_CJK = re.compile(f"(?:[\x00-\x7f·—‘’“”…\u3000-\u303f\uff00-\uffef]|{IDEOGRAPH})*")
LONE_BESIDE_LETTER = re.compile(f"(?<!{IDEOGRAPH}){IDEOGRAPH}(?=[A-Za-z])|[A-Za-z]{IDEOGRAPH}(?!{IDEOGRAPH})")
ANY_ESCAPE = re.compile(r"\x1b(?:\$[()].|[($)\-].)?")
ANY_ESCAPE_BYTES = re.compile(rb"\x1b(?:\$[()].|[($)\-].)?")
DELIMITERS = re.compile(rb"([\\^=\r\n\f\t])")  # PS3.5 6.1.2.5.3: the initial set holds again after these


def normalise(ds: Dataset) -> Dataset:
    """Copy a header with all its text in Unicode.

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
    repaired: set[str] = set()
    copy = _normalise(ds, declared_sets(ds), 0, repaired)
    copy.SpecificCharacterSet = "ISO_IR 192"
    if repaired:
        uid = text(ds, "SOPInstanceUID")
        log.info(
            "text was read in another character set than declared",
            kind=" ".join(sorted(repaired)),
            sop_instance_uid=uid,
        )
    if hasattr(ds, "file_meta"):
        copy.file_meta = ds.file_meta
    return copy


def declared_sets(ds: Dataset) -> tuple[str, ...] | None:
    """Codecs of the sets that a Dataset declares, initial set first; None if it declares nothing."""
    if SPECIFIC_CHARACTER_SET not in ds:
        return None
    found = values(ds.get_item(SPECIFIC_CHARACTER_SET, keep_deferred=True), "CS", _as_ascii) or ("",)
    return tuple(_codec(str(name)) for name in found)


def decode_text(value: bytes | str, declared: Sequence[str] | None) -> str:
    """Decode one text value in full, before it is parted into values, groups or components.

    Tried in order: escape sequences (ISO 2022), the declared set, UTF-8, GB 18030 if the outcome is
    plausible Chinese, Latin-1, which reads anything. Under a Latin-1 or missing label, bytes that
    read as plausible Chinese are taken as such; see `_is_chinese`.

    Parameters
    ----------
    value
        Bytes as stored, or the text pydicom has made of them.
    declared
        As `declared_sets` says.
    """
    return _decode(value, tuple(declared or ("ascii",)))[0]


def _normalise(ds: Dataset, declared: Sequence[str] | None, depth: int, repaired: set[str]) -> Dataset:
    if depth > DEEPEST_SEQUENCE:
        raise UnreadableInstanceError(f"sequences are nested more than {DEEPEST_SEQUENCE} deep")
    copy = Dataset()
    codecs = tuple(declared or ("ascii",))

    def decode(value: bytes | str) -> str:
        text, codec = _decode(value, codecs)
        if codec not in codecs:
            repaired.add(codec)
        return text

    for tag in sorted(ds.keys()):
        element = ds.get_item(tag, keep_deferred=True)
        vr = vr_of(element, ds)
        if tag == SPECIFIC_CHARACTER_SET or tag.element == 0:  # group lengths are no longer true
            continue
        if vr == "SQ":
            inner = [_normalise(item, declared_sets(item) or declared, depth + 1, repaired) for item in items(ds, tag)]
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


def _as_ascii(value: bytes | str) -> str:
    return value.decode("ascii", errors="replace") if isinstance(value, bytes) else value


def _codec(name: str) -> str:
    """Codec of one value of Specific Character Set, in any of the spellings senders use."""
    plain = re.sub(r"[ _\-]", "", name.upper())
    registered = REGISTRATION.fullmatch(plain)
    if registered:
        return CODECS.get(registered[1], "ascii")
    return BY_NAME.get(plain.removeprefix("ISO2022"), "ascii")


def _decode(value: bytes | str, codecs: tuple[str, ...]) -> tuple[str, str]:
    """Text, and the codec that read it."""
    if isinstance(value, str):
        stored = _stored(value, codecs[0])
        if stored is None:
            return ANY_ESCAPE.sub("", value), codecs[0]
        value = stored
    if b"\x1b" in value:
        try:
            return "".join(_escaped(value, codecs[0])), codecs[0]
        except UnicodeDecodeError:
            value = ANY_ESCAPE_BYTES.sub(b"", value)
    if value.isascii():
        return value.decode("ascii"), codecs[0]
    for codec in codecs:
        text = _try(value, codec)
        if text is None:
            continue
        return _repaired(value) or (text, codec) if codec == LATIN_1 else (text, codec)
    text = _try(value, "utf-8")
    if text is not None:
        return text, "utf-8"
    text = _try(value, CHINESE)
    return (text, CHINESE) if text is not None and _is_chinese(text) else (value.decode(LATIN_1), LATIN_1)


def _repaired(value: bytes) -> tuple[str, str] | None:
    """UTF-8 or GBK bytes under a Latin-1 label, if they are plausible Chinese."""
    for codec in ("utf-8", CHINESE):
        text = _try(value, codec)
        if text is not None and _is_chinese(text):
            return text, codec
    return None


def _is_chinese(text: str) -> bool:
    """True if text that was read as Chinese is plausibly meant so, and is not accented Latin-1.

    - Every character beyond ASCII is an ideograph or CJK or full-width punctuation.
    - At least half of the ideographs are among the 3,755 of GB 2312 level 1 (99.7 % of running
      text); pairs of lower-case accented Latin-1 letters fall on the rare ones of level 2.
    - An ideograph that touches a Latin letter is in a run of two or more ("Müller" read as GBK is
      "M黮ler", "Jääskinen" "J溷skinen").
    """
    ideographs = "".join(IDEOGRAPHS.findall(text))
    if not ideographs or ASCII_OR_CJK.fullmatch(text) is None or LONE_BESIDE_LETTER.search(text):
        return False
    return 2 * sum(map(_is_common, ideographs)) >= len(ideographs)


def _is_common(ideograph: str) -> bool:
    """True for GB 2312 level 1: rows 16 to 55, lead byte 0xB0 to 0xD7."""
    try:
        return 0xB0 <= ideograph.encode("gb2312")[0] <= 0xD7
    except UnicodeEncodeError:
        return False


def _escaped(value: bytes, initial: str) -> Iterator[str]:
    """Decode text with ISO 2022 escapes (PS3.5 6.1.2.5).

    After a delimiter the initial set holds again. Where that is ASCII, a designated set is kept
    instead: ASCII reads no byte above 127, and many senders write the escape once for a whole name.
    """
    for escape, content in FRAGMENT.findall(value):
        if escape.startswith(JAPANESE_ESCAPES):
            yield (escape + content).decode("iso2022_jp_2")
            continue
        designated = ESCAPES.get(escape, initial)
        for index, part in enumerate(DELIMITERS.split(content)):
            is_reset = index > 0 and initial != "ascii"
            yield part.decode(initial if is_reset else designated)


def _stored(text: str, initial: str) -> bytes | None:
    """The bytes pydicom decoded, where they can be had back without doubt."""
    if text.isascii() or initial not in {LATIN_1, "ascii"}:
        return text.encode("ascii") if text.isascii() else None
    try:
        return text.encode(LATIN_1)
    except UnicodeEncodeError:
        return None


def _try(value: bytes, codec: str) -> str | None:
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        return None
