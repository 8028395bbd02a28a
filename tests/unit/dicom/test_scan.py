"""The outline of an object is read without decoding it, and damage is always one clear error."""

import contextlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread, read_file_meta_info
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.dicom.part10 import dataset_offset, file_header
from node.dicom.scan import Scan, scan_file
from node.errors import UnreadableInstanceError

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
REAL_FILES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "693_J2KI.dcm",
    "SC_rgb_rle.dcm",
    "JPEG2000.dcm",
    "rtplan.dcm",
    "liver.dcm",
    "color3d_jpeg_baseline.dcm",
    "emri_small.dcm",
    "eCT_Supplemental.dcm",
)


def _small(depth: int = 0) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "2.25.1"
    ds.AccessionNumber = "A1"
    item = Dataset()
    item.ReferencedSOPInstanceUID = "2.25.9"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([item])
        item = outer
    ds.ReferencedStudySequence = Sequence([item])
    ds["ReferencedStudySequence"].is_undefined_length = True
    ds.PatientID = "P1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.2", "2.25.3"
    ds.Rows, ds.Columns = 1, 2
    ds.BitsAllocated, ds.PixelRepresentation = 8, 0
    ds.PixelData = b"\x01\x02"
    return ds


def _write(path: Path, ds: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    ds["PixelData"].VR = "OB"
    write_dataset(buffer, ds)
    body = buffer.getvalue()
    path.write_bytes(file_header(CTImageStorage, "2.25.1", syntax) + body)
    return body


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_identifiers_are_found_behind_sequences_in_every_syntax(tmp_path: Path, syntax: str) -> None:
    _write(tmp_path / "a.dcm", _small(depth=3), syntax)
    found = scan_file(tmp_path / "a.dcm", syntax)
    assert (found.sop_class_uid, found.sop_instance_uid) == (str(CTImageStorage), "2.25.1")
    assert (found.study_instance_uid, found.series_instance_uid) == ("2.25.2", "2.25.3")
    assert (found.patient_id, found.accession_number) == (b"P1", b"A1")


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_give_the_same_identifiers_as_pydicom(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    meta, ds = read_file_meta_info(path), dcmread(path, stop_before_pixels=True, force=True)
    found = scan_file(path, meta.TransferSyntaxUID)
    assert found.sop_instance_uid == ds.SOPInstanceUID
    assert found.study_instance_uid == ds.StudyInstanceUID
    assert found.series_instance_uid == ds.SeriesInstanceUID


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_object_cut_anywhere_is_refused_or_ends_between_two_elements(tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "a.dcm"
    body = _write(path, _small(depth=2), syntax)
    whole = path.read_bytes()
    refused = 0
    for length in range(1, len(body)):
        path.write_bytes(whole[: len(whole) - len(body) + length])
        try:
            scan_file(path, syntax)
        except UnreadableInstanceError:
            refused += 1
    elements_at_top = 12
    assert refused >= len(body) - 1 - elements_at_top


def test_truncated_pixel_data_is_named_with_the_missing_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    _write(path, _small(), ExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableInstanceError, match="7FE00010 lacks its last 1 bytes"):
        scan_file(path, ExplicitVRLittleEndian)


def test_sequences_nested_a_thousand_deep_are_refused_without_recursion(tmp_path: Path) -> None:
    level = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path = tmp_path / "a.dcm"
    path.write_bytes(file_header(CTImageStorage, "2.25.1", ExplicitVRLittleEndian) + level * 1000)
    with pytest.raises(UnreadableInstanceError, match="deeper than 64"):
        scan_file(path, ExplicitVRLittleEndian)


def test_a_length_of_four_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    element = b"\x08\x00\x16\x00\xfe\xff\xff\xff12"
    path.write_bytes(file_header(CTImageStorage, "2.25.1", ImplicitVRLittleEndian) + element)
    with pytest.raises(UnreadableInstanceError, match="truncated"):
        scan_file(path, ImplicitVRLittleEndian)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=200), at=st.integers(0, 400), syntax=st.sampled_from(SYNTAXES))
def test_noise_never_raises_anything_but_the_one_error(tmp_path: Path, noise: bytes, at: int, syntax: str) -> None:
    path = tmp_path / "a.dcm"
    body = _write(path, _small(depth=1), syntax)
    at %= len(body)
    path.write_bytes(file_header(CTImageStorage, "2.25.1", syntax) + body[:at] + noise + body[at + len(noise) :])
    with contextlib.suppress(UnreadableInstanceError):
        scan_file(path, syntax)


def test_our_file_header_is_read_back_by_pydicom(tmp_path: Path) -> None:
    header = file_header(CTImageStorage, "2.25.12", ExplicitVRLittleEndian)
    (tmp_path / "a.dcm").write_bytes(header)
    meta = read_file_meta_info(tmp_path / "a.dcm")
    assert meta.MediaStorageSOPInstanceUID == "2.25.12"
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert dataset_offset(BytesIO(header)) == len(header)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_walk_over_stretches_ends_as_one_over_the_whole(tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "a.dcm"
    body = _write(path, _small(depth=2), syntax)
    expected = scan_file(path, syntax)
    for cut in range(1, len(body)):
        in_two, in_many = Scan(syntax), Scan(syntax)
        for piece in (body[:cut], body[cut:]):
            in_two.see(memoryview(piece))
        for start in range(0, len(body), cut):
            in_many.see(memoryview(body)[start : start + cut])
        assert in_two.finish(path) == in_many.finish(path) == expected, f"cut at {cut} bytes"


def test_a_walk_that_began_still_finds_what_is_missing_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    body = _write(path, _small(), ExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-1])
    for cut in range(1, len(body) - 1):
        scan = Scan(ExplicitVRLittleEndian)
        scan.see(memoryview(body)[:cut])
        scan.see(memoryview(body)[cut:-1])
        with pytest.raises(UnreadableInstanceError, match="7FE00010 lacks its last 1 bytes"):
            scan.finish(path)


def test_an_image_that_was_seen_while_it_passed_is_not_opened_again(tmp_path: Path) -> None:
    body = _write(tmp_path / "a.dcm", _small(depth=1), ExplicitVRLittleEndian)
    expected = scan_file(tmp_path / "a.dcm", ExplicitVRLittleEndian)
    scan = Scan(ExplicitVRLittleEndian)
    for piece in (body[:-2], body[-2:-1], body[-1:]):
        scan.see(memoryview(piece))
    assert scan.finish(tmp_path / "no such file") == expected


def test_elements_out_of_order_are_named_whether_they_are_short_or_long(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    elements = b"\x10\x00\x20\x00LO\x02\x00P1", b"\x08\x00\x60\x00CS\x02\x00CT"
    path.write_bytes(file_header(CTImageStorage, "2.25.1", ExplicitVRLittleEndian) + b"".join(elements))
    with pytest.raises(UnreadableInstanceError, match="00080060 at byte 18 is out of order"):
        scan_file(path, ExplicitVRLittleEndian)
