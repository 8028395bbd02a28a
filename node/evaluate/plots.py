"""Drawings of a report as SVG text: curves with their bands, agreement, reliability, scanners side by side."""

import importlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pylopdf_fonts_zh_cn import sans_path

from node.errors import ConfigError
from node.evaluate.calibration import Reliability
from node.evaluate.evaluation import Curve, Kind
from node.evaluate.page_words import PageWords
from node.evaluate.records import CaseResult, Estimate

__all__ = ["drawings"]

BLUE, GREY, RED, BAND = "#1f5fa8", "#777777", "#b3261e", "#c9dbf0"
SIZE_IN = (4.2, 3.6)
PLAIN = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and the reader's own font draws Chinese
    "svg.hashsalt": "wetread",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
}
Draw = Callable[[Any], None]
"""Draws on the axes it is given (matplotlib's, which has types for few of its methods)."""


def drawings(kind: Kind, words: PageWords) -> list[tuple[str, str]]:
    """Every drawing that the figures of a kind allow, as (title, SVG).

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    plans: list[tuple[str, Draw]] = []
    point = _operating_point(kind.estimates)
    if kind.roc is not None:
        plans.append((words.plot["roc"], partial(_roc, curve=kind.roc, point=point, words=words)))
    if kind.froc is not None:
        plans.append((words.plot["froc"], partial(_froc, curve=kind.froc, words=words)))
    if kind.reliability is not None:
        plans.append((words.plot["reliability"], partial(_reliability, said=kind.reliability, words=words)))
    for segment in sorted({item.segment for case in kind.cases for item in case.overlaps}):
        values = [item.dice for case in kind.cases for item in case.overlaps if item.segment == segment]
        known = [value for value in values if value is not None]
        if known:
            plans.append((f"Dice: {segment}", partial(_strip, values=known)))
    for name, unit, pairs in _measured(kind.cases):
        plans.append((f"{words.plot['agreement']}: {name}", partial(_agree, unit=unit, pairs=pairs, words=words)))
    rows = [(one.scanner, found) for one in kind.scanners for found in one.estimates if found.metric == "sensitivity"]
    if len(rows) > 1:
        plans.append((words.plot["scanners"], partial(_forest, rows=rows)))
    return [(title, _svg(draw)) for title, draw in plans]


def _svg(draw: Draw) -> str:
    try:
        matplotlib = importlib.import_module("matplotlib")
        figure_class = importlib.import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as error:
        raise ConfigError("the drawings of a report need matplotlib: pip install 'wetread[evaluate]'") from error
    with matplotlib.rc_context({**PLAIN, "font.family": _families()}):
        figure = figure_class(figsize=SIZE_IN, layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    _, opening, rest = buffer.getvalue().partition("<svg")
    return opening + rest  # without the XML declaration: it stands inside a page


def _families() -> list[str]:
    """Names of fonts; that for Chinese is made known, so that Chinese text is measured as it will be drawn."""
    manager = importlib.import_module("matplotlib.font_manager")
    manager.fontManager.addfont(sans_path())
    return ["DejaVu Sans", str(manager.FontProperties(fname=sans_path()).get_name())]


def _operating_point(found: Sequence[Estimate]) -> tuple[Estimate, Estimate] | None:
    by_name = {one.metric: one for one in found}
    pair = by_name.get("sensitivity"), by_name.get("specificity")
    return (pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None


def _roc(axes: Any, curve: Curve, point: tuple[Estimate, Estimate] | None, words: PageWords) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(curve.x, curve.y, color=BLUE, drawstyle="default")
    if point is not None and point[0].value is not None and point[1].value is not None:
        axes.errorbar(
            1 - point[1].value, point[0].value, color=RED, fmt="o", markersize=5, capsize=2,
            xerr=_reach(point[1]), yerr=_reach(point[0]), label=words.plot["operating_point"],
        )  # fmt: skip
        axes.legend(loc="lower right", frameon=False)
    axes.set(xlabel=words.plot["false_rate"], ylabel=words.plot["true_rate"], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _reach(one: Estimate) -> list[list[float]]:
    """How far its interval reaches to both sides; mirrored for specificity, whose axis runs backwards."""
    if one.value is None or one.low is None or one.high is None:
        return [[0.0], [0.0]]
    below, above = max(one.value - one.low, 0.0), max(one.high - one.value, 0.0)
    return [[above], [below]] if one.metric == "specificity" else [[below], [above]]


def _froc(axes: Any, curve: Curve, words: PageWords) -> None:
    axes.fill_between(curve.x, curve.low, curve.high, color=BAND, step="post", linewidth=0)
    axes.step(curve.x, curve.y, color=BLUE, where="post")
    axes.set(xlabel=words.plot["false_marks"], ylabel=words.plot["lesions_found"], ylim=(-0.02, 1.02))
    axes.set_xlim(left=0)


def _reliability(axes: Any, said: Reliability, words: PageWords) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    most = max(one.count for one in said.bins)
    sizes = [20 + 60 * one.count / most for one in said.bins]
    axes.plot([one.said for one in said.bins], [one.observed for one in said.bins], color=BLUE, linewidth=1)
    axes.scatter([one.said for one in said.bins], [one.observed for one in said.bins], s=sizes, color=BLUE)
    text = f"ECE {said.ece:.3f}\nBrier {said.brier:.3f}\nn = {said.count}"
    axes.text(0.03, 0.97, text, va="top", transform=axes.transAxes)
    axes.set(xlabel=words.plot["said"], ylabel=words.plot["observed"], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _strip(axes: Any, values: Sequence[float]) -> None:
    ordered = sorted(values)
    axes.plot(range(1, len(ordered) + 1), ordered, "o", color=BLUE, markersize=3)
    axes.set(ylim=(-0.02, 1.02), ylabel="Dice", xlabel=f"n = {len(ordered)}")


def _measured(cases: Sequence[CaseResult]) -> list[tuple[str, str, list[tuple[float, float]]]]:
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for case in cases:
        for item in case.overlaps:
            found.setdefault((item.segment, "ml"), []).append((item.measured_ml, item.reference_ml))
        for number in case.deviations:
            found.setdefault((number.quantity, number.unit), []).append((number.measured, number.reference))
    return [(name, unit, pairs) for (name, unit), pairs in sorted(found.items()) if len(pairs) > 1]


def _agree(axes: Any, unit: str, pairs: Sequence[tuple[float, float]], words: PageWords) -> None:
    """Bland and Altman, Lancet 1986;327:307."""
    differences = [measured - reference for measured, reference in pairs]
    mean = sum(differences) / len(differences)
    spread = (sum((one - mean) ** 2 for one in differences) / (len(differences) - 1)) ** 0.5
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    for level, color in ((mean, BLUE), (mean - 1.96 * spread, RED), (mean + 1.96 * spread, RED)):
        axes.axhline(level, color=color, linewidth=1)
    axes.plot([(one + other) / 2 for one, other in pairs], differences, "o", color=BLUE, markersize=3)
    axes.set(xlabel=f"{words.plot['mean_of_both']}, {unit}", ylabel=f"{words.plot['difference']}, {unit}")


def _forest(axes: Any, rows: Sequence[tuple[str, Estimate]]) -> None:
    for place, (_, one) in enumerate(rows):
        if one.value is not None:
            axes.errorbar(one.value, place, color=BLUE, fmt="s", markersize=4, capsize=2, xerr=_reach(one))
    axes.set_yticks(range(len(rows)), [f"{name} (n = {one.n})" for name, one in rows])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.5))
