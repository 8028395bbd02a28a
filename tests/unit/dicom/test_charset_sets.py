"""Every character set of the standard: what was meant is read, DCMTK reads the same, no bytes are refused."""

import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
import structlog
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from node.dicom.charset import decode_label, decode_text, normalise, normalise_with_remarks
from node.dicom.iso2022 import BROKEN_ESCAPE
from node.dicom.mislabelled import REPLACED, is_chinese
from node.dicom.read import patient_of
from tests.unit.dicom.character_sets import SPELLINGS, Spelling

VRS = {"PatientName": "PN", "PatientID": "LO", "PatientComments": "LT", "OtherPatientNames": "PN", "AccessionNumber": "SH"}  # fmt: skip  # noqa: E501
GUESS, AGAINST = "which is a guess", "against its label"


def raw(keyword: str, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(keyword), vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def dataset(label: str | None, **text: bytes) -> Dataset:
    """A Dataset as it comes from a file: values still raw."""
    ds = Dataset()
    if label is not None:
        ds["SpecificCharacterSet"] = raw("SpecificCharacterSet", "CS", label.encode())
    for keyword, value in text.items():
        ds[keyword] = raw(keyword, VRS[keyword], value)
    return ds


def written(spelling: Spelling, name: str, line: str) -> Dataset:
    """The text as a sender that keeps to PS3.5 writes it."""
    return dataset(
        spelling.label if spelling.sets else None,
        PatientName=spelling.write(name, "\\=^"),
        OtherPatientNames=spelling.write(f"{name}\\{name}", "\\=^"),
        PatientID=spelling.write(line, "\\"),
        PatientComments=spelling.write(f"{line}\r\n{line}", "\n\r"),
    )


@pytest.mark.parametrize("key", SPELLINGS)
def test_text_of_every_set_is_read_without_an_assumption(key: str) -> None:
    spelling = SPELLINGS[key]
    copy, remarks = normalise_with_remarks(written(spelling, spelling.name, spelling.line))
    assert copy.PatientName == spelling.name
    assert copy.OtherPatientNames == [spelling.name, spelling.name]
    assert copy.PatientID == spelling.line
    assert copy.PatientComments == f"{spelling.line}\r\n{spelling.line}"
    assert remarks == ()


@pytest.mark.parametrize("key", SPELLINGS)
def test_a_label_of_the_receiver_is_what_the_header_says_later(key: str) -> None:
    spelling = SPELLINGS[key]
    value = spelling.write(spelling.line, "\\")
    assert decode_label(value + b" ", spelling.label.encode()) == spelling.line


def _letters(spelling: Spelling) -> str:
    """Letters of the set beyond ASCII, that Python can write in it and read back."""
    codec = spelling.codec
    found = []
    for point in (*range(0xA0, 0x3100), *range(0x4E00, 0x9FA6, 7), *range(0xAC00, 0xD7A4, 11), *range(0xFF61, 0xFFA0)):
        character = chr(point)
        try:
            encoded = character.encode(codec)
        except UnicodeEncodeError:
            continue
        is_kana = codec != "shift_jis" or len(encoded) == 1  # the codec knows kanji too, the set does not
        is_twofold = character in "¥‾\u00a0\u00ad―・"  # no letter, or one that Python and gb18030 map differently
        if encoded.decode(codec) == character and character.isprintable() and is_kana and not is_twofold:
            found.append(character)
    return "".join(found)


LETTERS = {key: _letters(spelling) for key, spelling in SPELLINGS.items() if spelling.codec != "ascii"}


@pytest.mark.parametrize("key", LETTERS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_text_of_a_set_comes_back_whole(key: str, data: st.DataObject) -> None:
    spelling = SPELLINGS[key]
    text = st.text(st.sampled_from(LETTERS[key] + "Ab1 -.("), min_size=1, max_size=12).filter(lambda t: t == t.strip())
    parts = data.draw(st.lists(text, min_size=1, max_size=5))
    name, line = "^".join(parts), parts[0]
    ds = written(spelling, name, line)
    if key == "ISO_IR 100":  # such bytes are taken for Chinese, whatever their label says: see test_charset.py
        values = [value for value in (ds.get_item(keyword).value for keyword in VRS if keyword in ds) if value]
        assume(not any(_reads_as(value, "gb18030") or _reads_as(value, "utf-8") for value in values))
    copy = normalise(ds)
    assert copy.PatientName == name
    assert copy.PatientID == line
    assert copy.PatientComments == f"{line}\r\n{line}"


def _reads_as(value: bytes, codec: str) -> bool:
    try:
        return is_chinese(value.decode(codec)) or codec == "utf-8"
    except UnicodeDecodeError:
        return False


ANY_SETS = st.lists(
    st.sampled_from(["", "nonsense", *{name for spelling in SPELLINGS.values() for name in spelling.sets}]), max_size=4
).map("\\".join)
PIECES = st.sampled_from(
    [b"\x1b", b"\x1b$", b"\x1b$B", b"\x1b$(D", b"\x1b$)A", b"\x1b$)C", b"\x1b-F", b"\x1b)I", b"\x1b(J", b"\x1b(B",
     b"\x1b(Q", b"^", b"=", b"\\", b"\r\n", b"\xcd\xf5", b"\xb0", b"Wang", b";3ED", b"\xe7\x8e\x8b"]
) | st.binary(max_size=4)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(b"".join), ANY_SETS)
@example(b"\x1b$B;3E", "\\ISO 2022 IR 87")
@example(b"\x1b", "")
def test_no_bytes_are_refused_in_any_set(value: bytes, label: str) -> None:
    ds = normalise(dataset(label, PatientName=value, PatientID=value, PatientComments=value))
    for keyword in ("PatientName", "PatientID", "PatientComments"):
        decoded = str(ds.get(keyword, ""))
        decoded.encode("utf-8")
        assert "\x1b" not in decoded
    ds.save_as(BytesIO(), implicit_vr=False, little_endian=True)
    decode_label(value, label.encode())


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40), ANY_SETS)
def test_ascii_is_the_same_in_every_set(text: str, label: str) -> None:
    assert decode_label(text.encode(), label.encode()) == text.strip(" ")
    assert normalise(dataset(label, PatientComments=text.encode())).PatientComments == text.rstrip(" ")


