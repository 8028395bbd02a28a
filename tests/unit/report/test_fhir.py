"""The FHIR transaction: valid R4, whole in itself, and harmless when it is sent again."""

import base64
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given
from hypothesis import strategies as st

from node.domain.algorithm import Algorithm
from node.domain.codes import Code
from node.domain.findings import Status
from node.domain.statement import Statement
from node.domain.study import Order, Patient, PersonName
from node.errors import ReportError
from node.report.fhir import result_fhir
from node.report.fhir_parts import date
from node.report.result_json import Subject
from tests.unit.deliver.statements import LEARNED, OPACITY, ORDER, PATIENT, STATEMENT, WITH_CERTAINTY
from tests.unit.report.said import say
from tests.unit.report.studies import brain_analysis, film_analysis, film_study, mr_study, without_findings

SUBJECT = Subject(PATIENT, ORDER, 1, ("2.25.1.1",), (), "1.2.3", "WETREAD", "Example Hospital")
Resource = Mapping[str, Any]


def _bundle(statement: Statement, subject: Subject = SUBJECT) -> dict[str, Any]:
    """Read back by the library of others, and the same then as before."""
    _, content = result_fhir(statement, subject)
    found: dict[str, Any] = json.loads(content)
    again = json.loads(Bundle.model_validate_json(content).model_dump_json())
    assert again["entry"][-1]["resource"]["conclusion"] == found["entry"][-1]["resource"]["conclusion"]
    for entry in found["entry"]:
        get_fhir_model_class(entry["resource"]["resourceType"]).model_validate(entry["resource"])
    return found


def _of(bundle: Resource, kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def _references(value: object) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["reference"]] if isinstance(value.get("reference"), str) else []
    return own + [found for item in value.values() for found in _references(item)]


