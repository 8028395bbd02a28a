"""HL7 tables that cannot be stop the start and name the line."""

from pathlib import Path

import pytest

from node.errors import ConfigError
from node.settings import FieldRule, Hl7Destination, Settings, load_settings

RIS = '[destinations.ris]\nkind = "hl7"\nhost = "10.0.0.1"\nport = 2575\n'


def _load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, {})


def _ris(settings: Settings) -> Hl7Destination:
    found = settings.destinations["ris"]
    assert isinstance(found, Hl7Destination)
    return found


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (RIS + 'version = "2.4"\n', 5, "2.5.1, 2.3.1"),
        (RIS + 'coded_type = "CD"\n', 5, "CE, CWE"),
        (RIS + 'version = "2.3.1"\ncoded_type = "CWE"\n', 6, "knows no CWE"),
        (RIS + 'acknowledgement = "both"\n', 5, "original, commit, enhanced"),
        (RIS + "tls = true\n", 1, "needs tls_authorities"),
        (RIS + "fields = 3\n", 5, "must be a table"),
        (RIS + 'fields = { "OBR-3" = "accession", "OBX-5" = "title" }\n', 5, "OBX-5"),
        (RIS + '[destinations.ris.fields]\n"OBR-3" = "accession"\n"OBR-25" = "literal:F"\n', 7, "OBR-25"),
        (RIS + '[destinations.ris.fields]\n"MSH-10" = "accession"\n', 6, "MSH-10"),
        (RIS + '[destinations.ris.fields]\n"obr-3" = "accession"\n', 6, "is no field"),
        (RIS + '[destinations.ris.fields]\n"OBR-3" = "__import__"\n', 6, "is no source"),
        (RIS + '[destinations.ris.fields]\n"OBR-3" = "literal:"\n', 6, "is no source"),
        (RIS + '[destinations.ris.fields]\n"OBR-3" = "literal:a\\rOBX"\n', 6, "is no source"),
        (RIS + '[destinations.ris.fields]\n"OBR-3" = 7\n', 6, "is no source"),
        (RIS + '[destinations.ris.fields]\n"OBR-3.25" = "accession"\n', 6, "so many components"),
        (RIS + 'version = "2.3.1"\n[destinations.ris.fields]\n"MSH-21" = "accession"\n', 7, "MSH-21"),
        ('[hl7]\nallowed_peers = ["10.0.0.0/8", "somewhere"]\n', 2, "somewhere"),
        ('[hl7]\naccession = ["ZDS-1"]\n', 2, "ZDS-1"),
        ("[hl7]\naccession = []\n", 2, "at least one"),
        ("[hl7]\ntls = true\n", 2, "needs a tls_certificate"),
        ('[hl7]\ntls = true\ntls_certificate = "a"\n', 2, "needs a tls_key"),
        ("[hl7]\nport = 70000\n", 2, "0 to 65535"),
        ("[hl7]\nmax_message_kb = 1\n", 2, "16 to"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert words in str(caught.value)
    assert f"line {line}:" in str(caught.value)


def test_fields_are_read_in_their_order(tmp_path: Path) -> None:
    text = RIS + 'fields = { "OBR-3" = "accession", "PID-3.4" = "literal:HOSP", "PID-3.4.2" = "issuer" }\n'
    assert _ris(_load(tmp_path, text)).fields == (
        FieldRule("OBR", 3, 0, 0, "accession"),
        FieldRule("PID", 3, 4, 0, "literal", "HOSP"),
        FieldRule("PID", 3, 4, 2, "issuer"),
    )


def test_a_destination_without_new_keys_is_as_it_was(tmp_path: Path) -> None:
    ris = _ris(_load(tmp_path, RIS))
    assert (ris.version, ris.coded_type, ris.acknowledgement, ris.fields, ris.tls) == (
        "2.5.1",
        "CE",
        "original",
        (),
        False,
    )


def test_files_for_tls_start_at_the_site(tmp_path: Path) -> None:
    settings = _load(tmp_path, RIS + 'tls = true\ntls_authorities = "ca.pem"\n[hl7]\ntls_key = "a.key"\n')
    assert _ris(settings).tls_authorities == str(tmp_path / "ca.pem")
    assert settings.hl7.tls_key == str(tmp_path / "a.key")


def test_nobody_is_listened_to_unless_the_site_says_so() -> None:
    assert Settings().hl7.port == 0
