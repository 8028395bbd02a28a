"""The words that go with an added model: its card for people, its rule, and a report template to start from.

All of it is drafted; a person who knows the model and the hospital reads it before the first patient.
"""

import hashlib
import tomllib
from pathlib import Path
from string import Template as Text

from node.domain.models import ModelCard, Preparation
from node.infer.adding.toml import quoted

__all__ = ["NOT_LOOKED_AT", "card_words", "rule_words", "template_words"]

NOT_LOOKED_AT = "others"
COLOURS = ((220, 60, 60), (0, 150, 220), (240, 170, 0), (90, 180, 90), (160, 90, 200), (0, 170, 160))
LONGEST_VALUE = 16  # PS3.5 6.2, VR SH
LONGEST_SEGMENT = 57  # of VR LO, after "AI SEG "
START = Path(__file__).with_name("start.toml")


def card_words(card: ModelCard, preparation: Preparation, *, origin: str, origin_sha256: str, changes: str) -> str:
    """``card.md``: what the file cannot tell is left open on purpose."""
    limits = "\n".join(f"- {sentence}" for sentence in card.limits)
    not_for = "\n".join(f"- {sentence}" for sentence in card.not_for)
    shown = ", ".join(card.labels)
    grid = " x ".join(str(side) for side in preparation.size)
    spacing = preparation.spacing_mm
    at = f" at {' x '.join(f'{mm:g}' for mm in spacing)} mm" if spacing else ""
    calibration = card.calibration.source if card.calibration else "none, so its scores are printed as scores"
    return f"""# {card.name} {card.version}

{card.purpose}

- made by: {card.manufacturer}; licence: {card.licence}
- {card.task} of {shown}; threshold {card.threshold:g}
- added from `{origin}`, sha256 {origin_sha256}
- {changes}; sha256 of what runs: {card.sha256}
- sees {grid}{at}, {preparation.channels} channel(s), numbers as `{preparation.kind}`
- calibration: {calibration}

## On whom it was trained
{card.population}

## Limits
{limits}

## Not for
{not_for}

## What was measured here
Nothing yet. `wetread evaluate {card.name}` on labelled studies of this hospital fills this part; until then no
claim is made.
"""


def rule_words(card: ModelCard) -> str:
    """A rule for ``config.toml``."""
    conditions = [f"Modality = {_listed(card.modalities)}"]
    if card.body_parts and "" not in card.body_parts:
        conditions.append(f"BodyPartExamined = {_listed(card.body_parts)}")
    return f"""[[rules]]
name = {quoted(card.name.replace("_", " "))}
handler = {quoted(card.name)}
when = {{ {", ".join(conditions)} }}
priority = "routine"
destinations = ["pacs", "ris"]
comment = {quoted(card.purpose)}
"""


def _listed(values: tuple[str, ...]) -> str:
    return quoted(values[0]) if len(values) == 1 else "[" + ", ".join(quoted(value) for value in values) + "]"


def template_words(card: ModelCard, chinese: tuple[str, ...]) -> str:
    """A report template with local codes, one finding for each label that is reported."""
    start = START.read_text(encoding="utf-8")
    zh = dict(zip(card.labels, chinese or tuple(_spoken(label) for label in card.labels), strict=True))
    reported = [label for label in card.labels if label not in card.ignored_labels]
    text = Text(start.partition("# --- one for each label ---\n")[0]).substitute(
        name=card.name,
        title=_inside(_spoken(card.name).capitalize()),
        labels=_inside(", ".join(_spoken(label) for label in reported)),
        labels_zh=_inside("、".join(zh[label] for label in reported)),
        procedure=local_code(card.name, "procedure"),
    )
    block = Text(start.partition("# --- one for each label ---\n")[2])
    for index, label in enumerate(reported):
        text += block.substitute(
            key=label,
            value=local_code(card.name, label),
            name=_inside(_spoken(label).capitalize()),
            name_zh=_inside(zh[label]),
            is_anatomy=str(label in card.anatomy_labels).lower(),
            category=_category(label in card.anatomy_labels),
            segment=_inside(_spoken(label)[:LONGEST_SEGMENT]),
            rgb=list(COLOURS[index % len(COLOURS)]),
        )
    tomllib.loads(text)
    return text


def _category(is_anatomy: bool) -> str:  # noqa: FBT001
    value, meaning = (
        ("91723000", "Anatomical Structure") if is_anatomy else ("49755003", "Morphologically Abnormal Structure")
    )
    return f'{{ value = "{value}", scheme = "SCT", meaning = "{meaning}" }}'


def local_code(name: str, label: str) -> str:
    """A code of the site's own, the same on every run, at most 16 characters."""
    digest = hashlib.sha256(f"{name}/{label}".encode()).hexdigest()
    return f"M{digest[: LONGEST_VALUE - 1].upper()}"


def _spoken(key: str) -> str:
    return key.replace("_", " ")


def _inside(text: str) -> str:
    """A text as it stands between the quotes of a TOML string; braces would be placeholders."""
    return quoted(text.replace("{", "(").replace("}", ")"))[1:-1]
