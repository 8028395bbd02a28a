"""``wetread evaluate`` and ``wetread accept``: how good an application is, and whether that is enough."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from node.cli.context import Json, Place, Site, console, open_place, print_json, print_table
from node.errors import ConfigError, EvaluationError

if TYPE_CHECKING:
    from node.evaluate.evaluation import Evaluation
    from node.evaluate.session import Request

__all__ = ["register"]

LANGUAGES = ("en", "zh")
Data = Annotated[Path, typer.Option("--data", help="Folder with the studies.", exists=True, file_okay=False)]
LabelsFile = Annotated[Path, typer.Option("--labels", help="CSV or JSON, see docs/evaluation.md.", exists=True)]
Out = Annotated[Path, typer.Option("--out", help="Folder for the report; a run that was cut short goes on in it.")]
Wrong = Annotated[
    Path | None, typer.Option("--wrong-anatomy", help="Folder with studies that must be refused.", exists=True)
]
Removal = Annotated[bool, typer.Option("--lesion-removal", help="Take labelled lesions out and look again.")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Try cases again that failed before.")]
Language = Annotated[str, typer.Option(help="en or zh; that of the site's reports if not given.")]
Resamples = Annotated[int, typer.Option(help="How often the bootstrap draws.", min=100, max=100_000)]
Seed = Annotated[int, typer.Option(help="Of the bootstrap; the same seed gives the same intervals.")]


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command()(evaluate)
    app.command()(accept)


def evaluate(
    application: Annotated[str, typer.Argument(help="Name of the handler.")],
    data: Data,
    labels: LabelsFile,
    out: Out,
    site: Site = None,
    against: Annotated[str, typer.Option(help="Another application, compared on the same cases.")] = "",
    against_site: Annotated[
        Path | None, typer.Option(help="Site that holds the other application, such as another version.", exists=True)
    ] = None,
    wrong_anatomy: Wrong = None,
    lesion_removal: Removal = False,
    retry_failed: Retry = False,
    calibrate: Annotated[str, typer.Option(help="temperature or isotonic: fit, and write it into model.toml.")] = "",
    model: Annotated[str, typer.Option(help="Whose model.toml; needed if the application has several.")] = "",
    kind: Annotated[str, typer.Option(help="Kind of finding to calibrate, if several are labelled.")] = "",
    resamples: Resamples = 2000,
    seed: Seed = 20260101,
    language: Language = "",
    json: Json = False,
) -> None:
    """Read labelled studies with an application, as the node would, and say how well it did, with intervals."""
    from node.evaluate.interval import Resampling
    from node.evaluate.running import open_application
    from node.evaluate.session import Request

    place = open_place(site)
    second = None
    if against or against_site is not None:
        second = open_application(against_site or place.folder, against or application)
    request = Request(
        application=open_application(place.folder, application),
        data=data,
        labels=labels,
        out=out,
        settings=place.settings.infer,
        second=second,
        wrong_anatomy=wrong_anatomy,
        removes_lesions=lesion_removal,
        retries_failed=retry_failed,
        resampling=Resampling(resamples, seed),
    )
    found = _run(request, _language(language, place), is_quiet=json)
    if calibrate:
        _calibrate(found, request, calibrate, model=model, kind=kind)
    if json:
        from node.evaluate.write import plain_report

        print_json(plain_report(found))
    else:
        _print(found, out, _language(language, place))


def accept(
    criteria: Annotated[Path, typer.Argument(help="TOML with what was agreed before.", exists=True)],
    data: Data,
    labels: LabelsFile,
    out: Out,
    site: Site = None,
    wrong_anatomy: Wrong = None,
    lesion_removal: Removal = False,
    retry_failed: Retry = False,
    resamples: Resamples = 2000,
    seed: Seed = 20260101,
    language: Language = "",
    json: Json = False,
) -> None:
    """Site acceptance test on the site's own labelled studies; exit code 1 if a criterion is not met."""
    from node.evaluate.accept_page import said, write_acceptance
    from node.evaluate.acceptance import judge, load_criteria
    from node.evaluate.interval import Resampling
    from node.evaluate.running import open_application
    from node.evaluate.session import Request
    from node.paths import write_atomically

    place = open_place(site)
    agreed, sha256 = load_criteria(criteria)
    request = Request(
        application=open_application(place.folder, agreed.application),
        data=data,
        labels=labels,
        out=out,
        settings=place.settings.infer,
        wrong_anatomy=wrong_anatomy,
        removes_lesions=lesion_removal,
        retries_failed=retry_failed,
        resampling=Resampling(resamples, seed),
    )
    spoken = _language(language, place)
    found = _run(request, spoken, is_quiet=json)
    outcome = judge(agreed, sha256, found)
    write_atomically(out / "acceptance.html", write_acceptance(outcome, found, spoken).encode())
    verdicts = [
        {"metric": one.criterion.metric, "of": one.criterion.of, "kind": one.criterion.kind, "is_met": one.is_met,
         "value": one.found.value if one.found else None, "why": said(one.why, spoken) if one.why else ""}
        for one in outcome.verdicts
    ]  # fmt: skip
    if json:
        print_json(
            {
                "is_passed": outcome.is_passed,
                "objections": [said(one, spoken) for one in outcome.objections],
                "criteria": verdicts,
            }
        )
    else:
        rows = [
            (one["metric"], one["of"], one["value"], "met" if one["is_met"] else "not met", one["why"])
            for one in verdicts
        ]
        print_table("Criteria", ("metric", "of", "value", "verdict", "why"), rows)
        for objection in outcome.objections:
            console.print(said(objection, spoken), markup=False)
        console.print(f"{'Passed' if outcome.is_passed else 'Not passed'}: {out / 'acceptance.html'}", markup=False)
    if not outcome.is_passed:
        raise typer.Exit(1)


