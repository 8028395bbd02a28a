"""Cutting an array to a size and padding it, with the exact way back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from node.domain.volume import Affine, Mask, Volume
from node.imaging.grids import names_of_nearest

__all__ = ["Crop", "crop_around", "crop_or_pad", "crop_to"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Crop:
    """A box cut out of an array; where it reaches beyond the array it is padded.

    Parameters
    ----------
    source_shape
        Of the array.
    start
        Place in the array of the box's first element; below 0 where the box begins outside.
    shape
        Of the box.
    """

    source_shape: tuple[int, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    def apply(self, array: npt.NDArray[_Scalar], fill: float = 0.0) -> npt.NDArray[_Scalar]:
        """Cut the box out; what was not in the array becomes `fill`."""
        self._check(array.shape, self.source_shape)
        box = np.full(self.shape, fill, array.dtype)
        inner, outer = self._overlap()
        box[inner] = array[outer]
        return box

    def undo(self, box: npt.NDArray[_Scalar], fill: float = 0.0) -> npt.NDArray[_Scalar]:
        """Put the box back where it was cut; what was cut away becomes `fill`, what was padded is dropped."""
        self._check(box.shape, self.shape)
        array = np.full(self.source_shape, fill, box.dtype)
        inner, outer = self._overlap()
        array[outer] = box[inner]
        return array

    def affine(self, affine: Affine) -> Affine:
        """The affine of the box, of an array with this one."""
        moved = affine.copy()
        moved[:3, 3] += affine[:3, :3] @ np.array(self.start, np.float64)
        return moved

    def _overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        inner, outer = [], []
        for side, start, length in zip(self.source_shape, self.start, self.shape, strict=True):
            first, last = min(max(start, 0), side), min(max(start + length, 0), side)
            inner.append(slice(first - start, last - start) if last > first else slice(0, 0))
            outer.append(slice(first, last) if last > first else slice(0, 0))
        return tuple(inner), tuple(outer)

    @staticmethod
    def _check(found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if found != expected:
            raise ValueError(f"expected an array of shape {expected}, found {found}")


def crop_to(source_shape: Sequence[int], shape: Sequence[int], *, centre: Sequence[float] | None = None) -> Crop:
    """A box of a size around a centre.

    Parameters
    ----------
    centre
        As an index, element centres being whole numbers; None for the centre of the array.
    """
    if len(source_shape) != len(shape) or min(shape) < 1:
        raise ValueError(f"expected a size above 0 for each of {len(source_shape)} axes, found {tuple(shape)}")
    middle = (np.array(source_shape) - 1) / 2.0 if centre is None else np.asarray(centre, np.float64)
    start = np.floor(middle - (np.array(shape) - 1) / 2.0 + 0.5).astype(int)
    return Crop(tuple(map(int, source_shape)), tuple(map(int, start)), tuple(map(int, shape)))


def crop_around(mask: Mask, margin: int | Sequence[int] = 0) -> Crop:
    """The smallest box around a mask, with a margin in elements that ends at the array's border.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    found = np.nonzero(mask)
    if not len(found[0]):
        raise ValueError("expected a mask with at least one element")
    margins = np.broadcast_to(np.asarray(margin, int), mask.ndim)
    first = np.maximum([places.min() for places in found] - margins, 0)
    last = np.minimum([places.max() + 1 for places in found] + margins, mask.shape)
    return Crop(mask.shape, tuple(map(int, first)), tuple(map(int, last - first)))


def crop_or_pad(
    volume: Volume, shape: Sequence[int], *, centre: Sequence[float] | None = None, fill: float | None = None
) -> tuple[Volume, Crop]:
    """Cut or pad a Volume to a size; a point in mm stays where it is.

    Parameters
    ----------
    shape
        (slices, rows, columns).
    centre
        (slice, row, column) in `volume`; None for its own centre.
    fill
        Value of what is padded; None for the lowest of the Volume. A padded slice names the source slice nearest to it.

    Returns
    -------
    The Volume and the `Crop`, whose ``undo`` brings a mask back to the grid of `volume`.
    """
    crop = crop_to(volume.array.shape, shape, centre=centre)
    array = crop.apply(volume.array, float(volume.array.min()) if fill is None else fill)
    uids, frames = names_of_nearest(volume, np.arange(crop.shape[0]) + crop.start[0])
    affine = crop.affine(volume.affine)
    return replace(volume, array=array, affine=affine, sop_instance_uids=uids, frame_numbers=frames), crop
