from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from node.domain.findings import Certainty, Finding, Status, Tier
from node.domain.work import OutputKind
from tests.unit.report.studies import (
    NETWORK,
    brain_analysis,
    film_analysis,
    film_study,
    make,
    mr_study,
    texts,
    without_findings,
)

SUMMARY = "111017"


def summary(ds: Dataset) -> str:
    item = next(i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == SUMMARY)
    return str(item.ConceptCodeSequence[0].CodeValue)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.FINDINGS, "111242"),
        (Status.NO_FINDINGS, "111241"),
        (Status.FAILED, "111245"),
        (Status.NOT_EVALUABLE, "373121007"),
    ],
)
def test_every_outcome_is_said_in_codes_and_in_words(tmp_path: Path, status: Status, code: str, language: str) -> None:
    study = film_study(tmp_path)
    analysis = film_analysis(study)
    if status is not Status.FINDINGS:
        reason = "" if status is Status.NO_FINDINGS else "it is a knee"
        analysis = without_findings(analysis, status, reason=reason)
    ds = make(analysis, study, tmp_path / "out", language=language).read(OutputKind.TEXT_SR)
    assert summary(ds) == code
    impression, responsibility = texts(ds)[4:6]  # after the four texts on the observer
    assert impression
    assert ("verified by nobody" if language == "en" else "未经医师审核") in responsibility


def test_a_number_travels_with_unit_method_algorithm_and_version(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    for language, words in (
        ("en", ("1385 ml", "method: voxels above probability 0.5", "Algorithm: brain_mr version 1.0.0", "learned")),
        ("zh", ("1385 ml", "测量方法：概率高于 0.5 的体素", "算法：brain_mr 版本 1.0.0", "机器学习")),
    ):
        made = make(brain_analysis(study), study, tmp_path / language, language=language)
        said = "\n".join(texts(made.read(OutputKind.TEXT_SR)))
        for word in (*words, "ab" * 32, "threshold 0.5", "CPU", "2026-03-01"):
            assert word in said


def test_the_tier_is_told(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    finding = Finding("x-1", "round_opacity", certainty=Certainty(0.4, Tier.REVIEW))
    analysis = replace(film_analysis(study), algorithm=NETWORK, findings=(finding,))
    assert "40 % (needs review)" in "\n".join(texts(make(analysis, study, tmp_path / "o").read(OutputKind.TEXT_SR)))


def test_rule_based_is_said_to_be_not_learned(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    for language, words in (("en", "rule-based, not learned"), ("zh", "规则算法，非机器学习")):
        made = make(film_analysis(study), study, tmp_path / language, language=language)
        assert words in "\n".join(texts(made.read(OutputKind.TEXT_SR)))


def test_what_was_not_looked_at_is_told_even_when_nothing_was_found(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    analysis = without_findings(film_analysis(study), Status.NO_FINDINGS)
    said = texts(make(analysis, study, tmp_path / "out", language="zh").read(OutputKind.TEXT_SR))
    assert "未评估：气胸。" in said


def test_headings_are_chinese_and_their_codes_are_the_same(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    codes = []
    for language in ("en", "zh"):
        ds = make(film_analysis(study), study, tmp_path / language, language=language).read(OutputKind.TEXT_SR)
        codes.append([str(e.value) for e in ds.iterall() if e.keyword == "CodeValue"])
        meanings = [str(e.value) for e in ds.iterall() if e.keyword == "CodeMeaning"]
        assert ("影像所见" in meanings) is (language == "zh")
    english, chinese = codes
    assert [c for c in english if c != "en"] == [c for c in chinese if c != "zh-CN"]


def test_a_finding_links_to_the_image_it_was_seen_on(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    ds = make(brain_analysis(study), study, tmp_path / "out").read(OutputKind.TEXT_SR)
    images = [i for e in ds.iterall() if e.keyword == "ContentSequence" for i in e.value if i.ValueType == "IMAGE"]
    assert [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in images] == ["2.25.101.4"]
