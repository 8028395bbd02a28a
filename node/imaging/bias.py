"""The slow change of brightness across an MR image that comes from the coil, found and taken out (N4).

Tustison et al., IEEE Trans Med Imaging 2010;29:1310, as SimpleITK has it (extra ``mr``).
"""

from dataclasses import replace
from typing import Any

import numpy as np

from node.domain.volume import Mask, Pixels, Volume
from node.imaging.itk import from_itk, load_itk, to_itk
from node.imaging.tissue import tissue_mask

__all__ = ["bias_field", "bias_field_corrected"]

FITTED_MM = 6.0  # the field is slow: it is sought on voxels of this size, and found as well in a fraction of the time
ROUNDS = (50, 50, 50)
CONVERGED = 1e-3
LEAST_VALUE = 1e-3  # of the 99th percentile: N4 takes logarithms, and 0 has none
LEAST_VOXELS = 1000


def bias_field_corrected(volume: Volume, mask: Mask | None = None) -> Volume:
    """Divide an MR Volume by its bias field; see `bias_field`."""
    return replace(volume, array=(volume.array / bias_field(volume, mask)).astype(np.float32))


def bias_field(volume: Volume, mask: Mask | None = None, *, threads: int = 1) -> Pixels:
    """Find the bias field of an MR Volume.

    Parameters
    ----------
    mask
        The tissue it is found on; None for `tissue_mask`.
    threads
        1 gives the same field on every machine.

    Returns
    -------
    ``float32`` on the grid of `volume`, above 0, its geometric mean over the tissue 1.

    Raises
    ------
    ConfigError
        If SimpleITK is not installed.
    ValueError
        If the mask has fewer than 1000 voxels, or the stack is tilted.
    """
    itk = load_itk()
    tissue = tissue_mask(volume.array) if mask is None else mask
    if int(tissue.sum()) < LEAST_VOXELS:
        raise ValueError(f"expected at least {LEAST_VOXELS} voxels of tissue, found {int(tissue.sum())}")
    least = LEAST_VALUE * float(np.percentile(volume.array[tissue], 99.0))
    image = to_itk(np.maximum(volume.array, least), volume.affine)
    inside: Any = itk.Cast(to_itk(tissue.astype(np.float32), volume.affine), itk.sitkUInt8)
    steps = [max(1, round(FITTED_MM / spacing)) for spacing in volume.spacing_mm[::-1]]
    n4 = itk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfWorkUnits(threads)
    n4.SetMaximumNumberOfIterations(list(ROUNDS))
    n4.SetConvergenceThreshold(CONVERGED)
    shrunk, shrunk_inside = itk.Shrink(image, steps), itk.Shrink(inside, steps)
    n4.Execute(shrunk, shrunk_inside)
    log_field = from_itk(n4.GetLogBiasFieldAsImage(image))
    log_field -= log_field[tissue].mean(dtype=np.float64)
    return np.exp(log_field)
