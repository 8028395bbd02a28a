"""What was received: Patient, Study, Series, Instance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.domain.codes import Code

__all__ = ["HeaderValue", "Instance", "Order", "Patient", "PersonName", "Series", "Study"]

HeaderValue = str | int | float | list[str] | list[int] | list[float] | None
"""The value of one header attribute, as routing and handlers see it: text, number, a list, or absent."""


@dataclass(frozen=True, slots=True)
class PersonName:
    """The three component groups of a DICOM person name, each with ``^`` between its parts (PS3.5 6.2.1)."""

    alphabetic: str = ""
    ideographic: str = ""
    phonetic: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """Who the images are of, as the header says, in Unicode; empty where the header is.

    `birth_date` is ``YYYYMMDD``; `sex` is ``M``, ``F``, ``O`` or "".
    """

    patient_id: str
    issuer: str
    name: PersonName
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What was ordered, as the header says; a number the header lacks stays empty and is never invented.

    `study_date` is ``YYYYMMDD``, `study_time` ``HHMMSS``, both local to the modality. What stands last no header says:
    it is what an order message said, with the components of `ordering_provider` and `location`.
    """

    study_instance_uid: str
    accession_number: str = ""
    placer_order_number: str = ""
    filler_order_number: str = ""
    procedure: Code | None = None
    study_description: str = ""
    study_date: str = ""
    study_time: str = ""
    referring_physician: PersonName = PersonName()
    indication: str = ""
    reason: str = ""
    ordering_provider: tuple[str, ...] = ()
    patient_class: str = ""
    location: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored SOP Instance: where its bytes are and what they were when they came.

    `digest` is over the encoded dataset as it came over the wire, without the file meta header, and names its
    method, such as ``blake3:0f1e...``.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    path: Path
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Series:
    """The Instances of one Series, and the header its first image shows to rules and gates.

    `header` holds DICOM keywords of the first Instance (top level only, no pixels, no binary values).
    """

    series_instance_uid: str
    modality: str
    instances: tuple[Instance, ...]
    header: Mapping[str, HeaderValue] = field(default_factory=dict)

    @property
    def image_count(self) -> int:
        """How many images it holds, where each frame of a multi-frame image counts as one."""
        frames = self.header.get("NumberOfFrames")
        return len(self.instances) * (int(frames) if isinstance(frames, int | float) and frames > 1 else 1)


@dataclass(frozen=True, slots=True)
class Study:
    """A Study as it was when it was taken to be whole.

    `generation` counts from 1; images that come later make the next generation, which holds all
    Instances again.
    """

    study_instance_uid: str
    generation: int
    series: tuple[Series, ...]

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All Instances of all Series, in order."""
        return tuple(instance for series in self.series for instance in series.instances)
