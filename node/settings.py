"""What a site decides: `config.toml` and the environment, read once and checked before anything starts.

A misspelt table, key or environment section stops the start and names the line, because a setting
that is silently ignored is found out on the wrong day.
"""

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.domain.work import OutputKind, Priority
from node.errors import ConfigError
from node.settings_reader import Reader, overlay_environment

__all__ = [
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
    "load_settings",
]

LANGUAGES = ("en", "zh")
RECEIVERS = ("own", "pynetdicom")
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


def load_settings(path: Path, environment: Mapping[str, str]) -> Settings:
    """Read a site's decisions.

    Parameters
    ----------
    path
        The site's ``config.toml``. Relative paths in it start at its folder.
    environment
        ``WETREAD_<TABLE>__<KEY>`` overrides one key, such as ``WETREAD_DICOM__PORT=11113``.

    Raises
    ------
    ConfigError
        If the file cannot be parsed, or a table, key, environment section, value, keyword,
        destination or range is not what it must be; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    tables = overlay_environment(tables, environment, known=SECTIONS)
    return _settings(Reader(path, text), tables)


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


def _settings(reader: Reader, tables: Mapping[str, Any]) -> Settings:
    for name in tables:
        if name not in SECTIONS and name not in ("destinations", "rules"):
            raise reader.error(f"unknown table [{name}]; known are {', '.join(SECTIONS)}, destinations, rules", name)
    sections: dict[str, Any] = {
        name: reader.record(kind, name, tables.get(name, {})) for name, kind in SECTIONS.items()
    }
    destinations = {name: _destination(reader, name, table) for name, table in tables.get("destinations", {}).items()}
    rules = tuple(_rule(reader, table, destinations) for table in tables.get("rules", []))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise reader.error(f"two rules are named {name!r}; a rule's name is how it is explained", "rules", name)
    settings = Settings(destinations=destinations, rules=rules, **sections)
    _check_ranges(reader, settings)
    store = StoreSettings(
        path=(reader.path.parent / settings.store.path).resolve(),
        refuse_below_free_mb=settings.store.refuse_below_free_mb,
    )
    return Settings(destinations=destinations, rules=rules, **{**sections, "store": store})


def _destination(reader: Reader, name: str, table: Mapping[str, Any]) -> Destination:
    where = f"destinations.{name}"
    kind = table.get("kind")
    rest = {"name": name, **{key: value for key, value in table.items() if key != "kind"}}
    if kind not in ("dicom", "hl7"):
        raise reader.error(f'[{where}] kind must be "dicom" or "hl7", found {kind!r}', name, "kind")
    found: Destination
    if kind == "dicom":
        found, timeout = reader.record(DicomDestination, where, rest), "timeout_s"
    else:
        found, timeout = reader.record(Hl7Destination, where, rest), "ack_timeout_s"
    for key, low, high in (("port", 1, 65535), (timeout, 0.1, 3600)):
        if not low <= getattr(found, key) <= high:
            raise reader.error(f"[{where}] {key} must be {low} to {high}, found {getattr(found, key)}", name, key)
    try:
        found.host.encode("idna")  # what a socket does with it; an error there would come too late
    except UnicodeError as error:
        raise reader.error(f"[{where}] host is no name or address of a host: {found.host!r}", name, "host") from error
    return found


def _rule(reader: Reader, table: Mapping[str, Any], destinations: Mapping[str, Destination]) -> Rule:
    conditions = tuple(_condition(reader, keyword, value) for keyword, value in table.get("when", {}).items())
    rule = reader.record(Rule, "rules", {**table, "when": conditions})
    for name in rule.destinations:
        if name not in destinations:
            raise reader.error(
                f"rule {rule.name!r} sends to {name!r}, but there is no [destinations.{name}]", "rules", name
            )
    return rule


def _condition(reader: Reader, keyword: str, value: object) -> Condition:
    reader.check_keyword(keyword)
    if isinstance(value, Mapping):
        condition = reader.record(Condition, "rules.when", {"keyword": keyword, **value})
        if condition.matches is not None:
            reader.check_expression(keyword, condition.matches)
        return condition
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in values):
        raise reader.error(f"{keyword} must be a text, a number, a list of these or a table", "rules", keyword)
    return Condition(keyword=keyword, any_of=tuple(values))


def _check_ranges(reader: Reader, settings: Settings) -> None:
    ranges = (
        ("dicom", "port", 0, 65535),
        ("dicom", "max_associations", 1, 1000),
        ("dicom", "max_associations_per_address", 1, 1000),
        ("dicom", "acse_timeout_s", 1, 600),
        ("dicom", "network_timeout_s", 1, 3600),
        ("dicom", "max_pdu_bytes", 4096, 1048576),
        ("store", "refuse_below_free_mb", 0, 10_000_000),
        ("complete", "quiet_s", 0.5, 86400),
        ("complete", "after_release_s", 0.1, 86400),
        ("engine", "sweep_every_s", 1, 3600),
        ("infer", "children", 1, 64),
        ("infer", "max_time_s", 1, 86400),
        ("infer", "max_memory_mb", 256, 1_000_000),
        ("infer", "attempts", 1, 10),
        ("infer", "threads", 1, 256),
        ("deliver", "first_retry_s", 0.1, 3600),
        ("deliver", "max_retry_s", 0.1, 86400),
        ("deliver", "give_up_after_h", 0.001, 8760),
    )
    for section, key, low, high in ranges:
        value = getattr(getattr(settings, section), key)
        if not low <= value <= high:
            raise reader.error(f"[{section}] {key} must be {low} to {high}, found {value}", section, key)
    for peer in settings.dicom.allowed_peers:
        try:
            if peer.address != "*":
                ipaddress.ip_network(peer.address, strict=False)
        except ValueError as error:
            message = f"[dicom] allowed_peers: {peer.address!r} is no address or network"
            raise reader.error(message, "dicom", peer.address) from error
    if not 1 <= len(settings.dicom.ae_title.strip()) <= 16:  # PS3.5 6.2, VR AE
        raise reader.error("[dicom] ae_title must have 1 to 16 characters", "dicom", "ae_title")
    choices = (
        ("dicom", "receiver", RECEIVERS),
        ("report", "language", LANGUAGES),
        ("log", "format", ("text", "json")),
        ("log", "level", ("debug", "info", "warning", "error")),
    )
    for section, key, allowed in choices:
        value = getattr(getattr(settings, section), key)
        if value not in allowed:
            raise reader.error(f"[{section}] {key} must be one of {', '.join(allowed)}, found {value!r}", section, key)
