"""What a site decides, as records: one for each table of `config.toml`, with what holds when a key is left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.domain.work import STANDARD_KINDS, OutputKind, Priority
from node.settings.ways import FolderDestination, HttpDestination, OrthancDestination, StowDestination, Verify

__all__ = [
    "SECTIONS",
    "CompleteSettings",
    "Condition",
    "DeliverSettings",
    "Destination",
    "DicomDestination",
    "DicomSettings",
    "EngineSettings",
    "FieldRule",
    "Hl7Destination",
    "Hl7Settings",
    "Hold",
    "InferSettings",
    "LogSettings",
    "Peer",
    "ReportSettings",
    "Rule",
    "Sender",
    "Settings",
    "StoreSettings",
]


@dataclass(frozen=True, slots=True)
class Peer:
    """A sender that may open an Association: AE title ("*" for any) and address or network ("*" for any).

    With a `certificate` it must also come over TLS and show the certificate of this subject common name, or
    of this fingerprint: "sha256:" and 64 hexadecimal digits.
    """

    ae_title: str
    address: str
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """The front door; `receiver` is ``own`` or, to fall back on, ``pynetdicom``.

    `port` is without TLS and only open if `accept_plain`; a `tls_port` of 0 means no TLS. The paths are "" if
    there is no such file.
    """

    receiver: str = "own"
    ae_title: str = "WETREAD"
    host: str = "127.0.0.1"
    port: int = 11112
    accept_plain: bool = True
    tls_port: int = 0
    tls_certificate: str = ""
    tls_key: str = ""
    tls_authorities: str = ""
    processes: int = 1
    allowed_peers: tuple[Peer, ...] = (Peer("*", "127.0.0.0/8"), Peer("*", "::1"))
    accept_private_sop_classes: bool = True
    max_associations: int = 100
    max_associations_per_address: int = 40
    acse_timeout_s: float = 10.0
    network_timeout_s: float = 60.0
    max_pdu_bytes: int = 131072


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where bytes and rows are kept, and when the node refuses more.

    `accept_again_above_free_mb` 0 means a tenth more than `refuse_below_free_mb`. The days something is kept are
    counted from the last that happened to it; 0 keeps for ever, and a `free_below_mb` of 0 frees nothing.
    """

    path: Path = Path("store")
    refuse_below_free_mb: int = 2048
    accept_again_above_free_mb: int = 0
    sync: bool = True
    keep_days: int = 30
    free_below_mb: int = 4096
    keep_quarantine_days: int = 90
    check_at: str = "02:30"


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender that can be asked by C-FIND what it holds: its calling AE title, and where and how to call it.

    An empty `called_ae` is its calling AE title.
    """

    ae_title: str
    host: str
    port: int
    called_ae: str = ""
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class CompleteSettings:
    """When a Study is taken to be whole."""

    quiet_s: float = 60.0
    after_release_s: float = 5.0
    learn: bool = True
    least_quiet_s: float = 10.0
    most_quiet_s: float = 300.0
    most_wait_s: float = 1800.0
    senders: tuple[Sender, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The durable engine; an empty `url` means a SQLite file inside the store."""

    url: str = ""
    executor_id: str = "worker-1"
    sweep_every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class InferSettings:
    """Limits of the child processes that decode and infer.

    `device` is ``auto`` (a GPU if the build and the machine have one), ``cpu``, ``cuda`` or ``tensorrt``; the last two
    are an error where they are not there, and let the studies that are read at once share a child.
    """

    children: int = 1
    max_time_s: float = 600.0
    max_memory_mb: int = 8192
    attempts: int = 3
    threads: int = 2
    device: str = "auto"
    least_time_s: float = 60.0
    warm_children: int = 2
    warm_for_s: float = 900.0
    studies_per_child: int = 200
    max_growth_mb: int = 512


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """What is written on every result.

    With `resend_after_late_order` a RIS gets its message again when an order comes after it was made.
    """

    language: str = "en"
    institution: str = ""
    station_name: str = "WETREAD"
    heat_map_when_negative: bool = False
    patient_id_system: str = ""
    resend_after_late_order: bool = False


