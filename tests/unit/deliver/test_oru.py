"""The ORU as python-hl7, a parser of other people, reads it."""

import math
import time
from dataclasses import replace
from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from node.deliver import build_oru, derive_control_id
from node.domain.codes import Code
from node.domain.findings import Certainty, Status, Tier
from node.domain.statement import StatedMeasurement, Statement
from node.domain.study import Order, Patient, PersonName
from node.errors import ConfigError, MessageError
from node.settings import Hl7Destination
from tests.unit.deliver.statements import (
    FAILED,
    MADE_AT,
    NOT_EVALUATED,
    OPACITY,
    ORDER,
    PATIENT,
    RIS,
    RULES,
    STATEMENT,
    WITH_CERTAINTY,
    WITHOUT_FINDINGS,
)

MM = Code("mm", "UCUM", "millimeter")
LENGTH = Code("103339001", "SCT", "Long Axis")


def written(
    statement: Statement = STATEMENT,
    *,
    patient: Patient = PATIENT,
    order: Order = ORDER,
    ris: Hl7Destination = RIS,
    control_id: str = "M-1",
    sr_uids: tuple[str, ...] = ("2.25.5", "2.25.6"),
    made_at: datetime = MADE_AT,
) -> bytes:
    return build_oru(
        statement,
        patient=patient,
        order=order,
        destination=ris,
        message_control_id=control_id,
        sr_uids=sr_uids,
        sr_series_uid="2.25.4",
        application_version="0.1.0",
        made_at=made_at,
    )


def read(message: bytes, encoding: str = "utf-8") -> hl7.Message:
    return hl7.parse(message.decode(encoding))


def field(line: hl7.Segment, number: int) -> str:
    return str(line[number]) if len(line) > number else ""


def observations(message: hl7.Message, identifier: str) -> list[hl7.Segment]:
    return [line for line in message.segments("OBX") if field(line, 3).startswith(f"{identifier}^")]


def measured(value: float, unit: Code = MM) -> Statement:
    return replace(STATEMENT, findings=(replace(OPACITY, measurements=(StatedMeasurement(LENGTH, value, unit, ""),)),))


def test_header_names_message_version_character_set_and_profile() -> None:
    msh = read(written()).segment("MSH")
    expected = {9: "ORU^R01^ORU_R01", 10: "M-1", 11: "P", 12: "2.5.1", 18: "UNICODE UTF-8", 21: "RAD-128^IHE"}
    assert {number: field(msh, number) for number in expected} == expected


def test_accession_study_finding_unit_and_status_are_found_by_another_parser() -> None:
    message = read(written())
    assert field(message.segment("OBR"), 18) == "A-77"
    first = message.segments("OBX")[0]
    assert [field(first, n) for n in (1, 2, 3, 5, 11)] == ["1", "ST", "113014^DICOM Study^DCM", "2.25.1001", "O"]
    (finding,) = observations(message, "121071")
    assert [field(finding, n) for n in (2, 4, 5, 8, 11)] == ["CE", "opacity-1", "112001^Opacity^DCM", "A", "R"]
    (length,) = observations(message, "103339001")
    assert [field(length, n) for n in (2, 4, 5, 6)] == ["NM", "opacity-1", "23.5", "mm^millimeter^UCUM"]
    assert field(message.segment("OBR"), 25) == "R"


def test_series_and_every_report_are_named_after_the_study() -> None:
    message = read(written())
    assert [field(line, 5) for line in message.segments("OBX")[:4]] == ["2.25.1001", "2.25.4", "2.25.5", "2.25.6"]
    assert {field(line, 11) for line in message.segments("OBX")[:4]} == {"O"}


def test_site_and_side_travel_with_the_finding() -> None:
    message = read(written())
    assert field(observations(message, "363698007")[0], 5) == "39607008^Lung^SCT"
    assert field(observations(message, "272741003")[0], 5) == "24028007^Right^SCT"


def test_words_are_findings_and_impressions() -> None:
    message = read(written())
    findings = observations(message, "59776-5")
    assert [field(line, 4) for line in findings] == ["opacity-1", "limit-1", "limit-2"]
    assert field(findings[0], 5) == OPACITY.sentence
    (impressions,) = observations(message, "19005-8")
    text = message.unescape(field(impressions, 5)).split("\r")
    assert text == [STATEMENT.conclusion, STATEMENT.responsibility]


