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

from node.dicom.pixels import read_image
from node.dicom.stack import stack
from node.domain.algorithm import Basis
from node.domain.codes import Code
from node.domain.findings import Certainty, Finding, HeatMap, Measurement, Region, Segmentation, Tier
from node.domain.models import ModelCard, Tensor
from node.domain.study import HeaderValue, Instance, Series, Study
from node.domain.volume import Image, Mask, Volume, voxel_volume_ml
from node.errors import GeometryError, NotEvaluableError, PixelError

__all__ = [
    "Basis",
    "Certainty",
    "Code",
    "Finding",
    "GeometryError",
    "Handler",
    "HeaderValue",
    "HeatMap",
    "Image",
    "Instance",
    "Mask",
    "Measurement",
    "Model",
    "ModelCard",
    "NotEvaluableError",
    "PixelError",
    "Reading",
    "Region",
    "Segmentation",
    "Series",
    "Study",
    "Tensor",
    "Terms",
    "Tier",
    "Volume",
    "read_image",
    "stack",
    "voxel_volume_ml",
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
