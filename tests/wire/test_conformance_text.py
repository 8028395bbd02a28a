"""The conformance statement as it is printed: whole, from the site's own settings, and only words of the site."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from node.conformance import describe, to_markdown
from node.domain.work import OutputKind
from node.settings import (
    DicomDestination,
    DicomSettings,
    Peer,
    Sender,
    Settings,
    StoreSettings,
    StowDestination,
    load_settings,
)

ROOT = Path(__file__).parents[2]


def printed(*options: str, site: Path = ROOT) -> str:
    command = [sys.executable, "-c", "from node.cli import main; main()", "conformance", "--site", str(site), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout


def test_the_document_is_what_the_shipped_settings_print() -> None:
    kept = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert printed() == kept, "run: wetread conformance > docs/conformance.md"


def test_the_json_is_the_same_statement() -> None:
    found = json.loads(printed("--json"))
    stated = describe(load_settings(ROOT / "config.toml", {}))
    assert found["ae_title"] == stated.ae_title
    assert [one["uid"] for one in found["storage"]] == [one.uid for one in stated.storage]
    assert [one["code"] for one in found["statuses"]] == [one.code for one in stated.statuses]


def test_a_change_of_the_settings_changes_the_statement(tmp_path: Path) -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    (tmp_path / "config.toml").write_text(text.replace('ae_title = "WETREAD"', 'ae_title = "NIGHT"'), encoding="utf-8")
    assert "### 4.2 AE specification: NIGHT\n" in printed(site=tmp_path)


def test_every_section_of_the_template_is_there_in_order() -> None:
    headings = re.findall(r"^(#+) ([0-9.]+) ", to_markdown(describe(Settings())), re.MULTILINE)
    numbers = [tuple(map(int, number.split("."))) for _, number in headings]
    assert numbers == sorted(numbers)
    assert [number for number in numbers if len(number) == 1] == [(one,) for one in range(1, 9)]
    assert all(len(marks) == max(2, len(number) + 1) for (marks, _), number in zip(headings, numbers, strict=True))


def test_tls_closed_ports_and_disks_that_are_not_waited_for_are_told() -> None:
    dicom = DicomSettings(accept_plain=False, tls_port=2762, tls_authorities="ca.pem", tls_key="secret.pem")
    text = to_markdown(describe(Settings(dicom=dicom, store=StoreSettings(sync=False))))
    assert "| port without TLS | closed |" in text
    assert "| port with TLS | 2762 |" in text
    assert "clients must show a certificate" in text
    assert "nobody waited for the disk" in text
    assert "pem" not in text


def test_the_roles_of_a_user_are_in_the_overview() -> None:
    web = StowDestination("web", "https://archive.example/dicom-web")
    pacs = DicomDestination("pacs", "127.0.0.1", 104, "PACS")
    text = to_markdown(describe(Settings(destinations={"pacs": pacs, "web": web})))
    for service in ("Storage Commitment Push Model SOP Class (1.2.840.10008.1.20.1)", "STOW-RS of DICOMweb (PS3.18), "
                    "as user agent", "QIDO-RS of DICOMweb (PS3.18), as user agent",
                    "Study Root Query/Retrieve Information Model - FIND (1.2.840.10008.5.1.4.1.2.2.1)"):  # fmt: skip
        assert f"| {service} | yes | no |" in text
    assert "| Verification | yes | yes |" in text
    assert "proposes by role selection to be the SCP" in text


def hostile(words: str) -> Settings:
    """Settings whose every free word is the same."""
    destination = DicomDestination(words, words, 104, words, objects=(OutputKind.TEXT_SR,))
    web = StowDestination(words, words)
    settings = Settings(destinations={words: destination, f"{words} of the web": web})
    complete = replace(settings.complete, senders=(Sender(words, words, 104),))
    dicom = DicomSettings(ae_title=words, host=words, allowed_peers=(Peer(words, words, words),))
    return replace(settings, dicom=dicom, complete=complete)


def shape(text: str) -> list[tuple[str, int]]:
    """What kind of line each one is, and how many cells it has."""
    bare = re.sub(r"\\.", "", text)
    return [(line[:1] if line[:1] in "#|-" else "", line.count("|")) for line in bare.splitlines()]


@how(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda words: words != "*"))
def test_words_of_the_settings_are_never_markup(words: str) -> None:
    text = to_markdown(describe(hostile(words)))
    assert shape(text) == shape(to_markdown(describe(hostile("PLAIN"))))
    assert text.count("`") - text.count("\\`") == to_markdown(describe(hostile("PLAIN"))).count("`")


@pytest.mark.parametrize("words", ["](http://x)", "<script>", "a|b", "$host", "\n# Heading", "a\u2028b"])
def test_known_tricks_stay_words(words: str) -> None:
    text = to_markdown(describe(hostile(words)))
    assert shape(text) == shape(to_markdown(describe(hostile("PLAIN"))))
    assert not re.search(r"(?<!\\)<|(?<!\\)\]\(http", text)
