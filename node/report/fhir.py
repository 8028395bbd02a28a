"""The result as a FHIR R4 transaction: one report, an observation for each finding and each of its numbers.

Every resource is created only if the server does not know its identifier, so that sending it again changes nothing,
not even a report that a person has made final meanwhile. Identifiers and references depend on the content alone.

References
----------
HL7 FHIR R4 (4.0.1): http.html#transaction, http.html#ccreate, diagnosticreport.html, observation.html.
"""

import base64
from dataclasses import dataclass
from datetime import UTC

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError
from pydicom.sr.codedict import codes

from node import __version__
from node.dicom.uid import derive_uid
from node.domain.codes import Code
from node.domain.statement import StatedFinding, StatedMeasurement, Statement
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report.concepts import of_dictionary
from node.report.fhir_parts import (
    UID_SYSTEM,
    URI_SYSTEM,
    accession,
    coded,
    date,
    identifier,
    known_as,
    meta,
    names,
    of_hl7,
    patient_identifiers,
    quantity,
    same_uuid,
    without_nothing,
)
from node.report.plain import plain_text
from node.report.result_json import Json, Subject, content_digest, encode
from node.report.words import WORDS

__all__ = ["result_fhir"]

PERCENT = Code("%", "UCUM", "percent")
PLAIN_NUMBER = Code("1", "UCUM", "no units")


def result_fhir(statement: Statement, subject: Subject) -> tuple[str, bytes]:
    """Make the transaction.

    Returns
    -------
    Its id, a UID that depends on all that it says, and its bytes: JSON in UTF-8.

    Raises
    ------
    ReportError
        If it is not valid FHIR, which names elements and never their values.
    """
    result_id = derive_uid("result", OutputKind.FHIR.value, content_digest(statement, subject), __version__)
    document = _Transaction(statement, subject, result_id).bundle()
    try:
        Bundle.model_validate(document)
    except ValidationError as error:
        places = sorted({".".join(map(str, one["loc"])) for one in error.errors(include_input=False)})
        raise ReportError(f"the result is not valid FHIR: see {', '.join(places[:5])}") from None
    return result_id, encode(document)


