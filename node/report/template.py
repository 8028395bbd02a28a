"""Report templates: which concept, unit and sentence stands for what an algorithm found.

A template is one TOML file in ``sr_templates/``; its README says how to write one. Everything in it
is checked when it is read, so that a wrong code, a missing language or a misspelt placeholder stops
the start and not a report at night.
"""

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.domain.codes import Code
from node.domain.findings import Certainty, Status, Tier
from node.errors import TemplateError
from node.report.concepts import LATERALITY, LONGEST_MEANING
from node.report.template_table import Sentence, Table, Text, listed
from node.report.words import WORDS, fill, placeholders

__all__ = [
    "FindingTemplate",
    "MeasurementTemplate",
    "RecommendationTemplate",
    "SegmentTemplate",
    "Template",
    "load_templates",
]

OF_FINDING = frozenset({"id", "laterality", "score", "certainty", "qualities"})
ALWAYS = "always"
CRITICAL_FROM = {ALWAYS: frozenset(Tier), "high": frozenset({Tier.HIGH}), "medium": frozenset({Tier.HIGH, Tier.MEDIUM})}
"""From which tier of certainty on a kind of Finding is critical; ``always`` needs no certainty."""
SLICE = re.compile(r"slice (\d+)/(\d+)")  # how a handler labels a slice
OF_CONCLUSION = frozenset({"count", "sentences", "reason"})


@dataclass(frozen=True, slots=True)
class FindingTemplate:
    """What a kind of Finding is called; `evaluations` are coded questions with their answers.

    `critical` says when somebody must be told at once: ``always``, ``high`` or ``medium`` (from that tier of certainty
    on), or "" for never.
    """

    concept: Code
    category: Code
    label: Text
    sentence: Sentence
    site: Code | None = None
    evaluations: tuple[tuple[Code, Code], ...] = ()
    critical: str = ""

    def is_critical(self, certainty: Certainty | None) -> bool:
        """True if somebody must be told at once of a Finding that is this certain."""
        if not self.critical or self.critical == ALWAYS:
            return bool(self.critical)
        return certainty is not None and certainty.tier in CRITICAL_FROM[self.critical]


@dataclass(frozen=True, slots=True)
class MeasurementTemplate:
    """What a quantity is called, its one UCUM unit, and how many decimals people read."""

    concept: Code
    unit: Code
    label: Text
    decimals: int


@dataclass(frozen=True, slots=True)
class SegmentTemplate:
    """What a mask shows (PS3.3 C.8.20.2) and the colour a viewer starts with, as 8-bit RGB."""

    concept: Code
    category: Code
    label: str
    rgb: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class RecommendationTemplate:
    """What a guideline advises, and when.

    For an abnormal finding of the kind `finding` ("" for any) whose `quantity`, if one is named, is at least
    `minimum` and below `below`; `source` names the guideline.
    """

    text: Text
    source: Text
    finding: str = ""
    quantity: str = ""
    minimum: float = -math.inf
    below: float = math.inf


@dataclass(frozen=True, slots=True)
class Template:
    """One report template; `revision` is the SHA-256 of its file."""

    name: str
    revision: str
    title: Text
    responsibility: Text
    procedure: Code
    findings: Mapping[str, FindingTemplate]
    measurements: Mapping[str, MeasurementTemplate]
    segments: Mapping[str, SegmentTemplate]
    conclusions: Mapping[Status, Sentence]
    reasons: Mapping[str, Text]
    limits: Mapping[str, Text]
    laterality: Mapping[str, Text]
    phrases: tuple[Text, ...] = ()
    score: Code | None = None
    recommendations: tuple[RecommendationTemplate, ...] = ()
    qualities: Mapping[str, Text] = field(default_factory=dict)

    def limit(self, key: str, language: str) -> str:
        """What the algorithm does not look at, in words.

        Raises
        ------
        TemplateError
            If the template has no such key; call it for every key of a handler at start.
        """
        if key not in self.limits:
            raise TemplateError(f"{self.name}.toml: [limits] has no {key!r}; it has {listed(self.limits)}")
        return self.limits[key][language]

    def quality(self, key: str, language: str) -> str:
        """What is said of a Finding in words; raises `TemplateError` if the template does not know it."""
        if key not in self.qualities:
            raise TemplateError(f"{self.name}.toml: [qualities] has no {key!r}; it has {listed(self.qualities)}")
        return self.qualities[key][language]

    def phrase(self, english: str, language: str) -> str:
        """A handler's own words in another language; as they are if the template does not know them."""
        return next((phrase[language] for phrase in self.phrases if phrase["en"] == english), english)

    def label(self, english: str, language: str) -> str:
        """A short label of a handler in another language: a kind of Finding, ``slice 47/181``, or a phrase."""
        kind = english.replace(" ", "_")
        if kind in self.findings:
            return self.findings[kind].label[language]
        found = SLICE.fullmatch(english)
        if found is None:
            return self.phrase(english, language)
        return fill((WORDS[language].slice_of,), {"number": found[1], "count": found[2]})

    def finding(self, kind: str) -> FindingTemplate:
        """What a kind of Finding is called; raises `TemplateError` if the template does not know it."""
        if kind not in self.findings:
            raise TemplateError(f"{self.name}.toml: [findings] has no {kind!r}; it has {listed(self.findings)}")
        return self.findings[kind]

    def measurement(self, quantity: str) -> MeasurementTemplate:
        """What a quantity is called; raises `TemplateError` if the template does not know it."""
        if quantity not in self.measurements:
            raise TemplateError(
                f"{self.name}.toml: [measurements] has no {quantity!r}; it has {listed(self.measurements)}"
            )
        return self.measurements[quantity]

    def segment(self, kind: str) -> SegmentTemplate:
        """What a mask shows; raises `TemplateError` if the template does not know it."""
        if kind not in self.segments:
            raise TemplateError(f"{self.name}.toml: [segments] has no {kind!r}; it has {listed(self.segments)}")
        return self.segments[kind]


