"""Pages that stand alone: no script, no font, no picture from elsewhere; every text is escaped."""

from collections.abc import Sequence
from html import escape

__all__ = ["details", "escape", "page", "paragraph", "section", "table"]

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans SC", "Noto Sans CJK SC", sans-serif;
  color: #1b1b1b; margin: 2rem auto; max-width: 60rem; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1.05rem; margin-bottom: .3rem; }
table { border-collapse: collapse; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .8rem .22rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e2e2e2; }
th { font-weight: 600; border-bottom: 1px solid #999; }
td.number, th.number { text-align: right; padding-right: 1.2rem; }
code { font-size: .82em; overflow-wrap: anywhere; }
.warning { border-left: 4px solid #b3261e; background: #fdf1f0; padding: .5rem .9rem; margin: .8rem 0; }
.note { border-left: 4px solid #1f5fa8; background: #f0f5fb; padding: .5rem .9rem; margin: .8rem 0; }
.quiet { color: #555; } .passed { color: #1a6b2f; font-weight: 600; } .failed { color: #b3261e; font-weight: 600; }
.drawings { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; break-inside: avoid; }
.sign td { height: 2.6rem; min-width: 9rem; }
figcaption { font-weight: 600; } figure svg { max-width: 100%; height: auto; }
summary { cursor: pointer; font-weight: 600; margin: 1rem 0 .4rem; }
@media print { body { margin: 0; max-width: none; font-size: 11px; }
  h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""


def page(title: str, body: Sequence[str], *, language: str) -> str:
    """A whole document."""
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def section(title: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(title)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` is ``warning``, ``note`` or ``quiet``."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[int] = ()) -> str:
    """A table; the columns whose places are in `numbers` are set to the right."""

    def cells(tag: str, row: Sequence[object]) -> str:
        marks = [' class="number"' if place in numbers else "" for place in range(len(row))]
        return "".join(f"<{tag}{mark}>{escape(str(cell))}</{tag}>" for cell, mark in zip(row, marks, strict=True))

    head = f"<thead><tr>{cells('th', columns)}</tr></thead>" if any(columns) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def details(title: str, content: str) -> str:
    """Content that opens when asked for."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
