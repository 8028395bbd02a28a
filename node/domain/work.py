"""Work on a Study as it moves from route to receipt."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from pathlib import Path

__all__ = [
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
    ORU = "oru"

    @property
    def is_dicom(self) -> bool:
        """True for everything that goes to a PACS."""
        return self is not OutputKind.ORU


class DeliveryState(StrEnum):
    """How far one output is on its way to one destination; moves forward only."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DEAD_LETTER = "dead_letter"


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

    `output_id` is the SOP Instance UID, or MSH-10 for an ORU; `sha256` is over the whole file.
    """

    output_id: str
    kind: OutputKind
    path: Path
    sha256: str
    size_bytes: int
    sop_class_uid: str = ""
    transfer_syntax_uid: str = ""


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
