"""Grayscale Softcopy Presentation State: the outlines over the source images, shown as the heat map shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from node.dicom.elements import items, number, numbers, text
from node.dicom.frames import frames_of
from node.dicom.pixels import SHOWN_PERCENTILES, slice_values
from node.dicom.read import read_dataset
from node.domain.findings import Region
from node.domain.statement import StatedFinding
from node.domain.work import OutputKind
from node.errors import PixelError
from node.report.header import Context, copy_body_part, result_header
from node.report.words import WORDS

__all__ = ["presentation_states"]

LAYER = "AI"
LAYER_RGB = (0, 229, 255)
GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
MODALITY_LUT = ("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType")
WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
Outlined = Sequence[tuple[StatedFinding, Region]]


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """One image or frame with its outlines; `rescale` and `voi` hold what is said of its grey values."""

    reference: Dataset
    series_instance_uid: str
    header: Dataset
    rescale: Dataset
    voi: Dataset
    spacing: tuple[float, ...]
    is_inverse: bool
    outlined: Outlined

    @property
    def grey_scale(self) -> str:
        """What all images of one presentation state must share: Modality LUT and polarity (PS3.3 A.33.1)."""
        lut = [str(self.rescale[keyword]) for keyword in MODALITY_LUT if keyword in self.rescale]
        return f"{self.is_inverse} {lut}"


def presentation_states(context: Context) -> list[Dataset]:
    """Build presentation states: one for all outlined grey images of the same grey scale.

    Images in colour are left out: the IOD is for grey ones.
    """
    outlined: dict[tuple[str, int | None], list[tuple[StatedFinding, Region]]] = {}
    for finding in context.statement.findings:
        for region in finding.regions:
            place = (region.sop_instance_uid, context.source.frame_number(region))
            outlined.setdefault(place, []).append((finding, region))
    pictures = [_picture(context, *place, of_image) for place, of_image in outlined.items()]
    groups: dict[str, list[_Picture]] = {}
    for picture in pictures:
        if text(picture.header, "PhotometricInterpretation").strip() in GREY:
            groups.setdefault(picture.grey_scale, []).append(picture)
    return [_state(context, group, index) for index, group in enumerate(groups.values(), start=1)]


def _picture(context: Context, uid: str, frame_number: int | None, outlined: Outlined) -> _Picture:
    image, instance = context.source.image(uid), context.source.instance(uid)
    frame = frames_of(image)[(frame_number or 1) - 1]
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = instance.sop_instance_uid
    if frame_number is not None:
        reference.ReferencedFrameNumber = frame_number
    is_inverse = (
        text(image, "PhotometricInterpretation").strip() == "MONOCHROME1"
        or text(image, "PresentationLUTShape").strip() == "INVERSE"
    )
    voi = _voi(image, frame_number)
    if voi is None and frame_number is None:
        voi = _window_of_values(context, uid)
    return _Picture(
        reference=reference,
        series_instance_uid=instance.series_instance_uid,
        header=image,
        rescale=frame.rescale,
        voi=voi or Dataset(),
        spacing=frame.spacing,
        is_inverse=is_inverse,
        outlined=outlined,
    )


def _voi(image: Dataset, frame_number: int | None) -> Dataset | None:
    """The image's own VOI LUT or window; of an enhanced image that of its frame (PS3.3 C.7.6.16.2.10)."""
    places = [image]
    if frame_number is not None:
        groups = items(image, "PerFrameFunctionalGroupsSequence")[frame_number - 1 : frame_number]
        for group in (*groups, *items(image, "SharedFunctionalGroupsSequence")[:1]):
            places += items(group, "FrameVOILUTSequence")[:1]
    for place in places:
        tables = items(place, "VOILUTSequence")
        center, width = number(place, "WindowCenter"), number(place, "WindowWidth")
        voi = Dataset()
        if tables:
            voi.VOILUTSequence = tables[:1]
            return voi
        if center is not None and width is not None and width >= 1:
            voi.WindowCenter, voi.WindowWidth = center, width
            function = text(place, "VOILUTFunction").strip()
            if function:
                voi.VOILUTFunction = function
            return voi
    return None


def _window_of_values(context: Context, uid: str) -> Dataset | None:
    """The window a heat map shows an image with that names none; None where its pixels would have to be decoded.

    Compressed pixels are decoded in a child process only.
    """
    raw = read_dataset(context.source.instance(uid).path, with_pixels=True)
    if raw.file_meta.TransferSyntaxUID.is_compressed:
        return None
    try:
        low, high = np.percentile(slice_values(raw), SHOWN_PERCENTILES)
    except PixelError:
        return None
    voi = Dataset()
    voi.WindowCenter, voi.WindowWidth = round(float(low + high) / 2, 3), max(round(float(high - low), 3), 1.0)
    return voi


