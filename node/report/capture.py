"""The heat map as a Secondary Capture image that any viewer shows beside the originals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from node.dicom.elements import text
from node.dicom.read import read_dataset
from node.domain.algorithm import Basis
from node.domain.findings import HeatMap
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report.concepts import code_item
from node.report.header import Context, result_header
from node.report.identity import array_digest
from node.report.orientation import opposite, patient_orientation
from node.report.picture import Captions, draw
from node.report.words import WORDS

__all__ = ["heat_map_captures", "preview_png"]

COMMENT = "AI result - NOT FOR DIAGNOSTIC USE - unverified"
# PS3.3 C.7.6.1: once lossy, always lossy; C.7.3.1 and the body part are the source's
COPIED_IMAGE = (
    "BodyPartExamined", "Laterality", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip


def heat_map_captures(context: Context) -> list[Dataset]:
    """Build objects C, one for each heat map.

    Returns
    -------
    Nothing if there is no finding, not even a measurement of normal anatomy, unless the site asks
    for heat maps of negatives.
    """
    is_wanted = bool(context.statement.findings) or context.settings.heat_map_when_negative
    heat_maps = context.analysis.heat_maps if is_wanted else ()
    return [_capture(context, heat_map, index) for index, heat_map in enumerate(heat_maps, start=1)]


def preview_png(capture: Path, out: Path) -> None:
    """Write the picture of a heat map object as a PNG file.

    Parameters
    ----------
    capture
        A Secondary Capture file that this node has made: RGB, 8 bit, not compressed.
    """
    ds = read_dataset(capture, with_pixels=True)
    if text(ds, "PhotometricInterpretation") != "RGB" or "PixelData" not in ds:
        raise ReportError(f"{capture.name}: not a heat map of this node")
    pixels = np.frombuffer(ds.PixelData, np.uint8)[: ds.Rows * ds.Columns * 3]
    Pillow.fromarray(pixels.reshape(ds.Rows, ds.Columns, 3)).save(out, format="PNG")


def _capture(context: Context, heat_map: HeatMap, index: int) -> Dataset:
    _check(heat_map)
    image = context.source.image(heat_map.sop_instance_uid)
    picture = draw(heat_map, _captions(context, heat_map, patient_orientation(image)))
    ds = result_header(
        context,
        OutputKind.HEAT_MAP,
        sop_class_uid=SecondaryCaptureImageStorage,
        modality="OT",
        instance_number=index,
        picture=_digest(heat_map),
    )
    for keyword in COPIED_IMAGE:
        if keyword in image:
            ds.add(image[keyword])
    algorithm = context.statement.algorithm
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = list(patient_orientation(image) or ()) or ""
    ds.BurnedInAnnotation = "YES"
    ds.RecognizableVisualFeatures = "NO"
    ds.ImageComments = COMMENT
    ds.DerivationDescription = f"{heat_map.basis} by {algorithm.name} {algorithm.version}"[:1024]  # VR ST
    ds.SourceImageSequence = [_source_image(context, heat_map)]
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    pixels = picture.tobytes()
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
    return ds


def _digest(heat_map: HeatMap) -> str:
    """All that a heat map shows, but not the picture itself: the time is written on that."""
    shown = replace(heat_map, heat=np.empty(0, np.float32), background=np.empty(0, np.float32))
    return array_digest(heat_map.heat, heat_map.background) + repr(shown)


def _source_image(context: Context, heat_map: HeatMap) -> Dataset:
    instance = context.source.instance(heat_map.sop_instance_uid)
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _captions(context: Context, heat_map: HeatMap, orientation: tuple[str, str] | None) -> Captions:
    """Two spaces part the facts of a line: there it may be broken."""
    words, algorithm = WORDS[context.statement.language], context.statement.algorithm
    is_learned = algorithm.basis is Basis.LEARNED
    score = f"{words.score} {heat_map.score:.2f}"
    if not is_learned:
        score += f"{words.opening}{words.not_a_probability}{words.closing}"
    who = f"{algorithm.name} {algorithm.version}  {words.basis[algorithm.basis]}  {algorithm.manufacturer}"
    basis = context.template.phrase(heat_map.basis, context.statement.language)
    facts = [f"{words.heat}{words.colon}{basis}", score, f"{words.threshold} {heat_map.threshold:.2f}"]
    where = [heat_map.slice_label] if heat_map.slice_label else []
    when = context.made_at.strftime("%Y-%m-%d %H:%M")
    lines = (who, "  ".join([*facts, *where, when]))
    sides = (opposite(orientation[0]), orientation[0]) if orientation else ("", "")
    return Captions(words.original, words.overlay, words.heat, lines, sides)


def _check(heat_map: HeatMap) -> None:
    shapes = heat_map.heat.shape, heat_map.background.shape
    if len(shapes[0]) != 2 or shapes[0] != shapes[1] or min(shapes[0]) < 1:
        raise ReportError(f"a heat map and its background must be the same plane, found {shapes[0]} and {shapes[1]}")
    if not np.isfinite(heat_map.heat).all() or not np.isfinite(heat_map.background).all():
        raise ReportError(f"the heat map of image {heat_map.sop_instance_uid} is not finite")
    if heat_map.spacing_mm is not None and min(heat_map.spacing_mm) <= 0:
        raise ReportError(f"the heat map of image {heat_map.sop_instance_uid} has a spacing of zero")
