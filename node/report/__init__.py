"""Report: an Analysis becomes a Statement in codes and words, and the result objects that carry it."""

from node.report.capture import preview_png
from node.report.documents import write_documents
from node.report.forms import deliveries, kinds_by_language, named_reports
from node.report.outputs import build
from node.report.result_json import Subject
from node.report.state import state
from node.report.template import Template, load_templates

__all__ = [
    "Subject",
    "Template",
    "build",
    "deliveries",
    "kinds_by_language",
    "load_templates",
    "named_reports",
    "preview_png",
    "state",
    "write_documents",
]
