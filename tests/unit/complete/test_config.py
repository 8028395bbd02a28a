"""What a site says of completion is read strictly; a mistake names its line."""

from pathlib import Path

import pytest

from node.errors import ConfigError
from node.paths import bundled_site
from node.settings import Condition, Sender, load_settings


def _load(tmp_path: Path, *changes: tuple[str, str], more: str = "") -> object:
    text = (bundled_site() / "config.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "config.toml"
    path.write_text(text + more, encoding="utf-8")
    return load_settings(path, {})


RULE = '\n[[rules]]\nname = "r"\nhandler = "brain_mr"\n'


def test_required_series_are_conditions_in_the_language_of_rules(tmp_path: Path) -> None:
    required = 'requires = [{ SeriesDescription = { matches = "T1" }, Modality = "MR" }, { ImageType = ["ADC"] }]\n'
    settings = _load(tmp_path, more=f"{RULE}{required}most_wait_s = 600\n")
    (rule,) = (rule for rule in settings.rules if rule.name == "r")  # type: ignore[attr-defined]
    t1 = (Condition("SeriesDescription", matches="T1"), Condition("Modality", any_of=("MR",)))
    assert (rule.requires, rule.most_wait_s) == ((t1, (Condition("ImageType", any_of=("ADC",)),)), 600.0)


def test_a_sender_is_where_it_can_be_asked(tmp_path: Path) -> None:
    told = 'senders = [{ ae_title = "CT1", host = "10.0.0.5", port = 104 }]'
    settings = _load(tmp_path, ("senders = []", told))
    assert settings.complete.senders == (Sender("CT1", "10.0.0.5", 104),)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        (("senders = []", 'senders = [{ ae_title = "C", host = "h", port = 0 }]'), "", "port must be 1 to 65535"),
        (("senders = []", 'senders = [{ ae_title = "C", hots = "h", port = 1 }]'), "", "has no key 'hots'"),
        (("least_quiet_s = 10.0", "least_quiet_s = 400.0"), "", "most_quiet_s must be 400.0 to 86400"),
        (("most_wait_s = 1800.0", "most_wait_s = -1.0"), "", "most_wait_s must be 0 to 86400"),
        (("", ""), f'{RULE}requires = [{{ SeriesDescripton = "T1" }}]\n', "SeriesDescripton"),
        (("", ""), f'{RULE}requires = {{ SeriesDescription = "T1" }}\n', "requires must be a list of tables"),
        (("", ""), f"{RULE}requires = [{{}}]\n", "requires must be a list of tables"),
        (("", ""), f"{RULE}most_wait_s = -1\n", "rule 'r': most_wait_s must be 0 to 86400"),
    ],
)
def test_a_mistake_stops_the_start(change: tuple[str, str], more: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        _load(tmp_path, change, more=more)
