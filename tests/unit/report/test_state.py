from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from node.dicom.uid import derive_uid
from node.domain.findings import Analysis, Certainty, Finding, Measurement, Status, Tier
from node.domain.statement import Statement
from node.domain.study import Study
from node.errors import ReportError, TemplateError
from node.report import state
from tests.unit.report.studies import (
    MADE_AT,
    NETWORK,
    RULES,
    TEMPLATES,
    brain_analysis,
    film_analysis,
    film_study,
    mr_study,
    without_findings,
)


@pytest.fixture
def film(tmp_path: Path) -> Analysis:
    return film_analysis(film_study(tmp_path))


@pytest.fixture
def brain(tmp_path: Path) -> Analysis:
    return brain_analysis(mr_study(tmp_path))


def say(analysis: Analysis, language: str = "en", *, made_at: datetime = MADE_AT) -> Statement:
    template = TEMPLATES[analysis.template]
    return state(
        analysis, template, study_instance_uid="2.25.7", language=language, made_at=made_at, is_correction=False
    )


def with_finding(analysis: Analysis, finding: Finding) -> Analysis:
    return replace(analysis, findings=(finding,))


def test_a_sentence_names_side_size_and_score_where_they_are_known(film: Analysis) -> None:
    with_size, without_size = say(film).findings
    assert with_size.sentence == (
        "Round opacity candidate in the right lung, long axis 14 mm, detector score 0.62 (not a probability)."
    )
    assert without_size.sentence == (
        "Round opacity candidate in the left lung, detector score 0.41 (not a probability)."
    )


def test_the_chinese_sentence_says_the_same(film: Analysis) -> None:
    finding = say(film, "zh").findings[0]
    assert finding.sentence == "右肺野见类圆形致密影（候选），长径约 14 mm，检测评分 0.62（非概率）。"
    assert say(film, "zh").conclusion.startswith("提示类圆形致密影候选 2 处")


def test_codes_and_numbers_are_not_rounded_and_do_not_depend_on_the_language(film: Analysis) -> None:
    for english, chinese in zip(say(film).findings, say(film, "zh").findings, strict=True):
        assert (english.concept, english.site, english.laterality) == (
            chinese.concept,
            chinese.site,
            chinese.laterality,
        )
        assert [m.value for m in english.measurements] == [m.value for m in chinese.measurements]
    assert say(film).findings[0].measurements[0].value == 14.1421
    assert say(film).findings[0].laterality.value == "24028007"


def test_the_tracking_uid_depends_on_study_algorithm_and_finding_only(film: Analysis) -> None:
    uid = say(film).findings[0].tracking_uid
    assert uid == derive_uid("2.25.7", "chest_xray", "opacity-1")
    newer = replace(film, algorithm=replace(RULES, version="9.9.9"))
    assert say(newer).findings[0].tracking_uid == uid


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.NO_FINDINGS, "111241"),
        (Status.FAILED, "111245"),
        (Status.NOT_EVALUABLE, "373121007"),
    ],
)
def test_each_outcome_has_its_own_code_and_sentence(film: Analysis, status: Status, code: str) -> None:
    reason = "" if status is Status.NO_FINDINGS else "the network is tired."
    statement = say(without_findings(film, status, reason=reason))
    assert statement.summary.value == code
    assert statement.reason == "the network is tired" * bool(reason)
    assert reason.rstrip(".") in statement.conclusion
    assert statement.conclusion != say(film).conclusion


def test_findings_have_the_code_for_findings(film: Analysis) -> None:
    assert say(film).summary.value == "111242"


def test_a_known_reason_is_said_in_the_language_and_an_unknown_one_as_it_is(film: Analysis) -> None:
    known = without_findings(film, Status.NOT_EVALUABLE, reason="this is a knee", key="not_chest_xray")
    assert say(known, "zh").conclusion == "无法评估：并非胸部 X 线片。未对该胸片作出任何判断。"
    unknown = without_findings(film, Status.NOT_EVALUABLE, reason="this is a knee", key="knee")
    assert "this is a knee" in say(unknown, "zh").conclusion


def test_a_measurement_of_normal_anatomy_is_told_without_a_finding(brain: Analysis) -> None:
    statement = say(replace(brain, status=Status.NO_FINDINGS), "zh")
    assert "1385 ml" in statement.conclusion
    assert "不代表该检查正常" in statement.conclusion


def test_the_method_is_said_in_the_language(brain: Analysis) -> None:
    assert say(brain, "zh").findings[0].measurements[0].method.startswith("概率高于 0.5")
    assert say(brain).findings[0].measurements[0].method.startswith("voxels above")


def test_what_was_not_looked_at_is_a_sentence_in_the_language(film: Analysis) -> None:
    assert say(film).limits == ("Not looked at: pneumothorax.", "Not looked at: pleural effusion.")
    assert say(film, "zh").limits == ("未评估：气胸。", "未评估：胸腔积液。")