def test_a_long_report_is_written_whole() -> None:
    sentence = "右肺圆形阴影，长径 23.5 mm。" * 100
    statement = replace(STATEMENT, conclusion=sentence, findings=(replace(OPACITY, sentence=sentence),))
    message = read(written(statement))
    assert field(observations(message, "59776-5")[0], 5) == sentence
    assert message.unescape(field(observations(message, "19005-8")[0], 5)).startswith(f"{sentence}\r")


def test_every_observation_has_its_own_identifier_and_sub_id() -> None:
    statement = replace(STATEMENT, findings=(OPACITY, replace(OPACITY, finding_id="opacity-2")))
    keys = [(field(line, 3), field(line, 4)) for line in read(written(statement)).segments("OBX")]
    assert len(keys) == len(set(keys))


def test_every_result_names_algorithm_device_and_time() -> None:
    for line in read(written()).segments("OBX")[4:]:
        assert field(line, 17).startswith("round_opacity^round_opacity 1.2.0^L")
        assert field(line, 18) == "WETREAD 0.1.0~CPU"
        assert field(line, 19) == MADE_AT.astimezone().strftime("%Y%m%d%H%M%S%z")


def test_certainty_of_a_learned_model_is_in_percent() -> None:
    (certainty,) = observations(read(written(WITH_CERTAINTY)), "111012")
    assert [field(certainty, n) for n in (2, 5, 6)] == ["NM", "87.3", "%^Percent^UCUM"]


@pytest.mark.parametrize("statement", [STATEMENT, replace(WITH_CERTAINTY, algorithm=RULES)])
def test_a_rule_never_prints_a_certainty(statement: Statement) -> None:
    assert observations(read(written(statement)), "111012") == []


def test_a_certainty_beyond_one_is_refused() -> None:
    finding = replace(OPACITY, certainty=Certainty(1.2, Tier.HIGH))
    with pytest.raises(MessageError, match="0 to 1"):
        written(replace(WITH_CERTAINTY, findings=(finding,)))


@pytest.mark.parametrize(
    ("status", "summary", "obx", "obr"),
    [
        (Status.FINDINGS, STATEMENT.summary, "R", "R"),
        (Status.NO_FINDINGS, WITHOUT_FINDINGS, "R", "R"),
        (Status.FAILED, FAILED, "X", "X"),
        (Status.NOT_EVALUABLE, NOT_EVALUATED, "N", "X"),
    ],
)
def test_status_is_never_final(status: Status, summary: Code, obx: str, obr: str) -> None:
    findings = (OPACITY,) if status is Status.FINDINGS else ()
    statement = replace(STATEMENT, status=status, summary=summary, findings=findings, reason="No lung in view.")
    message = read(written(statement))
    (line,) = observations(message, "111017")
    assert field(line, 5) == f"{summary.value}^{summary.meaning}^{summary.scheme}"
    assert (field(line, 11), field(message.segment("OBR"), 25)) == (obx, obr)


def test_a_corrected_statement_has_status_c_throughout() -> None:
    message = read(written(replace(STATEMENT, is_correction=True)))
    assert field(message.segment("OBR"), 25) == "C"
    assert {field(line, 11) for line in message.segments("OBX")[4:]} == {"C"}


def test_a_plain_measurement_is_not_abnormal() -> None:
    statement = replace(STATEMENT, findings=(replace(OPACITY, is_abnormal=False),))
    assert field(observations(read(written(statement)), "121071")[0], 8) == "N"


def test_patient_has_issuer_both_names_birth_date_and_sex() -> None:
    pid = read(written()).segment("PID")
    assert field(pid, 3) == "P-0042^^^HOSPITAL"
    assert field(pid, 5) == "王^小明^^^^^L^I~Wang^XiaoMing^^^^^L^A"
    assert (field(pid, 7), field(pid, 8)) == ("19800102", "M")