def load_templates(folder: Path) -> Mapping[str, Template]:
    """Read and check every report template of a site.

    Returns
    -------
    Templates by name, which is the file's name without ``.toml``.

    Raises
    ------
    TemplateError
        If a file is not TOML, or a key, code, unit, language or placeholder in it is missing or
        unknown; the message names file and key.
    """
    templates = {path.stem: _load(path) for path in sorted(folder.glob("*.toml"))}
    if not templates:
        raise TemplateError(f"{folder}: holds no report template (*.toml)")
    return templates


def _load(path: Path) -> Template:
    try:
        content = path.read_bytes()
        tables = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise TemplateError(f"{path.name}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path.name}: not valid TOML: {error}") from error
    root = Table(path.name, "", tables)
    quantities = frozenset(tables.get("measurements", {}))
    template = Template(
        name=path.stem,
        revision=hashlib.sha256(content).hexdigest(),
        title=root.text("title"),
        responsibility=root.text("responsibility"),
        procedure=root.code("procedure"),
        findings=root.each("findings", lambda table: _finding(table, quantities)),
        measurements=root.each("measurements", _measurement),
        segments=root.each("segments", _segment),
        conclusions=_conclusions(root.table("conclusions")),
        reasons=root.texts("reasons"),
        limits=root.texts("limits"),
        laterality=root.texts("laterality"),
        phrases=tuple(_phrase(table) for table in root.items("phrases")),
        score=root.optional_code("score"),
        recommendations=tuple(_recommendation(table) for table in root.items("recommendations")),
        qualities=root.texts("qualities"),
    )
    root.end()
    _check_laterality(template)
    _check_recommendations(template)
    return template


def _finding(table: Table, quantities: frozenset[str]) -> FindingTemplate:
    found = FindingTemplate(
        concept=table.code("concept"),
        category=table.code("category"),
        site=table.optional_code("site"),
        label=table.text("label"),
        sentence=table.sentence("sentence", OF_FINDING | quantities),
        evaluations=tuple((item.code("question"), item.code("answer")) for item in table.items("evaluations")),
        critical=table.name("critical"),
    )
    if found.critical not in ("", *CRITICAL_FROM):
        raise table.error("critical", f"must be one of {listed(CRITICAL_FROM)}, found {found.critical!r}")
    table.end()
    return found


def _measurement(table: Table) -> MeasurementTemplate:
    found = MeasurementTemplate(
        concept=table.code("concept"),
        unit=table.code("unit"),
        label=table.text("label"),
        decimals=table.number("decimals", 0, 6),
    )
    if found.unit.scheme != "UCUM":
        raise table.error("unit", f"must be a UCUM unit, found scheme {found.unit.scheme!r}")
    table.end()
    return found


def _segment(table: Table) -> SegmentTemplate:
    rgb = table.take("rgb")
    if not isinstance(rgb, list) or len(rgb) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in rgb):
        raise table.error("rgb", f"must be three numbers from 0 to 255, found {rgb!r}")
    label = table.take("label")
    if not isinstance(label, str) or not 0 < len(label) <= LONGEST_MEANING - len("AI SEG "):
        raise table.error("label", "must be a short text")
    concept, category = table.code("concept"), table.code("category")
    table.end()
    return SegmentTemplate(concept, category, label, (rgb[0], rgb[1], rgb[2]))


def _phrase(table: Table) -> Text:
    phrase = table.translation()
    table.end()
    return phrase


def _recommendation(table: Table) -> RecommendationTemplate:
    found = RecommendationTemplate(
        text=table.text("text"),
        source=table.text("source"),
        finding=table.name("finding"),
        quantity=table.name("quantity"),
        minimum=table.limit("minimum", -math.inf),
        below=table.limit("below", math.inf),
    )
    if not found.quantity and not (math.isinf(found.minimum) and math.isinf(found.below)):
        raise table.error("quantity", "is missing: minimum and below are limits of a quantity")
    table.end()
    return found


def _conclusions(table: Table) -> Mapping[Status, Sentence]:
    found = {status: table.sentence(status.value, OF_CONCLUSION) for status in Status}
    table.end()
    return found


def _check_recommendations(template: Template) -> None:
    for row in template.recommendations:
        if row.finding:
            template.finding(row.finding)
        if row.quantity:
            template.measurement(row.quantity)


def _check_laterality(template: Template) -> None:
    for side in template.laterality:
        if side not in LATERALITY:
            raise TemplateError(f"{template.name}.toml: [laterality] has {side!r}; known are {listed(LATERALITY)}")
    for kind, finding in template.findings.items():
        names = frozenset[str]().union(*(placeholders(parts) for parts in finding.sentence.values()))
        if "laterality" in names and set(template.laterality) != set(LATERALITY):
            raise TemplateError(
                f"{template.name}.toml: findings.{kind} says the side, so [laterality] needs {listed(LATERALITY)}"
            )
