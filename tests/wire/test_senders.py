"""Senders of five makers in front of the node: what each says on the wire is what is kept, byte for byte."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread

from node.settings import DicomSettings
from tests.peers import orthanc as orthanc_peer
from tests.peers import senders
from tests.peers.front import FrontDoor, Tap, front_door
from tests.peers.modality import send_with_pynetdicom

pytestmark = pytest.mark.peer

UNCOMPRESSED = ("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm")
COMPRESSED = ("MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "JPGExtended.dcm")
ECHOES = {
    "echoscu": senders.echo_with_dcmtk,
    "odil": senders.echo_with_odil,
    "dcmjs-dimse": senders.echo_with_dcmjs,
    "pynetdicom": senders.echo_with_pynetdicom,
}
Send = Callable[[Sequence[Path], int], Sequence[int | None]]


def by_pynetdicom(files: Sequence[Path], port: int) -> list[int | None]:
    return list(send_with_pynetdicom(files[0].parent, port).values())


# Each sender, and the objects it can send as they are.
STORES: dict[str, tuple[Send, tuple[str, ...]]] = {
    "storescu": (senders.send_with_storescu, UNCOMPRESSED),
    "dcmsend": (senders.send_with_dcmsend, UNCOMPRESSED + COMPRESSED),
    "odil": (senders.send_with_odil, UNCOMPRESSED),
    "dcmjs-dimse": (senders.send_with_dcmjs, UNCOMPRESSED + COMPRESSED),
    "pynetdicom": (by_pynetdicom, UNCOMPRESSED + COMPRESSED),
}
DOORS = ("own", "pynetdicom")


def objects(folder: Path, names: Sequence[str]) -> list[Path]:
    """Objects of the names, each with a UID of its own: some are the same image in another syntax."""
    folder.mkdir()
    files = []
    for number, name in enumerate(names):
        ds = dcmread(str(get_testdata_file(name)))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.4711{number}"
        ds.save_as(folder / name)
        files.append(folder / name)
    return files


def settings(receiver: str) -> DicomSettings:
    return DicomSettings(receiver=receiver, port=0, network_timeout_s=20)


@pytest.mark.parametrize("receiver", DOORS)
@pytest.mark.parametrize("name", ECHOES)
def test_every_sender_is_echoed(tmp_path: Path, name: str, receiver: str) -> None:
    with front_door(tmp_path, settings(receiver)) as door:
        ECHOES[name](door.port)


@pytest.mark.parametrize("receiver", DOORS)
@pytest.mark.parametrize("name", STORES)
def test_what_a_sender_says_is_what_is_kept(tmp_path: Path, name: str, receiver: str) -> None:
    send, names = STORES[name]
    files = objects(tmp_path / "files", names)
    with front_door(tmp_path, settings(receiver)) as door, Tap(door.port) as tap:
        assert set(send(files, tap.port)) <= {0x0000}
        assert_kept(door, tap, files)


def assert_kept(door: FrontDoor, tap: Tap, files: Sequence[Path]) -> None:
    said = tap.datasets()
    assert set(said) == {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files}
    assert door.datasets() == said
    assert door.quarantine() == []


def test_storescu_sends_each_compressed_syntax_it_proposes(tmp_path: Path) -> None:
    options = {
        "MR_small_RLE.dcm": "-xr",
        "MR_small_jpeg_ls_lossless.dcm": "-xt",
        "MR_small_jp2klossless.dcm": "-xv",
        "JPGExtended.dcm": "-xx",
        "SC_rgb_jpeg_gdcm.dcm": "-xs",
        "SC_rgb_dcmtk_+eb+cr.dcm": "-xy",
        "MR_small_bigendian.dcm": "-xb",
        "MR_small_implicit.dcm": "-xi",
    }
    files = objects(tmp_path / "files", list(options))
    with front_door(tmp_path) as door, Tap(door.port) as tap:
        for path in files:
            assert senders.send_with_storescu([path], tap.port, options[path.name]) == [0x0000]
        assert_kept(door, tap, files)
        kept = {row.sop_uid: row.transfer_syntax_uid for row in door.instances()}
    for path in files:
        ds = dcmread(path, stop_before_pixels=True)
        assert kept[ds.SOPInstanceUID] == ds.file_meta.TransferSyntaxUID, path.name


def test_an_archive_that_is_told_to_move_a_study_sends_it_to_the_node(tmp_path: Path) -> None:
    files = objects(tmp_path / "files", ["CT_small.dcm"])
    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    with front_door(tmp_path) as door, Tap(door.port) as tap:
        with senders.dcmqrscp(tmp_path / "archive", destination=("WETREAD", tap.port)) as port:
            assert senders.send_with_storescu(files, port, "-aec", "ARCHIVE") == [0x0000]
            senders.move_with_dcmtk(study, port, archive="ARCHIVE", destination="WETREAD")
        assert_kept(door, tap, files)


def test_orthanc_echoes_sends_and_moves_to_the_node(tmp_path: Path) -> None:
    files = objects(tmp_path / "files", UNCOMPRESSED + COMPRESSED)
    with front_door(tmp_path) as door, orthanc_peer.orthanc(tmp_path / "orthanc") as pacs:
        with Tap(door.port) as tap:
            orthanc_peer.knows(pacs, "node", "WETREAD", tap.port)
            orthanc_peer.echo_from(pacs, "node")
            names = orthanc_peer.upload(pacs, files)
            assert orthanc_peer.store_from(pacs, "node", names) == 0
            assert_kept(door, tap, files)
        with Tap(door.port) as tap:
            orthanc_peer.knows(pacs, "node", "WETREAD", tap.port)
            orthanc_peer.knows(pacs, "asker", "MOVESCU", tap.port)
            study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
            senders.move_with_dcmtk(study, pacs.port, archive=pacs.ae_title, destination="WETREAD")
            assert list(tap.datasets()) == [str(dcmread(files[0], stop_before_pixels=True).SOPInstanceUID)]
        assert len(door.instances()) == len(files)  # what was here before was taken as the same, byte for byte
        assert door.quarantine() == []


def test_orthanc_reads_back_what_it_sent(tmp_path: Path) -> None:
    (path,) = objects(tmp_path / "files", ["CT_small.dcm"])
    with front_door(tmp_path) as door, orthanc_peer.orthanc(tmp_path / "orthanc") as pacs:
        orthanc_peer.knows(pacs, "node", "WETREAD", door.port)
        assert orthanc_peer.store_from(pacs, "node", orthanc_peer.upload(pacs, [path])) == 0
        (kept,) = door.files().values()
        shutil.copy(kept, tmp_path / "kept.dcm")
    assert dcmread(tmp_path / "kept.dcm").pixel_array.tobytes() == dcmread(path).pixel_array.tobytes()
