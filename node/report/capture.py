"""The heat map as a Secondary Capture image that any viewer shows beside the originals."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from node.dicom.elements import text
from node.dicom.read import read_dataset
from node.domain.algorithm import Basis
from node.domain.findings import HeatMap, Region
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report.concepts import code_item
from node.report.header import Context, copy_body_part, result_header
from node.report.identity import array_digest
from node.report.orientation import opposite, patient_orientation
from node.report.picture import Captions, Rgb, draw
from node.report.words import WORDS

__all__ = ["heat_digest", "heat_map_captures", "heat_map_frames", "labelled", "preview_png", "wanted_heat_maps"]

CLASSES = {
    OutputKind.HEAT_MAP: SecondaryCaptureImageStorage,
    OutputKind.HEAT_MAP_FRAMES: MultiFrameTrueColorSecondaryCaptureImageStorage,
}
COMMENT = "AI result - NOT FOR DIAGNOSTIC USE - unverified"
# PS3.3 C.7.6.1: once lossy, always lossy
COPIED_IMAGE = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def heat_map_captures(context: Context) -> list[Dataset]:
    """Build objects C, one for each heat map.

    Returns
    -------
    Nothing if there is no finding, not even a measurement of normal anatomy, unless the site asks
    for heat maps of negatives.
    """
    return [_single(context, heat_map, index) for index, heat_map in enumerate(wanted_heat_maps(context), start=1)]


def heat_map_frames(context: Context) -> Dataset | None:
    """Build one Multi-frame True Color Secondary Capture of all heat maps, in their order.

    Returns
    -------
    None where `heat_map_captures` gives nothing. Smaller pictures stand at the top left of a frame.
    """
    heat_maps = wanted_heat_maps(context)
    if not heat_maps:
        return None
    pictures = [_picture(context, heat_map) for heat_map in heat_maps]
    rows, columns = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    frames = np.zeros((len(pictures), rows, columns, 3), np.uint8)
    for frame, picture in zip(frames, pictures, strict=True):
        frame[: picture.shape[0], : picture.shape[1]] = picture
    ds = _capture(context, OutputKind.HEAT_MAP_FRAMES, heat_maps, frames, index=1)
    sides = {_sides(context, heat_map) for heat_map in heat_maps}
    ds.PatientOrientation = list(sides.pop() or ()) or "" if len(sides) == 1 else ""
    ds.NumberOfFrames = len(frames)
    if len(frames) > 1:  # PS3.3 C.8.6.4: the frames are pages
        ds.FrameIncrementPointer = tag_for_keyword("PageNumberVector")
        ds.PageNumberVector = list(range(1, len(frames) + 1))
    return ds


def wanted_heat_maps(context: Context) -> tuple[HeatMap, ...]:
    """The heat maps of a positive; of a negative only if the site asks for them."""
    is_wanted = bool(context.statement.findings) or context.settings.heat_map_when_negative
    return context.analysis.heat_maps if is_wanted else ()


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


def _single(context: Context, heat_map: HeatMap, index: int) -> Dataset:
    picture = _picture(context, heat_map)
    ds = _capture(context, OutputKind.HEAT_MAP, (heat_map,), picture, index=index)
    ds.PatientOrientation = list(_sides(context, heat_map) or ()) or ""
    return ds


def _picture(context: Context, heat_map: HeatMap) -> Rgb:
    _check(heat_map)
    regions = tuple(labelled(context, heat_map.regions))
    return draw(replace(heat_map, regions=regions), _captions(context, heat_map, _sides(context, heat_map)))


def labelled(context: Context, regions: Iterable[tuple[Region, str]]) -> list[tuple[Region, str]]:
    """Outlines with their labels in the language of the report."""
    return [(region, context.template.label(label, context.statement.language)) for region, label in regions]


def _sides(context: Context, heat_map: HeatMap) -> tuple[str, str] | None:
    image = context.source.image(heat_map.sop_instance_uid)
    return patient_orientation(image, context.source.frame_number(heat_map))


def _capture(context: Context, kind: OutputKind, heat_maps: Sequence[HeatMap], picture: Rgb, *, index: int) -> Dataset:
    """Start a Secondary Capture of one picture, or of one for each heat map."""
    ds = result_header(
        context,
        kind,
        sop_class_uid=CLASSES[kind],
        modality="OT",
        instance_number=index,
        picture="".join(map(heat_digest, heat_maps)),
    )
    image = context.source.image(heat_maps[0].sop_instance_uid)
    copy_body_part(ds, image)
    for keyword in COPIED_IMAGE:
        if keyword in image:
            ds.add(image[keyword])
    algorithm = context.statement.algorithm
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation = "YES"
    ds.RecognizableVisualFeatures = "NO"
    ds.ImageComments = COMMENT
    ds.DerivationDescription = f"{heat_maps[0].basis} by {algorithm.name} {algorithm.version}"[:1024]  # VR ST
    ds.SourceImageSequence = [_source_image(context, heat_map) for heat_map in heat_maps]
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.shape[-3:-1]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    pixels = picture.tobytes()
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
    return ds


def heat_digest(heat_map: HeatMap) -> str:
    """All that a heat map shows, but not the picture itself: the time is written on that."""
    shown = replace(heat_map, heat=np.empty(0, np.float32), background=np.empty(0, np.float32))
    return array_digest(heat_map.heat, heat_map.background) + repr(shown)


def _source_image(context: Context, heat_map: HeatMap) -> Dataset:
    instance = context.source.instance(heat_map.sop_instance_uid)
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    frame_number = context.source.frame_number(heat_map)
    if frame_number is not None:
        item.ReferencedFrameNumber = frame_number
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
    label = context.template.label(heat_map.slice_label, context.statement.language)
    where = [label] if label else []
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
