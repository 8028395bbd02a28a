"""The measurement report: TID 1500 in a Comprehensive 3D SR, one group for each outlined finding.

Viewers read this one. The rules that keep them alive: every group has a closed 2D outline, the
tracking UID is the first UID of its group, template meanings stay English.
"""

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from node.dicom.elements import number, numbers, text
from node.domain.codes import Code
from node.domain.findings import Finding, Region
from node.domain.statement import StatedFinding
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report import content
from node.report.concepts import modality_code, of_dictionary
from node.report.content import Relation
from node.report.document import Predecessor, document, observation_context, procedure_reported
from node.report.header import Context, describe_algorithm

__all__ = ["MOST_GROUPS", "describe_finding", "image_library", "left_out", "measurement_report"]

MOST_GROUPS = 50  # viewers read every group before they show one: 300 took 17 s
ENGLISH = "en"
FINDING_CATEGORY = of_dictionary(codes.SCT.FindingsCategoryType, "Finding category")  # PS3.16 TID 1410
MILLIMETRE = of_dictionary(codes.UCUM.Millimeter)
PERCENT = of_dictionary(codes.UCUM.Percent)
NO_UNITS = of_dictionary(codes.UCUM.NoUnits)
PIXELS = Code("{pixels}", "UCUM", "Pixels")  # PS3.16 TID 1602
OUTSIDE_PX = 0.5  # an outline drawn through voxel centres' edges may stand this far outside


def left_out(context: Context) -> list[tuple[StatedFinding, Region]]:
    """The outlines for which the measurement report has no room."""
    return _outlined(context)[MOST_GROUPS:]


def measurement_report(
    context: Context, predecessors: tuple[Predecessor, ...] = (), further: Sequence[Dataset] = ()
) -> Dataset | None:
    """Build object A.

    Parameters
    ----------
    further
        The Segmentations that hold the outlines for which there is no room.

    Returns
    -------
    The document, None if no finding is outlined. Beyond 50 groups it says that it is partial, how many outlines
    are left out and where they are.

    Raises
    ------
    ReportError
        If a measurement is not finite, or an outline has fewer than three points, lies outside its
        image or on an image that is not part of the study.
    """
    outlined = _outlined(context)
    if not outlined:
        return None
    kept, rest = outlined[:MOST_GROUPS], outlined[MOST_GROUPS:]
    partial = f"{len(kept)} of {len(outlined)} outlines; the comment says where the others are" if rest else ""
    groups = [_group(context, finding, region) for finding, region in kept]
    root = content.container(
        codes.DCM.ImagingMeasurementReport,
        [
            *observation_context(context, ENGLISH),
            procedure_reported(context),
            image_library(context, dict.fromkeys(region.sop_instance_uid for _, region in kept)),
            content.container(codes.DCM.ImagingMeasurements, groups),
            *([content.text(codes.DCM.Comment, _where(rest, len(outlined), further))] if rest else []),
        ],
        relation=None,
        template="1500",
    )
    kind, sop_class_uid = OutputKind.MEASUREMENT_SR, Comprehensive3DSRStorage
    return document(context, kind, root, sop_class_uid=sop_class_uid, predecessors=predecessors, partial=partial)


def _outlined(context: Context) -> list[tuple[StatedFinding, Region]]:
    return [(finding, region) for finding in context.statement.findings for region in finding.regions]


def _where(rest: Sequence[tuple[StatedFinding, Region]], count: int, further: Sequence[Dataset]) -> str:
    """How many outlines are left out, of which findings, and where they are."""
    ids = list(dict.fromkeys(finding.finding_id for finding, _ in rest))
    of = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
    said = f"{len(rest)} of {count} outlines are left out here, those of {len(ids)} findings ({of})."
    if further:
        uids = ", ".join(str(ds.SOPInstanceUID) for ds in further)
        said += f" They are segments, under the same tracking identifiers, of the Segmentation {uids}."
    else:
        said += " They cannot be drawn as a Segmentation."
    return f"{said} The readable report (Basic Text SR) lists every finding."


def _group(context: Context, finding: StatedFinding, region: Region) -> Dataset:
    """TID 1410; numbers stand in the first group of a finding, further outlines share its tracking UID."""
    items = describe_finding(context, finding, has_numbers=region is finding.regions[0])
    items.append(_outline(context, finding, region))
    return content.container(codes.DCM.MeasurementGroup, items, template="1410")


def describe_finding(context: Context, finding: StatedFinding, *, has_numbers: bool = True) -> list[Dataset]:
    """What a group of TID 1410 or 1501 says of a finding, but not where it is."""
    items = [
        content.text(codes.DCM.TrackingIdentifier, finding.finding_id, Relation.HAS_OBS_CONTEXT),
        content.uid_reference(codes.DCM.TrackingUniqueIdentifier, finding.tracking_uid, Relation.HAS_OBS_CONTEXT),
        content.code(FINDING_CATEGORY, finding.category, Relation.CONTAINS),
        content.code(codes.DCM.Finding, finding.concept, Relation.CONTAINS),
    ]
    if finding.site is not None:
        side = finding.laterality
        items_of_site = [content.code(codes.SCT.Laterality, side, Relation.HAS_CONCEPT_MOD)] if side else []
        items.append(content.code(codes.SCT.FindingSite, finding.site, Relation.HAS_CONCEPT_MOD, items_of_site))
    items += _algorithm(context, finding)
    if has_numbers:
        items += _measurements(context, finding)
        for question, answer in context.template.finding(_found(context, finding).kind).evaluations:
            items.append(content.code(question, answer, Relation.CONTAINS))
    return items


