"""A disk that failed to sync is not believed again until a person says so; a full one is just full."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from node.store.volume import bad_reason, clear_bad, mark_bad, sync_file, sync_names


def _failing(number: int) -> Callable[[int], None]:
    def fsync(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


def test_a_volume_is_good_until_it_is_marked_and_after_a_person_has_cleared_it(tmp_path: Path) -> None:
    assert bad_reason(tmp_path) == ""
    mark_bad(tmp_path, "fsync failed: Input/output error")
    assert bad_reason(tmp_path) == "fsync failed: Input/output error"
    clear_bad(tmp_path)
    clear_bad(tmp_path)
    assert bad_reason(tmp_path) == ""


@pytest.mark.parametrize("sync", [sync_file, sync_names])
def test_a_failed_fsync_marks_the_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    monkeypatch.setattr(os, "fsync", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        sync(tmp_path, path if sync is sync_file else tmp_path)
    assert "Input/output error" in bad_reason(tmp_path)


def test_a_full_disk_is_not_a_bad_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    monkeypatch.setattr(os, "fsync", _failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        sync_file(tmp_path, path)
    assert bad_reason(tmp_path) == ""