LATIN_58 = "ISO 2022 IR 100\\ISO 2022 IR 58"


def test_in_a_name_the_initial_set_holds_again_after_a_delimiter() -> None:
    value = b"M\xfcller^\x1b$)A\xcd\xf5^J\xfcrgen"
    assert normalise(dataset(LATIN_58, PatientName=value)).PatientName == "Müller^王^Jürgen"


def test_in_other_text_a_caret_is_no_delimiter() -> None:
    value = b"\x1b$)C\xc8\xab^\xb1\xe6"
    assert normalise(dataset("ISO 2022 IR 100\\ISO 2022 IR 149", PatientID=value)).PatientID == "홍^길"


def test_in_text_of_one_value_a_backslash_is_no_delimiter() -> None:
    label, value = "ISO 2022 IR 144\\ISO 2022 IR 149", b"\x1b$)C\xc8\xab\\\xb1\xe6"
    assert normalise(dataset(label, PatientComments=value)).PatientComments == "홍\\길"
    assert normalise(dataset(label, PatientID=value)).PatientID == ["홍", "Бц"]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\f", b"\t"])
def test_the_initial_set_holds_again_after_a_control_character(end: bytes) -> None:
    value = b"\x1b$)C\xc8\xab" + end + b"\xfc"
    label = "ISO 2022 IR 100\\ISO 2022 IR 149"
    assert normalise(dataset(label, PatientComments=value)).PatientComments == "홍" + end.decode() + "ü"


def test_letters_above_127_keep_their_set_while_the_lower_half_changes() -> None:
    value = b"\x1b)I\xd4\xcf\x1b$B;3\xc0\xde\x1b(B\xc0"
    assert normalise(dataset("\\ISO 2022 IR 13\\ISO 2022 IR 87", PatientName=value)).PatientName == "ﾔﾏ山ﾀﾞﾀ"


