"""Which findings somebody must be told of at once is the report template's word."""

from dataclasses import replace
from pathlib import Path

import pytest

from node.domain.algorithm import Basis
from node.domain.findings import Certainty, Tier
from node.errors import TemplateError
from node.report import load_templates, state
from node.report.template import Template
from tests.unit.report.studies import MADE_AT, TEMPLATES, film_analysis, film_study

SHIPPED = Path(__file__).parents[3] / "sr_templates" / "chest_xray.toml"


def is_critical(template: Template, folder: Path, certainty: Certainty | None, *, is_abnormal: bool = True) -> bool:
    analysis = film_analysis(film_study(folder))
    algorithm = analysis.algorithm if certainty is None else replace(analysis.algorithm, basis=Basis.LEARNED)
    finding = replace(analysis.findings[0], certainty=certainty, is_abnormal=is_abnormal)
    analysis = replace(analysis, findings=(finding,), algorithm=algorithm)
    said = state(analysis, template, study_instance_uid="2.25.7", language="en", made_at=MADE_AT, is_correction=False)
    return said.findings[0].is_critical


def with_critical(folder: Path, word: str) -> Template:
    text = SHIPPED.read_text(encoding="utf-8")
    text = text.replace("[findings.round_opacity]\n", f'[findings.round_opacity]\ncritical = "{word}"\n')
    (folder / SHIPPED.name).write_text(text, encoding="utf-8")
    return load_templates(folder)["chest_xray"]


@pytest.mark.parametrize(
    ("word", "tier", "expected"),
    [
        ("always", None, True), ("always", Tier.REVIEW, True), ("high", Tier.HIGH, True), ("high", Tier.MEDIUM, False),
        ("medium", Tier.MEDIUM, True), ("medium", Tier.REVIEW, False), ("high", None, False),
    ],
)  # fmt: skip
def test_a_finding_is_critical_from_the_tier_on_that_its_template_names(
    tmp_path: Path, word: str, tier: Tier | None, *, expected: bool
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    certainty = None if tier is None else Certainty(0.9, tier)
    assert is_critical(with_critical(tmp_path, word), folder, certainty) is expected


def test_nothing_is_critical_unless_a_template_says_so(tmp_path: Path) -> None:
    assert not is_critical(TEMPLATES["chest_xray"], tmp_path, Certainty(0.99, Tier.HIGH))


def test_a_plain_measurement_is_never_critical(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    assert not is_critical(with_critical(tmp_path, "always"), folder, None, is_abnormal=False)


def test_another_word_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="critical"):
        with_critical(tmp_path, "sometimes")
