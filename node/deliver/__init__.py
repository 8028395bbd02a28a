"""Deliver: results on their way to PACS and RIS, and what those answered."""

from node.deliver.mllp import MllpConnection, send_oru
from node.deliver.oru import build_oru, check_destination, derive_control_id
from node.deliver.scu import DicomConnection, send_dicom

__all__ = [
    "DicomConnection",
    "MllpConnection",
    "build_oru",
    "check_destination",
    "derive_control_id",
    "send_dicom",
    "send_oru",
]
