"""The character sets of DICOM: by what names and escape sequences they are declared, and who reads them.

References
----------
PS3.3 C.12.1.1.2 (Specific Character Set), Tables C.12-2 to C.12-5.
"""

import re

__all__ = [
    "ASCII",
    "CHINESE",
    "ESCAPES",
    "EXTENSIONS",
    "JAPANESE",
    "JIS_X_0208",
    "JIS_X_0212",
    "LATIN_1",
    "SINGLE_BYTE",
    "UTF_8",
    "codec_of",
]

ASCII = "ascii"
LATIN_1 = "latin-1"
UTF_8 = "utf-8"
CHINESE = "gb18030"  # reads GB 2312 and GBK as well
JAPANESE = "iso2022_jp_2"  # stands for ISO 2022 IR 87 and 159, which are nothing without their escapes
JIS_X_0208, JIS_X_0212 = "jis_x_0208", "jis_x_0212"  # two bytes of 7 bits for a character: no codec of Python's

# Registration number of the set -> codec
BY_NUMBER = {
    "6": ASCII, "13": "shift_jis", "58": CHINESE, "87": JAPANESE, "100": LATIN_1, "101": "iso8859_2",
    "109": "iso8859_3", "110": "iso8859_4", "126": "iso8859_7", "127": "iso8859_6", "138": "iso8859_8",
    "144": "iso8859_5", "148": "iso8859_9", "149": "euc_kr", "159": JAPANESE, "166": "iso8859_11",
    "192": UTF_8, "203": "iso8859_15",
}  # fmt: skip
BY_NAME = {"": ASCII, "GB18030": CHINESE, "GBK": CHINESE, "GB2312": CHINESE, "UTF8": UTF_8}
REGISTRATION = re.compile(r"ISO(?:2022)?(?:IR)?([0-9]{1,3})")
SINGLE_BYTE = frozenset(codec for codec in BY_NUMBER.values() if codec.startswith(("iso8859", "latin")))

EXTENSIONS = {"euc_kr": "cp949", "shift_jis": "cp932"}
"""What senders write beyond a set they declare: the supersets of Windows."""

# Escape sequence -> (0 for G0, 1 for G1; what it puts there)
ESCAPES = {
    b"\x1b(B": (0, ASCII), b"\x1b(J": (0, ASCII),  # JIS X 0201 romaji: ASCII but for yen sign and overline
    b"\x1b$B": (0, JIS_X_0208), b"\x1b$@": (0, JIS_X_0208), b"\x1b$(D": (0, JIS_X_0212),
    b"\x1b-A": (1, LATIN_1), b"\x1b-B": (1, "iso8859_2"), b"\x1b-C": (1, "iso8859_3"), b"\x1b-D": (1, "iso8859_4"),
    b"\x1b-F": (1, "iso8859_7"), b"\x1b-G": (1, "iso8859_6"), b"\x1b-H": (1, "iso8859_8"),
    b"\x1b-L": (1, "iso8859_5"), b"\x1b-M": (1, "iso8859_9"), b"\x1b-T": (1, "iso8859_11"),
    b"\x1b-b": (1, "iso8859_15"), b"\x1b)I": (1, "shift_jis"), b"\x1b$)C": (1, "euc_kr"), b"\x1b$)A": (1, CHINESE),
}  # fmt: skip


def codec_of(name: str) -> str | None:
    """Codec of one value of Specific Character Set, in any of the spellings senders use; None if unknown."""
    plain = re.sub(r"[ _\-]", "", name.upper())
    registered = REGISTRATION.fullmatch(plain)
    if registered:
        return BY_NUMBER.get(registered[1])
    return BY_NAME.get(plain.removeprefix("ISO2022"))