def _state(context: Context, pictures: Sequence[_Picture], index: int) -> Dataset:
    ds = result_header(
        context,
        OutputKind.PRESENTATION_STATE,
        sop_class_uid=GrayscaleSoftcopyPresentationStateStorage,
        modality="PR",
        instance_number=index,
    )
    words = WORDS[context.statement.language]
    ds.ContentLabel = "AI_OUTLINES"
    ds.ContentDescription = "AI outlines, unverified, not for diagnosis"
    ds.ContentCreatorName = ""
    ds.PresentationCreationDate, ds.PresentationCreationTime = ds.ContentDate, ds.ContentTime
    del ds.ContentDate, ds.ContentTime  # not of this IOD
    copy_body_part(ds, pictures[0].header)
    ds.ReferencedSeriesSequence = _referenced_series(pictures)
    for keyword in MODALITY_LUT:
        if keyword in pictures[0].rescale:
            ds.add(pictures[0].rescale[keyword])
    if "RescaleSlope" in ds and not text(ds, "RescaleType"):
        ds.RescaleType = "US"  # PS3.3 C.11.1.1.2: unspecified
    shown = [picture for picture in pictures if picture.voi]
    if shown:
        ds.SoftcopyVOILUTSequence = [_softcopy_voi(picture) for picture in shown]
    ds.DisplayedAreaSelectionSequence = [_displayed_area(picture) for picture in pictures]
    ds.GraphicAnnotationSequence = [_annotation(picture, words.unverified) for picture in pictures]
    layer = Dataset()
    layer.GraphicLayer = LAYER
    layer.GraphicLayerOrder = 1
    layer.GraphicLayerRecommendedDisplayCIELabValue = list(hd.color.CIELabColor.from_rgb(*LAYER_RGB).value)
    layer.GraphicLayerDescription = "AI, unverified"
    ds.GraphicLayerSequence = [layer]
    ds.PresentationLUTShape = "INVERSE" if pictures[0].is_inverse else "IDENTITY"
    return ds


def _referenced_series(pictures: Sequence[_Picture]) -> list[Dataset]:
    """PS3.3 C.11.11: every image once, with all its frames that are meant."""
    by_series: dict[str, dict[str, Dataset]] = {}
    for picture in pictures:
        images = by_series.setdefault(picture.series_instance_uid, {})
        uid = picture.reference.ReferencedSOPInstanceUID
        frames = [*numbers(images[uid], "ReferencedFrameNumber")] if uid in images else []
        reference = Dataset()
        reference.update(picture.reference)
        frames += list(numbers(picture.reference, "ReferencedFrameNumber"))
        if frames:
            reference.ReferencedFrameNumber = [int(frame) for frame in frames]
        images[uid] = reference
    found = []
    for series_instance_uid, images in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_instance_uid
        series.ReferencedImageSequence = list(images.values())
        found.append(series)
    return found


def _softcopy_voi(picture: _Picture) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [picture.reference]
    item.update(picture.voi)
    return item


def _displayed_area(picture: _Picture) -> Dataset:
    """The whole image, as large as the screen allows (PS3.3 C.10.4)."""
    rows, columns = (int(number(picture.header, keyword) or 0) for keyword in ("Rows", "Columns"))
    item = Dataset()
    item.ReferencedImageSequence = [picture.reference]
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [columns, rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    spacing = picture.spacing or numbers(picture.header, "ImagerPixelSpacing")
    if len(spacing) == 2 and min(spacing) > 0:
        item.PresentationPixelSpacing = list(spacing)
    else:
        ratio = numbers(picture.header, "PixelAspectRatio")
        item.PresentationPixelAspectRatio = [int(part) for part in ratio] if len(ratio) == 2 else [1, 1]
    return item


def _annotation(picture: _Picture, unverified: str) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [picture.reference]
    item.GraphicLayer = LAYER
    item.GraphicObjectSequence = [_outline(region) for _, region in picture.outlined]
    item.TextObjectSequence = [_label(finding, region, unverified) for finding, region in picture.outlined]
    return item


def _outline(region: Region) -> Dataset:
    """PIXEL units count from the top left corner of the first pixel (PS3.3 C.10.5.1.2), as a `Region` does."""
    points = (*region.points, region.points[0])
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(points)
    item.GraphicData = [float(value) for point in points for value in point]
    item.GraphicType = "POLYLINE"
    item.GraphicFilled = "N"
    return item


def _label(finding: StatedFinding, region: Region, unverified: str) -> Dataset:
    """Beside the outline; `finding_id` ties it to the reports."""
    sizes = "".join(f" {item.label} {item.value:.4g} {item.unit.value}" for item in finding.measurements)
    item = Dataset()
    item.AnchorPointAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = f"AI [{finding.finding_id}] {finding.label}{sizes} ({unverified})"[:1024]  # VR ST
    item.AnchorPoint = [max(column for column, _ in region.points), min(row for _, row in region.points)]
    item.AnchorPointVisibility = "N"
    return item