def test_prefix_and_suffix_of_a_name_change_places() -> None:
    patient = replace(PATIENT, name=PersonName("Yamada^Taro^K^Dr^Jr"))
    assert field(read(written(patient=patient)).segment("PID"), 5) == "Yamada^Taro^K^Jr^Dr^^L^A"


def test_unknown_name_and_birth_date_are_said_to_be_unknown() -> None:
    pid = read(written(patient=Patient("7", "", PersonName(), birth_date="unknown"))).segment("PID")
    assert (field(pid, 3), field(pid, 5), field(pid, 7)) == ("7", "^^^^^^U", "")


@pytest.mark.parametrize(
    ("issuer", "authority"),
    [
        ("HOSPITAL", "HOSPITAL"),
        ("1.2.840.99.1", "&1.2.840.99.1&ISO"),
        ("Department of Radiology, General Hospital", "&Department of Radiology, General Hospital&L"),
    ],
)
def test_issuer_of_any_kind_has_its_place(issuer: str, authority: str) -> None:
    assert field(read(written(patient=replace(PATIENT, issuer=issuer))).segment("PID"), 3) == f"P-0042^^^{authority}"


def test_dates_times_and_sex_that_are_none_are_left_out() -> None:
    patient = replace(PATIENT, birth_date="19001399", sex="X")
    message = read(written(patient=patient, order=replace(ORDER, study_time="996161")))
    assert (field(message.segment("PID"), 7), field(message.segment("PID"), 8)) == ("", "")
    assert field(message.segment("OBR"), 7) == "20260301"


def test_long_method_is_cut_and_loses_no_result() -> None:
    length = replace(OPACITY.measurements[0], method="word " * 100)
    (line,) = observations(
        read(written(replace(STATEMENT, findings=(replace(OPACITY, measurements=(length,)),)))), "103339001"
    )
    assert field(line, 17).endswith("word...")


def test_result_without_patient_id_is_refused() -> None:
    with pytest.raises(MessageError, match="PatientID"):
        written(patient=replace(PATIENT, patient_id=" "))


def test_unknown_order_numbers_are_not_invented() -> None:
    message = read(written(order=Order(study_instance_uid="2.25.1001")))
    orc, obr = message.segment("ORC"), message.segment("OBR")
    assert [field(orc, 1), field(orc, 2), field(orc, 3)] == ["RE", "", ""]
    assert [field(obr, n) for n in (2, 3, 7, 18)] == ["", "", "", ""]
    assert field(obr, 4) == f"^{STATEMENT.title}"


def test_known_order_numbers_stand_in_orc_and_obr() -> None:
    order = replace(ORDER, filler_order_number="F-1")
    message = read(written(order=order))
    for name in ("ORC", "OBR"):
        assert (field(message.segment(name), 2), field(message.segment(name), 3)) == ("PL-1", "F-1")
    assert field(message.segment("OBR"), 4) == "RPID16^XR Chest^RADLEX"
    assert field(message.segment("OBR"), 7) == "20260301110203"


def test_accession_becomes_filler_only_by_configuration() -> None:
    assert field(read(written()).segment("OBR"), 3) == ""
    obr = read(written(ris=replace(RIS, accession_as_filler=True))).segment("OBR")
    assert (field(obr, 3), field(obr, 18)) == ("A-77", "A-77")


@pytest.mark.parametrize(
    ("value", "text"),
    [(23.5, "23.5"), (12.0, "12"), (-0.0, "0"), (1e-5, "0.00001"), (1 / 3, "0.33333333333333"), (1e15, "1" + "0" * 15)],
)
def test_numbers_have_no_exponent_and_at_most_16_characters(value: float, text: str) -> None:
    assert field(observations(read(written(measured(value))), "103339001")[0], 5) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 1e-300])
def test_a_number_that_cannot_be_written_is_refused(value: float) -> None:
    with pytest.raises(MessageError):
        written(measured(value))


def test_a_number_without_a_unit_is_refused() -> None:
    with pytest.raises(MessageError, match="no unit"):
        written(measured(1.0, Code("", "UCUM", "")))


