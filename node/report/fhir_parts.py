"""The small parts of FHIR resources: codes, quantities, identifiers, names. Nothing empty is ever written.

References
----------
HL7 FHIR R4 (4.0.1) datatypes.html; PS3.16 Table 8-1 (URIs of coding schemes); terminology.hl7.org.
"""

import re
import urllib.parse
import uuid

from node.dicom.uid import derive_uid, is_valid_uid
from node.domain.codes import Code
from node.domain.study import Patient, PersonName
from node.report.result_json import Json

__all__ = [
    "UID_SYSTEM",
    "URI_SYSTEM",
    "accession",
    "coded",
    "coding",
    "date",
    "identifier",
    "known_as",
    "meta",
    "names",
    "of_hl7",
    "patient_identifiers",
    "quantity",
    "same_uuid",
    "without_nothing",
]

URI_SYSTEM = "urn:ietf:rfc3986"  # identifier-registry.html: the value is itself a URI
UID_SYSTEM = "urn:dicom:uid"  # imagingstudy.html: the value is urn:oid: and the UID
SYSTEMS = {  # PS3.16 Table 8-1, HL7v3 and FHIR URI
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "RADLEX": "http://www.radlex.org",
    "UCUM": "http://unitsofmeasure.org",
}
REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
HL7 = "http://terminology.hl7.org/CodeSystem/"
AI_ASSERTED = ("v3-ObservationValue", "AIAST", "Artificial Intelligence asserted")
SPECIAL = re.compile(r"([\\|,$])")  # search.html#escaping


def without_nothing(fields: dict[str, Json]) -> dict[str, Json]:
    """The fields that say something; FHIR knows no empty value."""
    return {key: value for key, value in fields.items() if value is not None and value not in ("", [], {})}


def meta() -> Json:
    """The label that a machine asserted this."""
    return {"security": [of_hl7(*AI_ASSERTED)]}


def of_hl7(table: str, code: str, display: str) -> Json:
    """A code of HL7's own tables."""
    return {"system": f"{HL7}{table}", "code": code, "display": display}


def coding(code: Code) -> Json:
    """A coded concept; one of a scheme without a known URI says no system."""
    value, meaning = code.value.strip(), code.meaning.strip()
    return without_nothing({"system": SYSTEMS.get(code.scheme.strip()), "code": value, "display": meaning})


def coded(code: Code, text: str = "") -> Json:
    """A CodeableConcept, with the words of the report's language."""
    return without_nothing({"coding": [coding(code)], "text": text.strip()})


def quantity(value: float, unit: Code) -> Json:
    """A number with its unit, as UCUM code and as text."""
    return {"value": value, "unit": unit.meaning, "system": SYSTEMS["UCUM"], "code": unit.value}


def identifier(uid: str) -> Json:
    """A UID as the identifier of what it names."""
    return {"system": URI_SYSTEM, "value": f"urn:oid:{uid}"}


def accession(number: str) -> Json:
    """The accession number; who assigned it is not known."""
    return {"type": {"coding": [of_hl7("v2-0203", "ACSN", "Accession ID")]}, "value": number.strip()}


def same_uuid(*parts: str) -> str:
    """The ``urn:uuid:`` that always belongs to these parts."""
    return f"urn:uuid:{uuid.UUID(int=int(derive_uid(*parts).removeprefix('2.25.')))}"


def known_as(system: str, value: str) -> str:
    """The query for what has this identifier, as a conditional create asks it (http.html#ccreate)."""
    escaped = SPECIAL.sub(r"\\\1", value)
    return f"identifier={urllib.parse.quote(system, safe=':/')}|{urllib.parse.quote(escaped, safe=':/')}"


def patient_identifiers(patient: Patient, study_instance_uid: str, system: str) -> tuple[list[Json], str]:
    """How a patient is known, and the query that finds the same one.

    Where the namespace of the Patient ID has no URI, the patient is found by an identifier of ours alone: a bare
    number might be another patient's.
    """
    patient_id, issuer = patient.patient_id.strip(), patient.issuer.strip()
    if not system and is_valid_uid(issuer):
        system = f"urn:oid:{issuer}"
    who = (issuer, patient_id) if patient_id else ("", "", study_instance_uid)
    own = same_uuid("fhir patient", *who)
    found: list[Json] = [{"use": "secondary", "system": URI_SYSTEM, "value": own}]
    if patient_id:
        kind: Json = {"coding": [of_hl7("v2-0203", "MR", "Medical record number")]}
        assigner: Json = {"display": issuer} if issuer else None
        found.insert(
            0,
            without_nothing(
                {"use": "usual", "type": kind, "system": system, "value": patient_id, "assigner": assigner}
            ),
        )
    return found, known_as(system, patient_id) if system and patient_id else known_as(URI_SYSTEM, own)


def names(name: PersonName) -> list[Json]:
    """Each component group of a person name (PS3.5 6.2.1.2) as a name of its own."""
    groups = (("ABC", name.alphabetic), ("IDE", name.ideographic), ("SYL", name.phonetic))
    return [_name(group, representation) for representation, group in groups if group.replace("^", "").strip()]


def _name(group: str, representation: str) -> Json:
    parts = [part.strip() for part in group.split("^", 4)]
    family, given, middle, prefix, suffix = (*parts, *[""] * (5 - len(parts)))
    spoken: list[Json] = [part for part in (given, middle) if part]
    return without_nothing(
        {
            "extension": [{"url": REPRESENTATION, "valueCode": representation}],
            "text": " ".join(part for part in parts if part),
            "family": family,
            "given": spoken,
            "prefix": [prefix] if prefix else [],
            "suffix": [suffix] if suffix else [],
        }
    )


def date(text: str) -> str:
    """A DICOM date as FHIR writes it, "" if it is none."""
    if not re.fullmatch(r"[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])", text):
        return ""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"
