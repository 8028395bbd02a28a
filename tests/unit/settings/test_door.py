"""Keys of ``[dicom]`` that contradict each other stop the start and name the line."""

from pathlib import Path

import pytest

from node.errors import ConfigError
from node.settings import Settings, load_settings

TLS = '[dicom]\ntls_port = 2762\ntls_certificate = "a.crt"\ntls_key = "/k/a.key"\n'
FINGERPRINT = ":".join(["AB"] * 32)


def _load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, {})


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[dicom]\naccept_plain = false\n", 2, "leaves no port"),
        ('[dicom]\ntls_port = 2762\ntls_key = "k"\n', 2, "needs a tls_certificate"),
        ('[dicom]\ntls_certificate = "c"\ntls_port = 2762\n', 2, "needs a tls_key"),
        (TLS + 'receiver = "pynetdicom"\n', 5, "offers no TLS"),
        ('[dicom]\nprocesses = 2\nreceiver = "pynetdicom"\n', 3, "shares no port"),
        ("[dicom]\nport = 0\nprocesses = 2\n", 2, "must not be 0"),
        ("[dicom]\nprocesses = 9\n", 2, "1 to 8"),
        (TLS + "port = 2762\n", 2, "must not be port"),
        ('[dicom]\nallowed_peers = [{ ae_title = "A", address = "*", certificate = "CT1" }]\n', 2, "tls_authorities"),
        (TLS + 'allowed_peers = [{ ae_title = "A", address = "*", certificate = "CT1" }]\n', 5, "tls_authorities"),
        (
            TLS
            + 'tls_authorities = "ca"\nallowed_peers = [{ ae_title = "A", address = "*", certificate = "sha256:1" }]\n',
            6,
            "64 hexadecimal digits",
        ),
        ("[store]\nrefuse_below_free_mb = 100\naccept_again_above_free_mb = 99\n", 3, "at least refuse_below"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert words in str(caught.value)
    if line != 2 or "needs" not in words:  # a key that is missing has no line
        assert f"line {line}" in str(caught.value)


def test_tls_files_start_at_the_site_and_fingerprints_are_as_tls_says_them(tmp_path: Path) -> None:
    peers = f'allowed_peers = [{{ ae_title = "A", address = "*", certificate = "sha256:{FINGERPRINT}" }}]\n'
    dicom = _load(tmp_path, TLS + 'tls_authorities = "ca.pem"\naccept_plain = false\n' + peers).dicom
    assert (dicom.tls_certificate, dicom.tls_key) == (str(tmp_path / "a.crt"), "/k/a.key")
    assert dicom.tls_authorities == str(tmp_path / "ca.pem")
    assert dicom.allowed_peers[0].certificate == "sha256:" + "ab" * 32
    assert not dicom.accept_plain
