"""The front door, asked by real senders: what comes in is kept byte for byte, strangers stay out."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE, _config, build_context

from node.dicom.part10 import file_header
from node.front import start_receiver
from node.receive import Receiver
from node.settings import CompleteSettings, DicomSettings, Peer, Settings, StoreSettings
from node.store.database import Store, open_store
from node.store.digest import dataset_digest
from node.store.files import name_of
from node.store.schema import INSTANCES, QUARANTINE, STUDIES
from tests.faults.running import wait_until
from tests.peers.modality import send_with_dcmtk, send_with_pynetdicom

RECEIVERS = ("own", "pynetdicom")
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"  # Siemens CSA Non-Image Storage
REAL_FILES = (
    "ExplVR_BigEnd.dcm",
    "CT_small.dcm",
    "693_J2KR.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_jpeg.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
    "JPEG2000.dcm",
)


@pytest.fixture(params=RECEIVERS)
def door(request: pytest.FixtureRequest) -> DicomSettings:
    """Settings of each receiver in turn: the fall-back keeps the same promises."""
    return DicomSettings(receiver=request.param, port=0, network_timeout_s=10)


@contextmanager
def _open(store: Store, settings: DicomSettings, *, least_mb: int = 0) -> Iterator[Receiver]:
    everything = Settings(
        dicom=settings, store=StoreSettings(store.root, refuse_below_free_mb=least_mb), complete=CompleteSettings()
    )
    receiver = start_receiver(everything, store)
    try:
        yield receiver
    finally:
        receiver.stop(drain_s=5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    found.close()


def _rows(store: Store, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with store.reading() as connection:
        return list(connection.execute(sa.select(table)).all())


def _folder_of_real_files(tmp_path: Path) -> Path:
    folder = tmp_path / "real"
    folder.mkdir()
    for name in REAL_FILES:
        (folder / name).write_bytes(Path(str(get_testdata_file(name))).read_bytes())
    return folder


@pytest.mark.filterwarnings("ignore:Expected explicit VR")  # pydicom, of SC_rgb_jpeg.dcm
def test_every_syntax_is_kept_byte_for_byte(store: Store, door: DicomSettings, tmp_path: Path) -> None:
    folder = _folder_of_real_files(tmp_path)
    with _open(store, door) as receiver:
        statuses = send_with_pynetdicom(folder, receiver.port)
    assert set(statuses.values()) == {0x0000}
    for name in REAL_FILES:
        uid = dcmread(folder / name, stop_before_pixels=True).SOPInstanceUID
        assert dataset_digest(store.root / name_of(uid)) == dataset_digest(folder / name)
    assert len(_rows(store, INSTANCES)) == len(REAL_FILES)


@pytest.mark.peer
def test_dcmtk_can_echo_and_store(store: Store, door: DicomSettings, tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    with _open(store, door) as receiver:
        code, _ = send_with_dcmtk(folder, receiver.port)
    assert code == 0
    assert len(_rows(store, INSTANCES)) == 1


def test_a_private_sop_class_is_kept_or_refused_by_configuration(
    store: Store, door: DicomSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    ds = dcmread(str(get_testdata_file("CT_small.dcm")))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = PRIVATE_CLASS
    ds.save_as(folder / "a.dcm")
    with _open(store, replace(door, accept_private_sop_classes=False)) as receiver:
        ae = AE("X")
        assoc = ae.associate("127.0.0.1", receiver.port, contexts=[build_context(PRIVATE_CLASS)])
        assert assoc.rejected_contexts
        assoc.abort()
    with _open(store, door) as receiver:
        assert send_with_pynetdicom(folder, receiver.port) == {"a.dcm": 0x0000}
    assert [row.sop_class_uid for row in _rows(store, INSTANCES)] == [PRIVATE_CLASS]


def test_a_deflated_syntax_and_a_query_service_are_not_offered(store: Store, door: DicomSettings) -> None:
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    contexts = [build_context(CTImageStorage, [DeflatedExplicitVRLittleEndian]), build_context(find)]
    with _open(store, door) as receiver:
        assoc = AE("X").associate("127.0.0.1", receiver.port, contexts=contexts)
        rejected = {str(context.abstract_syntax) for context in assoc.rejected_contexts}
        assoc.abort()
    assert rejected == {str(CTImageStorage), find} or not assoc.accepted_contexts


def _knock(receiver: Receiver, calling_ae: str) -> tuple[bool, bool]:
    assoc = AE(calling_ae).associate("127.0.0.1", receiver.port, contexts=[build_context("1.2.840.10008.1.1")])
    accepted, rejected = assoc.is_established, assoc.is_rejected
    if accepted:
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()
    return accepted, rejected


def test_only_allowed_peers_come_in(store: Store, door: DicomSettings) -> None:
    with _open(store, replace(door, allowed_peers=(Peer("CT1", "127.0.0.1"),))) as receiver:
        assert _knock(receiver, "CT1") == (True, False)
        assert _knock(receiver, "STRANGER") == (False, True)
    with _open(store, replace(door, allowed_peers=(Peer("*", "10.0.0.0/8"),))) as receiver:
        assert _knock(receiver, "CT1") == (False, True)


def test_a_full_disk_refuses_the_association_as_transient(store: Store, door: DicomSettings) -> None:
    with _open(store, door, least_mb=10**9) as receiver:
        assert _knock(receiver, "CT1") == (False, True)


def test_a_truncated_object_gets_its_status_and_the_next_is_served(
    store: Store, door: DicomSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    whole = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    (folder / "a.dcm").write_bytes(whole[:-5000])
    (folder / "b.dcm").write_bytes(whole)
    with _open(store, door) as receiver:
        assert send_with_pynetdicom(folder, receiver.port) == {"a.dcm": 0xC000, "b.dcm": 0x0000}
    (row,) = _rows(store, QUARANTINE)
    assert "truncated" in row.reason


def test_a_dataset_of_another_object_is_refused(store: Store, door: DicomSettings, tmp_path: Path) -> None:
    folder = tmp_path / "liar"
    folder.mkdir()
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = CTImageStorage, "2.25.5", "2.25.6", "2.25.7"  # fmt: skip  # noqa: E501
    body = DicomBytesIO()
    body.is_little_endian, body.is_implicit_VR = True, False
    write_dataset(body, ds)
    header = file_header(CTImageStorage, "2.25.99", ExplicitVRLittleEndian)
    (folder / "a.dcm").write_bytes(header + body.getvalue())
    with _open(store, door) as receiver:
        (status,) = send_with_pynetdicom(folder, receiver.port).values()
    assert status == 0xA900


def _ct(tmp_path: Path) -> Path:
    folder = tmp_path / "ct"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    return folder


def test_release_is_noted_and_an_abort_in_mid_transfer_leaves_nothing(
    store: Store, door: DicomSettings, tmp_path: Path
) -> None:
    folder = _ct(tmp_path)
    with _open(store, door) as receiver:
        send_with_pynetdicom(folder, receiver.port)
        with socket.create_connection(("127.0.0.1", receiver.port)) as probe:
            probe.sendall(b"\x01\x00\x00\x00\x00\xff")
    (study,) = _rows(store, STUDIES)
    assert study.released_at is not None
    assert not list((store.root / "incoming").iterdir())


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_sender_that_breaks_off_has_not_released_and_holds_back_no_release_of_another(
    store: Store, door: DicomSettings, tmp_path: Path, end: str
) -> None:
    folder = _ct(tmp_path)
    contexts = [build_context(CTImageStorage, [ExplicitVRLittleEndian])]
    with _open(store, door) as receiver:
        assoc = AE("CT1").associate("127.0.0.1", receiver.port, contexts=contexts)
        assert assoc.send_c_store(folder / "a.dcm").Status == 0x0000
        assert receiver.open_associations == 1
        if end == "abort":
            assoc.abort()
        else:
            assoc.dul.socket.close()
        _wait_until_ended(receiver)
        assert _rows(store, STUDIES)[0].released_at is None
        send_with_pynetdicom(folder, receiver.port)
    assert _rows(store, STUDIES)[0].released_at is not None


def _wait_until_ended(receiver: Receiver) -> None:
    wait_until(lambda: receiver.open_associations == 0, timeout_s=20, what="the Association has ended")


def test_a_release_does_not_count_while_another_sender_of_the_study_is_open(
    store: Store, door: DicomSettings, tmp_path: Path
) -> None:
    folder = _ct(tmp_path)
    contexts = [build_context(CTImageStorage, [ExplicitVRLittleEndian])]
    with _open(store, door) as receiver:
        assoc = AE("CT1").associate("127.0.0.1", receiver.port, contexts=contexts)
        assert assoc.send_c_store(folder / "a.dcm").Status == 0x0000
        send_with_pynetdicom(folder, receiver.port)
        assert _rows(store, STUDIES)[0].released_at is None
        assoc.release()
    assert _rows(store, STUDIES)[0].released_at is not None


def test_a_stopped_receiver_leaves_no_switch_of_the_process_turned(store: Store, door: DicomSettings) -> None:
    before = (_config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir)
    with _open(store, door):
        pass
    assert (_config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir) == before
