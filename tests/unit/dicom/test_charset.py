from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.charset import declared_sets, decode_text, normalise
from node.dicom.read import patient_of, read_dataset
from node.domain.study import PersonName
from node.errors import UnreadableInstanceError
from tests.phantoms import ct_slice

NAME = "Wang^XiaoMing=王^小明"
IR_58 = b"Wang^XiaoMing=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xc3\xf7"
SPELLINGS = {
    "GB18030": (["GB18030"], NAME.encode("gb18030")),
    "UTF-8": (["ISO_IR 192"], NAME.encode("utf-8")),
    "ISO 2022 IR 58": (["", "ISO 2022 IR 58"], IR_58),
    "ISO 2022 IR 58, one escape for the whole name": (["", "ISO 2022 IR 58"], IR_58.replace(b"^\x1b$)A", b"^")),
    "ISO 2022 IR 58, no escape": (["", "ISO 2022 IR 58"], NAME.encode("gb2312")),
    "GBK under ISO_IR 100": (["ISO_IR 100"], NAME.encode("gbk")),
    "GBK, nothing declared": ([], NAME.encode("gbk")),
    "GBK under ISO_IR 192": (["ISO_IR 192"], NAME.encode("gbk")),
    "UTF-8 under ISO_IR 100": (["ISO_IR 100"], NAME.encode("utf-8")),
    "UTF-8, nothing declared": ([], NAME.encode("utf-8")),
    "GBK under its own name": (["GBK"], NAME.encode("gbk")),
}


def raw(keyword: str, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(keyword), vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def dataset(sets: Sequence[str], **text: bytes) -> Dataset:
    """A Dataset as it comes from a file: values still raw."""
    ds = Dataset()
    if sets:
        ds["SpecificCharacterSet"] = raw("SpecificCharacterSet", "CS", "\\".join(sets).encode())
    vrs = {"PatientName": "PN", "PatientID": "LO", "PatientComments": "LT"}
    for keyword, value in text.items():
        ds[keyword] = raw(keyword, vrs[keyword], value)
    return ds


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_patient_is_the_same_in_every_character_set(spelling: str) -> None:
    sets, value = SPELLINGS[spelling]
    patient = patient_of(normalise(dataset(sets, PatientName=value)))
    assert patient.name == PersonName("Wang^XiaoMing", "王^小明")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_normalised_header_keeps_the_name_through_a_file(spelling: str, tmp_path: Path) -> None:
    sets, value = SPELLINGS[spelling]
    ds = normalise(dataset(sets, PatientName=value))
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    ds.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    assert str(dcmread(tmp_path / "a.dcm", force=True).PatientName) == NAME


@given(
    st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=1, max_size=20),
    st.sampled_from(["gb18030", "utf-8"]),
)
def test_any_chinese_text_is_read_by_its_declared_set(text: str, codec: str) -> None:
    sets = ["GB18030"] if codec == "gb18030" else ["ISO_IR 192"]
    ds = normalise(dataset(sets, PatientID=text.encode(codec)))
    assert ds.PatientID == text


COMMON = "".join(bytes([row, cell]).decode("gb2312") for row in range(0xB0, 0xD7) for cell in range(0xA1, 0xFF))


@given(st.text(alphabet=COMMON, min_size=1, max_size=12), st.text(alphabet=COMMON, min_size=1, max_size=12))
@example("联", "通")
def test_common_characters_in_gbk_under_a_latin_1_label_are_repaired_or_valid_utf_8(family: str, given_: str) -> None:
    name = f"{family}^{given_}"
    stored = name.encode("gbk")
    assert decode_text(stored, ["latin-1"]) == name


@pytest.mark.parametrize(
    "name",
    [
        "Müller^Jürgen", "Jääskeläinen^Päivi", "PÄÄ^ÅKE", "Ångström", "José^Ñandú", "Élodie^Zoë", "Besançon", "créée",
        "Ü^Ä", "MÜLLER^JÖRG", "Ó Súilleabháin", "Grüße", "10 µm", "25°C", "à côté",
    ],
)  # fmt: skip
def test_latin_1_names_are_not_taken_for_chinese(name: str) -> None:
    assert decode_text(name.encode("latin-1"), ["latin-1"]) == name
    assert decode_text(name.encode("latin-1"), None) == name


