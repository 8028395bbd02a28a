"""Another encoding has the same values; whatever the bytes, the answer is a dataset or one clear error."""

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread, read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from node.dicom.recode import recode
from node.errors import UnreadableInstanceError


def _encoded(ds: Dataset, *, is_implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, is_implicit
    write_dataset(buffer, ds)
    return buffer.getvalue()


def _decoded(data: bytes, *, is_implicit: bool) -> Dataset:
    return read_dataset(DicomBytesIO(data), is_implicit, True)


def _nested() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = "Müller"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BitsAllocated, ds.PixelRepresentation = 16, 1
    ds.add_new("SmallestImagePixelValue", "SS", -1024)
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "one"
    item = Dataset()
    item.ConceptNameCodeSequence = [inner]
    item.ReferencedFrameNumber = [1, 2]
    ds.ContentSequence = [item, Dataset()]
    ds.add_new(0x00091001, "UN", b"\1\2\3\4")
    ds.private_block(0x0009, "TEST", create=True)
    ds.add_new("PixelData", "OW", bytes(range(200)) * 400)
    return ds


@pytest.mark.parametrize("to_implicit", [True, False])
@pytest.mark.parametrize("from_implicit", [True, False])
def test_a_dataset_says_the_same_in_either_encoding(from_implicit: bool, to_implicit: bool) -> None:
    ds = _nested()
    data = _encoded(ds, is_implicit=from_implicit)
    got = _decoded(
        recode(memoryview(data), from_implicit=from_implicit, to_implicit=to_implicit), is_implicit=to_implicit
    )
    assert got == ds
    assert got["SmallestImagePixelValue"].VR == "SS"
    assert got["PixelData"].VR == "OW"


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "reportsi.dcm", "liver_1frame.dcm"])
def test_what_another_reader_sees_in_real_objects_does_not_change(name: str) -> None:
    ds = dcmread(str(get_testdata_file(name, download=False)))
    is_implicit = ds.file_meta.TransferSyntaxUID.is_implicit_VR
    data = _encoded(ds, is_implicit=is_implicit)
    there = recode(memoryview(data), from_implicit=is_implicit, to_implicit=not is_implicit)
    back = recode(memoryview(there), from_implicit=not is_implicit, to_implicit=is_implicit)
    got, again = _decoded(there, is_implicit=not is_implicit), _decoded(back, is_implicit=is_implicit)
    for element in ds:
        if element.VR != "UN" and not element.tag.is_private:
            assert got[element.tag].value == element.value, element.keyword
            assert again[element.tag].value == element.value, element.keyword


def test_text_in_a_character_set_that_is_declared_wrongly_keeps_its_bytes() -> None:
    name = struct.pack("<HH2sH", 0x0010, 0x0010, b"PN", 4) + "王五".encode("gbk")
    assert recode(memoryview(name), from_implicit=False, to_implicit=True).endswith("王五".encode("gbk"))


def test_a_sequence_in_un_of_undefined_length_holds_implicit_vr_and_becomes_a_sequence() -> None:
    item = _encoded(_nested(), is_implicit=True)
    inside = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = struct.pack("<HH2sxxI", 0x0040, 0xA730, b"UN", 0xFFFFFFFF) + inside
    got = _decoded(recode(memoryview(data), from_implicit=False, to_implicit=False), is_implicit=False)
    assert got.ContentSequence == Sequence([_nested()])


def test_what_is_too_long_for_its_vr_becomes_un() -> None:
    data = struct.pack("<HHI", 0x0008, 0x103E, 70_000) + b"x" * 70_000
    assert recode(memoryview(data), from_implicit=True, to_implicit=False)[4:6] == b"UN"


def test_group_lengths_go_because_they_would_be_wrong() -> None:
    data = struct.pack("<HHII", 0x0008, 0x0000, 4, 99) + struct.pack("<HHI", 0x0008, 0x0060, 2) + b"MR"
    assert recode(memoryview(data), from_implicit=True, to_implicit=False) == b"\x08\0\x60\0CS\2\0MR"


def test_changes_come_in_their_places_and_leave_the_rest_alone() -> None:
    ds = _nested()
    changed = recode(
        memoryview(_encoded(ds, is_implicit=False)),
        from_implicit=False,
        to_implicit=False,
        changes={0x00080018: (b"UI", b"2.25.1"), 0x00100010: None, 0x7FE00020: (b"OB", b"abc")},
    )
    got = _decoded(changed, is_implicit=False)
    assert (got.SOPInstanceUID, got[0x7FE00020].value) == ("2.25.1", b"abc\0")
    assert "PatientName" not in got
    del got[0x00080018], got[0x7FE00020], ds[0x00100010]
    assert got == ds
    assert list(got.keys()) == sorted(got.keys())


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_a_dataset_that_is_cut_short_is_refused(cut: int) -> None:
    ds = Dataset()
    ds.ContentSequence = [_nested()]
    data = _encoded(ds, is_implicit=False)
    with pytest.raises(UnreadableInstanceError):
        recode(memoryview(data[:-cut]), from_implicit=False, to_implicit=True)


def test_nesting_without_end_is_refused() -> None:
    head = struct.pack("<HHI", 0x0040, 0xA730, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(UnreadableInstanceError, match="deeper than 64"):
        recode(memoryview(head * 10_000), from_implicit=True, to_implicit=False)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_whatever_bytes_come_the_answer_is_a_dataset_or_one_error(data: bytes, is_from: bool, is_to: bool) -> None:
    with contextlib.suppress(UnreadableInstanceError):
        recode(memoryview(data), from_implicit=is_from, to_implicit=is_to)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 255))
def test_one_wrong_byte_never_raises_anything_else(position: int, value: int) -> None:
    ds = _nested()
    del ds.PixelData
    data = bytearray(_encoded(ds, is_implicit=False))
    data[position % len(data)] = value
    with contextlib.suppress(UnreadableInstanceError):
        recode(memoryview(data), from_implicit=False, to_implicit=True)
