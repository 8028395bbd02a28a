"""The page of a site acceptance test: what was agreed, what was found, and room for those who sign."""

from collections.abc import Mapping

from node.evaluate import html
from node.evaluate.acceptance import Acceptance, Bound, Criterion, Saying, Verdict
from node.evaluate.evaluation import Evaluation
from node.evaluate.page import interval_text, metric_name, number_text
from node.evaluate.page_words import PAGE_WORDS, PageWords

__all__ = ["said", "write_acceptance"]

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Site acceptance test of {name} {version}",
        "passed": "Passed: every criterion is met.",
        "failed": "Not passed.",
        "warning": "This page holds for the version, the code and the weights it names, on this site's cases, on its "
        "date. It is valid only when signed, and no approval as a medical device.",
        "agreed": "Criteria agreed by {by} on {on}, SHA-256 of the file {sha256}",
        "objections": "What speaks against it, whatever the figures say",
        "criterion": "Criterion", "agreed_bound": "Agreed", "found": "Found", "verdict": "Verdict", "why": "Why not",
        "met": "met", "not_met": "not met", "at_least": "at least {value}", "at_most": "at most {value}",
        "lower": "lower bound", "upper": "upper bound", "value": "the value itself",
        "evaluated": "What was evaluated", "date": "Date of the evaluation", "patients": "Patients",
        "signatures": "Signatures", "role": "Role", "name": "Name", "day": "Date", "signature": "Signature",
        "roles": "Medical physicist|Radiologist|Head of department",
        "other_application": "the criteria are for {0}, evaluated was {1}",
        "other_version": "the criteria are for version {0}, evaluated was {1}",
        "other_weights": "the criteria are for other weights than those evaluated",
        "agreed_after": "the criteria were agreed after the evaluation was made",
        "missing_images": "labelled studies without images: {0}; who left them out chose the sample",
        "cannot_say": "the data cannot say", "too_few": "counted on {0}, agreed were {1}",
        "no_interval": "the sample is too small or too uniform for an interval", "bound_is": "the bound is {0}",
    },
    "zh": {
        "title": "{name} {version} 现场验收测试",
        "passed": "通过：全部标准均已满足。",
        "failed": "未通过。",
        "warning": "本页仅适用于所列版本、代码与权重，以及本院本批病例和所列日期。"
        "须签字后方可生效，且不构成医疗器械许可。",
        "agreed": "标准由 {by} 于 {on} 商定，文件 SHA-256：{sha256}",
        "objections": "无论指标如何，以下情形均不予通过",
        "criterion": "标准", "agreed_bound": "商定值", "found": "实测", "verdict": "判定", "why": "未满足原因",
        "met": "满足", "not_met": "不满足", "at_least": "不低于 {value}", "at_most": "不高于 {value}",
        "lower": "区间下限", "upper": "区间上限", "value": "点估计值",
        "evaluated": "评估对象", "date": "评估日期", "patients": "患者数",
        "signatures": "签字", "role": "职务", "name": "姓名", "day": "日期", "signature": "签名",
        "roles": "医学物理师|放射科医师|科室负责人",
        "other_application": "标准针对 {0}，实际评估的是 {1}",
        "other_version": "标准针对版本 {0}，实际评估的是 {1}",
        "other_weights": "标准所列权重与实际评估的权重不同",
        "agreed_after": "标准的商定日期晚于评估日期",
        "missing_images": "有标注但无图像的检查：{0} 个；缺失者会使样本带有选择性",
        "cannot_say": "数据不足以给出结论", "too_few": "统计基数 {0}，商定为 {1}",
        "no_interval": "样本过少或过于一致，无法给出区间", "bound_is": "实测界值 {0}",
    },
}  # fmt: skip


def write_acceptance(acceptance: Acceptance, evaluation: Evaluation, language: str) -> str:
    """The page in one language; it names application, version, hashes, counts and date."""
    words, text = PAGE_WORDS[language], TEXTS[language]
    maker, criteria = evaluation.application, acceptance.criteria
    outcome = "passed" if acceptance.is_passed else "failed"
    body = [
        f'<p class="{outcome}">{html.escape(text[outcome])}</p>',
        html.paragraph(text["warning"], "warning"),
        html.paragraph(
            text["agreed"].format(by=criteria.agreed_by, on=criteria.agreed_on, sha256=acceptance.criteria_sha256)
        ),
    ]
    if acceptance.objections:
        items = "".join(f"<li>{html.escape(said(one, language))}</li>" for one in acceptance.objections)
        body += [html.section(text["objections"], 3), f"<ul>{items}</ul>"]
    columns = (text["criterion"], text["agreed_bound"], text["found"], words.text["interval"], words.text["n"],
               text["verdict"], text["why"])  # fmt: skip
    body.append(html.table(columns, [_row(one, words, text, language) for one in acceptance.verdicts]))
    body += [html.section(text["evaluated"], 3), html.table(("", ""), _evaluated(evaluation, words, text))]
    signatures = [(role, "", "", "") for role in text["roles"].split("|")]
    to_sign = (text["role"], text["name"], text["day"], text["signature"])
    body += [html.section(text["signatures"], 3), f'<div class="sign">{html.table(to_sign, signatures)}</div>']
    return html.page(text["title"].format(name=maker.name, version=maker.version), body, language=language)


def said(saying: Saying, language: str) -> str:
    """A sentence of the test in one language."""
    return TEXTS[language][saying.key].format(*saying.values)


def _row(one: Verdict, words: PageWords, text: Mapping[str, str], language: str) -> tuple[str, ...]:
    criterion, found = one.criterion, one.found
    why = said(one.why, language) if one.why else ""
    verdict = text["met"] if one.is_met else text["not_met"]
    if found is None:
        return _name(criterion, words), _agreed(criterion, text, "1"), "-", "-", "-", verdict, why
    counted = f"{found.n} {words.unit_of_n[found.unit_of_n]}"
    value = number_text(found.value, found.unit)
    return (
        _name(criterion, words), _agreed(criterion, text, found.unit), value, interval_text(found), counted, verdict,
        why,
    )  # fmt: skip


def _name(criterion: Criterion, words: PageWords) -> str:
    where = ", ".join(part for part in (criterion.kind, criterion.scanner) if part)
    return metric_name(criterion.metric, criterion.of, words) + (f" ({where})" if where else "")


def _agreed(criterion: Criterion, text: Mapping[str, str], unit: str) -> str:
    key = "at_least" if criterion.at_least is not None else "at_most"
    limit = criterion.at_least if criterion.at_least is not None else criterion.at_most
    against = {Bound.LOWER: "lower", Bound.UPPER: "upper", Bound.VALUE: "value"}[criterion.held_against]
    return f"{text[against]} {text[key].format(value=number_text(limit, unit))}"


def _evaluated(evaluation: Evaluation, words: PageWords, text: Mapping[str, str]) -> list[tuple[str, object]]:
    maker, data = evaluation.application, evaluation.data
    return [
        (text["date"], evaluation.made_at),
        (words.text["application"], f"{maker.name} ({maker.manufacturer})"),
        (words.text["version"], f"{maker.version}, Wetread {maker.node_version}"),
        (words.text["code"], maker.code_sha256),
        *((words.text["weights"], f"{name} {version}, SHA-256 {sha256}") for name, version, sha256 in maker.weights),
        (words.text["parameters"], "; ".join(f"{key}: {value}" for key, value in maker.parameters) or "-"),
        (words.text["labelled"], data.labelled),
        (words.text["missing"], data.missing),
        (text["patients"], data.patients),
        (words.text["labels"], data.labels_sha256),
    ]
