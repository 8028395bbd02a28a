"""One patient in every character set of the standard, written by Python's codecs and not by ours."""

from dataclasses import dataclass

CHINESE_NAME = "Wang^XiaoMing=王^小明"


@dataclass(frozen=True)
class Spelling:
    """A Specific Character Set and a way to write text in it; `name` is a Person Name, `line` a description."""

    sets: tuple[str, ...]
    codec: str
    escape: bytes = b""
    name: str = "Wang^XiaoMing"
    line: str = "Chest PA"

    @property
    def label(self) -> str:
        return "\\".join(self.sets)

    def write(self, text: str, delimiters: str = "") -> bytes:
        """Encode; where there is an escape, every part between delimiters gets one when it needs it."""
        for delimiter in delimiters:
            if delimiter in text:
                parts = [self.write(part, delimiters) for part in text.split(delimiter)]
                return delimiter.encode("ascii").join(parts)
        return text.encode("ascii") if text.isascii() else self.escape + text.encode(self.codec)


def _latin(number: int, codec: str, name: str, line: str, escape: bytes) -> dict[str, Spelling]:
    return {
        f"ISO_IR {number}": Spelling((f"ISO_IR {number}",), codec, name=name, line=line),
        f"ISO 2022 IR {number} as an extension": Spelling(("", f"ISO 2022 IR {number}"), codec, escape, name, line),
    }


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
KOREAN = "Hong^Gildong=洪^吉洞=홍^길동"
SPELLINGS: dict[str, Spelling] = {
    "ISO_IR 6": Spelling(("ISO_IR 6",), "ascii"),
    "none": Spelling((), "ascii"),
    **_latin(100, "latin-1", "Müller^Jürgen", "Thorax très gêné", b"\x1b-A"),
    **_latin(101, "iso8859_2", "Dvořák^Šárka", "Hrudník žebro", b"\x1b-B"),
    **_latin(109, "iso8859_3", "Ħaż^Ġorġ", "Ĉio estas bona", b"\x1b-C"),
    **_latin(110, "iso8859_4", "Bērziņš^Jānis", "Krūšu kurvis", b"\x1b-D"),
    **_latin(144, "iso8859_5", "Люкceмбypг^Иван", "Грудная клетка", b"\x1b-L"),
    **_latin(127, "iso8859_6", "قباني^لنزار", "صدر", b"\x1b-G"),
    **_latin(126, "iso8859_7", "Διονυσιος^Άννα", "Θώρακας", b"\x1b-F"),
    **_latin(138, "iso8859_8", "שרון^דבורה", "חזה", b"\x1b-H"),
    **_latin(148, "iso8859_9", "Çavuşoğlu^Işıl", "Göğüs", b"\x1b-M"),
    **_latin(166, "iso8859_11", "นามสกุล^ชื่อ", "ทรวงอก", b"\x1b-T"),
    **_latin(203, "iso8859_15", "Œuvrard^Zoë", "Œsophage 3 €", b"\x1b-b"),
    **_latin(13, "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ", "ｷｮｳﾌﾞ", b"\x1b)I"),
    "ISO 2022 IR 87": Spelling(("", "ISO 2022 IR 87"), "iso2022_jp", name=JAPANESE, line="胸部正面"),
    "ISO 2022 IR 159": Spelling(
        ("", "ISO 2022 IR 87", "ISO 2022 IR 159"), "iso2022_jp_1", name="Dou^Kei=丂^丄=どう^けい", line="胸部 丂丄"
    ),
    "ISO 2022 IR 13 and 87": Spelling(
        ("ISO 2022 IR 13", "ISO 2022 IR 87"), "iso2022_jp", name="Yamada=山田^太郎", line="胸部正面"
    ),
    "ISO 2022 IR 149": Spelling(("", "ISO 2022 IR 149"), "euc_kr", b"\x1b$)C", KOREAN, "흉부 정면"),
    "ISO 2022 IR 58": Spelling(("", "ISO 2022 IR 58"), "gb2312", b"\x1b$)A", CHINESE_NAME, "胸部正位"),
    "GB18030": Spelling(("GB18030",), "gb18030", name="Wang^XiaoMing=王^䶮㐀", line="胸部诚信誠𠀀"),
    "GBK": Spelling(("GBK",), "gbk", name="Wang^XiaoMing=王^誠", line="胸部誠信"),
    "ISO_IR 192": Spelling(
        ("ISO_IR 192",), "utf-8", name="Wang^XiaoMing=王^小明=ワン^シャオミン", line="胸 Brüst 흉부 𠀀"
    ),
}
