"""The DICOM conformance and HL7 statements of this node as configured: what it says yes to, with what words no."""

from node.conformance.describe import describe
from node.conformance.hl7 import hl7_statement
from node.conformance.markdown import to_markdown
from node.conformance.records import Statement

__all__ = ["Statement", "describe", "hl7_statement", "to_markdown"]
