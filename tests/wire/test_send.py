"""Sending files by hand: refusals are told, nothing is left open."""

import socket
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from node.errors import DeliveryError
from node.send import dicom_files, send_files
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
