"""Masks as Segmentation objects: BINARY, empty frames left out."""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
import numpy.typing as npt
import structlog
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage
from skimage.draw import polygon2mask

from node.dicom.elements import number
from node.domain.algorithm import Algorithm
from node.domain.codes import Code
from node.domain.findings import Region, Segmentation
from node.domain.statement import StatedFinding
from node.domain.volume import Mask
from node.domain.work import OutputKind
from node.report.grid import identify_sources, placed
from node.report.header import MAKER, Context, result_header
from node.report.identity import array_digest, tracking_uid
from node.report.settle import settle

__all__ = ["further_outlines", "segmentations"]

log = structlog.get_logger(__name__)

FURTHER = "further outlines"
FURTHER_RGB = (0, 229, 255)
LONGEST_LABEL = 64  # PS3.5 6.2, VR LO

Outlined = Sequence[tuple[StatedFinding, Region]]
Labels = npt.NDArray[np.uint16]
"""``uint16[slice, row, column]``: number of the segment, 0 for none."""


def segmentations(context: Context) -> list[Dataset]:
    """Build objects D, one for each mask that marks anything.

    A mask that cannot be placed in the patient (see `grid.placed`) is left out with a warning; its numbers and
    outlines are in the reports.

    Raises
    ------
    ReportError
        If a mask and its images do not match, or an image is not part of the study.
    """
    found = []
    for index, segmentation in enumerate(context.analysis.segmentations, start=1):
        uids, frame_numbers = segmentation.sop_instance_uids, segmentation.frame_numbers
        sources, mask, why_not = placed(context, uids, frame_numbers, segmentation.mask)
        if why_not:
            _say_left_out(context, why_not)
        elif mask.any():
            label = context.template.segment(segmentation.kind).label
            labels, segments = mask.astype(np.uint16), [_segment(context, segmentation)]
            found.append(_object(context, sources, labels, segments, index=index, label=label))
    return found


def further_outlines(context: Context, outlined: Outlined) -> list[Dataset]:
    """Build Segmentations of outlines for which the measurement report has no room, a segment for each finding.

    Returns
    -------
    For each source Series as many objects as it takes that no two segments of one overlap; none of a Series
    whose images cannot be placed in the patient or differ in size.
    """
    by_series: dict[str, list[tuple[StatedFinding, Region]]] = {}
    for finding, region in outlined:
        series_uid = context.source.instance(region.sop_instance_uid).series_instance_uid
        by_series.setdefault(series_uid, []).append((finding, region))
    found: list[Dataset] = []
    for of_series in by_series.values():
        first_index = len(context.analysis.segmentations) + len(found) + 1
        found += _of_series(context, of_series, first_index)
    return found


def _of_series(context: Context, outlined: Outlined, first_index: int) -> list[Dataset]:
    places = list(dict.fromkeys((region.sop_instance_uid, region.frame_number) for _, region in outlined))
    sizes = {(number(image, "Rows") or 0, number(image, "Columns") or 0) for image in _images(context, places)}
    if len(sizes) > 1:
        _say_left_out(context, "the images of a series differ in size")
        return []
    rows, columns = map(int, sizes.pop())
    by_finding: dict[str, list[tuple[StatedFinding, Region]]] = {}
    for finding, region in outlined:
        by_finding.setdefault(finding.finding_id, []).append((finding, region))
    layers: list[tuple[Labels, list[hd.seg.SegmentDescription]]] = []
    for of_finding in by_finding.values():
        mask = np.zeros((len(places), rows, columns), np.bool_)
        for _, region in of_finding:
            mask[places.index((region.sop_instance_uid, region.frame_number))] |= _filled(region, rows, columns)
        layer = next((one for one in layers if not (one[0][mask] > 0).any()), None)
        if layer is None:
            layer = (np.zeros(mask.shape, np.uint16), [])
            layers.append(layer)
        labels, segments = layer
        segments.append(_further_segment(context, of_finding[0][0], len(segments) + 1))
        labels[mask] = len(segments)
    found = []
    for index, (labels, segments) in enumerate(layers, start=first_index):
        sources, planes, why_not = placed(context, [uid for uid, _ in places], [frame for _, frame in places], labels)
        if why_not:
            _say_left_out(context, why_not)
            return []
        found.append(_object(context, sources, planes, segments, index=index, label=FURTHER))
    return found


def _images(context: Context, places: Sequence[tuple[str, int | None]]) -> list[Dataset]:
    return [context.source.image(uid) for uid in dict.fromkeys(uid for uid, _ in places)]


def _filled(region: Region, rows: int, columns: int) -> Mask:
    """An outline filled: every pixel whose centre lies inside."""
    # SCOORD counts from the corner of the first pixel, the mask from its centre
    corners = [(row - 0.5, column - 0.5) for column, row in region.points]
    mask = polygon2mask((rows, columns), corners)  # type: ignore[no-untyped-call]  # the library has no types
    return np.asarray(mask, dtype=np.bool_)


def _say_left_out(context: Context, why_not: str) -> None:
    study_instance_uid = context.source.study.study_instance_uid
    log.warning("segmentation left out", reason=why_not, study_instance_uid=study_instance_uid)


def _object(
    context: Context,
    sources: list[Dataset],
    labels: Labels,
    segments: Sequence[hd.seg.SegmentDescription],
    *,
    index: int,
    label: str,
) -> Dataset:
    header = result_header(
        context,
        OutputKind.SEGMENTATION,
        sop_class_uid=SegmentationStorage,
        modality="SEG",
        instance_number=index,
        picture=array_digest(labels),
    )
    header.SeriesDescription = _series_description(context)
    identify_sources(sources, header)
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=header.SeriesInstanceUID,
        series_number=header.SeriesNumber,
        sop_instance_uid=header.SOPInstanceUID,
        instance_number=index,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=header.SoftwareVersions,
        device_serial_number=header.DeviceSerialNumber,
        content_label="SEGMENTATION",
        content_description=f"AI segmentation, unverified: {label}"[:LONGEST_LABEL],
        omit_empty_frames=True,
    )
    return settle(made, header)


def _series_description(context: Context) -> str:
    """One for all objects of the series, whatever each of them shows."""
    labels = [context.template.segment(one.kind).label for one in context.analysis.segmentations] or [FURTHER]
    return f"AI SEG {', '.join(dict.fromkeys(labels))}"[:LONGEST_LABEL]


def _segment(context: Context, segmentation: Segmentation) -> hd.seg.SegmentDescription:
    row = context.template.segment(segmentation.kind)
    finding_id = segmentation.finding_id or f"{segmentation.kind}-segment"
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=row.label,
        segmented_property_category=_coded(row.category),
        segmented_property_type=_coded(row.concept),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(context.statement.algorithm),
        tracking_uid=tracking_uid(
            context.source.study.study_instance_uid, context.statement.algorithm.name, finding_id
        ),
        tracking_id=finding_id,
        display_color=hd.color.CIELabColor.from_rgb(*row.rgb),
    )


def _further_segment(context: Context, finding: StatedFinding, number: int) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=finding.finding_id[:LONGEST_LABEL],
        segmented_property_category=_coded(finding.category),
        segmented_property_type=_coded(finding.concept),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(context.statement.algorithm),
        tracking_uid=finding.tracking_uid,
        tracking_id=finding.finding_id,
        display_color=hd.color.CIELabColor.from_rgb(*FURTHER_RGB),
    )


def _algorithm(algorithm: Algorithm) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version,
        parameters=dict(algorithm.parameters) or None,
    )


def _coded(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)
