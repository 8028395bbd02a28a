"""What both structured reports share: document header, observer, evidence (PS3.3 C.17)."""

from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from node.dicom.elements import items, text
from node.domain.codes import Code
from node.domain.findings import Status
from node.domain.study import Instance
from node.domain.work import OutputKind
from node.report import content
from node.report.concepts import code_item
from node.report.content import Relation
from node.report.header import MAKER, Context, device_uid, result_header
from node.report.words import WORDS

__all__ = ["Predecessor", "document", "evidence", "observation_context", "procedure_reported", "references", "request"]

Predecessor = tuple[str, str, str]
"""SOP Class, SOP Instance and Series Instance UID of an earlier result that a new one replaces."""


def document(
    context: Context,
    kind: OutputKind,
    root: Dataset,
    *,
    sop_class_uid: str,
    predecessors: tuple[Predecessor, ...] = (),
    partial: str = "",
) -> Dataset:
    """Put a content tree into a document that says it is preliminary and verified by nobody.

    Parameters
    ----------
    partial
        Why the document does not hold everything, "" if it does.
    """
    ds = result_header(context, kind, sop_class_uid=sop_class_uid, modality="SR")
    has_failed = context.statement.status is Status.FAILED
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.VerificationFlag = "UNVERIFIED"
    ds.CompletionFlag = "PARTIAL" if partial or has_failed else "COMPLETE"
    if partial or has_failed:
        ds.CompletionFlagDescription = partial or "The algorithm failed"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ordered = request(context)
    if ordered is not None:
        ds.ReferencedRequestSequence = [ordered]
    study_instance_uid = context.source.study.study_instance_uid
    ds.CurrentRequestedProcedureEvidenceSequence = [evidence(study_instance_uid, context.source.evidence)]
    if predecessors:
        ds.PredecessorDocumentsSequence = [references(study_instance_uid, predecessors)]
    for element in root:
        ds.add(element)
    return ds


def observation_context(context: Context, language: str) -> list[Dataset]:
    """Language of the document, and the node as the observing device (PS3.16 TID 1204, 1001, 1002, 1004)."""
    words, name = WORDS[language], context.settings.station_name
    language_code = Code(words.language_code, "RFC5646", words.language_name)
    observer = Relation.HAS_OBS_CONTEXT
    return [
        content.code(codes.DCM.LanguageOfContentItemAndDescendants, language_code, Relation.HAS_CONCEPT_MOD),
        content.code(codes.DCM.ObserverType, codes.DCM.Device, observer),
        content.uid_reference(codes.DCM.DeviceObserverUID, device_uid(context.settings), observer),
        content.text(codes.DCM.DeviceObserverName, name, observer),
        content.text(codes.DCM.DeviceObserverManufacturer, MAKER, observer),
        content.text(codes.DCM.DeviceObserverModelName, MAKER, observer),
        content.text(codes.DCM.DeviceObserverSerialNumber, name, observer),
    ]


def procedure_reported(context: Context) -> Dataset:
    """What was ordered in codes if the request says so completely, else what the template says."""
    ordered = context.source.order.procedure
    is_complete = ordered is not None and 0 < len(ordered.meaning) <= 64 and len(ordered.scheme) <= 16
    procedure = ordered if ordered is not None and is_complete else context.template.procedure
    return content.code(codes.DCM.ProcedureReported, procedure, Relation.HAS_CONCEPT_MOD)


def request(context: Context) -> Dataset | None:
    """The order this answers (PS3.3 C.17.2), None if no number of it is known."""
    order, header = context.source.order, context.source.header
    if not (order.accession_number or order.placer_order_number or order.filler_order_number):
        return None
    attributes = next(iter(items(header, "RequestAttributesSequence")), Dataset())
    item = Dataset()
    item.StudyInstanceUID = order.study_instance_uid
    item.ReferencedStudySequence = []
    item.AccessionNumber = order.accession_number
    item.PlacerOrderNumberImagingServiceRequest = order.placer_order_number
    item.FillerOrderNumberImagingServiceRequest = order.filler_order_number
    item.RequestedProcedureID = text(attributes, "RequestedProcedureID") or text(header, "RequestedProcedureID")
    item.RequestedProcedureDescription = text(attributes, "RequestedProcedureDescription")
    is_coded = order.procedure is not None and order.procedure.meaning
    item.RequestedProcedureCodeSequence = [code_item(order.procedure)] if is_coded and order.procedure else []
    if "IssuerOfAccessionNumberSequence" in header:
        item.IssuerOfAccessionNumberSequence = header.IssuerOfAccessionNumberSequence
    return item


def evidence(study_instance_uid: str, instances: Iterable[Instance]) -> Dataset:
    """Images by series, as Current Requested Procedure Evidence Sequence wants them (PS3.3 C.17.2)."""
    return references(
        study_instance_uid, ((i.sop_class_uid, i.sop_instance_uid, i.series_instance_uid) for i in instances)
    )


def references(study_instance_uid: str, referred: Iterable[Predecessor]) -> Dataset:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1)."""
    by_series: dict[str, list[Dataset]] = {}
    for sop_class_uid, sop_instance_uid, series_instance_uid in referred:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = sop_instance_uid
        by_series.setdefault(series_instance_uid, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    for series_instance_uid, of_series in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_instance_uid
        series.ReferencedSOPSequence = of_series
        study.ReferencedSeriesSequence.append(series)
    return study
