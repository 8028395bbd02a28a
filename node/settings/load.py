"""What a site decides: `config.toml` and the environment, read once and checked before anything starts.

A misspelt table, key or environment section stops the start and names the line, because a setting
that is silently ignored is found out on the wrong day.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from node.errors import ConfigError
from node.settings.door import check_door, resolve_door
from node.settings.hl7 import check_listener, hl7_destination
from node.settings.reader import Reader, overlay_environment
from node.settings.records import (
    SECTIONS,
    Condition,
    Destination,
    DicomDestination,
    Hl7Destination,
    Hold,
    Rule,
    Settings,
)
from node.settings.way_tables import WAYS, way_destination

__all__ = ["load_settings"]

LANGUAGES = ("en", "zh")
HOUR = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")
DEVICES = ("auto", "cpu", "cuda", "tensorrt")
RECEIVERS = ("own", "pynetdicom")
LISTS = ("destinations", "rules", "holds")  # tables of the file that are not one record each


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
    return _settings(Reader(path, text), tables, environment)


def _settings(reader: Reader, tables: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    for name in tables:
        if name not in SECTIONS and name not in LISTS:
            raise reader.error(f"unknown table [{name}]; known are {', '.join((*SECTIONS, *LISTS))}", name)
    sections: dict[str, Any] = {
        name: reader.record(kind, name, tables.get(name, {})) for name, kind in SECTIONS.items()
    }
    destinations = {
        name: _destination(reader, name, table, environment) for name, table in tables.get("destinations", {}).items()
    }
    rules = tuple(_rule(reader, table, destinations) for table in tables.get("rules", []))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise reader.error(f"two rules are named {name!r}; a rule's name is how it is explained", "rules", name)
    holds = tuple(_hold(reader, table) for table in tables.get("holds", []))
    settings = Settings(destinations=destinations, rules=rules, holds=holds, **sections)
    _check_ranges(reader, settings)
    check_door(reader, settings.dicom)
    store = replace(settings.store, path=(reader.path.parent / settings.store.path).resolve())
    hl7 = check_listener(reader, settings.hl7)
    return replace(settings, store=store, dicom=resolve_door(settings.dicom, reader.path.parent), hl7=hl7)


def _destination(reader: Reader, name: str, table: Mapping[str, Any], environment: Mapping[str, str]) -> Destination:
    where = f"destinations.{name}"
    kind = table.get("kind")
    rest = {"name": name, **{key: value for key, value in table.items() if key != "kind"}}
    if not isinstance(kind, str) or kind not in ("dicom", "hl7", *WAYS):
        kinds = ", ".join(f'"{one}"' for one in ("dicom", "hl7", *WAYS))
        raise reader.error(f"[{where}] kind must be one of {kinds}, found {kind!r}", name, "kind")
    found: Destination
    if kind in WAYS:
        found, timeout = way_destination(reader, kind, rest, environment), "timeout_s"
    elif kind == "dicom":
        found, timeout = _dicom_destination(reader, where, rest), "timeout_s"
    else:
        found, timeout = hl7_destination(reader, where, rest), "ack_timeout_s"
    if found.language not in ("", *LANGUAGES):
        message = f"[{where}] language must be one of {', '.join(LANGUAGES)} or empty, found {found.language!r}"
        raise reader.error(message, name, "language")
    if not isinstance(found, DicomDestination | Hl7Destination):
        return found
    for key, low, high in (("port", 1, 65535), (timeout, 0.1, 3600)):
        if not low <= getattr(found, key) <= high:
            raise reader.error(f"[{where}] {key} must be {low} to {high}, found {getattr(found, key)}", name, key)
    try:
        found.host.encode("idna")  # what a socket does with it; an error there would come too late
    except UnicodeError as error:
        raise reader.error(f"[{where}] host is no name or address of a host: {found.host!r}", name, "host") from error
    return found


def _dicom_destination(reader: Reader, where: str, table: Mapping[str, Any]) -> DicomDestination:
    """One with the paths of its certificates starting at the site's folder."""
    found = reader.record(DicomDestination, where, table)
    if not all(kind.is_dicom for kind in found.objects):
        raise reader.error(f"[{where}] objects must be DICOM objects; a RIS is a destination of its own", found.name)
    if found.tls and not found.tls_authorities:
        raise reader.error(f"[{where}] tls needs tls_authorities, the certificates to know the PACS by", found.name)
    paths = (found.tls_authorities, found.tls_certificate, found.tls_key)
    authorities, certificate, key = (str(reader.path.parent / path) if path else "" for path in paths)
    return replace(found, tls_authorities=authorities, tls_certificate=certificate, tls_key=key)


