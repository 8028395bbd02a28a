"""From a Series to the numbers a model takes, with the gates a model without a handler of its own needs.

What the header says it is comes first: modality and body part. Then what the picture is: large enough, not constant,
with a real spacing where the model was made for one. A model answers to anything; these gates refuse what it was not
made for, as far as a card can say it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from node.api import read_image, stack
from node.domain.models import ModelCard, Preparation
from node.domain.study import Instance, Series
from node.domain.volume import Affine, Heat, Pixels, Volume
from node.errors import GeometryError, NotEvaluableError, PixelError

__all__ = ["Picture", "check_header", "pictures"]

SLICED = ("CT", "MR", "PT", "NM")  # images of these are slices of a volume, of others projections
SHOWN_PERCENTILES = (1.0, 99.5)
MOST_ENLARGED = 2.0  # rows and columns: more would show the model a blur it was not made for
MOST_BETWEEN_SLICES = 5.0  # slices: 5 mm where 1 mm is wanted
LEAST_FIELD = 0.25  # of the model's own field of view along each axis of the image, or padding is what it sees


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image or one volume, as numbers for a model.

    Parameters
    ----------
    values
        ``float32[slice, row, column]``, one slice for an image; as `Preparation.kind` says, before mean and std.
    fill
        The number of what lies beyond the border.
    spacing_mm
        Of slices, rows and columns; None if not real.
    affine
        Of a volume; None for an image.
    shown
        (low, high): the values that are drawn black and white.
    sop_instance_uids, frame_numbers
        Of each slice.
    display
        0 to 1, in place of `shown`, where the image says how it is to be shown.
    """

    values: Pixels
    fill: float
    spacing_mm: tuple[float, float, float] | None
    affine: Affine | None
    shown: tuple[float, float]
    sop_instance_uids: tuple[str, ...]
    frame_numbers: tuple[int | None, ...]
    display: Pixels | None = None

    def background(self, index: int) -> Heat:
        """Slice `index` as a viewer shows it, 0 to 1."""
        if self.display is not None:
            return np.asarray(np.clip(self.display[index], 0.0, 1.0), np.float32)
        low, high = self.shown
        return np.asarray(np.clip((self.values[index] - low) / max(high - low, 1e-6), 0.0, 1.0), np.float32)

    def label(self, index: int) -> str:
        """What is written on the picture of a slice; "" for an image."""
        return f"slice {index + 1}/{len(self.values)}" if self.affine is not None else ""


def check_header(series: Series, card: ModelCard) -> None:
    """Refuse a Series whose header says that the model was not made for it.

    Raises
    ------
    NotEvaluableError
        With the key ``wrong_modality``, ``wrong_body_part`` or ``unknown_body_part``.
    """
    if series.modality not in card.modalities:
        found = series.modality or "unknown"
        raise NotEvaluableError(f"the modality is {found}, not {' or '.join(card.modalities)}", key="wrong_modality")
    part = str(series.header.get("BodyPartExamined") or "").strip().upper()
    if not card.body_parts or part in card.body_parts:
        return
    if not part:
        raise NotEvaluableError("the header does not say which part of the body it is", key="unknown_body_part")
    raise NotEvaluableError("the header names another part of the body", key="wrong_body_part")


def pictures(series: Series, card: ModelCard, preparation: Preparation) -> list[Picture]:
    """Read a Series as the pictures a model takes: one volume, or image by image, without those that are refused.

    Raises
    ------
    NotEvaluableError
        If none is left, with the reason of the last: the keys are those of `check_header`, ``geometry``, ``not_hu``,
        ``no_spacing``, ``too_small``, ``too_coarse`` or ``blank``.
    """
    check_header(series, card)
    if len(preparation.size) == 3 or (series.modality in SLICED and series.image_count > 1):
        picture = _volume(series, preparation)
        _check_picture(picture, preparation)
        return [picture]
    accepted: list[Picture] = []
    refusal = NotEvaluableError("there are no images", key="blank")
    for instance in series.instances:
        try:
            picture = _image(instance, series.modality, preparation)
            _check_picture(picture, preparation)
            accepted.append(picture)
        except NotEvaluableError as refused:
            refusal = refused
    if not accepted:
        raise refusal
    return accepted


