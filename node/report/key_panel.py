"""A key image for a printed page: the image as it is read, with its outlines as lines that stay sharp."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

from node.domain.findings import Region
from node.domain.volume import Heat
from node.report.colours import blend

__all__ = ["key_panel"]

LONGEST_PX = 1200  # finer than a page shows
LINE_PER_PANEL = 250
TEXT_PER_PANEL = 20
CYAN, AMBER = "#00e5ff", "#ffbf00"
SQUARE_WITHIN = 0.01


def key_panel(
    background: Heat,
    outlines: Sequence[tuple[Region, str]],
    sides: tuple[str, str],
    *,
    spacing_mm: tuple[float, float] | None,
    heat: Heat | None = None,
) -> str:
    """Draw a panel as an SVG document.

    Parameters
    ----------
    background
        ``float32[row, column]``, 0 to 1: the image as its display VOI shows it; `heat` is on the same grid.
    outlines
        Each with its short label.
    sides
        The patient's sides at the left and right edge, "" if unknown.
    spacing_mm
        (row, column) of the grid, None when not real.
    """
    rows, columns = background.shape
    width, height = float(columns), float(rows)
    if spacing_mm is not None:
        row_mm, column_mm = spacing_mm
        if abs(row_mm / column_mm - 1.0) > SQUARE_WITHIN:
            height *= row_mm / column_mm
    heat = np.zeros_like(background) if heat is None else heat
    longer = max(width, height)
    text, line = longer / TEXT_PER_PANEL, longer / LINE_PER_PANEL
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">',
        f'<image width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
        f'xlink:href="data:image/png;base64,{_png(blend(background, heat))}"/>',
    ]
    for region, label in outlines:
        points = [(column, row * height / rows) for column, row in region.points]
        listed = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        parts.append(f'<polygon points="{listed}" fill="none" stroke="{CYAN}" stroke-width="{line:.2f}"/>')
        parts.append(_text(*_label_place(points, label, text, width), label, text, CYAN))
    for side, x, anchor in ((sides[0], text / 3, "start"), (sides[1], width - text / 3, "end")):
        parts.append(_text(x, text * 1.2, side, text, AMBER, anchor=anchor))
    return "".join([*parts, "</svg>"])


def _png(picture: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> str:
    image = Pillow.fromarray(picture)
    image.thumbnail((LONGEST_PX, LONGEST_PX), Pillow.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _label_place(points: Sequence[tuple[float, float]], label: str, text: float, width: float) -> tuple[float, float]:
    """Above the outline, below it if there is no room, and inside the panel."""
    left, top = min(x for x, _ in points), min(y for _, y in points)
    y = top - text / 3 if top > text * 1.5 else max(y for _, y in points) + text
    return max(min(left, width - text * len(label)), 0.0), y


def _text(x: float, y: float, words: str, size: float, colour: str, *, anchor: str = "start") -> str:
    """Words with a dark edge, so that they are read on any grey."""
    safe = words.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" font-family="Noto Sans SC" font-size="{size:.2f}" fill="{colour}" '
        f'stroke="black" stroke-width="{size / 12:.2f}" paint-order="stroke" text-anchor="{anchor}">{safe}</text>'
    )
