"""Sending files by hand: refusals are told, nothing is left open."""

import socket
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ImplicitVRLittleEndian, MRImageStorage

from node.errors import DeliveryError
from node.send import Sent, dicom_files, send_files
from tests.objects import stored
from tests.peers.archive import Act, Archive
from tests.peers.pacs import BadPacs, Fault


def test_a_closed_port_is_told_and_leaves_no_socket_behind() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = [Path(str(get_testdata_file("CT_small.dcm")))]
    for _ in range(3):  # a socket that is left open is a warning, and warnings fail the test
        with pytest.raises(DeliveryError, match=f"WETREAD at 127.0.0.1:{port} cannot be reached"):
            send_files(
                files, host="127.0.0.1", port=port, called_ae="WETREAD", calling_ae="CT1",
                on_sent=lambda _sent: None, timeout_s=5,
            )  # fmt: skip


def test_only_files_with_the_dicom_prefix_are_sent(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("short", encoding="utf-8")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    assert dicom_files([tmp_path]) == [tmp_path / "below" / "a"]


def test_a_peer_that_aborts_is_told_by_a_missing_status() -> None:
    with BadPacs(Fault.ABORT) as pacs:
        (sent,) = send_files(
            [Path(str(get_testdata_file("CT_small.dcm")))], host="127.0.0.1", port=pacs.port, called_ae="PACS",
            calling_ae="CT1", on_sent=lambda _sent: None, timeout_s=5,
        )  # fmt: skip
    assert sent.status is None


def test_files_follow_over_another_association_when_one_broke_off(tmp_path: Path) -> None:
    files = [stored(tmp_path, number)[0] for number in range(4)]
    with Archive(Act.TAKE, Act.ABORT, Act.TAKE) as archive:
        sent = _send(files, archive.port)
        assert archive.associations == 2
    assert [one.status for one in sent] == [0x0000, None, 0x0000, 0x0000]
    assert "aborted by the peer" in sent[1].reason


def test_a_peer_that_stalls_once_is_not_waited_for_again(tmp_path: Path) -> None:
    files = [stored(tmp_path, number)[0] for number in range(30)]
    with Archive(Act.TAKE, Act.SILENCE) as archive:
        sent = _send(files, archive.port, timeout_s=0.3)
        assert len(archive.objects) == 2
    assert [one.status for one in sent] == [0x0000, *[None] * 29]
    assert all("out of time" in one.reason for one in sent[1:])


def test_a_peer_that_is_gone_after_the_first_file_leaves_the_others_without_an_answer(tmp_path: Path) -> None:
    files = [stored(tmp_path, number)[0] for number in range(3)]
    with Archive(Act.TAKE, Act.ABORT) as archive:
        sent = send_files(
            files, host="127.0.0.1", port=archive.port, called_ae="PACS", calling_ae="CT1",
            on_sent=lambda _sent: archive.lock(), timeout_s=5,
        )  # fmt: skip
    assert [one.status for one in sent] == [0x0000, None, None]
    assert "cannot be reached" in sent[2].reason


def test_what_the_peer_takes_only_uncompressed_is_sent_so_and_what_it_does_not_take_is_told(tmp_path: Path) -> None:
    compressed = Path(str(get_testdata_file("MR_small_RLE.dcm")))
    report, _ = stored(tmp_path)
    with Archive(taken={str(MRImageStorage): (str(ImplicitVRLittleEndian),)}) as archive:
        first, second, third = _send([compressed, report, compressed], archive.port)
        assert archive.associations == 1
    assert (first.status, first.form, first.is_taken) == (0x0000, "Implicit VR", True)
    assert (second.status, second.is_taken) == (None, False)
    assert "does not take Basic Text SR Storage" in second.reason
    assert third.is_taken


def test_more_kinds_than_one_association_holds_go_over_several(tmp_path: Path) -> None:
    files = [stored(tmp_path, n, sop_class=f"1.2.840.10008.5.1.4.1.1.{n}", size=10)[0] for n in range(1, 140)]
    with Archive() as archive:
        sent = _send(files, archive.port)
        assert archive.associations == 2
        assert max(map(len, archive.proposed)) == 128
    assert all(one.is_taken for one in sent)


def test_nothing_to_send_opens_nothing() -> None:
    assert _send([], 1) == []


def _send(files: list[Path], port: int, *, timeout_s: float = 5.0) -> list[Sent]:
    return send_files(
        files, host="127.0.0.1", port=port, called_ae="PACS", calling_ae="CT1", on_sent=lambda _sent: None,
        timeout_s=timeout_s,
    )  # fmt: skip