def test_half_of_a_two_byte_character_is_no_delimiter() -> None:
    value = b"\x1b$B=P\x1b(B^\x1b$B9~\x1b(B"  # 0x3D is half of 出 here and parts no groups
    assert normalise(dataset("\\ISO 2022 IR 87", PatientName=value)).PatientName == "出^込"


@pytest.mark.parametrize(
    ("label", "value", "text"),
    [
        ("\\ISO 2022 IR 87", b"\x1b$B|b66\x1b(B", "髙橋"),  # NEC's rows, which JIS X 0208 leaves empty
        ("\\ISO 2022 IR 149", b"\x1b$)C\x8cc", "똠"),  # Unified Hangul Code
        ("\\ISO 2022 IR 58", b"\x1b$)A\xd5\\", "誠"),  # GBK under the escape of GB 2312, with a backslash inside
        ("ISO_IR 13", "髙橋".encode("cp932"), "髙橋"),
    ],
)
def test_what_senders_write_beyond_a_set_is_read(label: str, value: bytes, text: str) -> None:
    copy, remarks = normalise_with_remarks(dataset(label, PatientID=value))
    assert (copy.PatientID, remarks) == (text, ())


@pytest.mark.parametrize(
    ("label", "value", "text", "remark"),
    [
        (None, "王小明".encode(), "王小明", f"read as utf-8, {GUESS}"),
        (None, "王小明".encode("gb18030"), "王小明", f"read as gb18030, {GUESS}"),
        (None, "Müller".encode(), "Müller", f"read as utf-8, {GUESS}"),
        (None, "Müller".encode("latin-1"), "Müller", f"read as latin-1, {GUESS}"),
        ("ISO_IR 100", "王小明".encode("gbk"), "王小明", f"read as gb18030, {AGAINST}"),
        ("ISO_IR 100", "王小明".encode(), "王小明", f"read as utf-8, {AGAINST}"),
        ("ISO_IR 100", "Müller".encode(), "Müller", f"read as utf-8, {AGAINST}"),
        ("ISO_IR 100", "Иванов".encode(), "Иванов", f"read as utf-8, {AGAINST}"),
        ("ISO_IR 100", "D’Angelo".encode("cp1252"), "D’Angelo", f"read as cp1252, {AGAINST}"),
        ("ISO_IR 144", "Иван".encode(), "Иван", f"read as utf-8, {AGAINST}"),
        ("ISO_IR 192", "王小明".encode("gbk"), "王小明", f"read as gb18030, {AGAINST}"),
        ("\\ISO 2022 IR 58", "王小明的".encode(), "王小明的", f"read as utf-8, {AGAINST}"),
        ("\\ISO 2022 IR 87", "山田".encode("cp932"), "山田", f"read as cp932, {AGAINST}"),
        ("\\ISO 2022 IR 87", "山田".encode("euc_jp"), "山田", f"read as euc_jp, {AGAINST}"),
        ("\\ISO 2022 IR 87", "山田".encode(), "山田", f"read as utf-8, {AGAINST}"),
        ("ISO_IR 192", "张王小明".encode()[:-1], "张王小\ufffd", REPLACED),  # cut at 64 bytes, in mid-character
        ("GB18030", "张王小明".encode("gb18030")[:-1], "张王小\ufffd", REPLACED),
        ("ISO_IR 126", "Άννα".encode("iso8859_7") + b"\xff", "Άννα\ufffd", REPLACED),
        ("\\ISO 2022 IR 87", b"\x1b$B;3E", "山\ufffd", REPLACED),
        ("\\ISO 2022 IR 87", b"\x1b$B;3}}\x1b(B-", "山\ufffd-", REPLACED),
        ("\\ISO 2022 IR 58", b"Wang\x1b", "Wang", BROKEN_ESCAPE),
        ("\\ISO 2022 IR 58", b"Wang\x1b(Q Li", "Wang Li", BROKEN_ESCAPE),
        ("\\ISO 2022 IR 58", b"Wang\x1b$)", "Wang", BROKEN_ESCAPE),
        ("KLINGON", b"Wang", "Wang", "its label names no known character set"),
    ],
)
def test_what_had_to_be_assumed_is_remarked_and_logged_without_the_text(
    label: str | None, value: bytes, text: str, remark: str
) -> None:
    ds = dataset(label, PatientID=value)
    copy, remarks = normalise_with_remarks(ds)
    assert copy.PatientID == text
    assert remark in remarks
    with structlog.testing.capture_logs() as events:
        normalise(ds)
    assert [event["event"] for event in events] == ["text needed an assumption"]
    assert text not in repr(events)
    assert "KLINGON" not in repr(events)


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=2, max_size=9), st.integers(1, 2))
def test_utf_8_cut_in_mid_character_loses_that_character_only(text: str, cut: int) -> None:
    assert decode_text(text.encode()[:-cut], ["utf-8"]) == text[:-1] + "\ufffd"


