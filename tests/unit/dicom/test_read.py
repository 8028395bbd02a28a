import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.dicom import read
from node.dicom.charset import normalise
from node.dicom.part10 import file_header
from node.dicom.read import header_of, order_of, patient_of, read_dataset
from node.domain.codes import Code
from node.domain.study import Order, Patient, PersonName
from node.errors import UnreadableInstanceError
from tests.phantoms import ct_slice

CANARY = "CANARY"


@pytest.fixture
def slice_path(tmp_path: Path) -> Path:
    return ct_slice(tmp_path / "slice.dcm", PatientName=f"{CANARY}^A", PatientID=CANARY)


def test_a_slice_is_read_with_and_without_its_pixels(slice_path: Path) -> None:
    assert "PixelData" not in read_dataset(slice_path)
    assert "PixelData" in read_dataset(slice_path, with_pixels=True)


def test_truncated_pixel_data_is_refused_and_names_the_instance_only(slice_path: Path) -> None:
    uid = str(dcmread(slice_path).SOPInstanceUID)
    slice_path.write_bytes(slice_path.read_bytes()[:-10])
    with pytest.raises(UnreadableInstanceError, match=uid) as caught:
        read_dataset(slice_path, with_pixels=True)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("length", [0, 4, 131, 132, 200, 400, 500])
def test_a_header_cut_short_is_refused(slice_path: Path, length: int) -> None:
    slice_path.write_bytes(slice_path.read_bytes()[:length])
    with pytest.raises(UnreadableInstanceError, match="slice") as caught:
        read_dataset(slice_path)
    assert CANARY not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInstanceError, match="nobody"):
        read_dataset(tmp_path / "nobody.dcm")