@pytest.mark.parametrize(("name", "encoding"), [("UNICODE UTF-8", "utf-8"), ("GB 18030-2000", "gb18030")])
def test_chinese_is_written_in_the_character_set_of_the_destination(name: str, encoding: str) -> None:
    message = read(written(ris=replace(RIS, character_set=name)), encoding)
    assert field(message.segment("MSH"), 18) == name
    assert field(message.segment("PID"), 5).startswith("王^小明^")


def test_text_the_character_set_cannot_hold_is_refused_and_not_replaced() -> None:
    with pytest.raises(MessageError, match="ASCII"):
        written(ris=replace(RIS, character_set="ASCII"))


def test_unknown_character_set_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="LATIN"):
        written(ris=replace(RIS, character_set="LATIN"))


@pytest.mark.parametrize("control_id", ["", "A" * 21, "a|b", "a b", "名"])
def test_control_id_that_a_receiver_could_cut_or_misread_is_refused(control_id: str) -> None:
    with pytest.raises(MessageError, match="MSH-10"):
        written(control_id=control_id)


def test_derived_control_id_is_accepted_and_always_the_same() -> None:
    control_id = derive_control_id("assignment", "ris")
    assert control_id == derive_control_id("assignment", "ris") != derive_control_id("assignmentr", "is")
    assert written(control_id=control_id) == written(control_id=control_id)


def test_long_finding_ids_stay_apart() -> None:
    ids = ("intracranial_haemorrhage-1", "intracranial_haemorrhage-2")
    statement = replace(STATEMENT, findings=tuple(replace(OPACITY, finding_id=one) for one in ids))
    sub_ids = [field(line, 4) for line in observations(read(written(statement)), "121071")]
    assert len(set(sub_ids)) == 2
    assert max(map(len, sub_ids)) <= 20


def test_time_without_distance_to_utc_is_refused() -> None:
    with pytest.raises(MessageError, match="UTC"):
        written(made_at=datetime(2026, 3, 1))  # noqa: DTZ001 (that is the fault)


def test_errors_hold_no_patient_data() -> None:
    with pytest.raises(MessageError) as caught:
        written(patient=replace(PATIENT, name=PersonName("Canary" * 60)))
    assert "Canary" not in f"{caught.value!r}{caught.value.__cause__!r}"


TEXT = st.text(st.sampled_from('\r\n\x0b\x1c\t|^&~\\FSTRE.br"王小明Zoë -1a'), max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXT, TEXT, TEXT, TEXT)
@example("王^小明\rOBX|1|ST|forged||yes", "\\", "a\r\nOBX|9", '""')
@example("1\r", "", "", "")
def test_hostile_text_never_changes_the_segments(patient_id: str, name: str, accession: str, sentence: str) -> None:
    clean = [str(line[0]) for line in read(written())]
    message = read(
        written(
            replace(STATEMENT, findings=(replace(OPACITY, sentence=sentence),), conclusion=sentence),
            patient=replace(PATIENT, patient_id=f"P{patient_id}", name=PersonName(name, name)),
            order=replace(ORDER, accession_number=accession, study_description=sentence),
        )
    )
    assert [str(line[0]) for line in message] == clean
    assert [field(line, 1) for line in message.segments("OBX")] == [str(n) for n in range(1, len(clean) - 3)]


@pytest.mark.parametrize(
    ("zone", "moment", "written_as"),
    [
        ("Asia/Shanghai", datetime(2026, 3, 1, 12, tzinfo=UTC), "20260301200000+0800"),
        ("America/New_York", datetime(2026, 11, 1, 5, 30, tzinfo=UTC), "20261101013000-0400"),  # summer time ends:
        ("America/New_York", datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "20261101013000-0500"),  # the hour comes twice
        ("America/New_York", datetime(2026, 3, 8, 7, 0, tzinfo=UTC), "20260308030000-0400"),
        ("Asia/Kolkata", datetime(2026, 3, 1, 12, tzinfo=UTC), "20260301173000+0530"),
    ],
)
def test_times_are_local_and_say_how_far_from_utc_they_are(
    zone: str, moment: datetime, written_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        message = read(written(replace(STATEMENT, made_at=moment), made_at=moment))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert field(message.segment("MSH"), 7) == field(message.segment("OBR"), 22) == written_as
    assert {field(line, 19) for line in message.segments("OBX")} - {""} == {written_as}
