"""C-STORE of stored bytes to real receivers: pynetdicom, DCMTK, Orthanc."""

import hashlib
from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage

from node.deliver import DicomConnection, send_dicom
from node.demo.pacs import SmallPacs
from node.domain.work import Output
from node.errors import DeliveryError
from tests.objects import dataset_bytes, stored
from tests.peers import orthanc as orthanc_peer
from tests.peers.modality import dcmtk_receiver, send_with_dcmtk, send_with_pynetdicom
from tests.peers.pacs import BadPacs, Fault, StalledPacs, destination
from tests.peers.ris import refused_port


def test_stored_bytes_arrive_unchanged(tmp_path: Path) -> None:
    path, output = stored(tmp_path)
    with BadPacs() as pacs:
        assert send_dicom(path, output, destination(pacs.port), calling_ae="WETREAD") == "0x0000"
    assert pacs.datasets == [dataset_bytes(path)]
    assert pacs.calling_aes == ["WETREAD"]


def test_one_association_carries_objects_of_several_kinds(tmp_path: Path) -> None:
    objects = [stored(tmp_path, n) for n in range(3)] + [stored(tmp_path, 9, sop_class=SecondaryCaptureImageStorage)]
    with BadPacs() as pacs, DicomConnection(destination(pacs.port), calling_ae="WETREAD") as connection:
        for path, output in (*objects, *objects):
            assert connection.send(path, output) == "0x0000"
        assert pacs.associations == 2  # the second when the second kind came
    assert len(pacs.datasets) == 8


def test_warning_means_stored(tmp_path: Path) -> None:
    path, output = stored(tmp_path)
    warnings = (0xB000, 0xB006, 0xB007, 0x0116)
    with BadPacs(*warnings) as pacs, DicomConnection(destination(pacs.port), calling_ae="WETREAD") as connection:
        assert [connection.send(path, output) for _ in warnings] == [f"0x{status:04X}" for status in warnings]


def test_pacs_that_already_has_the_object_has_taken_it(tmp_path: Path) -> None:
    with BadPacs(0x0111) as pacs:
        assert send_dicom(*stored(tmp_path), destination(pacs.port), calling_ae="WETREAD") == "0x0111"


@pytest.mark.parametrize(
    ("statuses", "is_permanent"),
    [
        ((0xA700, 0xA701, 0x0110, 0x0124, 0x0210), False),
        ((0xA900, 0xA901, 0xC000, 0xC123, 0x0122, 0x0117), True),
    ],
)
def test_refusal_of_content_is_a_dead_letter_and_lack_of_room_is_tried_again(
    tmp_path: Path, statuses: tuple[int, ...], *, is_permanent: bool
) -> None:
    path, output = stored(tmp_path)
    with BadPacs(*statuses) as pacs, DicomConnection(destination(pacs.port), calling_ae="WETREAD") as connection:
        for status in statuses:
            with pytest.raises(DeliveryError, match=f"2.25.771 was answered 0x{status:04X}") as caught:
                connection.send(path, output)
            assert caught.value.is_permanent is is_permanent


def test_association_goes_on_after_a_refused_object(tmp_path: Path) -> None:
    with BadPacs(0xC000, 0x0000) as pacs, DicomConnection(destination(pacs.port), calling_ae="W") as connection:
        with pytest.raises(DeliveryError):
            connection.send(*stored(tmp_path, 1))
        assert connection.send(*stored(tmp_path, 2)) == "0x0000"
        assert pacs.associations == 1


def test_abort_in_mid_series_is_resumed_on_a_new_association(tmp_path: Path) -> None:
    with BadPacs(0x0000, Fault.ABORT, 0x0000) as pacs:
        with DicomConnection(destination(pacs.port), calling_ae="WETREAD") as connection:
            assert connection.send(*stored(tmp_path, 1)) == "0x0000"
            with pytest.raises(DeliveryError) as caught:
                connection.send(*stored(tmp_path, 2))
            assert not caught.value.is_permanent
            assert connection.send(*stored(tmp_path, 2)) == "0x0000"
        assert pacs.associations == 2


def test_pacs_that_says_nothing_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    with BadPacs(Fault.SILENCE) as pacs, pytest.raises(DeliveryError, match="out of time") as caught:
        send_dicom(*stored(tmp_path), destination(pacs.port, timeout_s=0.5), calling_ae="WETREAD")
    assert not caught.value.is_permanent


def test_pacs_that_stops_reading_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    with StalledPacs() as pacs, pytest.raises(DeliveryError) as caught:
        send_dicom(*stored(tmp_path, size=64 << 20), destination(pacs.port, timeout_s=0.5), calling_ae="WETREAD")
    assert not caught.value.is_permanent


def test_refused_connection_is_tried_again(tmp_path: Path) -> None:
    with refused_port() as port, pytest.raises(DeliveryError, match="cannot be reached") as caught:
        send_dicom(*stored(tmp_path), destination(port), calling_ae="WETREAD")
    assert not caught.value.is_permanent


def test_rejected_association_is_tried_again(tmp_path: Path) -> None:
    with BadPacs(called_ae="PACS") as pacs, pytest.raises(DeliveryError, match="rejected") as caught:
        send_dicom(*stored(tmp_path), destination(pacs.port, ae_title="OTHER"), calling_ae="WETREAD")
    assert not caught.value.is_permanent