def _language(language: str, place: Place) -> str:
    language = language or place.settings.report.language
    if language not in LANGUAGES:
        raise ConfigError(f"--language must be one of {', '.join(LANGUAGES)}, found {language!r}")
    return language


def _run(request: "Request", language: str, *, is_quiet: bool) -> "Evaluation":
    from node.evaluate.session import evaluate as run
    from node.evaluate.write import write_report

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=is_quiet) as progress:
        bars: dict[str, TaskID] = {}

        def advance(what: str, done: int, of_all: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what)
            progress.update(bars[what], completed=done, total=of_all)

        found = run(request, made_at=datetime.now(UTC), progress=advance)
    write_report(found, request.out, language=language)
    return found


def _calibrate(found: "Evaluation", request: "Request", method: str, *, model: str, kind: str) -> None:
    from node.evaluate.calibrate import calibrate, write_block

    names = [name for name, _, _ in request.application.weights]
    if not names:
        raise EvaluationError("a rule-based application has no probability to calibrate")
    if (model or len(names) > 1) and model not in names:
        raise EvaluationError(f"--model must be one of {', '.join(names)}")
    kinds = [one for one in found.kinds if kind in ("", one.kind)]
    if len(kinds) != 1:
        raise EvaluationError(f"--kind must be one of {', '.join(one.kind or repr('') for one in found.kinds)}")
    today = datetime.fromisoformat(found.made_at).date()
    fitted = calibrate(kinds[0].cases, method, labels_sha256=found.data.labels_sha256, today=today)
    write_block(request.application.site / "models" / (model or names[0]), fitted.calibration)
    rows = [
        (name, f"{one.ece:.3f}", f"{one.brier:.3f}")
        for name, one in (("before", fitted.before), ("after, on patients not fitted on", fitted.after))
    ]
    print_table(f"Calibration: {fitted.calibration.source}", ("", "ECE", "Brier"), rows)


def _print(found: "Evaluation", out: Path, language: str) -> None:
    from node.evaluate.page import interval_text, metric_name, number_text
    from node.evaluate.page_words import PAGE_WORDS

    words = PAGE_WORDS[language]
    for kind in found.kinds:
        rows = [
            (metric_name(one.metric, one.of, words), number_text(one.value, one.unit), interval_text(one), one.n)
            for one in kind.estimates
        ]
        columns = (words.text["figure"], words.text["value"], words.text["interval"], words.text["n"])
        print_table(kind.kind or words.text["any_kind"], columns, rows)
    console.print(f"{out / 'report.html'}, {out / 'report.json'}", markup=False)
