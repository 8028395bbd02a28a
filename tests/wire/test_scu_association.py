"""What an archive may do to an Association of ours, and what becomes of the object that was under way."""

import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage

from node.deliver import DicomConnection, send_dicom
from node.deliver import storage as storage_module
from node.errors import ConfigError, DeliveryError
from node.settings import DicomDestination
from tests.objects import dataset_bytes, stored
from tests.peers.archive import Act, Archive
from tests.peers.modality import dcmtk_receiver


def _to(port: int, *, timeout_s: float = 5.0, host: str = "127.0.0.1") -> DicomDestination:
    return DicomDestination("pacs", host, port, "PACS", timeout_s=timeout_s)


def test_an_association_released_by_the_archive_between_two_objects_is_opened_again(tmp_path: Path) -> None:
    with Archive(Act.TAKE_AND_RELEASE, Act.TAKE) as archive:
        with DicomConnection(_to(archive.port), calling_ae="WETREAD") as connection:
            assert connection.send(*stored(tmp_path, 1)) == "0x0000"
            assert connection.send(*stored(tmp_path, 2)) == "0x0000"
        assert archive.associations == 2
        assert [uid for _, uid, *_ in archive.objects] == ["2.25.771", "2.25.772"]
    assert archive.was_released == [True, True]  # its own release was answered, ours was asked for


def test_a_connection_lost_while_idle_is_opened_again_and_the_object_arrives(tmp_path: Path) -> None:
    with Archive(Act.TAKE, Act.DIE, Act.TAKE) as archive:
        with DicomConnection(_to(archive.port), calling_ae="WETREAD") as connection:
            assert connection.send(*stored(tmp_path, 1)) == "0x0000"
            assert connection.send(*stored(tmp_path, 2)) == "0x0000"
        assert [uid for _, uid, *_ in archive.objects] == ["2.25.771", "2.25.772", "2.25.772"]
        assert archive.associations == 2


def test_a_release_that_crosses_an_object_costs_one_more_try(tmp_path: Path) -> None:
    with (
        Archive(Act.TAKE, Act.RELEASE_INSTEAD, Act.TAKE) as archive,
        DicomConnection(_to(archive.port), calling_ae="W") as connection,
    ):
        assert connection.send(*stored(tmp_path, 1)) == "0x0000"
        assert connection.send(*stored(tmp_path, 2)) == "0x0000"
        assert archive.associations == 2


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Act.DIE, "the connection was closed"),
        (Act.ABORT, "aborted by the peer"),
        (Act.RELEASE_INSTEAD, "released"),
        (Act.SILENCE, "out of time"),
        (Act.DRIP, "out of time"),
        (Act.ANSWER_ANOTHER, "did not keep to the protocol"),
        (Act.NO_PDU, "did not keep to the protocol"),
    ],
)
def test_an_archive_that_does_not_answer_is_told_apart_and_tried_again_later(
    tmp_path: Path, act: Act, reason: str
) -> None:
    with Archive(act, Act.TAKE) as archive:
        with DicomConnection(_to(archive.port, timeout_s=0.4), calling_ae="WETREAD") as connection:
            with pytest.raises(DeliveryError, match=f"no answer to 2.25.771: .*{reason}") as caught:
                connection.send(*stored(tmp_path, 1))
            assert not caught.value.is_permanent
            assert archive.has_closed.wait(10)
            assert connection.send(*stored(tmp_path, 1)) == "0x0000"
        assert archive.associations == 2


def test_an_answer_to_the_request_to_open_that_drips_is_not_waited_for(tmp_path: Path) -> None:
    with (
        Archive(drips_accept=True) as archive,
        pytest.raises(DeliveryError, match="did not open the Association: out of"),
    ):
        send_dicom(*stored(tmp_path), _to(archive.port, timeout_s=0.3), calling_ae="WETREAD")


def test_an_archive_that_asks_us_something_gets_an_answer_and_the_object_arrives(tmp_path: Path) -> None:
    with Archive(Act.ASK_BACK) as archive, DicomConnection(_to(archive.port), calling_ae="WETREAD") as connection:
        for number in (1, 2):
            assert connection.send(*stored(tmp_path, number)) == "0x0000"
        assert archive.associations == 1


def test_an_idle_association_is_released_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Archive() as archive, DicomConnection(_to(archive.port), calling_ae="WETREAD") as connection:
        connection.send(*stored(tmp_path, 1))
        connection.close_if_idle()
        assert archive.was_released == [False]
        monkeypatch.setattr(storage_module, "LONGEST_IDLE_S", 0.0)
        connection.close_if_idle()
        assert archive.has_closed.wait(10)
        assert archive.was_released == [True]
        assert connection.send(*stored(tmp_path, 2)) == "0x0000"