@dataclass(frozen=True, slots=True)
class _Transaction:
    """The resources of one result; each knows the others by the ``urn:uuid:`` that it has in the bundle."""

    statement: Statement
    subject: Subject
    result_id: str

    def bundle(self) -> dict[str, Json]:
        observations = [entry for finding in self.statement.findings for entry in self._finding(finding)]
        entries = [self._patient(), self._device(), self._imaging_study(), *observations, self._report()]
        return {
            "resourceType": "Bundle",
            "id": self.result_id,
            "identifier": identifier(self.result_id),
            "type": "transaction",
            "timestamp": self._made_at,
            "entry": entries,
        }

    @property
    def _made_at(self) -> str:
        return self.statement.made_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _url(self, *parts: str) -> str:
        return same_uuid("fhir", self.result_id, *parts)

    def _to(self, *parts: str) -> Json:
        return {"reference": self._url(*parts)}

    def _uid(self, *parts: str) -> str:
        return derive_uid("fhir", self.result_id, *parts)

    def _entry(self, resource: dict[str, Json], query: str, *parts: str) -> Json:
        """One resource, created only if the query finds none."""
        return {
            "fullUrl": self._url(*parts),
            "resource": without_nothing(resource),
            "request": {"method": "POST", "url": str(resource["resourceType"]), "ifNoneExist": query},
        }

    def _patient(self) -> Json:
        subject = self.subject
        study_instance_uid = subject.order.study_instance_uid
        found, query = patient_identifiers(subject.patient, study_instance_uid, subject.patient_id_system)
        resource: dict[str, Json] = {
            "resourceType": "Patient",
            "identifier": found,
            "name": names(subject.patient.name),
        }
        return self._entry(resource, query, "patient")

    def _device(self) -> Json:
        """The algorithm: the same for every result of this version with these weights and this operating point."""
        algorithm = self.statement.algorithm
        uid = derive_uid("algorithm", repr(algorithm))
        notes = [f"{name} {value}" for name, value in algorithm.parameters]
        notes += [f"weights SHA-256 {algorithm.weights_sha256}"] if algorithm.weights_sha256 else []
        notes.append(f"run by Wetread {self.subject.node_version} on {algorithm.device}")
        resource: dict[str, Json] = {
            "resourceType": "Device",
            "identifier": [identifier(uid)],
            "status": "active",
            "manufacturer": algorithm.manufacturer,
            "deviceName": [{"name": algorithm.name, "type": "manufacturer-name"}],
            "type": {"text": f"AI algorithm, {algorithm.basis.value}"},
            "version": [{"value": algorithm.version}],
            "note": [{"text": note} for note in notes],
        }
        return self._entry(resource, known_as(URI_SYSTEM, f"urn:oid:{uid}"), "device")

    def _imaging_study(self) -> Json:
        order = self.subject.order
        value = f"urn:oid:{order.study_instance_uid}"
        found: list[Json] = [{"system": UID_SYSTEM, "value": value}]
        found += [accession(order.accession_number)] if order.accession_number.strip() else []
        resource: dict[str, Json] = {
            "resourceType": "ImagingStudy",
            "identifier": found,
            "status": "available",
            "subject": self._to("patient"),
            "started": date(order.study_date),
            "description": order.study_description.strip(),
        }
        return self._entry(resource, known_as(UID_SYSTEM, value), "study")

    def _observation(self, finding: StatedFinding, *parts: str) -> dict[str, Json]:
        """What the observation of a finding and those of its numbers have in common."""
        tracked: Json = {
            "use": "secondary",
            "type": {"text": "Tracking Unique Identifier"},
            "system": UID_SYSTEM,
            "value": f"urn:oid:{finding.tracking_uid}",
        }
        sides = [code.meaning for code in (finding.site, finding.laterality) if code is not None]
        return {
            "resourceType": "Observation",
            "meta": meta(),
            "language": self._language,
            "identifier": [identifier(self._uid(*parts)), tracked],
            "status": "preliminary",
            "category": [{"coding": [of_hl7("observation-category", "imaging", "Imaging")]}],
            "subject": self._to("patient"),
            "effectiveDateTime": date(self.subject.order.study_date),
            "issued": self._made_at,
            "bodySite": None if finding.site is None else coded(finding.site, ", ".join(sides)),
            "device": self._to("device"),
            "derivedFrom": [self._to("study")],
        }

    @property
    def _language(self) -> str:
        return WORDS[self.statement.language].language_code

    def _finding(self, finding: StatedFinding) -> list[Json]:
        """The finding, and its numbers as its members."""
        key = finding.finding_id
        numbers = [self._number(finding, item, str(index)) for index, item in enumerate(finding.measurements, start=1)]
        abnormal = of_hl7("v3-ObservationInterpretation", "A", "Abnormal")
        resource = self._observation(finding, key) | {
            "code": coded(of_dictionary(codes.DCM.Finding)),
            "valueCodeableConcept": coded(finding.concept, finding.label),
            "interpretation": [{"coding": [abnormal]}] if finding.is_abnormal else None,
            "note": [{"text": finding.sentence}],
            "hasMember": [self._to(key, str(index)) for index in range(1, len(numbers) + 1)],
            "component": self._components(finding),
        }
        return [*numbers, self._entry(resource, self._known(key), key)]

    def _number(self, finding: StatedFinding, item: StatedMeasurement, index: str) -> Json:
        parts = (finding.finding_id, index)
        resource = self._observation(finding, *parts) | {
            "code": coded(item.concept, item.label),
            "valueQuantity": quantity(item.value, item.unit),
            "method": {"text": item.method.strip()} if item.method.strip() else None,
        }
        return self._entry(resource, self._known(*parts), *parts)

    def _known(self, *parts: str) -> str:
        return known_as(URI_SYSTEM, f"urn:oid:{self._uid(*parts)}")

    def _components(self, finding: StatedFinding) -> list[Json]:
        """Side, certainty and score, each if there is one."""
        found: list[Json] = []
        if finding.laterality is not None:
            side = of_dictionary(codes.SCT.Laterality)
            found.append({"code": coded(side), "valueCodeableConcept": coded(finding.laterality)})
        if finding.certainty is not None:
            percent = 100.0 * finding.certainty.probability
            concept = of_dictionary(codes.DCM.CertaintyOfFinding)
            found.append({"code": coded(concept), "valueQuantity": quantity(percent, PERCENT)})
        if finding.score is not None:
            score: Json = {"text": "score of the detector, not a probability"}
            found.append({"code": score, "valueQuantity": quantity(finding.score, PLAIN_NUMBER)})
        return found

    def _report(self) -> Json:
        statement, order = self.statement, self.subject.order
        words = WORDS[statement.language]
        said = [statement.conclusion, words.correction if statement.is_correction else "", statement.responsibility]
        ordered: Json = {"type": "ServiceRequest", "identifier": accession(order.accession_number)}
        text: Json = {
            "contentType": "text/plain; charset=utf-8",
            "language": self._language,
            "data": base64.b64encode(plain_text(statement).encode()).decode("ascii"),
            "title": statement.title,
        }
        resource: dict[str, Json] = {
            "resourceType": "DiagnosticReport",
            "meta": meta(),
            "language": self._language,
            "identifier": [identifier(self.result_id)],
            "basedOn": [ordered] if order.accession_number.strip() else None,
            "status": "preliminary",
            "category": [{"coding": [of_hl7("v2-0074", "RAD", "Radiology")]}],
            "code": coded(of_dictionary(codes.LN.DiagnosticImagingReport), statement.title),
            "subject": self._to("patient"),
            "effectiveDateTime": date(order.study_date),
            "issued": self._made_at,
            "result": [self._to(finding.finding_id) for finding in statement.findings],
            "imagingStudy": [self._to("study")],
            "conclusion": words.gap.join(part for part in said if part),
            "conclusionCode": [coded(statement.summary)],
            "presentedForm": [text],
        }
        return self._entry(resource, known_as(URI_SYSTEM, f"urn:oid:{self.result_id}"), "report")