@pytest.mark.parametrize(
    ("sop_class", "syntax", "reason"),
    [
        (SecondaryCaptureImageStorage, "1.2.840.10008.1.2.1", "SOP class not supported"),
        (BasicTextSRStorage, "1.2.840.10008.1.2.4.50", "transfer syntax not supported"),
    ],
)
def test_refused_kind_of_object_is_a_dead_letter_that_says_why(
    tmp_path: Path, sop_class: str, syntax: str, reason: str
) -> None:
    with BadPacs(sop_classes=(sop_class,), transfer_syntaxes=(syntax,)) as pacs, pytest.raises(DeliveryError) as caught:
        send_dicom(*stored(tmp_path), destination(pacs.port), calling_ae="WETREAD")
    assert caught.value.is_permanent
    assert reason in str(caught.value)
    assert "Basic Text SR Storage" in str(caught.value)


def test_refused_kind_does_not_keep_the_others_back(tmp_path: Path) -> None:
    pacs = BadPacs(sop_classes=(BasicTextSRStorage,))
    with pacs, DicomConnection(destination(pacs.port), calling_ae="WETREAD") as connection:
        with pytest.raises(DeliveryError, match="SOP class not supported"):
            connection.send(*stored(tmp_path, 1, sop_class=SecondaryCaptureImageStorage))
        assert connection.send(*stored(tmp_path, 2)) == "0x0000"
        with pytest.raises(DeliveryError, match="SOP class not supported"):
            connection.send(*stored(tmp_path, 3, sop_class=SecondaryCaptureImageStorage))
        assert connection.send(*stored(tmp_path, 4)) == "0x0000"


def test_file_that_is_not_the_one_stored_is_never_sent(tmp_path: Path) -> None:
    path, output = stored(tmp_path)
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    with BadPacs() as pacs, pytest.raises(DeliveryError, match="not the ones that were made") as caught:
        send_dicom(path, output, destination(pacs.port), calling_ae="WETREAD")
    assert caught.value.is_permanent
    assert pacs.associations == 0


def test_lost_file_and_foreign_file_are_named_not_sent(tmp_path: Path) -> None:
    path, output = stored(tmp_path)
    with BadPacs() as pacs:
        with pytest.raises(DeliveryError, match="cannot be read"):
            send_dicom(tmp_path / "gone.dcm", output, destination(pacs.port), calling_ae="WETREAD")
        other = tmp_path / "other"
        other.write_bytes(b"not DICOM")
        digest = hashlib.sha256(b"not DICOM").hexdigest()
        fake = Output(output.output_id, output.kind, other, digest, 9)
        with pytest.raises(DeliveryError, match="not a DICOM file"):
            send_dicom(other, fake, destination(pacs.port), calling_ae="WETREAD")
        wrong = Output("2.25.1", output.kind, path, output.sha256, output.size_bytes)
        with pytest.raises(DeliveryError, match="another object"):
            send_dicom(path, wrong, destination(pacs.port), calling_ae="WETREAD")


def test_small_pacs_keeps_the_first_and_starts_again_on_its_port(tmp_path: Path) -> None:
    path, output = stored(tmp_path / "out")
    pacs = SmallPacs(tmp_path / "pacs")
    to = destination(pacs.port)
    pacs.start()
    try:
        assert send_dicom(path, output, to, calling_ae="WETREAD") == "0x0000"
        pacs.stop()
        with pytest.raises(DeliveryError):
            send_dicom(path, output, to, calling_ae="WETREAD")
        pacs.start()
        assert send_dicom(path, output, to, calling_ae="WETREAD") == "0x0111"
        assert pacs.instances() == [output.output_id]
        assert pacs.download(output.output_id).endswith(dataset_bytes(path))
    finally:
        pacs.stop()


@pytest.mark.peer
def test_dcmtk_receives_the_stored_bytes(tmp_path: Path) -> None:
    path, output = stored(tmp_path / "out")
    with dcmtk_receiver(tmp_path / "in") as port:
        assert send_dicom(path, output, destination(port), calling_ae="WETREAD") == "0x0000"
    (received,) = (tmp_path / "in").iterdir()
    assert received.read_bytes().endswith(dataset_bytes(path))


@pytest.mark.peer
def test_orthanc_returns_the_same_dataset_and_keeps_one_object_of_two_sends(tmp_path: Path) -> None:
    path, output = stored(tmp_path / "out")
    with orthanc_peer.orthanc(tmp_path / "orthanc") as pacs:
        to = orthanc_peer.destination(pacs)
        for _ in range(2):
            assert send_dicom(path, output, to, calling_ae="WETREAD") == "0x0000"
        assert pacs.instances() == [output.output_id]
        assert pacs.download(output.output_id).endswith(dataset_bytes(path))
        pacs.stop()
        with pytest.raises(DeliveryError) as caught:
            send_dicom(path, output, to, calling_ae="WETREAD")
        assert not caught.value.is_permanent
        pacs.start()
        assert pacs.instances() == [output.output_id]


@pytest.mark.peer
def test_both_modalities_report_the_status_of_every_object(tmp_path: Path) -> None:
    for number in (1, 2):
        stored(tmp_path, number)
    with BadPacs(0x0000, 0xA700, 0x0000, 0xC000) as pacs:
        assert send_with_pynetdicom(tmp_path, pacs.port) == {"1.dcm": 0x0000, "2.dcm": 0xA700}
        code, statuses = send_with_dcmtk(tmp_path, pacs.port, options=("-nh",))
        assert statuses == [0x0000, 0xC000]
        assert code == 0