def test_every_kind_offered_once_is_offered_again_and_never_more_than_128(tmp_path: Path) -> None:
    objects = [stored(tmp_path, n, sop_class=f"1.2.840.10008.5.1.4.1.1.{n}") for n in range(1, 71)]
    with Archive(taken={f"1.2.840.10008.5.1.4.1.1.{n}": ("1.2.840.10008.1.2.1",) for n in range(1, 71)}) as archive:
        with DicomConnection(_to(archive.port), calling_ae="WETREAD") as connection:
            for path, output in objects:
                assert connection.send(path, output) == "0x0000"
        assert len(archive.objects) == 70
        assert max(map(len, archive.proposed)) == 128
        assert all(len(set(found)) == len(found) for found in archive.proposed)


@pytest.mark.parametrize("max_pdu_bytes", [0, 20, 4096, 1 << 20])
def test_the_dataset_arrives_whole_whatever_length_the_archive_takes(tmp_path: Path, max_pdu_bytes: int) -> None:
    path, output = stored(tmp_path, size=3_001 if max_pdu_bytes == 20 else 900_001)
    with Archive(max_pdu_bytes=max_pdu_bytes) as archive:
        send_dicom(path, output, _to(archive.port), calling_ae="WETREAD")
    assert archive.objects == [(str(BasicTextSRStorage), "2.25.771", "1.2.840.10008.1.2.1", dataset_bytes(path))]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_archive_is_found_by_name_and_by_ipv6(tmp_path: Path) -> None:
    with Archive() as archive:
        assert send_dicom(*stored(tmp_path), _to(archive.port, host="localhost"), calling_ae="W") == "0x0000"
    with Archive(host="::1") as archive:
        assert send_dicom(*stored(tmp_path), _to(archive.port, host="::1"), calling_ae="W") == "0x0000"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_a_host_without_an_address_is_tried_again_later(tmp_path: Path, host: str) -> None:
    with pytest.raises(DeliveryError, match="has no address") as caught:
        send_dicom(*stored(tmp_path), _to(104, host=host), calling_ae="WETREAD")
    assert not caught.value.is_permanent


def test_an_ae_title_that_cannot_be_said_is_a_dead_letter(tmp_path: Path) -> None:
    destination = DicomDestination("pacs", "127.0.0.1", 104, "A_TITLE_THAT_IS_TOO_LONG")
    with pytest.raises(DeliveryError, match="at most 16 characters") as caught:
        send_dicom(*stored(tmp_path), destination, calling_ae="WETREAD")
    assert caught.value.is_permanent


def _certificate(folder: Path) -> tuple[str, str]:
    certificate, key = folder / "pacs.pem", folder / "pacs.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(certificate), str(key)


def test_objects_go_over_tls_to_the_archive_the_certificate_names_and_to_no_other(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    path, output = stored(tmp_path, size=300_001)

    def to(archive: Archive, host: str) -> DicomDestination:
        return DicomDestination(
            "pacs", host, archive.port, "PACS", timeout_s=5.0, tls=True, tls_authorities=certificate
        )

    with Archive(tls=server) as archive, DicomConnection(to(archive, "localhost"), calling_ae="W") as connection:
        assert connection.send(path, output) == "0x0000"
        assert connection.send(path, output) == "0x0000"
        assert [dataset for *_, dataset in archive.objects] == [dataset_bytes(path)] * 2
        assert archive.associations == 1
    with Archive(tls=server) as archive, pytest.raises(DeliveryError, match="cannot be reached") as caught:
        send_dicom(path, output, to(archive, "127.0.0.1"), calling_ae="W")
    assert not caught.value.is_permanent
    assert archive.objects == []
    with Archive() as archive, pytest.raises(DeliveryError, match="cannot be reached"):
        send_dicom(path, output, to(archive, "localhost"), calling_ae="W")


def test_certificates_that_are_none_stop_the_start_and_make_dead_letters(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate", encoding="ascii")
    destination = DicomDestination("pacs", "h", 1, "P", tls=True, tls_authorities=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"\[destinations.pacs\] tls_authorities"):
        DicomConnection(destination, calling_ae="W")
    with pytest.raises(DeliveryError, match="tls_authorities") as caught:
        send_dicom(*stored(tmp_path), destination, calling_ae="W")
    assert caught.value.is_permanent


@pytest.mark.peer
def test_dcmtk_as_it_comes_takes_a_series_over_one_association(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TCP_NODELAY", raising=False)
    objects = [stored(tmp_path / "out", n, sop_class=SecondaryCaptureImageStorage) for n in range(20)]
    with dcmtk_receiver(tmp_path / "in") as port, DicomConnection(_to(port), calling_ae="WETREAD") as connection:
        assert [connection.send(path, output) for path, output in objects] == ["0x0000"] * 20
    received = sorted(path.read_bytes() for path in (tmp_path / "in").iterdir())
    sent = [dataset_bytes(path) for path, _ in objects]
    assert len(received) == 20
    assert all(any(found.endswith(one) for found in received) for one in sent)
