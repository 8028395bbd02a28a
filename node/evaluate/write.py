"""Writes a report: ``report.json`` for programs, with its schema, and ``report.html`` for people."""

import json
from pathlib import Path

from node.evaluate.evaluation import Evaluation
from node.evaluate.page import write_page
from node.paths import write_atomically
from node.store.records import Plain, to_plain

__all__ = ["SCHEMA", "plain_report", "write_report"]

SCHEMA = Path(__file__).with_name("report.schema.json")


def plain_report(evaluation: Evaluation) -> Plain:
    """The report as JSON can hold it; it fits ``report.schema.json``."""
    return to_plain(evaluation, {})


def write_report(evaluation: Evaluation, folder: Path, *, language: str) -> tuple[Path, Path]:
    """Write both files and the schema beside them; the paths of JSON and page."""
    document = json.dumps(plain_report(evaluation), ensure_ascii=False, allow_nan=False, indent=1)
    as_json, as_page = folder / "report.json", folder / "report.html"
    write_atomically(as_json, document.encode())
    write_atomically(folder / SCHEMA.name, SCHEMA.read_bytes())
    write_atomically(as_page, write_page(evaluation, language).encode())
    return as_json, as_page
