"""Digests name their method, and old ones by SHA-256 still hold."""

import hashlib
from pathlib import Path

import pytest
from blake3 import blake3
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.dicom.part10 import file_header
from node.errors import StoreError, UnreadableInstanceError
from node.store.digest import content_digest, dataset_digest, is_same_dataset, is_same_file

BODY = b"the dataset as it came"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.dcm"
    found.write_bytes(file_header(CTImageStorage, "2.25.1", ExplicitVRLittleEndian) + BODY)
    return found


def test_a_digest_is_over_the_dataset_alone(path: Path) -> None:
    assert dataset_digest(path) == (f"blake3:{blake3(BODY).hexdigest()}", len(BODY))


@pytest.mark.parametrize("digest", [f"blake3:{blake3(BODY).hexdigest()}", f"sha256:{hashlib.sha256(BODY).hexdigest()}"])
def test_a_dataset_is_compared_by_the_method_its_row_names(path: Path, digest: str) -> None:
    assert is_same_dataset(path, digest)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert not is_same_dataset(path, digest)


def test_an_unknown_method_is_an_error_not_a_difference(path: Path) -> None:
    with pytest.raises(StoreError, match="'md5'"):
        is_same_dataset(path, "md5:00")


def test_a_file_that_is_no_dicom_file_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no")
    with pytest.raises(UnreadableInstanceError):
        dataset_digest(tmp_path / "a")


@pytest.mark.parametrize("method", ["blake3", "sha256"])
def test_a_whole_file_is_compared_by_the_method_its_row_names(path: Path, method: str) -> None:
    content = path.read_bytes()
    digest = content_digest(content) if method == "blake3" else f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert digest.startswith(method)
    assert is_same_file(path, digest)
    path.write_bytes(b"!" + content[1:])
    assert not is_same_file(path, digest)