@pytest.mark.parametrize(
    "finding",
    [
        Finding("x-1", "nodule"),
        Finding("x-1", "round_opacity", (Measurement("short_axis", 1.0, "mm"),)),
    ],
)
def test_an_unknown_kind_or_quantity_is_an_error_of_the_template(film: Analysis, finding: Finding) -> None:
    with pytest.raises(TemplateError, match=r"chest_xray\.toml"):
        say(with_finding(film, finding))


def test_an_unknown_limit_is_an_error_of_the_template(film: Analysis) -> None:
    with pytest.raises(TemplateError, match="hernia"):
        say(replace(film, not_looked_at=("hernia",)))


@pytest.mark.parametrize(
    ("finding", "complaint"),
    [
        (Finding("x-1", "round_opacity", (Measurement("long_axis", float("nan"), "mm"),)), "finite"),
        (Finding("x-1", "round_opacity", (Measurement("long_axis", 1.0, "cm"),)), "must be in mm"),
        (Finding("x-1", "round_opacity", score=float("inf")), "finite"),
        (Finding("x-1", "round_opacity", laterality="left"), "laterality"),
        (Finding("x-1", "round_opacity", certainty=Certainty(0.9, Tier.HIGH)), "rule-based"),
    ],
)
def test_what_must_not_be_said_is_refused(film: Analysis, finding: Finding, complaint: str) -> None:
    with pytest.raises(ReportError, match=complaint):
        say(with_finding(film, finding))


def test_a_learned_algorithm_states_certainty_in_percent_with_its_tier(film: Analysis) -> None:
    finding = Finding("x-1", "round_opacity", certainty=Certainty(0.873, Tier.MEDIUM))
    learned = replace(with_finding(film, finding), algorithm=NETWORK)
    assert "certainty 87 % (medium)" in say(learned).findings[0].sentence
    assert "可信度 87 %（中）" in say(learned, "zh").findings[0].sentence


def test_an_outcome_without_its_reason_or_its_findings_is_refused(film: Analysis) -> None:
    with pytest.raises(ReportError, match="must say why"):
        say(without_findings(film, Status.FAILED))
    with pytest.raises(ReportError, match="must name them"):
        say(without_findings(film, Status.FINDINGS))
    with pytest.raises(ReportError, match="must have no findings"):
        say(replace(film, status=Status.FAILED, reason="broken"))


def test_two_findings_with_one_id_are_refused(film: Analysis) -> None:
    with pytest.raises(ReportError, match="same id"):
        say(replace(film, findings=(film.findings[0], film.findings[0])))


def test_language_and_time_zone_must_be_known(film: Analysis) -> None:
    with pytest.raises(ReportError, match="language"):
        say(film, "fr")
    with pytest.raises(ReportError, match="time zone"):
        say(film, made_at=datetime(2026, 3, 1, 12, 0))  # noqa: DTZ001


def test_an_algorithm_without_a_version_is_refused(film: Analysis) -> None:
    with pytest.raises(ReportError, match="version"):
        say(replace(film, algorithm=replace(RULES, version="")))


def test_a_statement_for_another_template_is_refused(film: Analysis) -> None:
    with pytest.raises(ReportError, match="template"):
        state(film, TEMPLATES["brain_mr"], study_instance_uid="2.25.7", language="en", made_at=MADE_AT,
              is_correction=False)  # fmt: skip


def test_a_study_has_one_tracking_uid_per_finding_and_another_study_another(tmp_path: Path) -> None:
    study: Study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    template = TEMPLATES["brain_mr"]
    uids = {
        state(analysis, template, study_instance_uid=uid, language="en", made_at=MADE_AT, is_correction=False)
        .findings[0]
        .tracking_uid
        for uid in ("2.25.1", "2.25.2")
    }
    assert len(uids) == 2


def test_advice_comes_with_its_source_and_the_findings_it_is_for(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    analysis = film_analysis(study)
    for language, source in (("en", "ACR Appropriateness Criteria"), ("zh", "美国放射学会")):
        (advice,) = say(analysis, language).recommendations
        assert advice.source.startswith(source)
        assert advice.finding_ids == ("opacity-1", "opacity-2")


def test_without_a_finding_there_is_no_advice(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    assert say(without_findings(film_analysis(study), Status.NO_FINDINGS)).recommendations == ()
    normal = replace(film_analysis(study).findings[0], is_abnormal=False)
    assert say(replace(film_analysis(study), findings=(normal,))).recommendations == ()


@pytest.mark.parametrize(("minimum", "below", "ids"), [(6.0, 30.0, ("opacity-1",)), (14.2, 30.0, ()), (6.0, 14.0, ())])
def test_advice_for_a_size_is_for_findings_of_that_size(
    tmp_path: Path, minimum: float, below: float, ids: tuple[str, ...]
) -> None:
    study = film_study(tmp_path)
    template = TEMPLATES["chest_xray"]
    row = replace(template.recommendations[0], quantity="long_axis", minimum=minimum, below=below)
    found = state(
        film_analysis(study),
        replace(template, recommendations=(row,)),
        study_instance_uid="2.25.7",
        language="en",
        made_at=MADE_AT,
        is_correction=False,
    ).recommendations
    assert [advice.finding_ids for advice in found] == ([ids] if ids else [])
