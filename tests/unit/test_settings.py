"""A misspelt or impossible setting stops the start and names the line."""

from pathlib import Path

import pytest

from node.domain.work import OutputKind, Priority
from node.errors import ConfigError
from node.settings import DicomDestination, Hl7Destination, Settings, load_settings

SITE = Path(__file__).parents[2] / "config.toml"


def _load(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment)


def test_the_shipped_file_says_every_key_and_nothing_but_the_defaults() -> None:
    shipped = load_settings(SITE, {})
    text = SITE.read_text(encoding="utf-8")
    plain = Settings()
    for section in ("dicom", "complete", "engine", "infer", "report", "deliver", "log"):
        assert getattr(shipped, section) == getattr(plain, section)
    for kind in (*(type(getattr(plain, name)) for name in ("dicom", "store", "complete", "engine", "infer", "report",
                   "deliver", "log")), DicomDestination, Hl7Destination):  # fmt: skip
        for key in kind.__dataclass_fields__:
            assert key == "name" or f"\n{key} = " in text, f"{kind.__name__}.{key} is not in config.toml"


def test_every_key_of_the_shipped_file_has_its_sentence() -> None:
    for line in SITE.read_text(encoding="utf-8").splitlines():
        if (
            " = " in line
            and not line.startswith(("#", " ", "["))
            and not line.startswith(
                ('name = "chest', 'handler = "chest', "when = {", "priority", "destinations =", "comment")
            )
        ):
            assert "#" in line, line


def test_a_relative_store_starts_at_the_site(tmp_path: Path) -> None:
    assert _load(tmp_path, '[store]\npath = "here"\n').store.path == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[dicom]\n\nprot = 1\n", 3, "no key 'prot'"),
        ("[dicom]\nport = 1\n[dicon]\nport = 2\n", 3, "unknown table"),
        ('[dicom]\nport = "104"\n', 2, "must be of type int"),
        ("[dicom]\nport = 70000\n", 2, "0 to 65535"),
        ("[complete]\nquiet_s = 0\n", 2, "0.5 to"),
        ('[report]\nlanguage = "de"\n', 2, "one of en, zh"),
        ('[dicom]\nae_title = "MORE_THAN_16_CHARACTERS"\n', 2, "1 to 16"),
        ('[destinations.a]\nkind = "ftp"\n', 2, 'must be one of "dicom", "hl7"'),
        ('[destinations.a]\nkind = "dicom"\nhost = "h"\nport = 1\n', 1, "lacks the key 'ae_title'"),
        ('[[rules]]\nname = "a"\nhandler = "h"\nwhen = { Modalty = "CT" }\n', 4, "not a DICOM keyword"),
        ('[[rules]]\nname = "a"\nhandler = "h"\nwhen = { Modality = { matches = "(" } }\n', 4, "regular expression"),
        ('[[rules]]\nname = "a"\nhandler = "h"\nwhen = { Modality = { like = "CT" } }\n', 4, "no key 'like'"),
        ('[[rules]]\nname = "a"\nhandler = "h"\npriority = "soon"\n', 4, "one of stat, urgent, routine"),
        ('[[rules]]\nname = "a"\nhandler = "h"\ndestinations = ["x"]\n', 4, "no [destinations.x]"),
        ('[dicom]\nallowed_peers = [{ ae_title = "*", address = "10.0.0.300" }]\n', 2, "no address or network"),
        ('[destinations.x]\nkind = "hl7"\nhost = "h"\nport = 70000\n', 4, "port must be 1 to 65535"),
        ('[destinations.x]\nkind = "dicom"\nhost = "pacs..local"\nport = 104\nae_title = "P"\n', 3, "host"),
        ('[destinations.x]\nkind = "hl7"\nhost = "h"\nport = 1\nack_timeout_s = 0\n', 5, "ack_timeout_s must be"),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert f"line {line}:" in str(caught.value)
    assert words in str(caught.value)


def test_the_environment_overrides_a_key(tmp_path: Path) -> None:
    environment = {"WETREAD_DICOM__PORT": "105", "WETREAD_STORE__PATH": "/srv/x", "PATH": ""}
    settings = _load(tmp_path, "[dicom]\nport = 104\n", **environment)
    assert settings.dicom.port == 105
    assert settings.store.path == Path("/srv/x")


@pytest.mark.parametrize("variable", ["WETREAD_DICON__PORT", "WETREAD_DICOM__PROT", "WETREAD_PORT", "WETREAD_RULES__X"])
def test_a_misspelt_environment_section_is_refused(tmp_path: Path, variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        _load(tmp_path, "", **{variable: "1"})


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    rule = '[[rules]]\nname = "a"\nhandler = "h"\n'
    with pytest.raises(ConfigError, match="two rules"):
        _load(tmp_path, rule + rule)


def test_rules_and_destinations_are_read_as_records(tmp_path: Path) -> None:
    settings = _load(
        tmp_path,
        '[destinations.p]\nkind = "dicom"\nhost = "h"\nport = 1\nae_title = "P"\nobjects = ["text_sr"]\n'
        '[[rules]]\nname = "a"\nhandler = "h"\nwhen = { Modality = ["CT", "PT"], Rows = { minimum = 64 } }\n'
        'priority = "stat"\ndestinations = ["p"]\n',
    )
    assert settings.destinations["p"] == DicomDestination("p", "h", 1, "P", (OutputKind.TEXT_SR,))
    (rule,) = settings.rules
    assert rule.priority is Priority.STAT
    assert [(one.keyword, one.any_of, one.minimum) for one in rule.when] == [
        ("Modality", ("CT", "PT"), None),
        ("Rows", (), 64.0),
    ]
