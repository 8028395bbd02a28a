"""Honest senders of every kind, and what the receiver on our own upper layer keeps of what they send."""

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_context
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation

from node.network.dimse import Command
from node.network.negotiation import is_storage_class
from node.receive.spool import Answer, Incoming
from tests.peers.modality import send_with_dcmtk, send_with_pynetdicom
from tests.unit.network.conversations import VERIFICATION, message
from tests.wire.front_door import CT_CONTEXT, PATIENT, Bad, opened, serves, store

PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"  # Siemens CSA Non-Image Storage


@pytest.mark.filterwarnings("ignore:Expected explicit VR")  # pydicom, of SC_rgb_jpeg.dcm
def test_every_syntax_arrives_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    names = ("ExplVR_BigEnd.dcm", "CT_small.dcm", "693_J2KR.dcm", "SC_rgb_rle.dcm", "SC_rgb_jpeg.dcm", "JPEG2000.dcm")
    for name in names:
        shutil.copy(str(get_testdata_file(name)), folder / name)
    with opened(tmp_path) as node:
        assert set(send_with_pynetdicom(folder, node.port).values()) == {0x0000}
    for name in names:
        ds = dcmread(folder / name)
        kept = node.objects[ds.SOPInstanceUID]
        sent = (folder / name).read_bytes()
        start = 144 + struct.unpack_from("<I", sent, 140)[0]
        assert kept[144 + struct.unpack_from("<I", kept, 140)[0] :] == sent[start:]
        (tmp_path / "kept.dcm").write_bytes(kept)
        assert dcmread(tmp_path / "kept.dcm").file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
    assert node.released == [["study of CT1"]]
    assert {one.calling_ae for one in node.taken} == {"CT1"}


@pytest.mark.peer
def test_dcmtk_can_echo_and_store(tmp_path: Path, ct_folder: Path) -> None:
    echoscu = shutil.which("echoscu")
    if echoscu is None:
        pytest.skip("DCMTK's echoscu is not installed")
    with opened(tmp_path) as node:
        done = subprocess.run(
            [echoscu, "-aec", "WETREAD", "--repeat", "3", "127.0.0.1", str(node.port)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        code, statuses = send_with_dcmtk(ct_folder, node.port)
        assert (code, set(statuses)) == (0, {0})
        code, _ = send_with_dcmtk(ct_folder, node.port, options=("--max-send-pdu", "4096"))
        assert code == 0
    assert len(node.taken) == 2
    assert node.released == [["study of MR1"]] * 2


@pytest.mark.peer
def test_dcmtk_may_abort_instead_of_releasing(tmp_path: Path, ct_folder: Path) -> None:
    echoscu = shutil.which("echoscu")
    if echoscu is None:
        pytest.skip("DCMTK's echoscu is not installed")
    with opened(tmp_path) as node:
        subprocess.run([echoscu, "--abort", "127.0.0.1", str(node.port)], timeout=30, check=True)
        serves(node, ct_folder)


def test_a_sender_with_small_pdus_gets_its_answers(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node:
        ae = AE("SMALL")
        ae.maximum_pdu_size = 64
        assoc = ae.associate("127.0.0.1", node.port, contexts=[CT_CONTEXT])
        assert assoc.send_c_store(ct_folder / "a.dcm").Status == 0x0000
        assoc.release()


def test_the_spools_answer_is_the_senders_answer(tmp_path: Path, ct_folder: Path) -> None:
    def refuse(one: Incoming) -> Answer:
        one.path.unlink()
        return Answer(0xC000, "the dataset is truncated")

    with opened(tmp_path, accept=refuse) as node:
        assoc = AE("CT1").associate("127.0.0.1", node.port, contexts=[CT_CONTEXT])
        answer = assoc.send_c_store(ct_folder / "a.dcm")
        assoc.release()
    assert (answer.Status, answer.ErrorComment) == (0xC000, "the dataset is truncated")
    assert node.released == []


def test_a_private_sop_class_is_taken_or_refused_by_configuration(tmp_path: Path) -> None:
    declared = SOPClassCommonExtendedNegotiation()
    declared.sop_class_uid, declared.service_class_uid = PRIVATE_CLASS, "1.2.840.10008.4.2"
    with opened(tmp_path, replace(PATIENT, accept_private_sop_classes=False)) as node:
        contexts = [build_context(PRIVATE_CLASS), build_context(VERIFICATION)]
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=contexts)
        assert [str(context.abstract_syntax) for context in assoc.rejected_contexts] == [PRIVATE_CLASS]
        assoc.release()
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=contexts, ext_neg=[declared])
        assert assoc.rejected_contexts == []
        assoc.release()
    (tmp_path / "2").mkdir()
    with opened(tmp_path / "2") as node:
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=[build_context(PRIVATE_CLASS)])
        assert assoc.is_established
        assoc.release()


def test_a_deflated_syntax_and_a_query_service_are_not_offered(tmp_path: Path, ct_folder: Path) -> None:
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    contexts = [
        build_context(CTImageStorage, [DeflatedExplicitVRLittleEndian]),
        build_context(find),
        build_context(VERIFICATION),
    ]
    with opened(tmp_path) as node:
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=contexts)
        results = {str(context.abstract_syntax): context.result for context in assoc.rejected_contexts}
        assoc.release()
        serves(node, ct_folder)
    assert results == {str(CTImageStorage): 4, find: 3}


def test_every_storage_class_pynetdicom_knows_is_taken() -> None:
    assert all(is_storage_class(str(context.abstract_syntax)) for context in AllStoragePresentationContexts)
    for other in ("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.1.1.200.4", VERIFICATION):
        assert not is_storage_class(other)


def test_a_service_that_is_not_ours_gets_a_status(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(message(3, Command(0x0020, 1, has_dataset=True, sop_class_uid="1.2"), b"abcd"))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x11\x02" in peer.hears()
        peer.socket.sendall(store(2, b"abcd", context_id=1))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x22\x01" in peer.hears()
        serves(node, ct_folder)
