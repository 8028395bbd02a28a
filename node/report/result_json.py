"""The result as one JSON document: everything that is said, once, for programs; its schema is published beside it.

The document is described by ``result.schema.json``. Its findings have the ids and tracking UIDs of the Structured
Report; a number has its unit as UCUM code and as text; texts are in the language of the document.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from node.dicom.uid import derive_uid
from node.domain.codes import Code
from node.domain.findings import Region
from node.domain.statement import StatedFinding, StatedMeasurement, Statement
from node.domain.study import Order, Patient, PersonName
from node.domain.work import Output, OutputKind
from node.errors import ReportError
from node.report.words import WORDS

__all__ = ["SCHEMA", "Json", "Subject", "content_digest", "encode", "result_json"]

SCHEMA = Path(__file__).with_name("result.schema.json")
FORMAT, FORMAT_VERSION = "wetread-result", "1.0"

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom and what a result is about, and what made it.

    `generation` counts the revisions of the Study; `source_uids` are the images that were read; `objects` the DICOM
    objects of the same report; `patient_id_system` is the URI by which other systems know where the Patient ID is
    from, "" if the site names none.
    """

    patient: Patient
    order: Order
    generation: int
    source_uids: tuple[str, ...]
    objects: tuple[Output, ...]
    node_version: str
    station_name: str = ""
    institution: str = ""
    patient_id_system: str = ""


def result_json(statement: Statement, subject: Subject) -> tuple[str, bytes]:
    """Make the document.

    Returns
    -------
    Its ``result_id``, a UID that depends on all that it says, and its bytes in UTF-8.

    Raises
    ------
    ReportError
        If a text of the header cannot be written.
    """
    result_id = derive_uid("result", OutputKind.JSON.value, content_digest(statement, subject))
    return result_id, encode({"result_id": result_id, **_document(statement, subject)})


def content_digest(statement: Statement, subject: Subject) -> str:
    """SHA-256 over all that is said, the same for the same content."""
    return hashlib.sha256(encode(_document(statement, subject))).hexdigest()


def encode(document: Json) -> bytes:
    """JSON in UTF-8, with the keys in their order; ends with a line feed.

    Raises
    ------
    ReportError
        If a text cannot be written or a number is not finite.
    """
    try:
        return (json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode("utf-8")
    except ValueError as error:  # its words may quote a value
        raise ReportError(f"the result cannot be written as JSON: {type(error).__name__}") from None


def _document(statement: Statement, subject: Subject) -> dict[str, Json]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "language": WORDS[statement.language].language_code,
        "made_at": statement.made_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "verification": "unverified",
        "status": statement.status.value,
        "summary": _code(statement.summary),
        "generation": subject.generation,
        "is_correction": statement.is_correction,
        "title": statement.title,
        "conclusion": statement.conclusion,
        "reason": statement.reason,
        "responsibility": statement.responsibility,
        "limits": list(statement.limits),
        "recommendations": [
            {"text": one.text, "source": one.source, "finding_ids": list(one.finding_ids)}
            for one in statement.recommendations
        ],
        "findings": [_finding(finding) for finding in statement.findings],
        "patient": _patient(subject.patient),
        "study": _study(subject.order),
        "algorithm": _algorithm(statement),
        "node": {
            "name": "Wetread",
            "version": subject.node_version,
            "station_name": subject.station_name,
            "institution": subject.institution,
        },
        "images_read": list(subject.source_uids),
        "objects": [
            {"kind": one.kind.value, "sop_class_uid": one.sop_class_uid, "sop_instance_uid": one.output_id}
            for one in subject.objects
        ],
    }


def _finding(finding: StatedFinding) -> dict[str, Json]:
    certainty = finding.certainty
    return {
        "finding_id": finding.finding_id,
        "tracking_uid": finding.tracking_uid,
        "concept": _code(finding.concept),
        "category": _code(finding.category),
        "label": finding.label,
        "sentence": finding.sentence,
        "is_abnormal": finding.is_abnormal,
        "site": _code_or_none(finding.site),
        "laterality": _code_or_none(finding.laterality),
        "score": finding.score,
        "certainty": None
        if certainty is None
        else {"probability": certainty.probability, "tier": certainty.tier.value},
        "measurements": [_measurement(item) for item in finding.measurements],
        "regions": _regions(finding.regions),
    }


def _measurement(item: StatedMeasurement) -> dict[str, Json]:
    return {
        "concept": _code(item.concept),
        "label": item.label,
        "value": item.value,
        "unit": {"code": item.unit.value, "text": item.unit.meaning},
        "method": item.method,
    }


def _regions(regions: Iterable[Region]) -> list[Json]:
    return [
        {
            "sop_instance_uid": region.sop_instance_uid,
            "frame_number": region.frame_number,
            "points": [[float(column), float(row)] for column, row in region.points],
        }
        for region in regions
    ]


def _patient(patient: Patient) -> dict[str, Json]:
    return {
        "id": patient.patient_id,
        "issuer": patient.issuer,
        "name": _name(patient.name),
        "birth_date": patient.birth_date,
        "sex": patient.sex,
    }


def _name(name: PersonName) -> dict[str, Json]:
    return {"alphabetic": name.alphabetic, "ideographic": name.ideographic, "phonetic": name.phonetic}


def _study(order: Order) -> dict[str, Json]:
    return {
        "study_instance_uid": order.study_instance_uid,
        "accession_number": order.accession_number,
        "placer_order_number": order.placer_order_number,
        "filler_order_number": order.filler_order_number,
        "description": order.study_description,
        "date": order.study_date,
        "time": order.study_time,
        "procedure": _code_or_none(order.procedure),
    }


def _algorithm(statement: Statement) -> dict[str, Json]:
    algorithm = statement.algorithm
    return {
        "name": algorithm.name,
        "version": algorithm.version,
        "manufacturer": algorithm.manufacturer,
        "basis": algorithm.basis.value,
        "weights_sha256": algorithm.weights_sha256,
        "parameters": [{"name": name, "value": value} for name, value in algorithm.parameters],
        "device": algorithm.device,
    }


def _code(code: Code) -> dict[str, Json]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _code_or_none(code: Code | None) -> Json:
    return None if code is None else _code(code)
