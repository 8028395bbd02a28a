"""What a site decides: `config.toml` and the environment, read once and checked before anything starts.

A misspelt table, key or environment section stops the start and names the line, because a setting
that is silently ignored is found out on the wrong day.
"""

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from node.errors import ConfigError
from node.settings.reader import Reader, overlay_environment
from node.settings.records import (
    SECTIONS,
    Condition,
    Destination,
    DicomDestination,
    Hl7Destination,
    Rule,
    Settings,
)

__all__ = ["load_settings"]

LANGUAGES = ("en", "zh")
RECEIVERS = ("own", "pynetdicom")


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
    store = replace(settings.store, path=(reader.path.parent / settings.store.path).resolve())
    return replace(settings, store=store)


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
