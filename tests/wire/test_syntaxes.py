"""Every transfer syntax the node keeps: in by our requestor and by real ones, on disk, and out again, byte for byte.

Objects are real ones of pydicom, else encoded on the spot by DCMTK or pydicom's plug-ins, else, for syntaxes that no
encoder here knows, made of fragments that nobody decodes.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    VideoEndoscopicImageStorage,
)
from pynetdicom import AE, build_context

from node.deliver import DicomConnection
from node.domain.work import Output, OutputKind
from node.network.negotiation import KEPT_SYNTAXES
from node.receive.scp import SYNTAXES
from node.send import Sent, send_files
from node.settings import DicomSettings
from tests.peers import orthanc as orthanc_peer
from tests.peers import senders
from tests.peers.front import Tap, dataset_of, front_door
from tests.peers.modality import dcmtk_receiver
from tests.peers.pacs import BadPacs, destination

REAL = {
    ImplicitVRLittleEndian: "MR_small_implicit.dcm",
    ExplicitVRLittleEndian: "CT_small.dcm",
    ExplicitVRBigEndian: "MR_small_bigendian.dcm",
    JPEGBaseline8Bit: "SC_rgb_dcmtk_+eb+cr.dcm",
    JPEGExtended12Bit: "JPGExtended.dcm",
    JPEGLosslessSV1: "SC_rgb_jpeg_gdcm.dcm",
    JPEGLSLossless: "MR_small_jpeg_ls_lossless.dcm",
    JPEGLSNearLossless: "JPEGLSNearLossless_16.dcm",
    JPEG2000Lossless: "MR_small_jp2klossless.dcm",
    JPEG2000: "693_J2KI.dcm",
    RLELossless: "MR_small_RLE.dcm",
}
ENCODERS = {  # DCMTK's, from an uncompressed image
    JPEGLossless: ("dcmcjpeg", "+el"),
    JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    JPEGBaseline8Bit: ("dcmcjpeg", "+eb"),
    JPEGExtended12Bit: ("dcmcjpeg", "+ee"),
    JPEGLSLossless: ("dcmcjpls", "+el"),
    JPEGLSNearLossless: ("dcmcjpls", "+en"),
    RLELossless: ("dcmcrle",),
}
UNDECODED = sorted(KEPT_SYNTAXES - set(map(str, REAL)) - {str(JPEGLossless)})
STORESCU = {  # what DCMTK's storescu proposes, with which option
    ImplicitVRLittleEndian: "-xi",
    ExplicitVRLittleEndian: "-xe",
    ExplicitVRBigEndian: "-xb",
    JPEGBaseline8Bit: "-xy",
    JPEGExtended12Bit: "-xx",
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEGLSNearLossless: "-xu",
    JPEG2000Lossless: "-xv",
    JPEG2000: "-xw",
    RLELossless: "-xr",
}
VIDEO_ROOT = str(MPEG2MPML).removesuffix("100")
VIDEO = {  # Main Profile / Main Level and so on, each by its option of storescu
    "100": "-xm", "101": "-xh", "102": "-xn", "103": "-xl", "104": "-x2", "105": "-x3", "106": "-xo", "107": "-x4",
    "108": "-x5",
}  # fmt: skip


def real(folder: Path, syntax: str) -> Path:
    """A real object in the syntax, under a UID of its own."""
    ds = dcmread(str(get_testdata_file(REAL[UID(syntax)])))
    return saved(ds, folder, syntax)


def saved(ds: Dataset, folder: Path, syntax: str) -> Path:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.{syntax.replace('.', '')}"
    ds.StudyInstanceUID = getattr(ds, "StudyInstanceUID", "2.25.1") or "2.25.1"
    ds.SeriesInstanceUID = getattr(ds, "SeriesInstanceUID", "2.25.2") or "2.25.2"
    ds.save_as(folder / f"{syntax}.dcm")
    return folder / f"{syntax}.dcm"


def opaque(folder: Path, syntax: str) -> Path:
    """An object whose pixel data are fragments that nobody here decodes, with delimiters inside."""
    ds = dcmread(str(get_testdata_file("SC_rgb_small_odd.dcm")))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = VideoEndoscopicImageStorage
    stream = b"\x00\x00\x01\xb3" + bytes(range(256)) * 600 + b"\xfe\xff\xdd\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0"
    ds.PixelData = encapsulate([stream], fragments_per_frame=3, has_bot=False)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return saved(ds, folder, syntax)


def every_object(folder: Path) -> dict[str, Path]:
    """One object in each syntax; JPEG Lossless, Process 14, by DCMTK if it is there, else of fragments."""
    folder.mkdir()
    made = {str(syntax): real(folder, str(syntax)) for syntax in REAL}
    made |= {syntax: opaque(folder, syntax) for syntax in (*UNDECODED, str(JPEGLossless))}
    if shutil.which("dcmcjpeg"):
        made[str(JPEGLossless)] = encoded(folder, JPEGLossless)
    return made


def encoded(folder: Path, syntax: UID) -> Path:
    """An image that DCMTK has just encoded."""
    is_small = syntax in (JPEGBaseline8Bit, JPEGLSNearLossless)  # 8 bits at most; nothing signed
    ds = dcmread(str(get_testdata_file("SC_rgb_small_odd.dcm" if is_small else "MR_small.dcm")))
    source = folder / "source.dcm"
    ds.save_as(source)
    name, *options = ENCODERS[syntax]
    target = folder / f"encoded {syntax}.dcm"
    senders.run(senders.program(name), *options, source, target)
    source.unlink()
    ds = dcmread(target)
    target.unlink()
    return saved(ds, folder, str(syntax))


@pytest.mark.parametrize("receiver", ["own", "pynetdicom"])
def test_an_object_in_every_kept_syntax_goes_in_and_out_unchanged(tmp_path: Path, receiver: str) -> None:
    made = every_object(tmp_path / "made")
    assert set(made) == set(KEPT_SYNTAXES) == set(map(str, SYNTAXES))
    settings = DicomSettings(receiver=receiver, port=0, network_timeout_s=20)
    sent: list[Sent] = []
    with front_door(tmp_path, settings) as door:
        send_files(
            list(made.values()), host="127.0.0.1", port=door.port, called_ae="WETREAD", calling_ae="CT1",
            on_sent=sent.append,
        )  # fmt: skip
        assert {one.status for one in sent} == {0x0000}
        kept = {str(row.transfer_syntax_uid): door.store.root / str(row.path) for row in door.instances()}
        assert set(kept) == set(made)
        for syntax, path in made.items():
            assert dataset_of(kept[syntax]) == dataset_of(path), UID(syntax).name
            assert dcmread(kept[syntax], stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    with (
        BadPacs(transfer_syntaxes=tuple(KEPT_SYNTAXES)) as pacs,
        DicomConnection(destination(pacs.port), calling_ae="WETREAD") as connection,
    ):
        for path in kept.values():
            assert connection.send(path, as_output(path)) == "0x0000"
    assert pacs.datasets == [dataset_of(path) for path in kept.values()]


def as_output(path: Path) -> Output:
    """What the sender is told of a file."""
    meta = dcmread(path, stop_before_pixels=True).file_meta
    content = path.read_bytes()
    return Output(
        output_id=str(meta.MediaStorageSOPInstanceUID),
        kind=OutputKind.HEAT_MAP,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
    )


@pytest.mark.peer
def test_dcmtk_sends_each_syntax_it_knows_and_what_it_says_is_kept(tmp_path: Path) -> None:
    made = {syntax: encoded(tmp_path, syntax) for syntax in ENCODERS if syntax in STORESCU}
    made |= {syntax: real(tmp_path, syntax) for syntax in STORESCU if syntax not in made}
    options = {str(syntax): option for syntax, option in STORESCU.items()}
    for number, option in VIDEO.items():
        syntax = UID(VIDEO_ROOT + number)
        made[syntax], options[str(syntax)] = opaque(tmp_path, str(syntax)), option
    with front_door(tmp_path) as door, Tap(door.port) as tap:
        for syntax, path in made.items():
            assert senders.send_with_storescu([path], tap.port, "-R", options[str(syntax)]) == [0x0000], syntax.name
        assert door.datasets() == tap.datasets()
        assert {str(row.transfer_syntax_uid) for row in door.instances()} == set(options)


def takes(port: int, called_ae: str, sop_class: str) -> set[str]:
    """The kept syntaxes in which a peer takes a SOP class."""
    contexts = [build_context(sop_class, [syntax]) for syntax in sorted(KEPT_SYNTAXES)]
    assoc = AE("WETREAD").associate("127.0.0.1", port, contexts=contexts, ae_title=called_ae)
    found = {str(context.transfer_syntax[0]) for context in assoc.accepted_contexts}
    assoc.release()
    return found


@pytest.mark.peer
def test_dcmtk_is_sent_each_syntax_it_takes_unchanged(tmp_path: Path) -> None:
    made = every_object(tmp_path / "made")
    with dcmtk_receiver(tmp_path / "in") as port:
        taken = takes(port, "PACS", VideoEndoscopicImageStorage)
        assert taken >= {*map(str, STORESCU), *(VIDEO_ROOT + number for number in VIDEO)}
        with DicomConnection(destination(port), calling_ae="WETREAD") as connection:
            for syntax in taken:
                assert connection.send(made[syntax], as_output(made[syntax])) == "0x0000", UID(syntax).name
    received = {
        str(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID): path
        for path in (tmp_path / "in").iterdir()
    }
    assert set(received) == taken
    for syntax, path in received.items():
        assert dataset_of(path) == dataset_of(made[syntax]), UID(syntax).name


@pytest.mark.peer
def test_orthanc_is_sent_each_syntax_it_takes_unchanged(tmp_path: Path) -> None:
    made = every_object(tmp_path / "made")
    with orthanc_peer.orthanc(tmp_path / "orthanc") as pacs, Tap(pacs.port) as tap:
        taken = takes(pacs.port, pacs.ae_title, VideoEndoscopicImageStorage)
        assert taken >= set(map(str, STORESCU))
        to = replace(orthanc_peer.destination(pacs), port=tap.port)
        with DicomConnection(to, calling_ae="WETREAD") as connection:
            for syntax in taken:
                assert connection.send(made[syntax], as_output(made[syntax])) == "0x0000", UID(syntax).name
        sent = {as_output(made[syntax]).output_id: dataset_of(made[syntax]) for syntax in taken}
        assert tap.datasets() == sent
        assert pacs.instances() == sorted(sent)
