"""The report as a page for a physicist: what was evaluated, on what, every figure with its interval, every case."""

from collections.abc import Sequence

from node.evaluate import html
from node.evaluate.challenges import Removals, WrongAnatomy
from node.evaluate.compare import Difference
from node.evaluate.evaluation import Data, Evaluation, Kind, Maker
from node.evaluate.figures import claims
from node.evaluate.page_words import PAGE_WORDS, PageWords
from node.evaluate.plots import drawings
from node.evaluate.records import CaseResult, Estimate

__all__ = ["interval_text", "metric_name", "number_text", "write_page"]

FEW_PATIENTS = 30
ANSWERS = ("called", "silent", "not_evaluable", "failed", "not_taken", "missing")
SMALL_P = 0.001


def write_page(evaluation: Evaluation, language: str) -> str:
    """The whole report in one language, with its drawings inside."""
    words = PAGE_WORDS[language]
    text, maker = words.text, evaluation.application
    body = [
        html.paragraph(text["made"].format(at=evaluation.made_at, node=maker.node_version), "quiet"),
        html.paragraph(text["warning"], "warning"),
    ]
    if evaluation.data.patients < FEW_PATIENTS:
        body.append(html.paragraph(text["few"].format(n=evaluation.data.patients), "warning"))
    body += [
        html.section(text["what"]),
        _maker(maker, words),
        html.section(text["data"], 3),
        _data(evaluation.data, words),
    ]
    for kind in evaluation.kinds:
        body += _kind(kind, evaluation, words)
    if evaluation.mean_average_precision:
        rows = [(of, number_text(value, "1")) for of, value in evaluation.mean_average_precision.items()]
        body += [html.section(text["map"], 3), html.table(("", text["value"]), rows, numbers=(1,))]
    if evaluation.wrong_anatomy is not None:
        body += _wrong_anatomy(evaluation.wrong_anatomy, words)
    resampling = evaluation.resampling
    body += [
        html.section(text["how"]),
        html.paragraph(text["how_text"].format(count=resampling.count, seed=resampling.seed)),
    ]
    title = text["title"].format(name=maker.name, version=maker.version)
    return html.page(title, body, language=language)


def metric_name(metric: str, of: str, words: PageWords) -> str:
    """What a figure is called, and of what."""
    return f"{words.metric.get(metric, metric)} {of}".rstrip(" :")


def number_text(value: float | None, unit: str) -> str:
    """A number as it is printed: shares with three decimals, others with as many as make three digits."""
    if value is None:
        return "-"
    return _digits(value, unit) + ("" if unit == "1" else f" {unit}")


def _digits(value: float, unit: str) -> str:
    return f"{value:.{3 if unit == '1' else 2 if abs(value) < 10 else 1}f}"


def interval_text(one: Estimate) -> str:
    """The interval in words, a dash where there is none."""
    return _interval_text(one.low, one.high, one.unit)


def _interval_text(low: float | None, high: float | None, unit: str) -> str:
    return "-" if low is None or high is None else f"{_digits(low, unit)} – {number_text(high, unit)}"


def _maker(maker: Maker, words: PageWords) -> str:
    text = words.text
    rows = [
        (text["application"], f"{maker.name} ({maker.manufacturer})"),
        (text["version"], maker.version),
        (text["basis"], maker.basis),
        (text["parameters"], "; ".join(f"{key}: {value}" for key, value in maker.parameters) or "-"),
        (text["code"], maker.code_sha256),
        *((text["weights"], f"{name} {version}, SHA-256 {sha256}") for name, version, sha256 in maker.weights),
    ]
    return html.table(("", ""), rows)


def _data(data: Data, words: PageWords) -> str:
    text = words.text
    seconds = (
        "-" if data.median_s is None else f"{data.median_s:.1f} {text['s']}, {data.slowest_s or 0.0:.1f} {text['s']}"
    )
    rows: list[tuple[str, object]] = [
        (text["studies"], data.studies), (text["labelled"], data.labelled), (text["unlabelled"], data.unlabelled),
        (text["missing"], data.missing), (text["patients"], data.patients), (text["other_files"], data.other_files),
        (text["unreadable"], data.unreadable_files), (text["time"], seconds), (text["labels"], data.labels_sha256),
    ]  # fmt: skip
    return html.table(("", ""), rows)


def _kind(kind: Kind, evaluation: Evaluation, words: PageWords) -> list[str]:
    text = words.text
    title = text["kind"].format(kind=kind.kind) if kind.kind else text["any_kind"]
    body = [html.section(title), html.section(text["table"], 3), _table(kind, words)]
    body += [html.section(text["figures"], 3), _estimates(kind.estimates, words)]
    figures = [
        f"<figure><figcaption>{html.escape(name)}</figcaption>{svg}</figure>" for name, svg in drawings(kind, words)
    ]
    body.append(f'<div class="drawings">{"".join(figures)}</div>' if figures else "")
    if kind.reasons:
        rows = [(words.outcome[outcome], reason, count) for outcome, reason, count in kind.reasons]
        columns = text["outcome"], text["reason"], text["count"]
        body += [html.section(text["not_read"], 3), html.table(columns, rows, numbers=(2,))]
    if len(kind.scanners) > 1:
        body.append(html.section(text["scanners"], 3))
        for one in kind.scanners:
            title = f"{one.scanner} ({one.cases} {text['cases_word']})"
            body.append(html.details(title, _estimates(one.estimates, words)))
    if kind.tiers:
        rows_of_tiers = [_row(row.true_share, text[row.tier], words) for row in kind.tiers]
        body += [html.section(text["tiers"], 3), _rows(rows_of_tiers, text["tier"], words)]
    if kind.differences and evaluation.compared_with is not None:
        body += _comparison(kind.differences, evaluation.application, evaluation.compared_with, words)
    if kind.removals is not None:
        body += _removals(kind.removals, words)
    return [*body, html.details(text["cases"], _cases(kind.cases, words))]