def _rule(reader: Reader, table: Mapping[str, Any], destinations: Mapping[str, Destination]) -> Rule:
    required = table.get("requires", [])
    if not isinstance(required, list) or not all(isinstance(one, Mapping) and one for one in required):
        raise reader.error("requires must be a list of tables, each with conditions", "rules", "requires")
    conditions = {
        "when": _conditions(reader, table.get("when", {})),
        "requires": tuple(_conditions(reader, one) for one in required),
    }
    rule = reader.record(Rule, "rules", {**table, **conditions})
    if rule.most_wait_s is not None and not 0 <= rule.most_wait_s <= 86400:
        message = f"rule {rule.name!r}: most_wait_s must be 0 to 86400, found {rule.most_wait_s}"
        raise reader.error(message, "rules", rule.name, "most_wait_s")
    for name in rule.destinations:
        if name not in destinations:
            raise reader.error(
                f"rule {rule.name!r} sends to {name!r}, but there is no [destinations.{name}]", "rules", name
            )
    return rule


def _hold(reader: Reader, table: Mapping[str, Any]) -> Hold:
    hold = reader.record(Hold, "holds", table)
    for keyword in hold.keywords:
        reader.check_keyword(keyword)
    if not hold.keywords or not hold.words or not all(word.strip() for word in (*hold.words, *hold.unless)):
        raise reader.error(f"hold {hold.name!r} needs keywords and words, none of them empty", "holds", hold.name)
    return hold


def _conditions(reader: Reader, table: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple(_condition(reader, keyword, value) for keyword, value in table.items())


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
        ("dicom", "tls_port", 0, 65535),
        ("dicom", "processes", 1, 8),
        ("dicom", "max_associations", 1, 1000),
        ("dicom", "max_associations_per_address", 1, 1000),
        ("dicom", "acse_timeout_s", 1, 600),
        ("dicom", "network_timeout_s", 1, 3600),
        ("dicom", "max_pdu_bytes", 4096, 1048576),
        ("store", "refuse_below_free_mb", 0, 10_000_000),
        ("store", "accept_again_above_free_mb", 0, 10_000_000),
        ("store", "keep_days", 0, 36500),
        ("store", "free_below_mb", 0, 10_000_000),
        ("store", "keep_quarantine_days", 0, 36500),
        ("complete", "quiet_s", 0.5, 86400),
        ("complete", "after_release_s", 0.1, 86400),
        ("complete", "least_quiet_s", 0.5, 86400),
        ("complete", "most_quiet_s", settings.complete.least_quiet_s, 86400),
        ("complete", "most_wait_s", 0, 86400),
        ("engine", "sweep_every_s", 1, 3600),
        ("infer", "children", 1, 64),
        ("infer", "max_time_s", 1, 86400),
        ("infer", "max_memory_mb", 256, 1_000_000),
        ("infer", "attempts", 1, 10),
        ("infer", "threads", 1, 256),
        ("infer", "least_time_s", 1, 86400),
        ("infer", "warm_children", 0, 64),
        ("infer", "warm_for_s", 1, 604800),
        ("infer", "studies_per_child", 1, 1_000_000),
        ("infer", "max_growth_mb", 16, 1_000_000),
        ("hl7", "port", 0, 65535),
        ("hl7", "keep_days", 0, 36500),
        ("hl7", "max_connections", 1, 1000),
        ("hl7", "max_connections_per_address", 1, 1000),
        ("hl7", "max_message_kb", 16, 65536),
        ("hl7", "message_timeout_s", 1, 3600),
        ("hl7", "idle_timeout_s", 1, 604800),
        ("deliver", "first_retry_s", 0.1, 3600),
        ("deliver", "max_retry_s", 0.1, 86400),
        ("deliver", "give_up_after_h", 0.001, 8760),
        ("deliver", "verify_for_h", 0.001, 8760),
        ("deliver", "commitment_wait_s", 1, 86400),
    )
    for section, key, low, high in ranges:
        value = getattr(getattr(settings, section), key)
        if not low <= value <= high:
            raise reader.error(f"[{section}] {key} must be {low} to {high}, found {value}", section, key)
    for sender in settings.complete.senders:
        if not (1 <= sender.port <= 65535 and 0.1 <= sender.timeout_s <= 60):
            message = f"[complete] senders: {sender.ae_title}: port must be 1 to 65535 and timeout_s 0.1 to 60"
            raise reader.error(message, "complete", sender.ae_title)
    store = settings.store
    if 0 < store.accept_again_above_free_mb < store.refuse_below_free_mb:
        message = "[store] accept_again_above_free_mb must be 0 or at least refuse_below_free_mb"
        raise reader.error(message, "store", "accept_again_above_free_mb")
    if store.check_at and not HOUR.fullmatch(store.check_at):
        message = f'[store] check_at must be a time such as "02:30", or "", found {store.check_at!r}'
        raise reader.error(message, "store", "check_at")
    choices = (
        ("dicom", "receiver", RECEIVERS),
        ("infer", "device", DEVICES),
        ("report", "language", LANGUAGES),
        ("log", "format", ("text", "json")),
        ("log", "level", ("debug", "info", "warning", "error")),
    )
    for section, key, allowed in choices:
        value = getattr(getattr(settings, section), key)
        if value not in allowed:
            raise reader.error(f"[{section}] {key} must be one of {', '.join(allowed)}, found {value!r}", section, key)
