"""Work on a Study as it moves from route to receipt."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from pathlib import Path

__all__ = [
    "STANDARD_KINDS",
    "Assignment",
    "DeliveryState",
    "Output",
    "OutputKind",
    "Priority",
    "Receipt",
    "Report",
]


class Priority(IntEnum):
    """Which work starts first; lower goes first."""

    STAT = 1
    URGENT = 10
    ROUTINE = 100


class OutputKind(StrEnum):
    """The forms in which a result leaves the node."""

    MEASUREMENT_SR = "measurement_sr"
    TEXT_SR = "text_sr"
    HEAT_MAP = "heat_map"
    SEGMENTATION = "segmentation"
    STUDY_SR = "study_sr"
    HEAT_MAP_FRAMES = "heat_map_frames"
    KEY_OBJECTS = "key_objects"
    PRESENTATION_STATE = "presentation_state"
    PARAMETRIC_MAP = "parametric_map"
    PDF = "pdf"
    ORU = "oru"
    JSON = "json"
    FHIR = "fhir"

    @property
    def is_dicom(self) -> bool:
        """True for everything that goes to a PACS."""
        return self not in MESSAGES

    @property
    def has_words(self) -> bool:
        """True for a form with sentences in one language; the others read the same everywhere."""
        return self not in WORDLESS


MESSAGES = frozenset({OutputKind.ORU, OutputKind.JSON, OutputKind.FHIR})
WORDLESS = frozenset(
    {OutputKind.MEASUREMENT_SR, OutputKind.STUDY_SR, OutputKind.SEGMENTATION, OutputKind.PARAMETRIC_MAP}
)
STANDARD_KINDS = (OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR, OutputKind.HEAT_MAP, OutputKind.SEGMENTATION)
"""What a PACS gets that asks for nothing else."""


class DeliveryState(StrEnum):
    """How far one output is on its way to one destination; moves forward only, unless a person sends it again."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    VERIFIED = "verified"
    DEAD_LETTER = "dead_letter"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Assignment:
    """A Study given to a handler.

    `assignment_id` is derived from Study, generation and handler, so the same Study is never given
    twice. `series_uids` are the Series that the rule and the handler's own terms took.
    """

    assignment_id: str
    study_instance_uid: str
    generation: int
    handler: str
    rule: str
    priority: Priority
    destinations: tuple[str, ...]
    series_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """One result object or message, its bytes on disk.

    `output_id` is the SOP Instance UID, MSH-10 for an ORU, a UID of its own for JSON and FHIR; `sha256` is over the
    whole file, and so is `digest`, which names a faster method; it is "" if the row is of before there was one.
    `language` is that of its sentences while a report is made, "" if it has none.
    """

    output_id: str
    kind: OutputKind
    path: Path
    sha256: str
    size_bytes: int
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""
    language: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that the node says about one Assignment."""

    assignment_id: str
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A destination's own word that it took an output.

    `answer` is its status in its own terms: ``0x0000`` for a C-STORE, ``AA`` for an ORU; it never
    holds patient data.
    """

    output_id: str
    destination: str
    answer: str
    received_at: datetime
