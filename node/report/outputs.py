"""One Report: every result object of an Analysis, on disk, checked and ready to be sent."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

from node import __version__
from node.dicom.elements import items, text
from node.dicom.read import read_dataset
from node.domain.findings import Analysis
from node.domain.statement import Statement
from node.domain.study import Order, Study
from node.domain.work import STANDARD_KINDS, Output, OutputKind
from node.errors import ReportError
from node.paths import write_atomically
from node.report.capture import heat_map_captures, heat_map_frames, wanted_heat_maps
from node.report.checks import check_identity
from node.report.document import Predecessor
from node.report.header import Context, wire_time
from node.report.identity import identify
from node.report.key_objects import key_objects
from node.report.parametric_map import parametric_maps
from node.report.pdf import pdf_report
from node.report.presentation import presentation_states
from node.report.segmentation import further_outlines, segmentations
from node.report.source import Source, open_source
from node.report.sr import left_out, measurement_report
from node.report.study_sr import study_report
from node.report.template import Template
from node.report.text import text_report
from node.report.words import WORDS
from node.settings import ReportSettings
from node.store.digest import content_digest

__all__ = ["build"]

Kinds = frozenset[OutputKind]
Made = tuple[OutputKind, Dataset]
REPLACED_KINDS = (OutputKind.MEASUREMENT_SR, OutputKind.STUDY_SR, OutputKind.TEXT_SR, OutputKind.PDF)


def build(
    analysis: Analysis,
    statement: Statement,
    template: Template,
    *,
    study: Study,
    folder: Path,
    settings: ReportSettings,
    previous: tuple[Output, ...] = (),
    kinds: Kinds = frozenset(STANDARD_KINDS),
    translations: Sequence[tuple[Statement, Kinds]] = (),
    order: Order | None = None,
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
    kinds
        The forms that are wanted; each is made if there is something to say in it, see the function that builds it.
    translations
        The same statement in other languages, and the forms that are wanted in each; forms without words are
        not made again.
    order
        What is known of the order beside the images; None if they alone tell it.

    Returns
    -------
    What was made. Every file is whole and durable, and has been read back and compared with its images.

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
    source = open_source(analysis, study, order)
    objects: list[tuple[str, OutputKind, Dataset]] = []
    others = [(other, frozenset(kind for kind in wanted if kind.has_words)) for other, wanted in translations]
    for stated, wanted in ((statement, kinds), *others):
        _check_belongs(analysis, stated)
        context = Context(
            analysis=analysis,
            statement=stated,
            template=template,
            settings=settings,
            source=source,
            identity=identify(analysis, stated, template, study, settings, order=order),
            made_at=wire_time(stated.made_at, source.header),
        )
        earlier = frozenset(kind for _, kind, _ in objects)
        objects += [(stated.language, *made) for made in _objects(context, wanted, previous, earlier)]
    return _keep(objects, folder, source, previous)


def _objects(context: Context, kinds: Kinds, previous: tuple[Output, ...], earlier: Kinds) -> Iterator[Made]:
    """The forms that are wanted, reports first; `earlier` are those that were made in another language already."""
    drawn = segmentations(context) if OutputKind.SEGMENTATION in kinds else []
    numbers: list[Made] = []
    if OutputKind.MEASUREMENT_SR in kinds:
        further = further_outlines(context, left_out(context)) if OutputKind.SEGMENTATION in kinds else []
        drawn += further
        replaced = _replaced(previous, OutputKind.MEASUREMENT_SR)
        numbers += _one(OutputKind.MEASUREMENT_SR, measurement_report(context, replaced, further))
    if OutputKind.STUDY_SR in kinds:
        numbers += _one(OutputKind.STUDY_SR, study_report(context, _replaced(previous, OutputKind.STUDY_SR)))
    yield from numbers
    if OutputKind.TEXT_SR in kinds:
        replaced = _replaced(previous, OutputKind.TEXT_SR, context.statement.language)
        made = earlier | {kind for kind, _ in numbers}
        for kind in (OutputKind.MEASUREMENT_SR, OutputKind.STUDY_SR):
            replaced += _replaced(previous, kind) if kind not in made else ()  # nothing else takes it back
        yield OutputKind.TEXT_SR, text_report(context, replaced)
    yield from ((OutputKind.SEGMENTATION, ds) for ds in drawn)
    yield from _pictures(context, kinds)
    if OutputKind.PDF in kinds:
        yield OutputKind.PDF, pdf_report(context, _replaced(previous, OutputKind.PDF))


def _pictures(context: Context, kinds: Kinds) -> Iterator[Made]:
    if OutputKind.HEAT_MAP in kinds:
        yield from ((OutputKind.HEAT_MAP, ds) for ds in heat_map_captures(context))
    if OutputKind.HEAT_MAP_FRAMES in kinds:
        yield from _one(OutputKind.HEAT_MAP_FRAMES, heat_map_frames(context))
    if OutputKind.KEY_OBJECTS in kinds:
        yield from _one(OutputKind.KEY_OBJECTS, key_objects(context))
    if OutputKind.PRESENTATION_STATE in kinds:
        yield from ((OutputKind.PRESENTATION_STATE, ds) for ds in presentation_states(context))
    if OutputKind.PARAMETRIC_MAP in kinds:
        maps = parametric_maps(context, wanted_heat_maps(context))
        yield from ((OutputKind.PARAMETRIC_MAP, ds) for ds in maps)


def _one(kind: OutputKind, ds: Dataset | None) -> list[Made]:
    return [] if ds is None else [(kind, ds)]


def _keep(
    objects: Sequence[tuple[str, OutputKind, Dataset]], folder: Path, source: Source, previous: tuple[Output, ...]
) -> tuple[Output, ...]:
    """Write every object, then read all of them back; one that is not its patient's takes all with it."""
    known = {str(ds.SOPInstanceUID): str(ds.SeriesInstanceUID) for _, _, ds in objects}
    for kind in REPLACED_KINDS:
        known |= {uid: series_uid for _, uid, series_uid in _replaced(previous, kind)}
    outputs: list[Output] = []
    try:
        for language, kind, ds in objects:
            output = _write(kind, ds, folder)
            outputs.append(replace(output, language=language if kind.has_words else ""))
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


def _replaced(previous: tuple[Output, ...], kind: OutputKind, language: str = "") -> tuple[Predecessor, ...]:
    """The earlier documents of a kind, those in the same language if there are any."""
    found: dict[bool, list[Predecessor]] = {True: [], False: []}
    for output in (output for output in previous if output.kind is kind):
        ds = read_dataset(output.path)
        is_same = not language or _language_of(ds) == WORDS[language].language_code
        found[is_same].append((output.sop_class_uid, output.output_id, text(ds, "SeriesInstanceUID")))
    return tuple(found[True] or found[False])


def _language_of(ds: Dataset) -> str:
    """Language of a document of ours, "" if it does not say."""
    for item in items(ds, "ContentSequence"):
        name, value = items(item, "ConceptNameCodeSequence"), items(item, "ConceptCodeSequence")
        if name and value and text(name[0], "CodeValue") == codes.DCM.LanguageOfContentItemAndDescendants.value:
            return text(value[0], "CodeValue")
    return ""


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
        digest=content_digest(content),
    )