def _volume(series: Series, preparation: Preparation) -> Picture:
    try:
        volume = stack(series)
    except (GeometryError, PixelError) as error:
        raise NotEvaluableError(f"the images do not form one volume: {error}", key="geometry") from error
    frames = volume.frame_numbers or (None,) * len(volume.array)
    numbers, fill, shown = _numbers(
        volume.array, preparation, is_hu=volume.unit == "HU", window=_window(series, volume)
    )
    return Picture(numbers, fill, volume.spacing_mm, volume.affine, shown, volume.sop_instance_uids, frames)


def _image(instance: Instance, modality: str, preparation: Preparation) -> Picture:
    image = read_image(instance)
    spacing = None if image.spacing_mm is None else (1.0, *image.spacing_mm)
    display = image.display[None]
    values = display if preparation.kind == "display" else image.array[None]
    numbers, fill, shown = _numbers(values, preparation, is_hu=modality == "CT", window=(0.0, 1.0))
    return Picture(numbers, fill, spacing, None, shown, (image.sop_instance_uid,), (None,), display)


def _window(series: Series, volume: Volume) -> tuple[float, float]:
    """Least and greatest value shown, by the header of the first image, else by percentiles."""
    centre, width = (_first(series, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 0:
        return centre - width / 2.0, centre + width / 2.0
    low, high = np.percentile(volume.array, SHOWN_PERCENTILES)
    return float(low), float(high)


def _first(series: Series, keyword: str) -> float | None:
    value = series.header.get(keyword)
    value = value[0] if isinstance(value, list) and value else value
    return float(value) if isinstance(value, int | float) else None


def _numbers(
    values: Pixels, preparation: Preparation, *, is_hu: bool, window: tuple[float, float]
) -> tuple[Pixels, float, tuple[float, float]]:
    """The model's numbers, that of the border, and which are shown black and white."""
    limits = preparation.window
    if preparation.kind == "hu":
        if not is_hu:
            raise NotEvaluableError("the values are not Hounsfield units", key="not_hu")
        if limits is None:
            return values, float(values.min()), window
        low, high = limits[0] - limits[1] / 2.0, limits[0] + limits[1] / 2.0
    elif preparation.kind == "percentile" and limits is not None:
        low, high = (float(value) for value in np.percentile(values, limits))
    elif preparation.kind == "display":
        low, high = window
    else:
        low, high = float(values.min()), float(values.max())
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0).astype(np.float32)
    return scaled, 0.0, (0.0, 1.0)


def _check_picture(picture: Picture, preparation: Preparation) -> None:
    flat = len(preparation.size) == 2
    shape: Sequence[int] = picture.values.shape[1:] if flat else picture.values.shape
    if not float(np.ptp(picture.values)) > 0.0:
        raise NotEvaluableError("the image is constant", key="blank")
    if preparation.spacing_mm is None:
        if any(side * MOST_ENLARGED < wanted for side, wanted in zip(shape, preparation.size, strict=True)):
            raise NotEvaluableError("the image has too few pixels", key="too_small")
        return
    if picture.spacing_mm is None:
        raise NotEvaluableError("the header has no real spacing, and the model needs one", key="no_spacing")
    spacing = sorted(picture.spacing_mm[1:] if flat else picture.spacing_mm)
    wanted = sorted(preparation.spacing_mm)
    allowed = [MOST_ENLARGED] * 2 if flat else [MOST_ENLARGED] * 2 + [MOST_BETWEEN_SLICES]
    if any(mm > most * least for mm, least, most in zip(spacing, wanted, allowed, strict=True)):
        raise NotEvaluableError("the images are too coarse for the model", key="too_coarse")
    field_mm = [side * mm for side, mm in zip(shape, picture.spacing_mm[-len(shape) :], strict=True)]
    model_mm = min(side * mm for side, mm in zip(preparation.size, preparation.spacing_mm, strict=True))
    if min(field_mm) < LEAST_FIELD * model_mm:
        raise NotEvaluableError("the field of view is too small for the model", key="too_small")
