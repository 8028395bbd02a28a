"""The door to SimpleITK, an extra that is looked up when it is needed; Volumes keep their place in the patient.

ITK counts (column, row, slice), numpy (slice, row, column); both have LPS mm.
"""

import importlib
from types import ModuleType

import numpy as np

from node.domain.volume import Affine, Pixels
from node.errors import ConfigError

__all__ = ["from_itk", "load_itk", "to_itk"]

SHEAR = 1e-3  # cosine between axes that an ITK image cannot express


def load_itk() -> ModuleType:
    """SimpleITK.

    Raises
    ------
    ConfigError
        If it is not installed; it names the extra.
    """
    try:
        return importlib.import_module("SimpleITK")
    except ImportError:
        raise ConfigError("SimpleITK is needed and not installed: install wetread with its extra mr") from None


def to_itk(array: Pixels, affine: Affine) -> object:
    """An ITK image of an array with its place in the patient.

    Raises
    ------
    ValueError
        If the axes are not at right angles (a tilted stack): straighten it first.
    """
    itk = load_itk()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / spacing
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > SHEAR:
        raise ValueError("expected axes at right angles; a tilted stack has to be straightened first")
    image = itk.GetImageFromArray(np.ascontiguousarray(array, np.float32))
    image.SetSpacing([float(step) for step in spacing[::-1]])
    image.SetOrigin([float(place) for place in affine[:3, 3]])
    image.SetDirection([float(cosine) for cosine in cosines[:, ::-1].ravel()])
    return image


def from_itk(image: object) -> Pixels:
    """The values of an ITK image, ``float32[slice, row, column]``."""
    return np.asarray(load_itk().GetArrayFromImage(image), np.float32)
