"""What a site decides, as records: one for each table of `config.toml`, with what holds when a key is left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.domain.work import OutputKind, Priority

__all__ = [
    "SECTIONS",
    "CompleteSettings",
    "Condition",
    "DeliverSettings",
    "Destination",
    "DicomDestination",
    "DicomSettings",
    "EngineSettings",
    "Hl7Destination",
    "InferSettings",
    "LogSettings",
    "Peer",
    "ReportSettings",
    "Rule",
    "Settings",
    "StoreSettings",
]

DICOM_KINDS = tuple(kind for kind in OutputKind if kind.is_dicom)


@dataclass(frozen=True, slots=True)
class Peer:
    """A sender that may open an Association: AE title ("*" for any) and address or network ("*" for any)."""

    ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """The front door; `receiver` is ``own`` or, to fall back on, ``pynetdicom``."""

    receiver: str = "own"
    ae_title: str = "WETREAD"
    host: str = "127.0.0.1"
    port: int = 11112
    allowed_peers: tuple[Peer, ...] = (Peer("*", "127.0.0.0/8"), Peer("*", "::1"))
    accept_private_sop_classes: bool = True
    max_associations: int = 100
    max_associations_per_address: int = 40
    acse_timeout_s: float = 10.0
    network_timeout_s: float = 60.0
    max_pdu_bytes: int = 131072


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where bytes and rows are kept, and when the node refuses more."""

    path: Path = Path("store")
    refuse_below_free_mb: int = 2048


@dataclass(frozen=True, slots=True)
class CompleteSettings:
    """When a Study is taken to be whole."""

    quiet_s: float = 60.0
    after_release_s: float = 5.0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The durable engine; an empty `url` means a SQLite file inside the store."""

    url: str = ""
    executor_id: str = "worker-1"
    sweep_every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class InferSettings:
    """Limits of the child processes that decode and infer."""

    children: int = 1
    max_time_s: float = 600.0
    max_memory_mb: int = 8192
    attempts: int = 3
    threads: int = 2


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """What is written on every result."""

    language: str = "en"
    institution: str = ""
    station_name: str = "WETREAD"
    heat_map_when_negative: bool = False


@dataclass(frozen=True, slots=True)
class DeliverSettings:
    """Patience towards destinations."""

    first_retry_s: float = 5.0
    max_retry_s: float = 900.0
    give_up_after_h: float = 72.0


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The log: `format` is ``text`` or ``json``."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class DicomDestination:
    """A PACS that takes result objects by C-STORE."""

    name: str
    host: str
    port: int
    ae_title: str
    objects: tuple[OutputKind, ...] = DICOM_KINDS
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Hl7Destination:
    """A RIS that takes ORU^R01 over MLLP."""

    name: str
    host: str
    port: int
    receiving_application: str = "RIS"
    receiving_facility: str = ""
    sending_application: str = "WETREAD"
    sending_facility: str = ""
    character_set: str = "UNICODE UTF-8"
    accession_as_filler: bool = False
    ack_timeout_s: float = 30.0


Destination = DicomDestination | Hl7Destination


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule: a DICOM keyword and what its value must be.

    Exactly one of the four forms is used: `any_of` (equality or list), `minimum` / `maximum`
    (range, inclusive), `matches` (regular expression, searched in the text), `is_present`.
    """

    keyword: str
    any_of: tuple[str | int | float, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    matches: str | None = None
    is_present: bool | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Which Series go to which handler, how urgently, and where the results go."""

    name: str
    handler: str
    when: tuple[Condition, ...] = ()
    priority: Priority = Priority.ROUTINE
    destinations: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a site decides; passed down in slices by ``app.py``."""

    dicom: DicomSettings = DicomSettings()
    store: StoreSettings = StoreSettings()
    complete: CompleteSettings = CompleteSettings()
    engine: EngineSettings = EngineSettings()
    infer: InferSettings = InferSettings()
    report: ReportSettings = ReportSettings()
    deliver: DeliverSettings = DeliverSettings()
    log: LogSettings = LogSettings()
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()


SECTIONS: Mapping[str, type] = {
    "dicom": DicomSettings,
    "store": StoreSettings,
    "complete": CompleteSettings,
    "engine": EngineSettings,
    "infer": InferSettings,
    "report": ReportSettings,
    "deliver": DeliverSettings,
    "log": LogSettings,
}
