"""Texts with placeholders, and the few words that every report needs whatever its template."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from node.domain.algorithm import Basis
from node.domain.findings import Tier

__all__ = ["WORDS", "Parts", "Words", "fill", "placeholders"]

Parts = tuple[str, ...]
"""A sentence in parts; a part with a placeholder that has no value is left out."""

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def placeholders(parts: Iterable[str]) -> frozenset[str]:
    """The names in curly brackets.

    Raises
    ------
    ValueError
        If a bracket is not part of a plain name such as ``{volume}``.
    """
    found: set[str] = set()
    for part in parts:
        found.update(PLACEHOLDER.findall(part))
        if re.search(r"[{}]", PLACEHOLDER.sub("", part)):
            raise ValueError(f"a curly bracket that is not a placeholder such as {{volume}} in {part!r}")
    return frozenset(found)


def fill(parts: Parts, values: Mapping[str, str]) -> str:
    """Join the parts whose placeholders all have values; values are put in as they are and never read again."""
    kept = (part for part in parts if all(values.get(name) for name in PLACEHOLDER.findall(part)))
    return "".join(PLACEHOLDER.sub(lambda match: values[match.group(1)], part) for part in kept)


@dataclass(frozen=True, slots=True)
class Words:
    """What the engine itself says in one language.

    Parameters
    ----------
    language_code, language_name
        RFC 5646 tag and its meaning (PS3.16 CID 5000).
    concepts
        Meanings of codes of the readable report in this language (PS3.3 8.3), by code value; English if not here.
    slice_of
        Which slice of how many, with ``{number}`` and ``{count}``.
    gap, clause, colon, opening, closing
        Punctuation between sentences, between clauses, after a label, and around an aside.
    """

    language_code: str
    language_name: str
    concepts: Mapping[str, str]
    basis: Mapping[Basis, str]
    tier: Mapping[Tier, str]
    certainty: str
    algorithm: str
    version: str
    weights: str
    parameters: str
    device: str
    reported_at: str
    images_read: str
    method: str
    source: str
    score: str
    not_a_probability: str
    threshold: str
    heat: str
    original: str
    overlay: str
    slice_of: str
    correction: str
    unverified: str
    gap: str
    clause: str
    colon: str
    opening: str
    closing: str


WORDS: Mapping[str, Words] = {
    "en": Words(
        language_code="en",
        language_name="English",
        concepts={},
        basis={
            Basis.LEARNED: "learned",
            Basis.RULE_BASED: "rule-based, not learned",
            Basis.RULES_IN_LEARNED_REGION: "rule-based in a learned region",
        },
        tier={Tier.HIGH: "high", Tier.MEDIUM: "medium", Tier.REVIEW: "needs review"},
        certainty="certainty",
        algorithm="Algorithm",
        version="version",
        weights="weights SHA-256",
        parameters="operating point",
        device="computed on",
        reported_at="reported at",
        images_read="images read",
        method="method",
        source="source",
        score="score",
        not_a_probability="not a probability",
        threshold="threshold",
        heat="heat",
        original="Original",
        overlay="AI overlay",
        slice_of="slice {number}/{count}",
        correction="This report replaces an earlier one: more images of this study have come in since.",
        unverified="unverified",
        gap=" ",
        clause="; ",
        colon=": ",
        opening=" (",
        closing=")",
    ),
    "zh": Words(
        language_code="zh-CN",
        language_name="Chinese, China",
        concepts={
            "18748-4": "影像诊断报告（AI 初步）",
            "111017": "AI 处理结果",
            "111242": "全部算法成功：有所见",
            "111241": "全部算法成功：无所见",
            "111245": "算法均未成功：无所见",
            "373121007": "未评估",
            "121072": "印象",
            "121073": "印象",
            "121070": "影像所见",
            "121071": "所见",
            "121074": "建议",
            "121075": "建议",
            "121064": "检查与方法",
            "121065": "说明",
        },
        basis={
            Basis.LEARNED: "机器学习",
            Basis.RULE_BASED: "规则算法，非机器学习",
            Basis.RULES_IN_LEARNED_REGION: "规则算法，区域由机器学习划定",
        },
        tier={Tier.HIGH: "高", Tier.MEDIUM: "中", Tier.REVIEW: "需人工复核"},
        certainty="可信度",
        algorithm="算法",
        version="版本",
        weights="权重 SHA-256",
        parameters="工作点",
        device="计算设备",
        reported_at="报告时间",
        images_read="分析图像数",
        method="测量方法",
        source="依据",
        score="评分",
        not_a_probability="非概率",
        threshold="阈值",
        heat="热图",
        original="原图",
        overlay="AI 叠加图",
        slice_of="第 {number}/{count} 层",
        correction="本报告替代先前报告：此后又收到该检查的其他图像。",
        unverified="未经审核",
        gap="",
        clause="；",
        colon="：",
        opening="（",
        closing="）",
    ),
}