def _table(kind: Kind, words: PageWords) -> str:
    text = words.text
    answers = [one for one in ANSWERS if any(one in row for row in kind.table.values())]
    names = {"positive": text["positive"], "negative": text["negative"], "unlabelled": text["unlabelled_truth"]}
    rows = []
    for truth, name in names.items():
        row = kind.table.get(truth)
        if row:
            rows.append((name, *(row.get(answer, 0) for answer in answers), sum(row.values())))
    columns = (text["truth"], *(words.outcome[answer] for answer in answers), text["total"])
    return html.table(columns, rows, numbers=range(1, len(columns)))


def _estimates(found: Sequence[Estimate], words: PageWords) -> str:
    rows = [_row(one, metric_name(one.metric, one.of, words), words) for one in found]
    return _rows(rows, words.text["figure"], words)


def _row(one: Estimate, name: str, words: PageWords) -> tuple[str, ...]:
    counted = f"{one.n} {words.unit_of_n[one.unit_of_n]}"
    return name, number_text(one.value, one.unit), interval_text(one), counted, words.method[one.method]


def _rows(rows: Sequence[Sequence[str]], first: str, words: PageWords) -> str:
    text = words.text
    return html.table((first, text["value"], text["interval"], text["n"], text["method"]), rows, numbers=(1, 2, 3))


def _comparison(differences: Sequence[Difference], one: Maker, other: Maker, words: PageWords) -> list[str]:
    text = words.text
    rows = []
    for row in differences:
        p = "" if row.p is None else f"{'< 0.001' if row.p < SMALL_P else f'{row.p:.3f}'} ({row.test})"
        values = (number_text(value, row.unit) for value in (row.first, row.second, row.difference))
        interval = _interval_text(row.low, row.high, row.unit)
        rows.append((metric_name(row.metric, row.of, words), *values, interval, row.n, p))
    columns = (
        text["figure"],
        *(text["first"].format(name=maker.name, version=maker.version) for maker in (one, other)),
        text["difference"], text["interval"], text["n"], text["test"],
    )  # fmt: skip
    title = text["comparison"].format(name=other.name, version=other.version)
    return [html.section(title, 3), html.table(columns, rows, numbers=(1, 2, 3, 4, 5))]


def _removals(removals: Removals, words: PageWords) -> list[str]:
    text, one = words.text, removals.vanished
    gone = sum(case.vanished for case in removals.cases)
    said = text["removal_text"].format(n=one.n, gone=gone, not_read=removals.not_read)
    rows = [_row(one, metric_name(one.metric, "", words), words)]
    return [html.section(text["removal"], 3), html.paragraph(said), _rows(rows, text["figure"], words)]


def _wrong_anatomy(found: WrongAnatomy, words: PageWords) -> list[str]:
    text, one = words.text, found.refused
    refused = one.n - len(found.read) - found.outcomes.get("failed", 0)
    said = text["wrong_text"].format(n=one.n, refused=refused, read=len(found.read), false=found.false_findings)
    body = [html.section(text["wrong"]), html.paragraph(said)]
    body.append(_rows([_row(one, metric_name(one.metric, "", words), words)], text["figure"], words))
    if found.read:
        body.append(html.paragraph(text["wrong_bad"], "warning"))
        body.append(html.paragraph(f"{text['wrong_cases']}: {', '.join(str(number) for number in found.read)}"))
    return body


def _cases(cases: Sequence[CaseResult], words: PageWords) -> str:
    """Wrong answers first."""
    text = words.text
    truths = {True: text["positive"], False: text["negative"], None: "-"}
    rows = []
    for one in sorted(cases, key=lambda one: (not _is_wrong(one), one.number)):
        said = ("called" if one.is_called else "silent") if one.is_read else str(one.outcome)
        claimed = claims(one.marks, lambda mark: mark.hits)
        hit, wrong = sum(new for new, _ in claimed), sum(off for _, off in claimed)
        lesions = f"{hit} / {one.lesions}" if one.lesions else ""
        overlaps = ", ".join(f"{item.segment} {number_text(item.dice, '1')}" for item in one.overlaps)
        rows.append(
            (one.number, one.patient if one.patient > 0 else "-", one.scanner, truths[one.is_positive],
             words.outcome[said], "-" if one.score is None else f"{one.score:.3f}", lesions, wrong or "", overlaps)
        )  # fmt: skip
    columns = (text["case"], text["patient"], text["scanner"], text["truth"], text["said"], text["score"],
               text["lesions"], text["marks"], "Dice")  # fmt: skip
    return html.table(columns, rows, numbers=(0, 1, 5))


def _is_wrong(one: CaseResult) -> bool:
    return not one.is_read or (one.is_positive is not None and one.is_called is not one.is_positive)
