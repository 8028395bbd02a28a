"""Results as files: whole, durable, never over another file, and nothing left behind by a fault."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import EncapsulatedPDFStorage

from node.deliver.folder import FolderConnection
from node.domain.work import Output, OutputKind
from node.errors import DeliveryError
from node.settings import FolderDestination
from tests.objects import output_of, stored

CONTENT = '{"patient": "王小明"}\n'.encode()


@pytest.fixture
def result(tmp_path: Path) -> Output:
    path = tmp_path / "store" / "2.25.5.json"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return Output("2.25.5", OutputKind.JSON, path, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


def _send(result: Output, folder: Path) -> str:
    return FolderConnection(FolderDestination("share", str(folder))).send(result.path, result)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (OutputKind.JSON, "2.25.5.json"),
        (OutputKind.FHIR, "2.25.5.fhir.json"),
        (OutputKind.ORU, "2.25.5.hl7"),
        (OutputKind.TEXT_SR, "2.25.5.dcm"),
        (OutputKind.HEAT_MAP, "2.25.5.dcm"),
    ],
)
def test_a_file_has_the_name_of_its_id_and_the_stored_bytes(
    result: Output, share: Path, kind: OutputKind, name: str
) -> None:
    assert _send(replace(result, kind=kind), share) == "written"
    assert _names(share) == [name]
    assert (share / name).read_bytes() == CONTENT
    assert (share / name).stat().st_mode & 0o777 == 0o640


def test_a_file_that_is_there_with_the_same_bytes_is_left_alone(result: Output, share: Path) -> None:
    _send(result, share)
    before = (share / "2.25.5.json").stat()
    assert _send(result, share) == "there already"
    after = (share / "2.25.5.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_another_file_of_that_name_is_never_replaced(result: Output, share: Path, what: str) -> None:
    target = share / "2.25.5.json"
    if what == "folder":
        target.mkdir()
    elif what == "file":
        target.write_bytes(b"something else")
    else:
        target.symlink_to(result.path)
    with pytest.raises(DeliveryError, match="another file is there") as caught:
        _send(result, share)
    assert caught.value.is_permanent
    assert _names(share) == ["2.25.5.json"]
    assert what != "file" or target.read_bytes() == b"something else"


@pytest.mark.parametrize("output_id", ["../x", "a/b", ".hidden", "", "a" * 65, "名", "a\n"])
def test_an_id_that_is_no_file_name_is_refused(result: Output, share: Path, output_id: str) -> None:
    with pytest.raises(DeliveryError, match="no file name") as caught:
        _send(replace(result, output_id=output_id), share)
    assert caught.value.is_permanent
    assert _names(share) == []


def test_a_share_that_is_not_mounted_is_not_made_and_tried_again(result: Output, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="No such file or directory") as caught:
        _send(result, tmp_path / "gone")
    assert not caught.value.is_permanent
    assert not (tmp_path / "gone").exists()


def test_a_stored_file_that_is_gone_is_not_the_folders_fault(result: Output, share: Path) -> None:
    result.path.unlink()
    with pytest.raises(FileNotFoundError):
        _send(result, share)
    assert _names(share) == []


def test_a_file_that_cannot_be_made_durable_is_not_there(
    result: Output, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(DeliveryError, match="Input/output error") as caught:
            _send(result, share)
    assert not caught.value.is_permanent
    assert _names(share) == []
    assert _send(result, share) == "written"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_and_takes_the_file_when_there_is_room(result: Output, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(48 << 10))
    content = bytes(32 << 10)
    result.path.write_bytes(content)
    large = replace(result, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    with pytest.raises(DeliveryError, match="No space left on device") as caught:
        _send(large, small_disk)
    assert not caught.value.is_permanent
    assert _names(small_disk) == ["other"]
    (small_disk / "other").unlink()
    assert _send(large, small_disk) == "written"


KILLED_BEFORE_ITS_NAME = """
import os, signal, sys
from pathlib import Path
from node.deliver.folder import FolderConnection
from node.domain.work import Output, OutputKind
from node.settings import FolderDestination
path, digest, folder, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if when == "before":
    Path.rename = die
output = Output("2.25.5", OutputKind.JSON, path, digest, path.stat().st_size)
FolderConnection(FolderDestination("share", folder)).send(path, output)
die()
"""


@pytest.mark.parametrize(("when", "answer"), [("before", "written"), ("after", "there already")])
def test_a_kill_before_or_after_the_file_has_its_name_ends_with_one_whole_file(
    result: Output, share: Path, when: str, answer: str
) -> None:
    command = [sys.executable, "-c", KILLED_BEFORE_ITS_NAME, str(result.path), result.sha256, str(share), when]
    died = subprocess.run(command, capture_output=True, check=False, timeout=60, cwd=Path(__file__).parents[3])
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert ("2.25.5.json" in _names(share)) is (when == "after")
    assert _send(result, share) == answer
    assert _names(share) == ["2.25.5.json"]
    assert (share / "2.25.5.json").read_bytes() == CONTENT


def test_an_encapsulated_pdf_is_put_there_as_the_pdf_itself(tmp_path: Path, share: Path) -> None:
    path, _ = stored(tmp_path, sop_class=EncapsulatedPDFStorage)
    ds = dcmread(path)
    ds.EncapsulatedDocument, ds.EncapsulatedDocumentLength = b"%PDF-1.7 odd\n\0", 13
    ds.save_as(path)
    output = output_of(path, OutputKind.PDF)
    assert [_send(output, share) for _ in range(2)] == ["written", "there already"]
    assert (share / f"{output.output_id}.pdf").read_bytes() == b"%PDF-1.7 odd\n"


def test_a_pdf_without_a_document_is_refused(tmp_path: Path, share: Path) -> None:
    path, _ = stored(tmp_path)
    with pytest.raises(DeliveryError, match="holds no document") as caught:
        _send(output_of(path, OutputKind.PDF), share)
    assert caught.value.is_permanent
