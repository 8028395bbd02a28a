"""What must hold in the HL7 tables, and the small vocabulary in which a site says what goes into which field.

``fields = { "OBR-3" = "accession", "PID-3.4" = "literal:HOSP" }``: a target is a field of MSH, PID, PV1, ORC or OBR,
or one component or subcomponent of it; a source is one of `SOURCES`. Nothing is evaluated.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from node.settings.reader import Reader
from node.settings.records import FieldRule, Hl7Destination, Hl7Settings

__all__ = ["ACCESSION_FIELDS", "LITERAL", "SETTABLE", "SOURCES", "VERSIONS", "check_listener", "hl7_destination"]

VERSIONS = ("2.5.1", "2.3.1")
CODED_TYPES = ("CE", "CWE")
ACKNOWLEDGEMENTS = ("original", "commit", "enhanced")
ACCESSION_FIELDS = ("IPC-1", "OBR-18", "OBR-19", "OBR-20", "OBR-2", "OBR-3", "ORC-2", "ORC-3")
LITERAL = "literal"
SOURCES: Mapping[str, str] = {
    "accession": "Accession Number of the images",
    "placer": "placer order number: of the images, else of the order",
    "filler": "filler order number: of the images, else of the order",
    "patient_id": "Patient ID of the images",
    "issuer": "Issuer of Patient ID of the images",
    "study_uid": "Study Instance UID of the images",
    "study_description": "Study Description of the images",
    "procedure_code": "code value of what was requested or performed",
    "procedure_meaning": "code meaning of the same",
    "procedure_scheme": "coding scheme of the same",
    "indication": "relevant clinical information of the order",
    "reason": "reason for the study of the order",
    "ordering_provider": "who ordered, with all components, of the order",
    "referring_physician": "Referring Physician's Name of the images, alphabetic",
    "patient_class": "patient class of the order, or of the patient's last ADT message",
    "location": "patient location, with all components, of the same",
    "title": "title of the report",
    "algorithm": "name of the algorithm",
    "algorithm_version": "version of the algorithm",
    "empty": "nothing: the field is left out",
}
# What a site may fill, by version: what says which message this is, how it is written and how far a result has come
# stays ours (MSH-1, 2, 7, 9, 10, 12, 15, 16, 18; PID-1; ORC-1; OBR-1, 22, 25; every OBX).
LAST_FIELD = {  # HL7 v2.5.1 and v2.3.1, appendix A
    "2.5.1": {"MSH": 21, "PID": 39, "PV1": 52, "ORC": 31, "OBR": 50},
    "2.3.1": {"MSH": 20, "PID": 30, "PV1": 52, "ORC": 24, "OBR": 45},
}
OURS = {
    "MSH": frozenset({1, 2, 7, 9, 10, 12, 15, 16, 18}),
    "PID": frozenset({1}),
    "PV1": frozenset({1}),
    "ORC": frozenset({1}),
    "OBR": frozenset({1, 22, 25}),
}
SETTABLE: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    version: {name: tuple(n for n in range(1, last + 1) if n not in OURS[name]) for name, last in fields.items()}
    for version, fields in LAST_FIELD.items()
}
TARGET = re.compile(r"([A-Z][A-Z0-9]{2})-([1-9][0-9]?)(?:\.([1-9][0-9]?)(?:\.([1-9][0-9]?))?)?")
MOST_COMPONENTS = 24  # no data type of either version has more
LONGEST_LITERAL = 250


def hl7_destination(reader: Reader, where: str, table: Mapping[str, Any]) -> Hl7Destination:
    """A RIS from its table, with the paths of its certificates starting at the site's folder.

    Raises
    ------
    ConfigError
        With the line of the key, field or source that is not what it must be.
    """
    name, version = str(table["name"]), table.get("version", VERSIONS[0])
    fields = table.get("fields", {})
    if version not in VERSIONS:
        message = f"[{where}] version must be one of {', '.join(VERSIONS)}, found {version!r}"
        raise reader.error(message, name, "version")
    if not isinstance(fields, Mapping):
        raise reader.error(f"[{where}] fields must be a table, found {fields!r}", name, "fields")
    rules = tuple(_rule(reader, name, version, target, source) for target, source in fields.items())
    found = reader.record(Hl7Destination, where, {**table, "fields": rules})
    for key, allowed in (("coded_type", CODED_TYPES), ("acknowledgement", ACKNOWLEDGEMENTS)):
        if getattr(found, key) not in allowed:
            message = f"[{where}] {key} must be one of {', '.join(allowed)}, found {getattr(found, key)!r}"
            raise reader.error(message, name, key)
    if found.version == "2.3.1" and found.coded_type == "CWE":  # HL7 v2.3.1 table 0125 has no CWE
        raise reader.error(f'[{where}] version 2.3.1 knows no CWE; coded_type must be "CE"', name, "coded_type")
    if found.tls and not found.tls_authorities:
        raise reader.error(f"[{where}] tls needs tls_authorities, the certificates to know the RIS by", name)
    return replace(
        found,
        tls_authorities=_resolved(reader, found.tls_authorities),
        tls_certificate=_resolved(reader, found.tls_certificate),
        tls_key=_resolved(reader, found.tls_key),
    )


def _rule(reader: Reader, name: str, version: str, target: str, source: object) -> FieldRule:
    where = f"destinations.{name}"
    parts = TARGET.fullmatch(target)
    known = SETTABLE[version]
    if parts is None:
        raise reader.error(
            f"[{where}] fields: {target!r} is no field; one is written OBR-3, PID-3.4 or PID-3.4.1", name, target
        )
    segment, number = parts[1], int(parts[2])
    component, subcomponent = int(parts[3] or 0), int(parts[4] or 0)
    if segment not in known or number not in known[segment]:
        message = f"[{where}] fields: {target} of version {version} is not one that a site fills; see docs/hl7.md"
        raise reader.error(message, name, target)
    if max(component, subcomponent) > MOST_COMPONENTS:
        raise reader.error(f"[{where}] fields: {target}: no field has so many components", name, target)
    kind, separator, text = source.partition(":") if isinstance(source, str) else ("", "", "")
    if kind == LITERAL and separator and 0 < len(text) <= LONGEST_LITERAL and text.isprintable():
        return FieldRule(segment, number, component, subcomponent, LITERAL, text)
    if source not in SOURCES:
        sources = ", ".join(SOURCES)
        message = f"[{where}] fields: {target} = {source!r} is no source; known are {sources}, {LITERAL}:TEXT"
        raise reader.error(message, name, target)
    return FieldRule(segment, number, component, subcomponent, kind)


def check_listener(reader: Reader, hl7: Hl7Settings) -> Hl7Settings:
    """The same with paths that start at the site's folder.

    Raises
    ------
    ConfigError
        With the line of the key that cannot stay as it is.
    """
    for address in hl7.allowed_peers:
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError as error:
            raise reader.error(f"[hl7] allowed_peers: {address!r} is no address or network", "hl7", address) from error
    for one in hl7.accession:
        if one not in ACCESSION_FIELDS:
            message = f"[hl7] accession: {one!r} is none of {', '.join(ACCESSION_FIELDS)}"
            raise reader.error(message, "hl7", "accession")
    if not hl7.accession:
        raise reader.error("[hl7] accession must name at least one field", "hl7", "accession")
    for key in ("tls_certificate", "tls_key"):
        if hl7.tls and not getattr(hl7, key):
            raise reader.error(f"[hl7] tls needs a {key}", "hl7", "tls")
    return replace(
        hl7,
        tls_certificate=_resolved(reader, hl7.tls_certificate),
        tls_key=_resolved(reader, hl7.tls_key),
        tls_authorities=_resolved(reader, hl7.tls_authorities),
    )


def _resolved(reader: Reader, path: str) -> str:
    return str((reader.path.parent / path).resolve()) if path else ""
