"""The command ``wetread explain``: why a study was read or not, and where its results are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from node.cli.context import Json, Site, open_place, print_json, print_table
from node.errors import ConfigError, TemplateError, WetreadError
from node.explain import LANGUAGES, WORDS, Event, find_studies, story
from node.store.database import open_store

__all__ = ["explain"]


def explain(
    name: Annotated[str, typer.Argument(help="Accession Number, Patient ID or Study Instance UID.")],
    site: Site = None,
    json: Json = False,
    language: Annotated[str, typer.Option(help="en or zh; that of the site's reports if not given.")] = "",
) -> None:
    """Tell the story of a study: what came, what ran, what did not and why, where the results are."""
    place = open_place(site)
    language = language or place.settings.report.language
    if language not in LANGUAGES:
        raise ConfigError(f"--language must be one of {', '.join(LANGUAGES)}, found {language!r}")
    reasons = _reasons(place.folder / "sr_templates", language)
    store = open_store(place.settings.store.path)
    found = find_studies(store, name)
    stories = {study_uid: story(store, study_uid, language=language, reasons=reasons) for study_uid in found}
    store.close()
    if json:
        print_json(stories)
    for study_uid, events in ({} if json else stories).items():
        _print(study_uid, events, language)
    if not found:
        raise WetreadError("no study has this Accession Number, Patient ID or Study Instance UID")


def _print(study_uid: str, events: list[Event], language: str) -> None:
    words = WORDS[language]
    rows = [
        (event.at.astimezone().strftime("%H:%M:%S"), words.stages.get(event.stage, event.stage), event.text)
        for event in events
    ]
    day = events[0].at.astimezone().strftime("%Y-%m-%d") if events else ""
    print_table(f"{words.title} {study_uid}, {day}", words.columns, rows)


def _reasons(folder: Path, language: str) -> Mapping[str, str]:
    """What the site's templates say for the English reasons of its handlers."""
    if language == "en":
        return {}
    from node import report

    try:
        templates = report.load_templates(folder)
    except TemplateError:
        return {}  # the reasons stay English; wetread check says what is wrong with the template
    texts = [text for template in templates.values() for text in template.reasons.values()]
    return {text["en"]: text[language] for text in texts if "en" in text and language in text}
