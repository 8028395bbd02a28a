"""The heat map as a picture: the original beside the overlay, a colour scale, and who says so.

Words stand above and below the images, never on them, except the short label of an outline. No
patient data are drawn.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from pylopdf_fonts_zh_cn import sans_path

from node.domain.findings import HeatMap, Region
from node.domain.volume import Heat
from node.report.colours import SEE_THROUGH_BELOW, blend, colour_of

__all__ = ["NOT_FOR_DIAGNOSIS", "Captions", "Rgb", "draw"]

NOT_FOR_DIAGNOSIS = "AI - not for diagnostic use / 非诊断用途"
SMALLEST_PANEL_PX = 512
LARGEST_ZOOMED_PX = 2048
SMALLEST_TEXT_PX, LARGEST_TEXT_PX = 16, 40
TEXT_PER_PANEL = 34  # lines that would fit one above the other on a panel
SQUARE_WITHIN = 0.01
BLACK, WHITE, GREY, AMBER, CYAN = (0, 0, 0), (255, 255, 255), (150, 150, 150), (255, 191, 0), (0, 229, 255)

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Captions:
    """The words on the picture: above each panel, above the scale, and below.

    `sides` are the patient's sides at the left and right edge of each panel, "" if unknown.
    """

    original: str
    overlay: str
    scale: str
    lines: tuple[str, ...]
    sides: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes in picture pixels; `x` and `y` stretch one source column and row."""

    x: float
    y: float
    width: int
    height: int
    text: int

    @property
    def margin(self) -> int:
        return self.text // 2

    @property
    def gap(self) -> int:
        return self.text * 2

    @property
    def scale_width(self) -> int:
        return self.text * 4


