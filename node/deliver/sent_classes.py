"""The SOP class in which each kind of result leaves the node."""

from collections.abc import Mapping

from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.domain.work import OutputKind

__all__ = ["SENT_CLASSES"]

SENT_CLASSES: Mapping[OutputKind, UID] = {
    OutputKind.MEASUREMENT_SR: Comprehensive3DSRStorage,
    OutputKind.TEXT_SR: BasicTextSRStorage,
    OutputKind.HEAT_MAP: SecondaryCaptureImageStorage,
    OutputKind.SEGMENTATION: SegmentationStorage,
    OutputKind.STUDY_SR: Comprehensive3DSRStorage,
    OutputKind.HEAT_MAP_FRAMES: MultiFrameTrueColorSecondaryCaptureImageStorage,
    OutputKind.KEY_OBJECTS: KeyObjectSelectionDocumentStorage,
    OutputKind.PRESENTATION_STATE: GrayscaleSoftcopyPresentationStateStorage,
    OutputKind.PARAMETRIC_MAP: ParametricMapStorage,
    OutputKind.PDF: EncapsulatedPDFStorage,
}