class _Server:
    """What a FHIR server does with a transaction of conditional creates (R4 http.html#trules, #ccreate)."""

    def __init__(self) -> None:
        self.resources: list[Resource] = []

    def take(self, bundle: Resource) -> int:
        """How many resources it created."""
        before = len(self.resources)
        for entry in bundle["entry"]:
            assert entry["request"]["method"] == "POST"
            ((name, token),) = urllib.parse.parse_qsl(entry["request"]["ifNoneExist"])
            assert name == "identifier"
            system, _, value = token.partition("|")
            own = [(one.get("system"), one["value"]) for one in entry["resource"]["identifier"]]
            assert (system, value) in own  # else it would be created each time
            kind = entry["resource"]["resourceType"]
            if not any(
                one["resourceType"] == kind
                and (system, value) in [(known.get("system"), known["value"]) for known in one["identifier"]]
                for one in self.resources
            ):
                self.resources.append(entry["resource"])
        return len(self.resources) - before


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("status", list(Status))
def test_every_outcome_is_a_preliminary_report_in_its_language(tmp_path: Path, status: Status, language: str) -> None:
    study = film_study(tmp_path)
    analysis = film_analysis(study)
    if status is not Status.FINDINGS:
        reason = "" if status is Status.NO_FINDINGS else "it is a knee"
        analysis = without_findings(analysis, status, reason=reason)
    statement = say(analysis, study, language=language)
    bundle = _bundle(statement)
    (report,) = _of(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert statement.conclusion in report["conclusion"]
    assert statement.responsibility in report["conclusion"]
    assert report["conclusionCode"][0]["coding"][0]["code"] == statement.summary.value
    assert report["language"] == {"en": "en", "zh": "zh-CN"}[language]
    text = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert statement.conclusion in text
    assert all(limit in text for limit in statement.limits)
    assert len(report.get("result", [])) == len(statement.findings)


def test_a_number_has_its_ucum_unit_method_device_and_site(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    bundle = _bundle(say(brain_analysis(study), study))
    number, finding = _of(bundle, "Observation")
    assert number["valueQuantity"]["value"] == 1385.25
    assert (number["valueQuantity"]["system"], number["valueQuantity"]["code"]) == ("http://unitsofmeasure.org", "ml")
    assert number["method"]["text"] == "voxels above probability 0.5, largest connected part"
    assert finding["bodySite"]["coding"][0]["system"] == "http://snomed.info/sct"
    assert finding["bodySite"] == number["bodySite"]
    (device,) = _of(bundle, "Device")
    assert (device["deviceName"][0]["name"], device["version"][0]["value"]) == ("brain_mr", "1.0.0")
    assert any("ab" * 32 in note["text"] for note in device["note"])
    assert finding["hasMember"] == [{"reference": bundle["entry"][3]["fullUrl"]}]
    assert "interpretation" not in finding  # a plain measurement of normal anatomy is not judged


def test_an_abnormal_finding_says_side_certainty_and_tracking_uid() -> None:
    finding = _of(_bundle(WITH_CERTAINTY), "Observation")[-1]
    assert finding["interpretation"][0]["coding"][0]["code"] == "A"
    assert finding["bodySite"]["text"] == "Lung, Right"
    parts = {one["code"]["coding"][0]["code"]: one for one in finding["component"] if "coding" in one["code"]}
    assert parts["111012"]["valueQuantity"]["value"] == pytest.approx(87.3)
    assert parts["272741003"]["valueCodeableConcept"]["coding"][0]["code"] == "24028007"
    assert {"urn:oid:2.25.11"} == {one["value"] for one in finding["identifier"] if one.get("use") == "secondary"}
    assert finding["note"] == [{"text": OPACITY.sentence}]


def test_every_reference_is_to_a_resource_of_the_bundle_and_every_url_is_used_once() -> None:
    bundle = _bundle(WITH_CERTAINTY)
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls)
    assert set(_references(bundle)) <= set(urls)
    assert all(url.startswith("urn:uuid:") for url in urls)


def test_sending_it_again_creates_nothing_and_a_correction_only_what_is_new() -> None:
    server = _Server()
    bundle = _bundle(STATEMENT)
    assert server.take(bundle) == len(bundle["entry"])
    server.resources[-1]["status"] = "final"  # type: ignore[index]  # a person signed it meanwhile
    assert server.take(_bundle(STATEMENT)) == 0
    assert server.resources[-1]["status"] == "final"
    smaller = replace(OPACITY, measurements=(replace(OPACITY.measurements[0], value=21.0),))
    corrected = replace(STATEMENT, findings=(smaller,), is_correction=True)
    assert server.take(_bundle(corrected, replace(SUBJECT, generation=2))) == 3  # two observations and the report
    assert "replaces" in server.resources[-1]["conclusion"]


def test_the_same_content_has_the_same_bytes() -> None:
    assert result_fhir(STATEMENT, SUBJECT) == result_fhir(STATEMENT, SUBJECT)


@pytest.mark.parametrize(
    ("issuer", "system", "found"),
    [
        ("", "", None),
        ("HOSPITAL", "", None),
        ("1.2.3", "", "urn:oid:1.2.3"),
        ("HOSPITAL", "http://h.example/mrn", "http://h.example/mrn"),
    ],
)
def test_a_patient_is_found_by_number_only_where_its_namespace_is_known(
    issuer: str, system: str, found: str | None
) -> None:
    subject = replace(SUBJECT, patient=replace(PATIENT, issuer=issuer), patient_id_system=system)
    bundle = _bundle(STATEMENT, subject)
    (patient,) = _of(bundle, "Patient")
    assert patient["identifier"][0].get("system") == found
    query = urllib.parse.unquote(bundle["entry"][0]["request"]["ifNoneExist"])
    assert (query == f"identifier={found}|P-0042") is (found is not None)
    assert query.startswith("identifier=urn:ietf:rfc3986|urn:uuid:") is (found is None)


def test_two_patients_with_one_number_from_two_hospitals_stay_two() -> None:
    server = _Server()
    server.take(_bundle(STATEMENT))
    server.take(_bundle(STATEMENT, replace(SUBJECT, patient=replace(PATIENT, issuer="OTHER"))))
    assert len([one for one in server.resources if one["resourceType"] == "Patient"]) == 2


def test_a_patient_has_identifier_and_names_in_all_writings_and_nothing_else() -> None:
    (patient,) = _of(_bundle(STATEMENT), "Patient")
    assert set(patient) == {"resourceType", "identifier", "name"}
    assert [name["family"] for name in patient["name"]] == ["Wang", "王"]
    assert [name["extension"][0]["valueCode"] for name in patient["name"]] == ["ABC", "IDE"]


def test_a_study_without_anything_known_is_still_valid() -> None:
    bare = Subject(Patient("", "", PersonName()), Order("2.25.1"), 1, (), (), "1")
    bundle = _bundle(STATEMENT, bare)
    assert "basedOn" not in _of(bundle, "DiagnosticReport")[0]
    assert "effectiveDateTime" not in _of(bundle, "DiagnosticReport")[0]


def test_what_is_no_valid_fhir_is_refused_without_repeating_it() -> None:
    broken = replace(STATEMENT, summary=Code("secret  code", "DCM", "x"))
    with pytest.raises(ReportError, match="conclusionCode") as caught:
        result_fhir(broken, SUBJECT)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"), [("20260301", "2026-03-01"), ("", ""), ("2026", ""), ("20261301", ""), ("20260230x", "")]
)
def test_a_date_of_the_header_is_taken_only_if_it_is_one(text: str, found: str) -> None:
    assert date(text) == found


PRINTABLE = st.text(st.characters(exclude_categories=("C",)), max_size=40)


@given(
    patient_id=PRINTABLE, issuer=PRINTABLE, name=PRINTABLE, accession=PRINTABLE, description=PRINTABLE,
    study_date=PRINTABLE,
)  # fmt: skip
def test_whatever_a_header_says_the_result_is_valid_and_found_again(
    *, patient_id: str, issuer: str, name: str, accession: str, description: str, study_date: str
) -> None:
    order = Order("2.25.1", accession, study_description=description, study_date=study_date)
    subject = replace(SUBJECT, patient=Patient(patient_id, issuer, PersonName(name, name)), order=order)
    algorithm: Algorithm = LEARNED
    server = _Server()
    bundle = json.loads(result_fhir(replace(STATEMENT, algorithm=algorithm), subject)[1])
    assert server.take(bundle) == len(bundle["entry"])
    assert server.take(bundle) == 0