@pytest.mark.parametrize("keyword", ["SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_without_an_identifier_is_refused(slice_path: Path, keyword: str) -> None:
    ds = dcmread(slice_path)
    del ds[keyword]
    ds.save_as(slice_path, enforce_file_format=False)
    with pytest.raises(UnreadableInstanceError, match=keyword):
        read_dataset(slice_path)


def test_a_path_for_a_uid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInstanceError, match="SeriesInstanceUID"):
        read_dataset(ct_slice(tmp_path / "a.dcm", SeriesInstanceUID="../../etc/passwd"))


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    if vr in {b"SQ", b"UN", b"OB", b"UT"}:
        return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def identifiers() -> bytes:
    return (
        element(8, 0x16, b"UI", CTImageStorage.encode())
        + element(8, 0x18, b"UI", b"1.2.3")
        + element(0x20, 0x0D, b"UI", b"1.2.4")
        + element(0x20, 0x0E, b"UI", b"1.2.5")
    )


def write(path: Path, dataset: bytes, syntax: str = "1.2.840.10008.1.2.1") -> Path:
    path.write_bytes(file_header(CTImageStorage, "1.2.3", syntax) + dataset)
    return path


@pytest.mark.parametrize("depth", [40, 300, 3000])
def test_sequences_nested_without_end_never_crash(tmp_path: Path, depth: int) -> None:
    opened = struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closed = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path = write(tmp_path / "deep.dcm", identifiers() + opened * depth + closed * depth)
    with pytest.raises(UnreadableInstanceError):
        normalise(read_dataset(path))


def test_sequences_of_defined_length_nested_without_end_never_crash(tmp_path: Path) -> None:
    body = b""
    for _ in range(300):
        body = element(0x40, 0x275, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body)
    ds = read_dataset(write(tmp_path / "deep.dcm", identifiers() + body))
    with pytest.raises(UnreadableInstanceError):
        normalise(ds)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_uncompressed_syntax_gives_the_same_header(slice_path: Path, tmp_path: Path, syntax: str) -> None:
    expected = header_of(read_dataset(slice_path))
    ds = dcmread(slice_path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds["PixelData"].VR = "OW"
    dcmwrite(
        tmp_path / "other.dcm",
        ds,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    ds = read_dataset(tmp_path / "other.dcm")
    assert header_of(ds) == expected
    assert patient_of(normalise(ds)).patient_id == CANARY


def test_a_deflated_object_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "LONGEST_INFLATED_BYTES", 1 << 22)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflater.compress(identifiers() + element(8, 0x5000, b"OB", b"\0" * (1 << 23))) + deflater.flush()
    assert len(bomb) < 20_000
    path = write(tmp_path / "bomb.dcm", bomb, DeflatedExplicitVRLittleEndian)
    with pytest.raises(UnreadableInstanceError, match="inflates"):
        read_dataset(path)


def test_a_header_has_plain_bounded_values_and_no_binary(tmp_path: Path) -> None:
    path = ct_slice(
        tmp_path / "a.dcm",
        ImageComments="x" * 5000,
        SliceThickness=None,
        KVP="",
        ImageType=["ORIGINAL", "PRIMARY"],
        RequestAttributesSequence=[],
        RedPaletteColorLookupTableData=b"\0\1",
    )
    header = header_of(read_dataset(path, with_pixels=True))
    json.dumps(header)
    assert header["ImageComments"] == "x" * 1024
    assert header["KVP"] is None
    assert "SliceThickness" not in header
    assert header["ImageType"] == ["ORIGINAL", "PRIMARY"]
    assert header["Rows"] == 64
    assert header["PixelSpacing"] == [1.0, 1.0]
    assert header["InstanceNumber"] == 1
    assert header["PatientName"] == "Wang^XiaoMing=王^小明"
    assert not {"PixelData", "RequestAttributesSequence", "RedPaletteColorLookupTableData"} & set(header)


@pytest.mark.parametrize(
    ("vr", "value"),
    [(b"DS", b"abc"), (b"DS", b"nan"), (b"DS", b"1e999"), (b"IS", b"1_000"), (b"IS", b"\xff"), (b"DS", b"9" * 5000)],
)
def test_a_number_that_is_none_is_left_out_of_the_header(tmp_path: Path, vr: bytes, value: bytes) -> None:
    body = identifiers() + element(0x28, 0x1052, vr, value)
    header = header_of(read_dataset(write(tmp_path / "a.dcm", body)))
    assert "RescaleIntercept" not in header
    json.dumps(header, allow_nan=False)


def only(ds: Dataset, *keywords: str) -> Dataset:
    part = Dataset()
    for keyword in keywords:
        part.add(ds[keyword])
    return part


def test_patient_and_order_are_read_with_issuer_and_request(tmp_path: Path) -> None:
    item = dcmread(ct_slice(tmp_path / "item.dcm", AccessionNumber="A-in-request"))
    code = ct_slice(tmp_path / "code.dcm", CodeValue="CTH", CodingSchemeDesignator="99LOCAL", CodeMeaning="头颅CT平扫")
    request = only(item, "AccessionNumber")
    request.PlacerOrderNumberImagingServiceRequest = "P-1"
    request.FillerOrderNumberImagingServiceRequest = "F-1"
    keywords = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    request.RequestedProcedureCodeSequence = [only(dcmread(code), *keywords)]
    path = ct_slice(
        tmp_path / "a.dcm",
        IssuerOfPatientID="HOSPITAL",
        RequestAttributesSequence=[request],
        StudyTime="10:15:00.123",
        StudyDescription="头颅CT",
        ReferringPhysicianName="Li^Hua=李^华",
    )
    ds = normalise(read_dataset(path))
    assert patient_of(ds) == Patient("P-1", "HOSPITAL", PersonName("Wang^XiaoMing", "王^小明"), "19600102", "M")
    assert order_of(ds) == Order(
        study_instance_uid=str(ds.StudyInstanceUID),
        accession_number="A-1",
        placer_order_number="P-1",
        filler_order_number="F-1",
        procedure=Code("CTH", "99LOCAL", "头颅CT平扫"),
        study_description="头颅CT",
        study_date="20260301",
        study_time="101500",
        referring_physician=PersonName("Li^Hua", "李^华"),
    )


def test_an_order_never_invents_a_number(tmp_path: Path) -> None:
    order = order_of(normalise(read_dataset(ct_slice(tmp_path / "a.dcm", AccessionNumber="", StudyDate="soon"))))
    assert (order.accession_number, order.placer_order_number, order.filler_order_number) == ("", "", "")
    assert order.procedure is None
    assert order.study_date == ""


def test_an_unknown_sex_is_empty(tmp_path: Path) -> None:
    assert patient_of(normalise(read_dataset(ct_slice(tmp_path / "a.dcm", PatientSex="X")))).sex == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused_and_never_crashes(slice_path: Path, data: st.DataObject) -> None:
    content = bytearray(slice_path.read_bytes()[:1500])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = slice_path.with_name("mutated.dcm")
    path.write_bytes(content)
    with suppress(UnreadableInstanceError):
        ds = read_dataset(path)
        json.dumps(header_of(ds), allow_nan=False)
        copy = normalise(ds)
        patient_of(copy)
        order_of(copy)


def test_an_empty_element_of_an_unknown_vr_is_read(tmp_path: Path) -> None:
    ds = read_dataset(write(tmp_path / "a.dcm", identifiers() + element(0x10, 0x30, b"D\xd7", b"")))
    assert header_of(ds).get("PatientBirthDate") is None
    assert patient_of(normalise(ds)).birth_date == ""


def test_a_file_header_with_a_wrong_length_is_refused(slice_path: Path) -> None:
    content = bytearray(slice_path.read_bytes())
    content[138] = 157
    slice_path.write_bytes(content)
    with pytest.raises(UnreadableInstanceError):
        read_dataset(slice_path)
