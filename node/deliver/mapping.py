"""What a site wants in other fields than we do: each rule puts one value into one place of a segment."""

from collections.abc import Iterable, Mapping

from node.domain.statement import Statement
from node.domain.study import Order, Patient
from node.network.er7 import NOTHING, Er7, components, escape
from node.settings import FieldRule
from node.settings.hl7 import LITERAL, SOURCES

__all__ = ["Fields", "apply_rules", "values_of"]

Fields = dict[int, Er7]
"""The fields of one segment, numbered as in the standard."""
Value = str | tuple[str, ...]
"""A text, or the components of a field."""
PATIENT_CLASS_UNKNOWN = Er7("U")  # HL7 table 0004; PV1-2 may not be empty
PATIENT_CLASS = 2


def values_of(statement: Statement, patient: Patient, order: Order) -> Mapping[str, Value]:
    """What each source of ``settings/hl7.py`` stands for in one message."""
    procedure = order.procedure
    values: dict[str, Value] = {
        "accession": order.accession_number,
        "placer": order.placer_order_number,
        "filler": order.filler_order_number,
        "patient_id": patient.patient_id,
        "issuer": patient.issuer,
        "study_uid": order.study_instance_uid,
        "study_description": order.study_description,
        "procedure_code": procedure.value if procedure else "",
        "procedure_meaning": procedure.meaning if procedure else "",
        "procedure_scheme": procedure.scheme if procedure else "",
        "indication": order.indication,
        "reason": order.reason,
        "ordering_provider": order.ordering_provider,
        "referring_physician": tuple(order.referring_physician.alphabetic.split("^")),
        "patient_class": order.patient_class,
        "location": order.location,
        "title": statement.title,
        "algorithm": statement.algorithm.name,
        "algorithm_version": statement.algorithm.version,
        "empty": "",
    }
    return {name: values[name] for name in SOURCES}  # a source that nobody fills is found here, not at a site


def apply_rules(
    segments: Mapping[str, Fields], rules: Iterable[FieldRule], values: Mapping[str, Value]
) -> dict[str, Fields]:
    """Put what the rules say into the segments; PV1 comes into being when a rule fills a field of it."""
    made = {name: dict(fields) for name, fields in segments.items()}
    for rule in rules:
        value: Value = rule.text if rule.source == LITERAL else values[rule.source]
        fields = made.setdefault(rule.segment, {})
        fields[rule.number] = _with(fields.get(rule.number, NOTHING), rule, value)
    if any(made.get("PV1", {}).values()):
        made["PV1"][PATIENT_CLASS] = made["PV1"].get(PATIENT_CLASS) or PATIENT_CLASS_UNKNOWN
    return made


def _with(field: Er7, rule: FieldRule, value: Value) -> Er7:
    """A field in which one place is another; a component is that of the first repetition."""
    if not rule.component:
        return escape(value.strip()) if isinstance(value, str) else components(*map(_plain, value))
    text = _plain(value if isinstance(value, str) else " ".join(filter(None, value)))
    first, *others = field.split("~")
    parts = first.split("^")
    parts += [""] * (rule.component - len(parts))
    if rule.subcomponent:
        inner = parts[rule.component - 1].split("&")
        inner += [""] * (rule.subcomponent - len(inner))
        inner[rule.subcomponent - 1] = text
        parts[rule.component - 1] = "&".join(inner).rstrip("&")
    else:
        parts[rule.component - 1] = text
    return Er7("~".join(("^".join(parts).rstrip("^"), *others)))


def _plain(text: str) -> Er7:
    return escape(text.strip())
