"""Measurements of a whole study, such as a score, in a measurement report of their own.

They stand apart from the outlined findings because a common viewer cannot open a report in which a measurement
group has no outline.
"""

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from node.domain.work import OutputKind
from node.report import content
from node.report.document import Predecessor, document, observation_context, procedure_reported
from node.report.header import Context
from node.report.sr import describe_finding, image_library

__all__ = ["study_report"]

ENGLISH = "en"


def study_report(context: Context, predecessors: tuple[Predecessor, ...] = ()) -> Dataset | None:
    """Build a TID 1500 document with a group of TID 1501 for each finding without an outline.

    Returns
    -------
    None if every finding is outlined, or those that are not have no number.
    """
    findings = [one for one in context.statement.findings if not one.regions and one.measurements]
    if not findings:
        return None
    groups = [
        content.container(codes.DCM.MeasurementGroup, describe_finding(context, finding), template="1501")
        for finding in findings
    ]
    shown = dict.fromkeys(heat_map.sop_instance_uid for heat_map in context.analysis.heat_maps)
    root = content.container(
        codes.DCM.ImagingMeasurementReport,
        [
            *observation_context(context, ENGLISH),
            procedure_reported(context),
            *([image_library(context, shown)] if shown else []),
            content.container(codes.DCM.ImagingMeasurements, groups),
        ],
        relation=None,
        template="1500",
    )
    kind, sop_class_uid = OutputKind.STUDY_SR, Comprehensive3DSRStorage
    return document(context, kind, root, sop_class_uid=sop_class_uid, predecessors=predecessors)
