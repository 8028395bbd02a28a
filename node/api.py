"""All that a handler may import.

A handler is one file: plain functions and one frozen `Handler` record named ``handler``. It reads
the Series it was given, gates first, and returns a `Reading`. The engine adds what a handler must
not decide for itself: which algorithm ran, with which weights, and whether that counts as a finding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from node.dicom.part import LeftOut, PartialVolume, stack_part
from node.dicom.pixels import read_image
from node.dicom.stack import stack
from node.domain.algorithm import Basis
from node.domain.certainty import certainty_of
from node.domain.codes import Code
from node.domain.findings import Certainty, Finding, HeatMap, Measurement, Region, Segmentation, Tier
from node.domain.models import Calibration, ModelCard, Tensor
from node.domain.study import HeaderValue, Instance, Series, Study
from node.domain.volume import Image, Mask, Volume, voxel_volume_ml
from node.errors import GeometryError, ModelOutputError, NotEvaluableError, PixelError
from node.imaging.bias import bias_field, bias_field_corrected
from node.imaging.blobs import Blob, blob_map, find_blobs
from node.imaging.blocks import Blocks, average_blocks, distance_in_slices_mm, repeat_blocks, smooth_within
from node.imaging.calcium import (
    CALCIUM_HU,
    CalciumScore,
    cac_drs_category,
    density_weights,
    score_calcium,
    score_vessels,
)
from node.imaging.components import (
    AXES_BASIS,
    VOLUME_BASIS,
    Axes,
    Component,
    find_components,
    largest_component,
    measure_axes,
)
from node.imaging.crops import Crop, crop_around, crop_or_pad, crop_to
from node.imaging.ct_lungs import Lungs, find_lungs
from node.imaging.flips import over_flips
from node.imaging.frontal import frontal_chest_sides
from node.imaging.grids import (
    Grid,
    grid_of,
    mask_on,
    resample,
    resample_to,
    spaced,
    to_index,
    to_mm,
    values_on,
)
from node.imaging.headers import header_number, header_texts, header_words, is_axial, passing_series
from node.imaging.heart_region import HeartRegion, find_heart_region
from node.imaging.lung_fields import LungFields, find_lung_fields
from node.imaging.midline import MIDLINE_BASIS, Midline, find_midline
from node.imaging.nodules import Nodule, outline_nodule
from node.imaging.outlines import box_points, confined, outline_all, outline_largest, region_of_slice
from node.imaging.percentiles import LANDMARKS, learn_scale, mr_percentiles, normalised_mr
from node.imaging.quality import Demands, Reason, border_shares, noise_per_contrast, quality, require_quality
from node.imaging.registration import Registration, register_rigid
from node.imaging.skull import BONE_HU, MirrorPlane, Skull, find_skull
from node.imaging.tiles import slide
from node.imaging.tilt import slice_distance_mm, straightened, tilt_degrees
from node.imaging.tissue import body_mask, tissue_mask
from node.imaging.windows import CT_WINDOWS, window

__all__ = [
    "AXES_BASIS",
    "BONE_HU",
    "CALCIUM_HU",
    "CT_WINDOWS",
    "LANDMARKS",
    "MIDLINE_BASIS",
    "VOLUME_BASIS",
    "Axes",
    "Basis",
    "Blob",
    "Blocks",
    "CalciumScore",
    "Calibration",
    "Certainty",
    "Code",
    "Component",
    "Crop",
    "Demands",
    "Finding",
    "GeometryError",
    "Grid",
    "Handler",
    "HeaderValue",
    "HeartRegion",
    "HeatMap",
    "Image",
    "Instance",
    "LeftOut",
    "LungFields",
    "Lungs",
    "Mask",
    "Measurement",
    "Midline",
    "MirrorPlane",
    "Model",
    "ModelCard",
    "ModelOutputError",
    "Nodule",
    "NotEvaluableError",
    "PartialVolume",
    "PixelError",
    "Reading",
    "Reason",
    "Region",
    "Registration",
    "Segmentation",
    "Series",
    "Skull",
    "Study",
    "Tensor",
    "Terms",
    "Tier",
    "Volume",
    "average_blocks",
    "bias_field",
    "bias_field_corrected",
    "blob_map",
    "body_mask",
    "border_shares",
    "box_points",
    "cac_drs_category",
    "certainty_of",
    "confined",
    "crop_around",
    "crop_or_pad",
    "crop_to",
    "density_weights",
    "distance_in_slices_mm",
    "find_blobs",
    "find_components",
    "find_heart_region",
    "find_lung_fields",
    "find_lungs",
    "find_midline",
    "find_skull",
    "frontal_chest_sides",
    "grid_of",
    "header_number",
    "header_texts",
    "header_words",
    "is_axial",
    "largest_component",
    "learn_scale",
    "mask_on",
    "measure_axes",
    "mr_percentiles",
    "noise_per_contrast",
    "normalised_mr",
    "outline_all",
    "outline_largest",
    "outline_nodule",
    "over_flips",
    "passing_series",
    "quality",
    "read_image",
    "region_of_slice",
    "register_rigid",
    "repeat_blocks",
    "require_quality",
    "resample",
    "resample_to",
    "score_calcium",
    "score_vessels",
    "slice_distance_mm",
    "slide",
    "smooth_within",
    "spaced",
    "stack",
    "stack_part",
    "straightened",
    "tilt_degrees",
    "tissue_mask",
    "to_index",
    "to_mm",
    "values_on",
    "voxel_volume_ml",
    "window",
]


class Model(Protocol):
    """A loaded model; the engine has checked its hash and checks every output for shape and NaN."""

    @property
    def card(self) -> ModelCard:
        """The manifest the model was loaded by."""
        ...

    def run(self, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the model once: its first input in, its first output back.

        Raises
        ------
        ModelOutputError
            If the output is empty, not finite or not of the shape in the manifest.
        """
        ...

    def run_all(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Mapping[str, npt.NDArray[np.float32]]:
        """Run the model once: every input in the manifest in, every output back, by name.

        Raises
        ------
        ModelError
            If an input is missing, unknown, or not ``float32`` of the shape in the manifest.
        ModelOutputError
            As `run`, for each output.
        """
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """The Series a handler takes at all, whatever the site's rules say.

    Parameters
    ----------
    modalities
        Values of Modality.
    min_instances
        Fewest images in the Series; each frame of a multi-frame image counts as one.
    sop_class_uids
        SOP Class UIDs; empty for any.
    """

    modalities: tuple[str, ...]
    min_instances: int = 1
    sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a handler found.

    `source_uids` are the SOP Instance UIDs of every image it looked at; no findings is a valid reading.
    """

    source_uids: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    heat_maps: tuple[HeatMap, ...] = ()
    segmentations: tuple[Segmentation, ...] = ()


@dataclass(frozen=True, slots=True)
class Handler:
    """One AI application.

    Parameters
    ----------
    name
        The file's name without ``.py``; rules and results use it.
    version, manufacturer, basis, parameters
        What is printed with every result; `parameters` is the operating point in words.
    template
        Report template in ``sr_templates/``.
    terms
        Series it takes.
    models
        Names of the models it needs, each a folder in ``models/``.
    analyse
        Takes the Study (only the Series it was given) and the loaded models, returns a `Reading`;
        raises `NotEvaluableError` with the reason when a gate refuses.
    not_looked_at
        Keys in the template's ``[limits]``: what it does not look at.
    time_limit_s, memory_limit_mb
        Its child process is stopped beyond these.
    """

    name: str
    version: str
    manufacturer: str
    basis: Basis
    template: str
    terms: Terms
    analyse: Callable[[Study, Mapping[str, Model]], Reading]
    models: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    not_looked_at: tuple[str, ...] = ()
    time_limit_s: float = 300.0
    memory_limit_mb: int = 8192
