"""Key Object Selection: which source images show what was found, for a viewer's list of key images."""

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.domain.findings import HeatMap, Region
from node.domain.work import OutputKind
from node.report import content
from node.report.content import Relation
from node.report.document import evidence, observation_context, request
from node.report.header import Context, result_header
from node.report.words import WORDS

__all__ = ["key_images", "key_objects"]

KeyImage = tuple[str, int | None]
"""SOP Instance UID and frame, None on an image of one frame."""


def key_images(context: Context) -> list[KeyImage]:
    """The images that findings are outlined on, in their order, then those that only a heat map shows."""
    regions = [region for finding in context.statement.findings for region in finding.regions]
    shown: tuple[Region | HeatMap, ...] = (*regions, *context.analysis.heat_maps)
    return list(dict.fromkeys((one.sop_instance_uid, context.source.frame_number(one)) for one in shown))


def key_objects(context: Context) -> Dataset | None:
    """Build the list of key images, titled "Of Interest" (PS3.16 TID 2010).

    Returns
    -------
    None if nothing was found or no image shows it. The IOD has no place for predecessors (PS3.3 A.35.4): one that
    replaces an earlier list says so in words.
    """
    statement = context.statement
    images = key_images(context) if statement.findings else []
    if not images:
        return None
    words = WORDS[statement.language]
    said = [statement.conclusion, *([words.correction] if statement.is_correction else []), statement.responsibility]
    root = content.container(
        codes.DCM.OfInterest,
        [
            *observation_context(context, statement.language),
            content.text(codes.DCM.KeyObjectDescription, words.gap.join(said)),
            *(_reference(context, image) for image in images),
        ],
        relation=None,
        template="2010",
    )
    kind, sop_class_uid = OutputKind.KEY_OBJECTS, KeyObjectSelectionDocumentStorage
    ds = result_header(context, kind, sop_class_uid=sop_class_uid, modality="KO")
    ds.ReferencedPerformedProcedureStepSequence = []
    ordered = request(context)
    if ordered is not None:
        ds.ReferencedRequestSequence = [ordered]
    instances = [context.source.instance(uid) for uid in dict.fromkeys(uid for uid, _ in images)]
    ds.CurrentRequestedProcedureEvidenceSequence = [evidence(context.source.study.study_instance_uid, instances)]
    for element in root:
        ds.add(element)
    return ds


def _reference(context: Context, image: KeyImage) -> Dataset:
    uid, frame_number = image
    instance = context.source.instance(uid)
    return content.image(codes.DCM.BestIllustrationOfFinding, instance, Relation.CONTAINS, frame_number=frame_number)
