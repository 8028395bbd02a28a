"""An archive that does not take an object as it is gets the same object in a form that it takes, or a clear no."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)

from node.deliver import DicomConnection, send_dicom
from node.dicom.part10 import file_header
from node.dicom.sr_class import smaller_class_uid
from node.domain.work import Output, OutputKind
from node.errors import DeliveryError
from tests.objects import dataset_bytes, output_of, stored
from tests.peers import orthanc as orthanc_peer
from tests.peers.archive import Archive
from tests.peers.modality import dcmtk_receiver
from tests.peers.pacs import destination
from tests.peers.validators import dciodvfy, dsrdump
from tests.unit.report.studies import film_analysis, film_study, make

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)


def _read(found: tuple[str, str, str, bytes]) -> Dataset:
    sop_class, uid, syntax, dataset = found
    return dcmread(DicomBytesIO(file_header(sop_class, uid, syntax) + dataset))


def _image(name: str) -> tuple[Path, Output]:
    path = Path(str(get_testdata_file(name, download=False)))
    return path, output_of(path, OutputKind.HEAT_MAP)


def test_an_object_in_explicit_vr_goes_to_an_archive_that_takes_only_implicit_vr_with_its_values(
    tmp_path: Path,
) -> None:
    path, output = stored(tmp_path)
    with Archive(taken={str(BasicTextSRStorage): (IMPLICIT,)}) as archive:
        assert send_dicom(path, output, destination(archive.port), calling_ae="W") == "0x0000 as Implicit VR"
    (found,) = archive.objects
    assert found[:3] == (str(BasicTextSRStorage), output.output_id, IMPLICIT)
    sent, got = dcmread(path), _read(found)
    assert sorted(got.keys()) == sorted(sent.keys())
    for tag in sorted(sent.keys()):  # the bytes of every value, the private one and the odd padding included
        assert (got.get_item(tag).value or b"") == (sent.get_item(tag).value or b""), tag


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("rtdose_rle.dcm", "rtdose.dcm"),
        ("SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_16bit_2frame.dcm"),
        ("image_dfl.dcm", "image_dfl.dcm"),
    ],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # one of these files has such
def test_a_lossless_image_goes_uncompressed_with_the_same_pixels_and_uid(
    compressed: str, plain: str, syntax: str
) -> None:
    path, output = _image(compressed)
    with Archive(taken={output.sop_class_uid: (syntax,)}) as archive:
        answer = send_dicom(path, output, destination(archive.port), calling_ae="WETREAD")
    assert answer == f"0x0000 as {'Implicit' if syntax == IMPLICIT else 'Explicit'} VR"
    (found,) = archive.objects
    assert found[:3] == (output.sop_class_uid, output.output_id, syntax)
    got = _read(found)
    truth = dcmread(str(get_testdata_file(plain, download=False)))
    assert np.array_equal(got.pixel_array, truth.pixel_array)
    sent = dcmread(path)
    changed = {"PixelData", "PlanarConfiguration"}
    for element in sent:
        if element.keyword not in changed and element.tag.element != 0:
            assert got[element.tag].value == element.value, element.keyword


def test_a_lossy_image_goes_uncompressed_as_a_derived_object_that_says_so() -> None:
    path, output = _image("SC_rgb_dcmtk_+eb+cr.dcm")
    with Archive(taken={output.sop_class_uid: (EXPLICIT,)}) as archive:
        for _ in range(2):
            send_dicom(path, output, destination(archive.port), calling_ae="WETREAD")
    first, second = archive.objects
    assert first == second
    assert first[1] != output.output_id
    got = _read(first)
    assert (got.SOPInstanceUID, got.LossyImageCompression, got.ImageType[0]) == (first[1], "01", "DERIVED")
    assert got.pixel_array.shape == dcmread(path).pixel_array.shape


def test_a_compressed_image_that_is_taken_as_it_is_goes_as_it_is() -> None:
    path, output = _image("MR_small_jp2klossless.dcm")
    taken = {str(MRImageStorage): (IMPLICIT, EXPLICIT, str(JPEG2000Lossless))}
    with Archive(taken=taken) as archive:
        assert send_dicom(path, output, destination(archive.port), calling_ae="WETREAD") == "0x0000"
    assert archive.objects == [(str(MRImageStorage), output.output_id, str(JPEG2000Lossless), dataset_bytes(path))]


def test_an_image_that_says_it_is_enormous_is_never_decoded(tmp_path: Path) -> None:
    ds = dcmread(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    ds.Rows = ds.Columns = 60_000
    ds.save_as(tmp_path / "big.dcm")
    with (
        Archive(taken={str(MRImageStorage): (EXPLICIT,)}) as archive,
        pytest.raises(DeliveryError, match=r"cannot be sent in another form: .*7200000000") as caught,
    ):
        send_dicom(tmp_path / "big.dcm", output_of(tmp_path / "big.dcm"), destination(archive.port), calling_ae="W")
    assert caught.value.is_permanent
    assert archive.objects == []


def test_an_image_whose_pixels_are_broken_is_a_dead_letter_and_the_next_object_goes(tmp_path: Path) -> None:
    ds = dcmread(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    ds.PixelData = ds.PixelData[:200]
    ds.save_as(tmp_path / "broken.dcm")
    taken = {str(MRImageStorage): (EXPLICIT,), str(CTImageStorage): (EXPLICIT,)}
    with Archive(taken=taken) as archive, DicomConnection(destination(archive.port), calling_ae="W") as connection:
        with pytest.raises(DeliveryError, match="cannot be sent in another form") as caught:
            connection.send(tmp_path / "broken.dcm", output_of(tmp_path / "broken.dcm"))
        assert caught.value.is_permanent
        assert connection.send(*_image("CT_small.dcm")) == "0x0000"


def _measurement_report(tmp_path: Path) -> tuple[Path, Output]:
    """Our own TID 1500, with outlines and measurements."""
    found = _film_outputs(tmp_path)[OutputKind.MEASUREMENT_SR]
    return found.path, found


def _film_outputs(tmp_path: Path) -> dict[OutputKind, Output]:
    study = film_study(tmp_path)
    made = make(film_analysis(study), study, tmp_path / "out")
    return {one.kind: one for one in made.outputs}


@pytest.mark.parametrize(
    ("taken", "sop_class", "name"),
    [
        ((ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage), ComprehensiveSRStorage, "Comprehensive SR"),
        ((EnhancedSRStorage, BasicTextSRStorage), EnhancedSRStorage, "Enhanced SR"),
    ],
)
def test_a_report_goes_as_the_largest_class_the_archive_takes_and_twice_is_one_object(
    tmp_path: Path, taken: tuple[str, ...], sop_class: str, name: str
) -> None:
    path, output = _measurement_report(tmp_path)
    with Archive(taken={str(one): (EXPLICIT,) for one in taken}) as archive:
        for _ in range(2):
            assert send_dicom(path, output, destination(archive.port), calling_ae="W") == f"0x0000 as {name}"
    first, second = archive.objects
    assert first == second
    assert first[:2] == (str(sop_class), smaller_class_uid(output.output_id, str(sop_class)))
    got, sent = _read(first), dcmread(path)
    assert (got.SOPClassUID, got.SOPInstanceUID) == first[:2]
    for element in sent:
        if element.keyword not in ("SOPClassUID", "SOPInstanceUID"):
            assert got[element.tag] == element, element.keyword


@pytest.mark.peer
@pytest.mark.parametrize("sop_class", [ComprehensiveSRStorage, EnhancedSRStorage])
def test_a_report_in_a_smaller_class_is_valid_for_other_makers(tmp_path: Path, sop_class: str) -> None:
    path, output = _measurement_report(tmp_path)
    with Archive(taken={str(sop_class): (EXPLICIT,)}) as archive:
        send_dicom(path, output, destination(archive.port), calling_ae="WETREAD")
    kept = path.with_name(f"{smaller_class_uid(output.output_id, str(sop_class))}.smaller.dcm")
    assert archive.objects[0][3] == dataset_bytes(kept)
    assert dciodvfy(kept) == dciodvfy(path)
    assert dsrdump(kept).splitlines()[1:] == dsrdump(path).splitlines()[1:]


def test_a_report_in_a_smaller_class_is_encoded_anew_where_only_implicit_vr_is_taken(tmp_path: Path) -> None:
    path, output = _measurement_report(tmp_path)
    with Archive(taken={str(EnhancedSRStorage): (IMPLICIT,)}) as archive:
        assert send_dicom(path, output, destination(archive.port), calling_ae="W") == "0x0000 as Enhanced SR"
    (found,) = archive.objects
    assert found[2] == IMPLICIT
    assert [one.ValueType for one in _read(found).ContentSequence] == [
        one.ValueType for one in dcmread(path).ContentSequence
    ]


def test_measurements_never_go_to_an_archive_that_takes_only_text_reports_and_the_text_report_does(
    tmp_path: Path,
) -> None:
    outputs = _film_outputs(tmp_path)
    measured, text = outputs[OutputKind.MEASUREMENT_SR], outputs[OutputKind.TEXT_SR]
    taken = {str(BasicTextSRStorage): (EXPLICIT,)}
    with Archive(taken=taken) as archive, DicomConnection(destination(archive.port), calling_ae="W") as connection:
        with pytest.raises(DeliveryError) as caught:
            connection.send(measured.path, measured)
        assert connection.send(text.path, text) == "0x0000"
        assert archive.associations == 1  # what is taken was asked with the first report
    assert caught.value.is_permanent
    assert "does not take Comprehensive 3D SR Storage in Explicit VR Little Endian: SOP class not supported" in str(
        caught.value
    )
    assert "Basic Text SR Storage is taken, but" in str(caught.value)
    assert "has no place in it" in str(caught.value)


def test_a_report_without_measurements_goes_to_an_archive_that_takes_only_text_reports(tmp_path: Path) -> None:
    text = _film_outputs(tmp_path)[OutputKind.TEXT_SR]
    ds = dcmread(text.path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = Comprehensive3DSRStorage
    ds.save_as(tmp_path / "words.dcm")
    with Archive(taken={str(BasicTextSRStorage): (EXPLICIT,)}) as archive:
        answer = send_dicom(
            tmp_path / "words.dcm", output_of(tmp_path / "words.dcm"), destination(archive.port), calling_ae="W"
        )
    assert answer == "0x0000 as Basic Text SR"
    assert archive.objects[0][0] == str(BasicTextSRStorage)


def test_a_smaller_report_made_once_is_sent_again_as_it_was_made(tmp_path: Path) -> None:
    path, output = _measurement_report(tmp_path)
    kept = path.with_name(f"{smaller_class_uid(output.output_id, str(EnhancedSRStorage))}.smaller.dcm")
    with Archive(taken={str(EnhancedSRStorage): (EXPLICIT,)}) as archive:
        send_dicom(path, output, destination(archive.port), calling_ae="W")
        made_at = kept.stat().st_mtime_ns
        send_dicom(path, output, destination(archive.port), calling_ae="W")
    assert kept.stat().st_mtime_ns == made_at


@pytest.mark.peer
def test_dcmtk_that_takes_only_implicit_vr_gets_the_same_pixels(tmp_path: Path) -> None:
    path, output = _image("MR_small_jp2klossless.dcm")
    with dcmtk_receiver(tmp_path, "+xi") as port:
        assert send_dicom(path, output, destination(port), calling_ae="WETREAD") == "0x0000 as Implicit VR"
    (received,) = tmp_path.iterdir()
    truth = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    assert np.array_equal(dcmread(received).pixel_array, truth.pixel_array)
    assert dcmread(received).file_meta.TransferSyntaxUID == IMPLICIT


@pytest.mark.peer
def test_orthanc_takes_a_compressed_image_as_it_is(tmp_path: Path) -> None:
    path, output = _image("MR_small_jp2klossless.dcm")
    with orthanc_peer.orthanc(tmp_path / "orthanc") as pacs:
        answer = send_dicom(path, output, orthanc_peer.destination(pacs), calling_ae="WETREAD")
        assert answer == "0x0000"
        got = dcmread(DicomBytesIO(pacs.download(output.output_id)))
    assert got.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert got.PixelData == dcmread(path).PixelData
