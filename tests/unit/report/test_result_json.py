"""The JSON result: what its published schema says, with the ids, numbers and units of the Structured Report."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from node.domain.findings import Certainty, Status, Tier
from node.domain.statement import Statement
from node.domain.study import Order
from node.domain.work import OutputKind
from node.errors import ReportError
from node.paths import CHECKOUT
from node.report.result_json import SCHEMA, Subject, result_json
from tests.unit.deliver.statements import ORDER, PATIENT, STATEMENT, WITH_CERTAINTY
from tests.unit.report.said import say
from tests.unit.report.studies import (
    MADE_AT,
    brain_analysis,
    film_analysis,
    film_study,
    make,
    mr_study,
    without_findings,
)

SUBJECT = Subject(PATIENT, ORDER, 1, ("2.25.1.1",), (), "1.2.3", "WETREAD", "Example Hospital")
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(SCHEMA.read_bytes()), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def _read(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content)
    VALIDATOR.validate(found)
    return found


def _document(statement: Statement, subject: Subject = SUBJECT) -> dict[str, Any]:
    result_id, content = result_json(statement, subject)
    found = _read(content)
    assert found["result_id"] == result_id
    return found


def test_the_schema_is_a_schema_and_travels_in_the_package() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    assert SCHEMA.is_relative_to(CHECKOUT / "node")
    assert VALIDATOR.schema["$id"].endswith(VALIDATOR.schema["properties"]["format_version"]["const"])


def test_every_key_of_the_schema_is_explained_or_explains_itself() -> None:
    def places(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [schema, *(one for item in schema.values() if isinstance(item, Mapping) for one in places(item))]

    for one in places(VALIDATOR.schema):
        if isinstance(one.get("properties"), Mapping) and "additionalProperties" in one:
            assert one["additionalProperties"] is False
            assert one["required"] == list(one["properties"])


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("status", list(Status))
def test_every_outcome_in_every_language_keeps_to_the_schema(tmp_path: Path, status: Status, language: str) -> None:
    study = film_study(tmp_path)
    analysis = film_analysis(study)
    if status is not Status.FINDINGS:
        reason = "" if status is Status.NO_FINDINGS else "it is a knee"
        analysis = without_findings(analysis, status, reason=reason)
    found = _document(say(analysis, study, language=language))
    assert (found["status"], found["verification"]) == (status.value, "unverified")
    assert found["language"] == {"en": "en", "zh": "zh-CN"}[language]
    assert ("nobody" if language == "en" else "未经医师审核") in found["responsibility"]


def test_a_finding_has_the_id_tracking_uid_number_and_unit_of_the_structured_report(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    (finding,) = _document(say(analysis, study))["findings"]
    sr = make(analysis, study, tmp_path / "out").read(OutputKind.MEASUREMENT_SR)
    items = list(sr.iterall())
    assert finding["tracking_uid"] in [str(one.value) for one in items if one.keyword == "UID"]
    assert finding["finding_id"] in [str(one.value) for one in items if one.keyword == "TextValue"]
    (measurement,) = finding["measurements"]
    assert measurement["value"] in [float(one.value) for one in items if one.keyword == "NumericValue"]
    assert measurement["unit"]["code"] == "ml"
    assert measurement["unit"]["text"]
    assert measurement["method"]
    assert finding["regions"][0]["points"][0] == [10.5, 12.25]


def test_patient_and_order_stand_as_the_header_has_them() -> None:
    found = _document(STATEMENT)
    assert found["patient"] == {
        "id": "P-0042", "issuer": "HOSPITAL", "birth_date": "19800102", "sex": "M",
        "name": {"alphabetic": "Wang^XiaoMing", "ideographic": "王^小明", "phonetic": ""},
    }  # fmt: skip
    assert found["study"]["accession_number"] == "A-77"
    assert found["study"]["procedure"] == {"value": "RPID16", "scheme": "RADLEX", "meaning": "XR Chest"}


def test_the_same_content_has_the_same_bytes_and_any_other_another_id() -> None:
    first = result_json(STATEMENT, SUBJECT)
    assert result_json(STATEMENT, SUBJECT) == first
    others = [
        (replace(STATEMENT, language="zh"), SUBJECT),
        (replace(STATEMENT, is_correction=True), SUBJECT),
        (replace(STATEMENT, made_at=STATEMENT.made_at + timedelta(seconds=1)), SUBJECT),
        (STATEMENT, replace(SUBJECT, generation=2)),
        (STATEMENT, replace(SUBJECT, order=replace(ORDER, accession_number="A-78"))),
    ]
    ids = {result_json(*one)[0] for one in others}
    assert len(ids | {first[0]}) == len(others) + 1


def test_only_a_learned_algorithm_states_a_certainty() -> None:
    (finding,) = _document(WITH_CERTAINTY)["findings"]
    assert finding["certainty"] == {"probability": 0.873, "tier": "high"}
    ruled = json.loads(result_json(replace(WITH_CERTAINTY, algorithm=STATEMENT.algorithm), SUBJECT)[1])
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(ruled)


@pytest.mark.parametrize(
    ("key", "value"),
    [("status", "normal"), ("verification", "final"), ("findings", []), ("made_at", "2026-03-01"), ("extra", 1)],
)
def test_the_schema_refuses_what_the_node_never_says(key: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(_document(STATEMENT) | {key: value})


def test_a_text_that_is_no_unicode_is_refused_without_repeating_it() -> None:
    broken = replace(SUBJECT, patient=replace(PATIENT, patient_id="P\udc80secret"))
    with pytest.raises(ReportError) as caught:
        result_json(STATEMENT, broken)
    assert "secret" not in str(caught.value)


def test_a_header_that_says_nothing_is_written_as_empty_not_left_out() -> None:
    bare = replace(SUBJECT, patient=replace(PATIENT, issuer="", birth_date="", sex=""), order=Order("2.25.1"))
    found = _document(STATEMENT, bare)
    assert found["patient"]["issuer"] == ""
    assert found["study"]["procedure"] is None


def test_a_learned_finding_of_a_template_keeps_to_the_schema(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    finding = replace(brain_analysis(study).findings[0], certainty=Certainty(1.0, Tier.REVIEW))
    found = _document(say(replace(brain_analysis(study), findings=(finding,)), study))
    assert found["findings"][0]["certainty"] == {"probability": 1.0, "tier": "review"}
    assert found["made_at"] == MADE_AT.isoformat(timespec="milliseconds").replace("+00:00", "Z")
