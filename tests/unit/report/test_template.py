import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from node.domain.findings import Status
from node.errors import TemplateError
from node.report import load_templates
from node.report.concepts import known_meanings
from tests.unit.report.studies import TEMPLATES

SITE = Path(__file__).parents[3] / "sr_templates"
CHEST = (SITE / "chest_xray.toml").read_text(encoding="utf-8")
IDEOGRAPH = re.compile("[\u4e00-\u9fff]")


def load(folder: Path, text: str) -> Mapping[str, object]:
    (folder / "chest_xray.toml").write_text(text, encoding="utf-8")
    return load_templates(folder)


def test_the_templates_of_the_site_load() -> None:
    assert set(TEMPLATES) >= {"brain_mr", "chest_xray", "chest_ct", "cardiac_ct"}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_text_of_the_site_is_there_in_chinese_and_english(name: str) -> None:
    template = TEMPLATES[name]
    texts = [template.title, template.responsibility, *template.reasons.values(), *template.limits.values()]
    texts += [finding.label for finding in template.findings.values()]
    for text in texts:
        assert IDEOGRAPH.search(text["zh"])
        assert text["en"].isascii()


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_conclusion_calls_a_study_normal(name: str, language: str) -> None:
    for status in Status:
        said = "".join(TEMPLATES[name].conclusions[status][language])
        for word in ("normal", "正常"):
            assert word not in said or any(no in said for no in ("not mean", "不代表"))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('value = "112001"', 'value = "27925004"', "findings.round_opacity.concept"),  # a nodule is no opacity
        ('value = "39607008", scheme = "SCT"', 'value = "99999", scheme = "SCT"', "findings.round_opacity.site"),
        ('meaning = "Long axis"', 'meaning = "Short axis"', "measurements.long_axis.concept"),
        ('source = "SNOMED', 'sauce = "SNOMED', "procedure.sauce"),
        ("detector score {score}", "detector score {scores}", "findings.round_opacity.sentence en"),
        ("长径约 {long_axis}", "长径约 {long_axis.__class__}", "findings.round_opacity.sentence"),
        ('zh = "未评估：气胸。"', 'cn = "未评估：气胸。"', "limits.pneumothorax.zh is missing"),
        ("decimals = 0", "decimals = 9", "measurements.long_axis.decimals"),
        ("decimals = 0", 'decimals = 0\ncolour = "red"', "measurements.long_axis.colour is not a known key"),
        ('unit = { value = "mm", scheme = "UCUM", meaning = "mm" }',
         'unit = { value = "112001", scheme = "DCM", meaning = "Opacity" }', "measurements.long_axis.unit"),
        ("[conclusions.failed]", "[conclusions.broken]", "conclusions.failed is missing"),
        ('R = { en = "right lung"', 'X = { en = "right lung"', r"\[laterality\]"),
        ("rgb = [0, 150, 220]", "rgb = [0, 150, 300]", "segments.lungs.rgb"),
        ("[[phrases]]", "[[phrase]]", "phrase is not a known key"),
        ("title = {", "title = [", "not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_template_stops_the_start_and_names_the_key(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = CHEST.replace(old, new, 1)
    assert text != CHEST
    with pytest.raises(TemplateError, match=named) as caught:
        load(tmp_path, text)
    assert "chest_xray.toml" in str(caught.value)


def test_a_code_in_no_dictionary_needs_a_source(tmp_path: Path) -> None:
    assert not known_meanings("399208008", "SCT")
    text = re.sub(r"\nsource = .*", "", CHEST, count=1)
    with pytest.raises(TemplateError, match=r"procedure .*source"):
        load(tmp_path, text)


def test_a_code_that_means_something_else_is_refused(tmp_path: Path) -> None:
    text = CHEST.replace('value = "112001", scheme = "DCM", meaning = "Opacity"',
                         'value = "111047", scheme = "DCM", meaning = "Certainty"')  # fmt: skip
    with pytest.raises(TemplateError, match="probability of cancer"):
        load(tmp_path, text)


def test_an_empty_folder_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="holds no report template"):
        load_templates(tmp_path)


def test_an_unknown_limit_is_named() -> None:
    with pytest.raises(TemplateError, match=r"chest_xray\.toml: \[limits\] has no 'hernia'"):
        TEMPLATES["chest_xray"].limit("hernia", "en")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('finding = "round_opacity"\n\n[recommendations.text]', 'finding = "mass"\n\n[recommendations.text]', "'mass'"),
        ('finding = "round_opacity"\n', 'finding = "round_opacity"\nquantity = "volume"\n', "'volume'"),
        ('finding = "round_opacity"\n', 'finding = "round_opacity"\nminimum = 6\n', "quantity"),
        ("[recommendations.source]", "[recommendations.origin]", "source"),
    ],
)
def test_advice_without_a_source_or_for_what_is_not_there_stops_the_start(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    assert old in CHEST
    with pytest.raises(TemplateError, match=named):
        load(tmp_path, CHEST.replace(old, new, 1))


@pytest.mark.parametrize(
    ("template", "english", "chinese"),
    [
        ("brain_mr", "slice 47/181", "第 47/181 层"),
        ("chest_ct", "slice 1/2", "第 1/2 层"),
        ("brain_mr", "brain", "脑"),
        ("chest_multilabel", "pleural thickening", "胸膜增厚"),
        ("brain_mr", "slice of life", "slice of life"),
        ("brain_mr", "", ""),
        ("brain_tumour", "tumour-1", "tumour-1"),
    ],
)
def test_a_label_is_in_the_language_of_the_report_where_it_is_known(template: str, english: str, chinese: str) -> None:
    assert TEMPLATES[template].label(english, "zh") == chinese


def test_which_slice_it_is_reads_the_same_in_english_as_the_handler_wrote_it() -> None:
    assert TEMPLATES["brain_mr"].label("slice 47/181", "en") == "slice 47/181"
