"""Report: an Analysis becomes a Statement in codes and words, and the result objects that carry it."""

from node.report.capture import preview_png
from node.report.outputs import build
from node.report.state import state
from node.report.template import Template, load_templates

__all__ = ["Template", "build", "load_templates", "preview_png", "state"]