def _found(context: Context, finding: StatedFinding) -> Finding:
    """The finding as the handler gave it, in English."""
    return next(found for found in context.analysis.findings if found.finding_id == finding.finding_id)


def _algorithm(context: Context, finding: StatedFinding) -> list[Dataset]:
    """TID 4019, in the group so that no reader has to look for it."""
    algorithm, modifier = context.statement.algorithm, Relation.HAS_CONCEPT_MOD
    tier = (f"tier: {finding.certainty.tier.value}",) if finding.certainty else ()
    found = _found(context, finding)
    methods = tuple(f"{item.quantity}: {item.method}" for item in found.measurements if item.method)
    return [
        content.code(codes.DCM.AlgorithmFamily, codes.DCM.ArtificialIntelligence, modifier),
        content.text(codes.DCM.AlgorithmName, algorithm.name, modifier),
        content.text(codes.DCM.AlgorithmVersion, algorithm.version, modifier),
        content.text(codes.DCM.AlgorithmManufacturer, algorithm.manufacturer, modifier),
        *(
            content.text(codes.DCM.AlgorithmParameters, parameter, modifier)
            for parameter in (*describe_algorithm(algorithm), *tier, *methods)
        ),
    ]


def _measurements(context: Context, finding: StatedFinding) -> list[Dataset]:
    """Numbers, the detector's own score where the template has a concept for it, and a calibrated certainty."""
    found = [content.number(item.concept, item.value, item.unit) for item in finding.measurements]
    if finding.score is not None and context.template.score is not None:
        found.append(content.number(context.template.score, finding.score, NO_UNITS))
    if finding.certainty is not None:
        percent = 100.0 * finding.certainty.probability
        found.append(content.number(codes.DCM.CertaintyOfFinding, percent, PERCENT))
    return found


def _outline(context: Context, finding: StatedFinding, region: Region) -> Dataset:
    image = context.source.image(region.sop_instance_uid)
    rows, columns = number(image, "Rows") or 0, number(image, "Columns") or 0
    if len(set(region.points)) < 3:
        raise ReportError(f"finding {finding.finding_id}: an outline needs three points, found {len(region.points)}")
    for column, row in region.points:
        is_inside = -OUTSIDE_PX <= column <= columns + OUTSIDE_PX and -OUTSIDE_PX <= row <= rows + OUTSIDE_PX
        if not is_inside:
            raise ReportError(f"finding {finding.finding_id}: its outline leaves image {region.sop_instance_uid}")
    instance = context.source.instance(region.sop_instance_uid)
    selected = content.image(
        codes.DCM.BestIllustrationOfFinding,
        instance,
        Relation.SELECTED_FROM,
        frame_number=context.source.frame_number(region),
    )
    return content.outline(codes.DCM.ImageRegion, region.points, selected)


def image_library(context: Context, sop_instance_uids: Iterable[str]) -> Dataset:
    """TID 1600 with only the images that show something: one entry is nearly 4 kB."""
    entries = [
        content.image(
            codes.DCM.BestIllustrationOfFinding,
            context.source.instance(uid),
            Relation.CONTAINS,
            items=_descriptors(context.source.image(uid)),
        )
        for uid in sop_instance_uids
    ]
    return content.container(codes.DCM.ImageLibrary, [content.container(codes.DCM.ImageLibraryGroup, entries)])


def _descriptors(ds: Dataset) -> list[Dataset]:
    """TID 1602 to 1604: what the header really says, nothing for what it lacks."""
    context = Relation.HAS_ACQ_CONTEXT
    found: list[Dataset] = []
    modality = modality_code(text(ds, "Modality"))
    if modality:
        found.append(content.code(codes.DCM.Modality, modality, context))
    frame_of_reference_uid = text(ds, "FrameOfReferenceUID")
    if frame_of_reference_uid:
        found.append(content.uid_reference(codes.DCM.FrameOfReferenceUID, frame_of_reference_uid, context))
    for concept, keyword in ((codes.DCM.PixelDataRows, "Rows"), (codes.DCM.PixelDataColumns, "Columns")):
        size = number(ds, keyword)
        if size:
            found.append(content.number(concept, size, PIXELS, context))
    spacing = numbers(ds, "PixelSpacing") or numbers(ds, "ImagerPixelSpacing")
    if len(spacing) == 2 and min(spacing) > 0:
        found.append(content.number(codes.DCM.HorizontalPixelSpacing, spacing[1], MILLIMETRE, context))
        found.append(content.number(codes.DCM.VerticalPixelSpacing, spacing[0], MILLIMETRE, context))
    position = numbers(ds, "ImagePositionPatient")
    if len(position) == 3:
        axes = (codes.DCM.ImagePositionPatientX, codes.DCM.ImagePositionPatientY, codes.DCM.ImagePositionPatientZ)
        found += [content.number(axis, value, MILLIMETRE, context) for axis, value in zip(axes, position, strict=True)]
    return found