def test_an_item_without_a_set_has_that_of_the_item_it_is_in() -> None:
    innermost = dataset(None, PatientID="王".encode("gb18030"))
    middle = dataset("GB18030", PatientID="李".encode("gb18030"))
    middle.RequestAttributesSequence = [innermost]
    beside = dataset(None, PatientID="Ж".encode("iso8859_5"))
    outer = dataset("ISO_IR 144")
    outer.RequestAttributesSequence = [middle, beside]
    copy = normalise(outer)
    first, second = copy.RequestAttributesSequence
    assert (first.PatientID, first.RequestAttributesSequence[0].PatientID, second.PatientID) == ("李", "王", "Ж")


def test_an_item_that_declares_the_default_set_does_not_inherit() -> None:
    item = dataset("", PatientID="王".encode())
    outer = dataset("ISO_IR 144")
    outer.RequestAttributesSequence = [item]
    assert normalise(outer).RequestAttributesSequence[0].PatientID == "王"


def _save(path: Path, spelling: Spelling) -> None:
    ds = written(spelling, spelling.name, spelling.line)
    del ds.OtherPatientNames, ds.PatientComments
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, "2.25.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.2", "2.25.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)


# DCMTK 3.6.7 does not know Latin-9, cannot have JIS X 0208 from glibc, and fails on Latin-1 as an extension.
UNKNOWN_TO_DCMTK = frozenset(
    {"none", "ISO_IR 203", "ISO 2022 IR 203 as an extension", "ISO 2022 IR 100 as an extension", "ISO 2022 IR 87",
     "ISO 2022 IR 159", "ISO 2022 IR 13 and 87"}
)  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize("key", [key for key in SPELLINGS if key not in UNKNOWN_TO_DCMTK])
def test_dcmtk_reads_the_same_and_the_stored_bytes_stay(key: str, tmp_path: Path) -> None:
    if shutil.which("dcmconv") is None:
        pytest.skip("DCMTK's dcmconv is not installed")
    stored, converted = tmp_path / "a.dcm", tmp_path / "b.dcm"
    _save(stored, SPELLINGS[key])
    before = stored.read_bytes()
    done = subprocess.run(["dcmconv", "+U8", str(stored), str(converted)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    theirs, ours = dcmread(converted), normalise(dcmread(stored))
    assert (ours.PatientName, ours.PatientID) == (theirs.PatientName, theirs.PatientID)
    assert patient_of(ours).name.alphabetic == SPELLINGS[key].name.split("=")[0]
    assert stored.read_bytes() == before


@pytest.mark.parametrize("key", [key for key in SPELLINGS if "87" in key or "159" in key])
def test_pydicom_reads_the_japanese_sets_the_same(key: str, tmp_path: Path) -> None:
    _save(tmp_path / "a.dcm", SPELLINGS[key])
    theirs, ours = dcmread(tmp_path / "a.dcm"), normalise(dcmread(tmp_path / "a.dcm"))
    assert (ours.PatientName, ours.PatientID) == (theirs.PatientName, theirs.PatientID)
