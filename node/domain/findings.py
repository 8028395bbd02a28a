"""What an algorithm found, before it becomes any particular object or message."""

from dataclasses import dataclass
from enum import StrEnum

from node.domain.algorithm import Algorithm
from node.domain.volume import Affine, Heat, Mask

__all__ = [
    "Analysis",
    "Certainty",
    "Finding",
    "HeatMap",
    "Measurement",
    "Region",
    "Segmentation",
    "Status",
    "Tier",
]


class Status(StrEnum):
    """The one-word outcome of an Analysis; "no findings" is not "normal"."""

    FINDINGS = "findings"
    NO_FINDINGS = "no_findings"
    NOT_EVALUABLE = "not_evaluable"
    FAILED = "failed"


class Tier(StrEnum):
    """How sure a calibrated model is; `REVIEW` asks for a person first."""

    HIGH = "high"
    MEDIUM = "medium"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Certainty:
    """A calibrated probability that a Finding is real, 0 to 1, and its tier; never for rule-based algorithms."""

    probability: float
    tier: Tier


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its unit and method.

    Parameters
    ----------
    quantity
        Key in the report template's ``[measurements]``, such as ``volume`` or ``long_axis``.
    value
        A finite Python float.
    unit
        UCUM code, such as ``ml``, ``mm``, ``1``.
    method
        One sentence on how it was measured, shown to people.
    """

    quantity: str
    value: float
    unit: str
    method: str = ""


@dataclass(frozen=True, slots=True)
class Region:
    """A closed outline on one source image.

    `points` are (column, row) with sub-pixel accuracy; DICOM's SCOORD convention: the top left
    *corner* of the top left pixel is (0, 0), so the centre of pixel (row r, column c) is
    (c + 0.5, r + 0.5) (PS3.3 C.18.6.1.1). The last point is not repeated. `frame_number` counts from 1 and is
    None for a single-frame image.
    """

    sop_instance_uid: str
    points: tuple[tuple[float, float], ...]
    frame_number: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found, the same in every object and message it appears in.

    Parameters
    ----------
    finding_id
        Unique within the Analysis and the same on every run over the same images, such as ``opacity-1``.
    kind
        Key in the report template's ``[findings]``, such as ``round_opacity``.
    laterality
        ``R``, ``L``, ``B`` or "" (PS3.3 Laterality, patient's side).
    is_abnormal
        False for a plain measurement of normal anatomy, such as a brain volume.
    score
        The detector's own score, with no claim of probability; None if it has none.
    qualities
        Keys in the report template's ``[qualities]``: what is said of it in words, such as ``upper_third``.
    """

    finding_id: str
    kind: str
    measurements: tuple[Measurement, ...] = ()
    regions: tuple[Region, ...] = ()
    laterality: str = ""
    is_abnormal: bool = True
    score: float | None = None
    certainty: Certainty | None = None
    qualities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Where the algorithm looked, on one source image.

    Parameters
    ----------
    sop_instance_uid
        The key image.
    heat
        ``float32[row, column]`` on the source grid, 0 to 1.
    background
        ``float32[row, column]`` on the source grid, 0 to 1: the image as its display VOI shows it.
    basis
        What the heat is, shown to people, such as ``segmentation probability`` or ``detector score``.
    score, threshold
        Peak of the heat that counts, and the value it is compared with.
    regions
        Outlines drawn over the overlay, with labels.
    spacing_mm
        (row, column) of the source grid, None when not real.
    frame_number
        Frame of the key image, counted from 1; None for a single-frame image.
    """

    sop_instance_uid: str
    heat: Heat
    background: Heat
    basis: str
    score: float
    threshold: float
    regions: tuple[tuple[Region, str], ...] = ()
    slice_label: str = ""
    spacing_mm: tuple[float, float] | None = None
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """A mask on the source grid of a Volume.

    `kind` is a key in the report template's ``[segments]``; `mask` is ``bool[slice, row, column]``;
    `sop_instance_uids` name the source slices in order, and `frame_numbers` the frame of each where they are
    frames of an enhanced image; `affine` is the Volume's.
    """

    kind: str
    mask: Mask
    affine: Affine
    sop_instance_uids: tuple[str, ...]
    finding_id: str = ""
    frame_numbers: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What one handler says about one Study.

    Parameters
    ----------
    status
        See `Status`; `reason` is required for not evaluable and failed.
    template
        Name of the report template in ``sr_templates/``.
    source_uids
        SOP Instance UIDs of every image that was read: the evidence.
    reason
        Why not evaluable or failed: one plain sentence in English; `reason_key` is its key in the
        template's ``[reasons]`` where the site's languages say it.
    not_looked_at
        Keys in the template's ``[limits]``: what this algorithm does not look at.
    """

    status: Status
    algorithm: Algorithm
    template: str
    source_uids: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    heat_maps: tuple[HeatMap, ...] = ()
    segmentations: tuple[Segmentation, ...] = ()
    reason: str = ""
    reason_key: str = ""
    not_looked_at: tuple[str, ...] = ()
