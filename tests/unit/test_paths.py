"""The site is found where it was asked for, and a file is there whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from node.errors import ConfigError
from node.paths import SITE_PARTS, bundled_site, copy_site, find_site, write_atomically


def _site(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.toml").write_text("")
    return folder


def test_the_asked_site_goes_before_the_environment_before_the_working_folder(tmp_path: Path) -> None:
    asked, named, here = _site(tmp_path / "asked"), _site(tmp_path / "named"), _site(tmp_path / "here")
    environment = {"WETREAD_SITE": str(named)}
    assert find_site(asked, environment, here) == asked
    assert find_site(None, environment, here) == named
    assert find_site(None, {"WETREAD_SITE": ""}, here) == here
    assert find_site(None, {}, tmp_path) == bundled_site()


def test_a_folder_without_a_config_is_refused_even_if_others_have_one(tmp_path: Path) -> None:
    here = _site(tmp_path / "here")
    with pytest.raises(ConfigError, match="wetread init"):
        find_site(tmp_path, {}, here)
    with pytest.raises(ConfigError, match="holds no config"):
        find_site(None, {"WETREAD_SITE": str(tmp_path)}, here)


def test_a_site_is_absolute_however_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _site(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert find_site(Path("here"), {}, tmp_path).is_absolute()


def test_the_bundled_site_has_every_part() -> None:
    assert all((bundled_site() / name).exists() for name in SITE_PARTS)


def test_a_site_is_copied_whole_and_never_over_another(tmp_path: Path) -> None:
    copy_site(tmp_path / "site")
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == sorted(SITE_PARTS)
    assert not list((tmp_path / "site").rglob("__pycache__"))
    (tmp_path / "site" / "config.toml").write_text("mine")
    with pytest.raises(ConfigError, match="already holds"):
        copy_site(tmp_path / "site")
    assert (tmp_path / "site" / "config.toml").read_text() == "mine"


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def refuse(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