@dataclass(frozen=True, slots=True)
class DeliverSettings:
    """Patience towards destinations: until they take an output, and until they say that they have it for good.

    `commitment_wait_s` is how long a PACS that was asked for storage commitment may take to report.
    """

    first_retry_s: float = 5.0
    max_retry_s: float = 900.0
    give_up_after_h: float = 72.0
    verify_for_h: float = 24.0
    commitment_wait_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Hl7Settings:
    """The ear for orders: who may send HL7 messages over MLLP, and what of them is kept.

    `port` 0 means that nobody is listened to. `accession` are the fields that may hold the accession number, best
    first. An order is forgotten `keep_days` after it came; 0 keeps for ever.
    """

    port: int = 0
    host: str = "127.0.0.1"
    allowed_peers: tuple[str, ...] = ("127.0.0.0/8", "::1")
    application: str = "WETREAD"
    facility: str = ""
    character_set: str = "UNICODE UTF-8"
    accession: tuple[str, ...] = ("IPC-1", "OBR-18")
    keep_days: int = 90
    max_connections: int = 32
    max_connections_per_address: int = 16
    max_message_kb: int = 1024
    message_timeout_s: float = 30.0
    idle_timeout_s: float = 3600.0
    tls: bool = False
    tls_certificate: str = ""
    tls_key: str = ""
    tls_authorities: str = ""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The log: `format` is ``text`` or ``json``."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class DicomDestination:
    """A PACS that takes result objects by C-STORE, over TLS if it says so; paths are "" if there is no such file.

    An empty `language` is that of `ReportSettings`.
    """

    name: str
    host: str
    port: int
    ae_title: str
    objects: tuple[OutputKind, ...] = STANDARD_KINDS
    language: str = ""
    timeout_s: float = 30.0
    tls: bool = False
    tls_authorities: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    verify: Verify = Verify.AUTO

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What a site puts into one field, component or subcomponent of a message; see ``settings/hl7.py``.

    `component` 0 is the whole field, `subcomponent` 0 the whole component; `source` is one of ``SOURCES``, or
    ``literal`` with the `text`.
    """

    segment: str
    number: int
    component: int
    subcomponent: int
    source: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Hl7Destination:
    """A RIS that takes ORU^R01 over MLLP; an empty `language` is that of `ReportSettings`.

    `acknowledgement` is ``original`` (one answer), ``commit`` or ``enhanced`` (a commit answer alone, or before the
    application's own). The paths are "" if there is no such file.
    """

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
    language: str = ""
    version: str = "2.5.1"
    coded_type: str = "CE"
    acknowledgement: str = "original"
    fields: tuple[FieldRule, ...] = ()
    tls: bool = False
    tls_authorities: str = ""
    tls_certificate: str = ""
    tls_key: str = ""

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{self.host}:{self.port}"


Destination = (
    DicomDestination | Hl7Destination | StowDestination | OrthancDestination | HttpDestination | FolderDestination
)


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
    """Which Series go to which handler, how urgently, and where the results go.

    Each of `requires` is met by a Series that meets all its conditions; a Study is waited for until every one is
    met, at most `most_wait_s` (that of `CompleteSettings` if None) after its last image.
    """

    name: str
    handler: str
    when: tuple[Condition, ...] = ()
    priority: Priority = Priority.ROUTINE
    destinations: tuple[str, ...] = ()
    comment: str = ""
    requires: tuple[tuple[Condition, ...], ...] = ()
    most_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Studies that are kept and not read, such as those of a phantom, until a person releases them.

    A study is held when one of `keywords` has one of `words`: a whole word whatever its case, Chinese anywhere.
    What stands in `unless` is taken out of the text before.
    """

    name: str
    keywords: tuple[str, ...]
    words: tuple[str, ...]
    unless: tuple[str, ...] = ()
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
    hl7: Hl7Settings = Hl7Settings()
    log: LogSettings = LogSettings()
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    holds: tuple[Hold, ...] = ()


SECTIONS: Mapping[str, type] = {
    "dicom": DicomSettings,
    "store": StoreSettings,
    "complete": CompleteSettings,
    "engine": EngineSettings,
    "infer": InferSettings,
    "report": ReportSettings,
    "deliver": DeliverSettings,
    "hl7": Hl7Settings,
    "log": LogSettings,
}
