"""One Report: every result object of an Analysis, on disk, checked and ready to be sent."""

import hashlib
import io
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

from node import __version__
from node.dicom.elements import text
from node.dicom.read import read_dataset
from node.domain.findings import Analysis
from node.domain.statement import Statement
from node.domain.study import Study
from node.domain.work import Output, OutputKind
from node.errors import ReportError
from node.paths import write_atomically
from node.report.capture import heat_map_captures
from node.report.checks import check_identity
from node.report.document import Predecessor
from node.report.header import Context, wire_time
from node.report.identity import identify
from node.report.segmentation import segmentations
from node.report.source import open_source
from node.report.sr import measurement_report
from node.report.template import Template
from node.report.text import text_report
from node.settings import ReportSettings

__all__ = ["build"]


def build(
    analysis: Analysis,
    statement: Statement,
    template: Template,
    *,
    study: Study,
    folder: Path,
    settings: ReportSettings,
    previous: tuple[Output, ...] = (),
) -> tuple[Output, ...]:
    """Make the result objects of an Analysis.

    Parameters
    ----------
    statement
        What `state` made of the analysis.
    folder
        Where the files go; each is named by its SOP Instance UID.
    previous
        Outputs of the report that this one corrects; the reports name them as predecessors.

    Returns
    -------
    Readable report always; measurement report if a finding is outlined; heat maps; segmentations.
    Every file is whole and durable, and has been read back and compared with its images.

    Raises
    ------
    ReportError
        If a result cannot be made, or does not say the same patient and study as its images; then
        no file of it stays.
    TemplateError
        If the template does not know a kind.
    UnreadableInstanceError
        If a stored image cannot be read.
    """
    _check_belongs(analysis, statement)
    source = open_source(analysis, study)
    context = Context(
        analysis=analysis,
        statement=statement,
        template=template,
        settings=settings,
        source=source,
        identity=identify(analysis, statement, template, study, settings),
        made_at=wire_time(statement.made_at, source.header),
    )
    measured = measurement_report(context, _predecessors(previous, OutputKind.MEASUREMENT_SR))
    objects = [(OutputKind.MEASUREMENT_SR, measured)] if measured is not None else []
    objects.append((OutputKind.TEXT_SR, text_report(context, _predecessors(previous, OutputKind.TEXT_SR))))
    objects += [(OutputKind.SEGMENTATION, ds) for ds in segmentations(context)]
    objects += [(OutputKind.HEAT_MAP, ds) for ds in heat_map_captures(context)]
    known = frozenset(output.output_id for output in previous) | {str(ds.SOPInstanceUID) for _, ds in objects}
    outputs = [_write(kind, ds, folder) for kind, ds in objects]
    try:
        for output in outputs:
            check_identity(output.path, source, sop_instance_uid=output.output_id, known=known)
    except ReportError:
        for output in outputs:
            output.path.unlink(missing_ok=True)
        raise
    return tuple(outputs)


def _check_belongs(analysis: Analysis, statement: Statement) -> None:
    ids = tuple(finding.finding_id for finding in analysis.findings)
    stated = tuple(finding.finding_id for finding in statement.findings)
    if (analysis.status, analysis.algorithm, ids) != (statement.status, statement.algorithm, stated):
        raise ReportError("the statement was not made from this analysis")


def _predecessors(previous: tuple[Output, ...], kind: OutputKind) -> tuple[Predecessor, ...]:
    return tuple(
        (output.sop_class_uid, output.output_id, text(read_dataset(output.path), "SeriesInstanceUID"))
        for output in previous
        if output.kind is kind
    )


def _write(kind: OutputKind, ds: Dataset, folder: Path) -> Output:
    """Write one object; a file of the same name holds the same content and is replaced."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    ds.file_meta.ImplementationVersionName = f"WETREAD {__version__}"[:16]  # VR SH
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    content = buffer.getvalue()
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    write_atomically(path, content)
    return Output(
        output_id=str(ds.SOPInstanceUID),
        kind=kind,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        sop_class_uid=str(ds.SOPClassUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
    )
