"""Rigid co-registration: one patient, two Series, moved and turned by mutual information (SimpleITK, extra ``mr``).

Mattes et al., IEEE Trans Med Imaging 2003;22:120.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from node.domain.volume import Affine, Mask, Volume
from node.errors import NotEvaluableError
from node.imaging.grids import Grid, grid_of, resample, resample_to, to_mm, values_on
from node.imaging.itk import load_itk, to_itk
from node.imaging.tissue import tissue_mask

__all__ = ["Registration", "register_rigid"]

BINS = 50
SEED = 20100  # of the choice of samples: the same on every run
FINEST_MM = 2.0  # a rigid fit is found to a tenth of a voxel, so finer ones only cost time
COARSE_TO_FINE = ((3, 3.0, 0.5), (2, 1.5, 0.25), (1, 0.0, 0.1))  # shrink factor, smoothing in mm, share sampled
LEAST_SIDE = 8  # voxels that shrinking leaves along every axis
# Powell's search needs no gradient: descent stopped up to 4 mm short where slices were thick and contrasts differed.
SEARCH = {
    "numberOfIterations": 20,
    "maximumLineIterations": 30,
    "stepLength": 1.0,
    "stepTolerance": 0.02,
    "valueTolerance": 1e-5,
}
LEVELS = 32  # of each image's grey levels, in which information is counted
LEAST_INFORMATION = 0.25  # bits over both images' tissue; unrelated images have below 0.1
LEAST_COVER = 0.5  # of the fixed image's tissue


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """A moving Volume put where the fixed one is.

    Parameters
    ----------
    volume
        The moving Volume on the fixed one's grid; it names no source slices, for it is another Series.
    transform
        ``float64[4, 4]``, maps a point in the fixed Volume (LPS mm) to the same point of the patient in the moving one.
    information
        Mutual information of both, in bits, over the tissue of the fixed Volume: how much one says about the other.
    cover
        Share of the fixed Volume's tissue that the moving one covers.
    """

    volume: Volume
    transform: Affine
    information: float
    cover: float

    @property
    def angle_degrees(self) -> float:
        """By how much it was turned."""
        cosine = (float(np.trace(self.transform[:3, :3])) - 1.0) / 2.0
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def register_rigid(moving: Volume, fixed: Volume, *, threads: int = 1) -> Registration:
    """Move and turn one Volume until it lies on another of the same patient.

    Volumes with one Frame of Reference UID begin where their headers put them, others with their centres of mass on
    each other; either way it is the pixels that decide.

    Parameters
    ----------
    threads
        1 gives the same result on every machine.

    Raises
    ------
    NotEvaluableError
        With key ``not_registered``, if the two do not overlap, or say too little about each other: another part of the
        body, or another patient.
    ConfigError
        If SimpleITK is not installed.
    """
    itk = load_itk()
    tissue = tissue_mask(fixed.array)
    if not tissue.any() or not tissue_mask(moving.array).any():
        raise NotEvaluableError("one of the Series to be registered is blank", key="not_registered")
    fixed_image, moving_image = (_image(volume) for volume in (fixed, moving))
    start = itk.Euler3DTransform(_start(itk, moving, fixed, fixed_image, moving_image))
    method = _method(itk, fixed_image, threads)
    method.SetInitialTransform(start, inPlace=False)
    try:
        found = method.Execute(fixed_image, moving_image)
    except RuntimeError:  # ITK says only this when the samples leave the moving image
        raise NotEvaluableError("the Series cannot be laid on each other", key="not_registered") from None
    transform = _matrix(found)
    return _judged(moving, fixed, transform, tissue)


def _image(volume: Volume) -> Any:
    coarse = resample(volume, [max(spacing, FINEST_MM) for spacing in volume.spacing_mm])
    return to_itk(coarse.array, coarse.affine)


def _start(itk: Any, moving: Volume, fixed: Volume, fixed_image: Any, moving_image: Any) -> Any:
    if moving.frame_of_reference_uid and moving.frame_of_reference_uid == fixed.frame_of_reference_uid:
        transform = itk.Euler3DTransform()
        transform.SetCenter([float(place) for place in to_mm(fixed.affine, (np.array(fixed.array.shape) - 1) / 2.0)])
        return transform
    way = itk.CenteredTransformInitializerFilter.MOMENTS
    return itk.CenteredTransformInitializer(fixed_image, moving_image, itk.Euler3DTransform(), way)


def _method(itk: Any, fixed_image: Any, threads: int) -> Any:
    method = itk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(threads)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([share for _, _, share in COARSE_TO_FINE], SEED)
    method.SetInterpolator(itk.sitkLinear)
    method.SetOptimizerAsPowell(**SEARCH)
    method.SetOptimizerScalesFromPhysicalShift()
    most = max(1, min(fixed_image.GetSize()) // LEAST_SIDE)
    method.SetShrinkFactorsPerLevel([min(shrink, most) for shrink, _, _ in COARSE_TO_FINE])
    method.SetSmoothingSigmasPerLevel([sigma_mm for _, sigma_mm, _ in COARSE_TO_FINE])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _matrix(transform: Any) -> Affine:
    """The 4 x 4 matrix of a transform, by where it puts four points."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis, unit in enumerate(np.eye(3)):
        matrix[:3, axis] = np.array(transform.TransformPoint(tuple(map(float, unit)))) - origin
    matrix[:3, 3] = origin
    return matrix


def _judged(moving: Volume, fixed: Volume, transform: Affine, tissue: Mask) -> Registration:
    """Lay the moving Volume on the fixed one's grid and refuse what does not fit."""
    # Seen from the moving image the fixed grid lies where the transform puts it.
    seen = Grid(grid_of(fixed).shape, transform @ fixed.affine)
    cover = values_on(np.ones(moving.array.shape, np.float32), grid_of(moving), seen)[tissue].mean()
    volume = resample_to(moving, seen)
    placed = Volume(volume.array, fixed.affine, moving.unit, (), fixed.frame_of_reference_uid)
    information = _information(fixed.array[tissue], volume.array[tissue])
    if cover < LEAST_COVER:
        raise NotEvaluableError(f"the Series share {cover:.0%} of the tissue only", key="not_registered")
    if information < LEAST_INFORMATION:
        raise NotEvaluableError("the Series do not show the same part of the same patient", key="not_registered")
    return Registration(placed, transform, information, float(cover))


def _information(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Mutual information in bits of two sets of values."""
    edges = [np.unique(np.percentile(part, np.linspace(0, 100, LEVELS + 1)[1:-1])) for part in (one, other)]
    first, second = (np.searchsorted(edge, part) for edge, part in zip(edges, (one, other), strict=True))
    joint = np.bincount(first * LEVELS + second, minlength=LEVELS**2).reshape(LEVELS, LEVELS) / len(one)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    is_there = joint > 0
    return float((joint[is_there] * np.log2(joint[is_there] / apart[is_there])).sum())
