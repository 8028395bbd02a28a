"""Destinations that are web services or folders: what a site may say of them, and what nothing repeats."""

import dataclasses
import json
from pathlib import Path

import pytest

from node.domain.work import OutputKind
from node.errors import ConfigError
from node.paths import bundled_site
from node.settings import (
    FolderDestination,
    HttpDestination,
    OrthancDestination,
    Secret,
    Settings,
    StowDestination,
    load_settings,
)

PLACES = {"stow": 'url = "https://h/x"', "orthanc": 'url = "http://h:8042"', "http": 'url = "http://h"', "folder": 'path = "r"'}  # fmt: skip  # noqa: E501
SECRET = "s3cret-s3cret"  # noqa: S105


def _load(folder: Path, text: str, **environment: str) -> Settings:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment)


def _table(kind: str, *lines: str) -> str:
    return "\n".join((f'[destinations.a]\nkind = "{kind}"', PLACES[kind], *lines)) + "\n"


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("stow", StowDestination),
        ("orthanc", OrthancDestination),
        ("http", HttpDestination),
        ("folder", FolderDestination),
    ],
)
def test_a_kind_and_a_place_are_enough(tmp_path: Path, kind: str, record: type) -> None:
    found = _load(tmp_path, _table(kind)).destinations["a"]
    assert type(found) is record
    assert found.address


def test_every_key_of_these_kinds_is_shown_with_its_sentence_in_the_shipped_file() -> None:
    text = (bundled_site() / "config.toml").read_text(encoding="utf-8")
    shown = text[text.index("# Other kinds of destinations") :]
    for kind in (StowDestination, OrthancDestination, HttpDestination, FolderDestination):
        for key in kind.__dataclass_fields__:
            assert key in ("name", "secret") or key in shown, key


def test_the_examples_of_the_shipped_file_are_taken_without_their_sign(tmp_path: Path) -> None:
    text = (bundled_site() / "config.toml").read_text(encoding="utf-8")
    shown = text[text.index("# [destinations.archive]") : text.index("# Holds: ")]
    lines = [line.removeprefix("# ") for line in shown.splitlines()]
    found = _load(tmp_path, "\n".join(lines)).destinations
    assert set(found) == {"archive", "orthanc", "service", "share"}
    assert found["share"].address == "/mnt/results"


@pytest.mark.parametrize(
    ("kind", "line", "words"),
    [
        ("stow", 'objects = ["json"]', "a destination of kind \"stow\" takes DICOM objects, found 'json'"),
        ("stow", 'objects = ["text_sr", "oru"]', "takes DICOM objects, found 'oru'"),
        ("orthanc", 'objects = ["fhir"]', "takes DICOM objects"),
        ("http", 'objects = ["pdf"]', '"json" or "fhir"'),
        ("http", 'objects = ["xml"]', "objects must be one of"),
        ("http", "objects = []", "at least one"),
        ("http", 'language = "de"', "language must be one of en, zh"),
        ("http", "timeout_s = 0", "timeout_s must be"),
        ("http", 'user = "x"', "user needs secret_variable"),
        ("http", 'secret = "s3cret-s3cret"', "secret does not stand in this file"),
        ("http", 'secret_variable = "WETREAD_X"', "must not begin with WETREAD_"),
        ("http", 'tls_key = "k.pem"', "go together"),
        ("http", 'hots = "x"', "no key 'hots'"),
        ("folder", 'url = "http://x"', "no key 'url'"),
    ],
)
def test_what_a_kind_cannot_do_is_refused_with_its_line(tmp_path: Path, kind: str, line: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, _table(kind, line))
    number = 2 if "go together" in words else 4
    assert words in str(caught.value)
    assert f"line {number}:" in str(caught.value) or "go together" in words
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/x", "h:80", "http://", "http://:80", "http://h:99999", "http://h:0", "http://node:s3cret-s3cret@h/",
        "http://h/?key=s3cret-s3cret", "http://h/#x", "http://h/a b", "http://h..i/", "http://[::1/", "http://病/路",
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_holds_a_secret_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="url") as caught:
        _load(tmp_path, f'[destinations.a]\nkind = "http"\nurl = "{url}"\n')
    assert "line 3:" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_path_starts_at_the_site(tmp_path: Path) -> None:
    assert _load(tmp_path, _table("folder")).destinations["a"].address == str(tmp_path / "r")
    found = _load(tmp_path, _table("stow", 'tls_authorities = "ca.pem"')).destinations["a"]
    assert isinstance(found, StowDestination)
    assert found.tls_authorities == str(tmp_path / "ca.pem")


def test_a_secret_comes_from_the_environment_and_nothing_prints_it(tmp_path: Path) -> None:
    settings = _load(tmp_path, _table("http", 'secret_variable = "X_TOKEN"'), X_TOKEN=SECRET)
    found = settings.destinations["a"]
    assert isinstance(found, HttpDestination)
    assert found.secret.reveal() == SECRET
    for printed in (repr(settings), str(found.secret), json.dumps(dataclasses.asdict(found), default=str)):
        assert SECRET not in printed


def test_a_command_may_be_given_without_the_secret(tmp_path: Path) -> None:
    found = _load(tmp_path, _table("http", 'secret_variable = "X_TOKEN"')).destinations["a"]
    assert isinstance(found, HttpDestination)
    assert found.secret == Secret()
    assert not found.secret


@pytest.mark.parametrize("kind", ["json", "fhir", "oru"])
def test_a_pacs_is_asked_for_no_message(tmp_path: Path, kind: str) -> None:
    text = f'[destinations.a]\nkind = "dicom"\nhost = "h"\nport = 1\nae_title = "P"\nobjects = ["{kind}"]\n'
    with pytest.raises(ConfigError, match="objects must be DICOM objects"):
        _load(tmp_path, text)
    assert not OutputKind(kind).is_dicom
