"""Masks as Segmentation objects: BINARY, one segment, empty frames left out."""

import highdicom as hd
import numpy as np
import structlog
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from node.dicom.elements import number, numbers, text
from node.dicom.uid import derive_uid
from node.domain.findings import Segmentation
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report.header import MAKER, Context, result_header
from node.report.identity import array_digest, tracking_uid

__all__ = ["segmentations"]

log = structlog.get_logger(__name__)

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
GEOMETRY_SIZES = (3, 6, 2)


def segmentations(context: Context) -> list[Dataset]:
    """Build objects D, one for each mask that marks anything.

    A mask of images without a Frame of Reference cannot be placed in the patient (PS3.3 A.51): it
    is left out with a warning; its numbers and outlines are in the reports.

    Raises
    ------
    ReportError
        If a mask and its images do not match, or an image is not part of the study.
    """
    found = []
    for index, segmentation in enumerate(context.analysis.segmentations, start=1):
        slices = [_thin(context, uid) for uid in segmentation.sop_instance_uids]
        _check(segmentation, slices)
        if not all(text(ds, "FrameOfReferenceUID") for ds in slices):
            log.warning("segmentation left out", reason="the images have no Frame of Reference UID",
                        study_instance_uid=context.source.study.study_instance_uid)  # fmt: skip
        elif segmentation.mask.any():
            found.append(_segmentation(context, segmentation, slices, index))
    return found


def _segmentation(context: Context, segmentation: Segmentation, slices: list[Dataset], index: int) -> Dataset:
    row = context.template.segment(segmentation.kind)
    header = result_header(
        context,
        OutputKind.SEGMENTATION,
        sop_class_uid=SegmentationStorage,
        modality="SEG",
        instance_number=index,
        picture=array_digest(np.packbits(segmentation.mask), np.array(segmentation.mask.shape)),
    )
    header.SeriesDescription = f"AI SEG {row.label}"
    for ds in slices:
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
                        "StudyID", "AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet"):  # fmt: skip
            ds[keyword] = header[keyword]
    made = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=segmentation.mask.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(context, segmentation)],
        series_instance_uid=header.SeriesInstanceUID,
        series_number=header.SeriesNumber,
        sop_instance_uid=header.SOPInstanceUID,
        instance_number=index,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=header.SoftwareVersions,
        device_serial_number=header.DeviceSerialNumber,
        content_label="SEGMENTATION",
        content_description=f"AI segmentation, unverified: {row.label}"[:64],
        omit_empty_frames=True,
    )
    return _settle(made, header)


def _description(context: Context, segmentation: Segmentation) -> hd.seg.SegmentDescription:
    row = context.template.segment(segmentation.kind)
    algorithm = context.statement.algorithm
    finding_id = segmentation.finding_id or f"{segmentation.kind}-segment"
    study_instance_uid = context.source.study.study_instance_uid
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=row.label,
        segmented_property_category=_coded(row.category.value, row.category.scheme, row.category.meaning),
        segmented_property_type=_coded(row.concept.value, row.concept.scheme, row.concept.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.DCM.ArtificialIntelligence,
            version=algorithm.version,
            parameters=dict(algorithm.parameters) or None,
        ),
        tracking_uid=tracking_uid(study_instance_uid, algorithm.name, finding_id),
        tracking_id=finding_id,
        display_color=hd.color.CIELabColor.from_rgb(*row.rgb),
    )


def _coded(value: str, scheme: str, meaning: str) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(value, scheme, meaning)


def _settle(made: Dataset, header: Dataset) -> Dataset:
    """Put our header onto what highdicom made, in place of its random UIDs and its time of now."""
    ds = Dataset()
    ds.update({element.tag: element for element in made})
    ds.update({element.tag: element for element in header})
    organization_uid = derive_uid("dimensions", header.SOPInstanceUID)
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization_uid
    return ds


def _thin(context: Context, sop_instance_uid: str) -> Dataset:
    """Only what a mask needs of a slice, whatever its transfer syntax was."""
    raw = context.source.raw_image(sop_instance_uid)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, keyword, text(raw, keyword))
    ds.Modality = text(raw, "Modality")
    ds.PositionReferenceIndicator = ""
    ds.Rows, ds.Columns = (int(number(raw, keyword) or 0) for keyword in ("Rows", "Columns"))
    for keyword, size in zip(GEOMETRY, GEOMETRY_SIZES, strict=True):
        found = numbers(raw, keyword)
        if len(found) != size:
            raise ReportError(f"image {sop_instance_uid} needs {size} numbers in {keyword} to carry a mask")
        setattr(ds, keyword, list(found))
    ds.SliceThickness = number(raw, "SliceThickness")
    if text(raw, "LossyImageCompression") == "01":
        ds.LossyImageCompression = "01"
    return ds


def _check(segmentation: Segmentation, slices: list[Dataset]) -> None:
    shape = segmentation.mask.shape
    if len(shape) != 3 or shape[0] != len(slices) or any(shape[1:] != (ds.Rows, ds.Columns) for ds in slices):
        found = " x ".join(map(str, shape))
        raise ReportError(f"a mask of {found} (slices, rows, columns) does not fit its {len(slices)} images")
