"""The header of a file is read whatever its maker did with it, or refused with one clear error."""

import contextlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.filereader import read_file_meta_info

from node.dicom.part10 import FileMeta, dataset_offset, file_header, read_file_meta
from node.errors import UnreadableInstanceError

DATASET = b"\x08\0\x60\0CS\2\0MR"
HEADER = file_header("1.2.3", "1.2.4", "1.2.840.10008.1.2.1")


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_jp2klossless.dcm", "image_dfl.dcm", "ExplVR_BigEnd.dcm"])
def test_a_header_says_what_another_reader_finds(name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    theirs = read_file_meta_info(path)
    with path.open("rb") as file:
        ours = read_file_meta(file)
        assert ours == FileMeta(
            str(theirs.MediaStorageSOPClassUID),
            str(theirs.MediaStorageSOPInstanceUID),
            str(theirs.TransferSyntaxUID),
            dataset_offset(file),
        )


def test_a_group_length_that_is_wrong_or_missing_does_not_matter() -> None:
    wrong = HEADER[:140] + b"\xff\xff\0\0" + HEADER[144:]
    without = HEADER[:132] + HEADER[144:]
    for header in (HEADER, wrong, without):
        assert read_file_meta(io.BytesIO(header + DATASET)) == FileMeta(
            "1.2.3", "1.2.4", "1.2.840.10008.1.2.1", len(header)
        )


def test_a_header_with_long_private_information_is_read_to_its_end() -> None:
    private = struct.pack("<HH2sxxI", 2, 0x0102, b"OB", 100_000) + b"x" * 100_000
    meta = read_file_meta(io.BytesIO(HEADER + private + DATASET))
    assert meta.dataset_offset == len(HEADER) + len(private)


def test_a_header_that_ends_the_file_and_fills_the_first_read_is_read() -> None:
    padding = struct.pack("<HH2sxxI", 2, 0x0102, b"OB", 8192 - len(HEADER) - 12) + b"x" * (8192 - len(HEADER) - 12)
    assert read_file_meta(io.BytesIO(HEADER + padding)).dataset_offset == 8192
    assert read_file_meta(io.BytesIO(HEADER + padding + DATASET)).dataset_offset == 8192


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "prefix DICM"),
        (b"\0" * 128 + b"DICM", "lacks"),
        (HEADER[:-20], "cut short"),
        (HEADER[:144] + _element(2, b"UI", b"../etc"), "lacks"),
    ],
)
def test_what_is_no_header_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(UnreadableInstanceError, match=words):
        read_file_meta(io.BytesIO(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_follows_the_prefix_the_answer_is_a_header_or_one_error(data: bytes) -> None:
    with contextlib.suppress(UnreadableInstanceError):
        read_file_meta(io.BytesIO(b"\0" * 128 + b"DICM" + data))
