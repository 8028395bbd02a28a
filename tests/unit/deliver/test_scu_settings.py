"""What a site says about TLS towards a PACS."""

from pathlib import Path

import pytest

from node.errors import ConfigError
from node.settings import DicomDestination, load_settings

PACS = '[destinations.pacs]\nkind = "dicom"\nhost = "pacs"\nport = 2762\nae_title = "PACS"\n'


def test_certificates_are_looked_for_in_the_sites_folder(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(PACS + 'tls = true\ntls_authorities = "ca.pem"\ntls_key = "/keys/own.pem"\n', encoding="utf-8")
    found = load_settings(path, {}).destinations["pacs"]
    assert isinstance(found, DicomDestination)
    assert (found.tls_authorities, found.tls_certificate, found.tls_key) == (
        str(tmp_path / "ca.pem"),
        "",
        "/keys/own.pem",
    )


def test_tls_with_a_pacs_that_nobody_vouches_for_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(PACS + "tls = true\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 1.*tls needs tls_authorities"):
        load_settings(path, {})