@pytest.mark.parametrize(
    ("sets", "value", "text"),
    [
        (["ISO_IR 144"], "Иванов".encode("iso8859_5"), "Иванов"),
        (["ISO_IR 126"], "Διονυσιος".encode("iso8859_7"), "Διονυσιος"),
        (
            ["", "ISO 2022 IR 87"],
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            ["ISO 2022 IR 13", "ISO 2022 IR 87"],
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
        ),
        (
            ["", "ISO 2022 IR 149"],
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
    ],
)  # PS3.5 Annexes H and I
def test_the_examples_of_the_standard_are_read(sets: list[str], value: bytes, text: str) -> None:
    assert normalise(dataset(sets, PatientName=value)).PatientName == text


def test_a_trail_byte_that_looks_like_a_backslash_does_not_part_a_value() -> None:
    assert "誠".encode("gbk")[1:] == b"\x5c"  # its trail byte is a backslash
    assert normalise(dataset(["GB18030"], PatientID="誠信".encode("gbk"))).PatientID == "誠信"


def test_control_characters_do_not_survive_in_an_identifier() -> None:
    assert normalise(dataset([], PatientID=b"A\r\nOBX|1\x0b\x1c")).PatientID == "AOBX|1"
    assert normalise(dataset([], PatientComments=b"line one\r\nline two")).PatientComments == "line one\r\nline two"


def test_the_text_pydicom_read_with_a_wrong_label_is_repaired() -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientID = "王小明".encode("gbk").decode("latin-1")
    ds.PatientName = "王^小明".encode("gbk").decode("latin-1")
    copy = normalise(ds)
    assert (copy.PatientID, copy.PatientName) == ("王小明", "王^小明")


def test_text_in_nested_sequences_is_read_by_the_set_of_its_item() -> None:
    inner = dataset(["GB18030"], PatientID="王".encode("gb18030"))
    outer = dataset(["ISO_IR 192"], PatientID="李".encode())
    outer.RequestAttributesSequence = [inner]
    copy = normalise(outer)
    assert copy.RequestAttributesSequence[0].PatientID == "王"
    assert "SpecificCharacterSet" not in copy.RequestAttributesSequence[0]


def test_the_original_is_not_changed(tmp_path: Path) -> None:
    path = ct_slice(tmp_path / "a.dcm")
    ds = read_dataset(path, with_pixels=True)
    before = BytesIO()
    ds.save_as(before)
    normalise(ds)
    after = BytesIO()
    ds.save_as(after)
    assert before.getvalue() == after.getvalue()
    assert declared_sets(ds) == ("utf-8",)


def test_values_that_are_not_what_their_vr_says_are_left_out() -> None:
    ds = dataset([], PatientID=b"1")
    ds["SliceThickness"] = raw("SliceThickness", "DS", b"abc")
    ds["PixelSpacing"] = raw("PixelSpacing", "DS", b"0.478516 \\0.50")
    ds["Rows"] = raw("Rows", "US", b"\x01\x02\x03")
    copy = normalise(ds)
    assert "SliceThickness" not in copy
    assert "Rows" not in copy
    assert [str(value) for value in copy.PixelSpacing] == ["0.478516", "0.50"]


def nested(depth: int) -> Dataset:
    ds = Dataset()
    for _ in range(depth):
        outer = Dataset()
        outer.RequestAttributesSequence = [ds]
        ds = outer
    return ds


def test_sequences_nested_ten_deep_are_read() -> None:
    ds = normalise(nested(10))
    for _ in range(10):
        ds = ds.RequestAttributesSequence[0]


def test_sequences_nested_without_end_are_refused() -> None:
    with pytest.raises(UnreadableInstanceError, match="32 deep"):
        normalise(nested(40))


@given(st.binary(max_size=200), st.lists(st.sampled_from(["", "ISO_IR 100", "ISO_IR 192", "GB18030", "ISO 2022 IR 58",
       "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO 2022 IR 13", "ISO_IR 166", "nonsense"]), max_size=3))  # fmt: skip
def test_any_bytes_in_any_set_become_unicode(value: bytes, sets: list[str]) -> None:
    ds = normalise(dataset(sets, PatientName=value, PatientID=value, PatientComments=value))
    if "PatientName" in ds:
        str(ds.PatientName).encode("utf-8")
    buffer = BytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True)


def test_every_set_of_the_standard_has_a_codec() -> None:
    for name in ("ISO_IR 13", "ISO_IR 166", "ISO 2022 IR 148", "ISO_IR 203", "ISO 2022 IR 159", "ISO-IR 192", "UTF-8"):
        ds = dataset([name])
        (codec,) = declared_sets(ds) or ()
        assert codec != "ascii"
        "".encode(codec)


def test_a_file_keeps_its_transfer_syntax_in_the_copy(tmp_path: Path) -> None:
    copy = normalise(read_dataset(ct_slice(tmp_path / "a.dcm")))
    assert copy.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