def draw(heat_map: HeatMap, captions: Captions) -> Rgb:
    """Draw a heat map.

    Returns
    -------
    ``uint8[row, column, 3]``, RGB. Each panel has at least one pixel for each of the source, more
    if the source is small or its pixels are not square.
    """
    layout = _layout(heat_map)
    grey = _stretch(heat_map.background, layout)
    heat = _stretch(heat_map.heat, layout)
    font = _font(layout.text)
    total = layout.width * 2 + layout.scale_width + (layout.margin + layout.gap) * 2
    below = [line for text in captions.lines for line in _wrapped(text, font, total - 2 * layout.margin)]
    line_height = round(layout.text * 1.45)
    top = line_height * 2 + layout.margin * 2
    canvas = Pillow.new("RGB", (total, top + layout.height + layout.margin * 2 + line_height * len(below)), BLACK)
    pen = ImageDraw.Draw(canvas)
    left, right = layout.margin, layout.margin + layout.width + layout.gap
    # In the middle: viewers write over the corners.
    warning = _font(round(layout.text * 1.25))
    pen.text((total / 2, layout.margin // 2), NOT_FOR_DIAGNOSIS, font=warning, fill=AMBER, anchor="ma")
    scale_x = right + layout.width + layout.gap
    caption_y = layout.margin + line_height
    for x, caption in ((left, captions.original), (right, captions.overlay)):
        centre = x + layout.width / 2
        pen.text((x, caption_y), captions.sides[0], font=font, fill=AMBER)
        pen.text((centre, caption_y), caption, font=font, fill=WHITE, anchor="ma")
        pen.text((x + layout.width, caption_y), captions.sides[1], font=font, fill=AMBER, anchor="ra")
    pen.text((scale_x, caption_y), captions.scale, font=font, fill=WHITE)
    canvas.paste(Pillow.fromarray(blend(grey, np.zeros_like(grey))), (left, top))
    overlay = Pillow.fromarray(blend(grey, heat))
    _draw_outlines(overlay, heat_map.regions, layout, font)
    canvas.paste(overlay, (right, top))
    _draw_scale(canvas, (scale_x, top), layout, heat_map.threshold, font)
    for index, line in enumerate(below):
        pen.text((left, top + layout.height + layout.margin + line_height * index), line, font=font, fill=WHITE)
    return np.asarray(canvas)


def _layout(heat_map: HeatMap) -> _Layout:
    rows, columns = heat_map.background.shape
    x = y = 1.0
    if heat_map.spacing_mm is not None:
        row_mm, column_mm = heat_map.spacing_mm
        if abs(row_mm / column_mm - 1.0) > SQUARE_WITHIN:
            x, y = max(column_mm / row_mm, 1.0), max(row_mm / column_mm, 1.0)
    shorter, longer = sorted((rows * y, columns * x))
    zoom = max(1.0, min(math.ceil(SMALLEST_PANEL_PX / shorter), LARGEST_ZOOMED_PX // longer))
    x, y = x * zoom, y * zoom
    width, height = round(columns * x), round(rows * y)
    text = min(max(round(min(width, height) / TEXT_PER_PANEL), SMALLEST_TEXT_PX), LARGEST_TEXT_PX)
    return _Layout(width / columns, height / rows, width, height, text)


def _stretch(plane: Heat, layout: _Layout) -> Heat:
    if plane.shape == (layout.height, layout.width):
        return plane.astype(np.float32)
    picture = Pillow.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((layout.width, layout.height), Pillow.Resampling.BILINEAR), dtype=np.float32)


def _draw_outlines(
    overlay: Pillow.Image, regions: Sequence[tuple[Region, str]], layout: _Layout, font: ImageFont.FreeTypeFont
) -> None:
    pen = ImageDraw.Draw(overlay)
    width = max(2, layout.text // 8)
    for region, label in regions:
        # SCOORD counts from the corner of the first pixel, Pillow from its centre
        points = [(column * layout.x - 0.5, row * layout.y - 0.5) for column, row in region.points]
        pen.line([*points, points[0]], fill=CYAN, width=width, joint="curve")
        if label:
            pen.text(_label_place(points, pen.textlength(label, font=font), layout), label, font=font, fill=CYAN,
                     stroke_width=max(1, layout.text // 20), stroke_fill=BLACK)  # fmt: skip


def _label_place(points: Sequence[tuple[float, float]], length: float, layout: _Layout) -> tuple[float, float]:
    """Above the outline, below it if there is no room, and inside the panel."""
    left, top = min(p[0] for p in points), min(p[1] for p in points)
    above = top - layout.text * 1.5
    y = above if above >= 0 else max(p[1] for p in points) + layout.text * 0.3
    x = min(left, layout.width - length - layout.margin)
    return max(x, 0.0), min(max(y, 0.0), layout.height - layout.text * 1.5)


def _draw_scale(
    canvas: Pillow.Image, place: tuple[int, int], layout: _Layout, threshold: float, font: ImageFont.FreeTypeFont
) -> None:
    """The scale from 0 (bottom) to 1; grey where heat is not drawn, a mark at the threshold."""
    pen = ImageDraw.Draw(canvas)
    inset = layout.text // 2
    x, top, height, width = place[0], place[1] + inset, layout.height - 2 * inset, round(layout.text * 1.5)
    ramp = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    bar = colour_of(ramp).astype(np.uint8)
    bar[ramp < SEE_THROUGH_BELOW] = 60
    canvas.paste(Pillow.fromarray(bar), (x, top))
    pen.rectangle((x, top, x + width - 1, top + height - 1), outline=GREY)

    def level(value: float) -> float:
        return top + (1.0 - value) * (height - 1)

    for value in (0.0, SEE_THROUGH_BELOW, 0.5, 1.0):
        is_crowded = abs(value - threshold) * height < layout.text * 1.2
        pen.line((x + width, level(value), x + width + inset // 2, level(value)), fill=WHITE, width=2)
        if not is_crowded:
            pen.text((x + width + inset, level(value)), f"{value:.1f}", font=font, fill=WHITE, anchor="lm")
    if 0.0 <= threshold <= 1.0:
        pen.line((x, level(threshold), x + width + inset // 2, level(threshold)), fill=CYAN, width=3)
        pen.text((x + width + inset, level(threshold)), f"{threshold:.2f}", font=font, fill=CYAN, anchor="lm")


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a line where it is too long, between facts if possible."""
    lines = [""]
    for fact in text.split("  "):
        longer = f"{lines[-1]}  {fact}" if lines[-1] else fact
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines = [*lines, ""] if lines[-1] else lines
        for character in fact:
            if font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Noto Sans SC (SIL Open Font License 1.1): Latin and Chinese, the same on every machine."""
    return ImageFont.truetype(sans_path(), size, layout_engine=ImageFont.Layout.BASIC)
