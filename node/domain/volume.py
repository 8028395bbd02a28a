"""Images with their place in the patient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Affine", "Heat", "Image", "Mask", "Pixels", "Volume", "voxel_volume_ml"]

Pixels = npt.NDArray[np.float32]
"""``float32[row, column]`` or ``float32[slice, row, column]``."""
Heat = npt.NDArray[np.float32]
"""``float32[row, column]``, 0 to 1."""
Mask = npt.NDArray[np.bool_]
"""``bool``, same grid as the image or volume it belongs to."""
Affine = npt.NDArray[np.float64]
"""``float64[4, 4]``: (slice, row, column, 1) of a voxel centre to LPS mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A stack of parallel slices of one Series, evenly spaced.

    Parameters
    ----------
    array
        ``float32[slice, row, column]`` after Modality LUT, in `unit`.
    affine
        ``float64[4, 4]``, maps (slice, row, column, 1) of a voxel centre to LPS mm.
    unit
        ``HU`` for CT, else ``arbitrary``.
    sop_instance_uids
        One for each slice, in the order of `array`.
    frame_of_reference_uid
        The coordinate system the slices share.
    frame_numbers
        For each slice its frame in that image, counted from 1, None if the image has one frame.
    """

    array: Pixels
    affine: Affine
    unit: str
    sop_instance_uids: tuple[str, ...]
    frame_of_reference_uid: str
    frame_numbers: tuple[int | None, ...] = ()

    def frame_number(self, index: int) -> int | None:
        """Frame of slice `index` in its image, None if the image has one frame; what a `Region` on it must name."""
        return self.frame_numbers[index] if self.frame_numbers else None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring slices, rows and columns."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One projection image (radiograph), brighter is denser.

    Parameters
    ----------
    array
        ``float32[row, column]``, MONOCHROME1 already inverted.
    display
        ``float32[row, column]``, 0 to 1, as the viewer would show it (VOI applied, MONOCHROME2).
    spacing_mm
        (row distance, column distance) from a real Pixel Spacing or calibrated Imager Pixel
        Spacing; None if the header has none, zero, or a guess: then nothing may be given in mm.
    sop_instance_uid
        The source image.
    """

    array: Pixels
    display: Pixels
    spacing_mm: tuple[float, float] | None
    sop_instance_uid: str


def voxel_volume_ml(affine: npt.NDArray[Any]) -> float:
    """Volume of one voxel, in ml."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
