"""The same statement for different receivers: another version, other types, other fields, never another structure."""

from dataclasses import replace
from pathlib import Path

import hl7
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as how
from hypothesis import strategies as st

from node.conformance import hl7_statement
from node.conformance.hl7_fields import ACK_FIELDS, ORU_FIELDS, Field
from node.deliver import build_oru, check_destination
from node.deliver.mapping import apply_rules, values_of
from node.domain.findings import Status
from node.domain.statement import Recommendation, Statement
from node.domain.study import Order, Patient, PersonName
from node.errors import ConfigError, MessageError
from node.network.er7 import Er7, escape
from node.network.hl7 import Message, parse_message
from node.receive.hl7_answer import Verdict, answers
from node.settings import FieldRule, Hl7Destination, Hl7Settings, ReportSettings, Settings, load_settings
from node.settings.hl7 import SETTABLE, SOURCES
from tests.unit.deliver.statements import (
    FAILED,
    MADE_AT,
    OPACITY,
    ORDER,
    PATIENT,
    RIS,
    STATEMENT,
    WITH_CERTAINTY,
)
from tests.wire.hl7_messages import orm

OLD = replace(RIS, version="2.3.1")
FULL = replace(
    ORDER, filler_order_number="F-1", indication="Fall", reason="Pain", ordering_provider=("1234", "Li", "Lei"),
    patient_class="E", location=("ER", "1", "2"),
)  # fmt: skip
VERSIONS = pytest.mark.parametrize("ris", [RIS, OLD], ids=["2.5.1", "2.3.1"])


def made(
    ris: Hl7Destination, statement: Statement = WITH_CERTAINTY, *, patient: Patient = PATIENT, order: Order = FULL
) -> bytes:
    return build_oru(
        statement, patient=patient, order=order, destination=ris, message_control_id="M-1", sr_uids=("2.25.5",),
        sr_series_uid="2.25.4", application_version="0.1.0", made_at=MADE_AT,
    )  # fmt: skip


def read(message: bytes) -> Message:
    return parse_message(message, character_set="UNICODE UTF-8")


def segment(message: bytes, name: str) -> "hl7.Segment":
    return hl7.parse(message.decode()).segment(name)


def rule(segment: str, number: int, source: str, *, part: int = 0, inner: int = 0, text: str = "") -> FieldRule:
    return FieldRule(segment, number, part, inner, source, text)


def test_the_older_version_has_neither_profile_nor_equipment_and_a_sub_id_everywhere() -> None:
    message = read(made(OLD))
    msh = message.header
    assert (msh.written(9), msh.text(12), msh.written(21)) == ("ORU^R01", "2.3.1", "")
    observed = [one for one in message.segments if one.name == "OBX"]
    assert all(one.text(4) and one.text(11) and not one.written(18) and not one.written(19) for one in observed)
    assert {one.written(15) for one in observed[3:]} == {"^WETREAD 0.1.0"}


@VERSIONS
def test_both_versions_say_the_same(ris: Hl7Destination) -> None:
    said = [
        (one.text(2), one.written(3), one.written(5), one.written(6), one.text(8), one.text(11))
        for one in read(made(ris)).segments
        if one.name == "OBX"
    ]
    assert said == [
        (one.text(2), one.written(3), one.written(5), one.written(6), one.text(8), one.text(11))
        for one in read(made(RIS)).segments
        if one.name == "OBX"
    ]


@VERSIONS
def test_what_the_order_says_stands_in_the_message(ris: Hl7Destination) -> None:
    obr = segment(made(ris), "OBR")
    assert [str(obr[number]) for number in (2, 3, 13, 16, 18, 31)] == [
        "PL-1", "F-1", "Fall", "1234^Li^Lei", "A-77", "^Pain",
    ]  # fmt: skip


def test_words_of_an_order_that_are_too_long_are_cut_and_cost_no_result() -> None:
    for sign in ("x", "|", "影"):
        obr = segment(made(OLD, order=replace(FULL, indication=sign * 5000, reason=sign * 5000)), "OBR")
        assert str(obr[13]).endswith("...")
        assert 190 < len(str(obr[13])) <= 199
        assert f"^{obr[13]}" == str(obr[31])


def test_words_of_an_order_that_fit_no_field_are_left_out_and_cost_no_result() -> None:
    too_long = replace(FULL, ordering_provider=("x" * 5000,), location=("y" * 5000,))
    message = made(replace(RIS, fields=(rule("PV1", 3, "location"),)), order=too_long)
    obr = segment(message, "OBR")
    assert [str(obr[number]) for number in (2, 3, 13, 16, 18)] == ["PL-1", "F-1", "", "", "A-77"]
    assert "PV1" not in [one.name for one in read(message).segments]


def test_coded_values_can_be_cwe() -> None:
    types = {one.text(2) for one in read(made(replace(RIS, coded_type="CWE"))).segments if one.name == "OBX"}
    assert types == {"ST", "CWE", "NM", "TX", "FT"}


@VERSIONS
def test_a_critical_finding_is_flagged_twice_abnormal(ris: Hl7Destination) -> None:
    message = read(made(ris, replace(STATEMENT, findings=(replace(OPACITY, is_critical=True),))))
    assert [one.text(8) for one in message.segments if one.text(3) == "121071"] == ["AA"]


def test_advice_stands_with_its_source() -> None:
    advice = Recommendation("CT in 3 months.", "Guideline 2017")
    (one,) = [
        one
        for one in read(made(RIS, replace(STATEMENT, recommendations=(advice,)))).segments
        if one.text(3) == "18783-1"
    ]
    assert (one.text(2), one.text(5), one.text(11)) == ("TX", "CT in 3 months. (Guideline 2017)", "R")


@pytest.mark.parametrize(("mode", "asked"), [("original", ""), ("commit", "AL|NE"), ("enhanced", "AL|AL")])
def test_enhanced_mode_is_asked_for_in_the_header(mode: str, asked: str) -> None:
    msh = read(made(replace(RIS, acknowledgement=mode))).header
    assert "|".join(filter(None, (msh.text(15), msh.text(16)))) == asked


def test_a_site_puts_values_where_its_ris_looks_for_them() -> None:
    rules = (
        rule("OBR", 3, "accession"),
        rule("PID", 3, "literal", part=4, text="HOSP"),
        rule("PID", 3, "literal", part=5, text="MR"),
        rule("MSH", 6, "literal", part=2, text="1.2.3"),
        rule("MSH", 6, "literal", part=3, text="ISO"),
        rule("PID", 18, "study_uid"),
        rule("PV1", 3, "location"),
        rule("PV1", 2, "patient_class"),
        rule("OBR", 20, "reason"),
        rule("OBR", 13, "empty"),
        rule("ORC", 12, "ordering_provider"),
        rule("OBR", 24, "literal", text="RAD"),
    )
    message = made(replace(RIS, fields=rules))
    assert [one.name for one in read(message).segments][:5] == ["MSH", "PID", "PV1", "ORC", "OBR"]
    pid, pv1, obr = segment(message, "PID"), segment(message, "PV1"), segment(message, "OBR")
    assert (str(pid[3]), str(pid[18])) == ("P-0042^^^HOSP^MR", "2.25.1001")
    assert (str(pv1[2]), str(pv1[3])) == ("E", "ER^1^2")
    assert [str(obr[n]) for n in (3, 13, 20, 24)] == ["A-77", "", "Pain", "RAD"]
    assert read(message).header.written(6) == "^1.2.3^ISO"
    assert str(segment(message, "ORC")[12]) == "1234^Li^Lei"


def test_a_visit_without_a_class_is_of_unknown_class() -> None:
    assert str(segment(made(replace(RIS, fields=(rule("PV1", 3, "location"),))), "PV1")[2]) == "U"
    nowhere = replace(FULL, location=())
    message = made(replace(RIS, fields=(rule("PV1", 3, "location"),)), order=nowhere)
    assert "PV1" not in [one.name for one in read(message).segments]


def test_subcomponents_and_repetitions_stay_apart() -> None:
    fields = {"PID": {3: Er7("7^^^A&1.2&ISO~8")}}
    done = apply_rules(fields, (rule("PID", 3, "issuer", part=4, inner=1),), {"issuer": "B&^~"})
    assert done["PID"][3] == "7^^^B\\T\\\\S\\\\R\\&1.2&ISO~8"
    done = apply_rules(fields, (rule("PID", 3, "issuer", part=2),), {"issuer": ""})
    assert done == fields


def test_every_source_has_a_value() -> None:
    assert set(values_of(STATEMENT, PATIENT, FULL)) == set(SOURCES)


@pytest.mark.parametrize(
    "fields",
    [
        (rule("PID", 3, "empty"),),
        (rule("PID", 5, "literal", part=20, text="x"),),
        (rule("OBR", 4, "empty"),),
        (rule("MSH", 11, "empty"),),
        (rule("OBR", 18, "literal", text="x" * 250), rule("PID", 8, "literal", text="x" * 50)),
    ],
)
def test_a_mapping_that_breaks_the_structure_stops_the_start(fields: tuple[FieldRule, ...]) -> None:
    with pytest.raises(ConfigError, match=r"destinations\.ris"):
        check_destination(replace(RIS, fields=fields, version="2.5.1"))


@VERSIONS
def test_destinations_as_they_are_shipped_start(ris: Hl7Destination) -> None:
    check_destination(ris)
    check_destination(replace(ris, fields=(rule("OBR", 3, "accession"),), character_set="GB 18030-2000"))


@how(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_mapping_makes_or_loses_a_segment(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from(sorted(SETTABLE)))
    name = data.draw(st.sampled_from(sorted(SETTABLE[version])))
    number = data.draw(st.sampled_from(SETTABLE[version][name]))
    source = data.draw(st.sampled_from(sorted(SOURCES)))
    one = FieldRule(name, number, data.draw(st.integers(0, 5)), data.draw(st.integers(0, 3)), source)
    hostile = replace(FULL, accession_number="A|1\rOBX|9", indication="a^b~c&d\\", reason="\x0b\x1c\r\n")
    ris = replace(RIS, version=version, fields=(one,))
    try:
        message = made(ris, STATEMENT, order=hostile)
    except MessageError:
        return  # refused rather than sent
    names = [one.name for one in read(message).segments]
    assert [name for name in names if name != "PV1"] == [
        one.name for one in read(made(replace(RIS, version=version), STATEMENT, order=hostile)).segments
    ]


NAME = st.text(st.sampled_from("\r\n\x0b\x1c|^&~\\FSTRE\"' 王小明Zoë-1a"), max_size=30)


@how(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAME, NAME, st.sampled_from([RIS, OLD]))
@example("王\r|^&~\\小明", "Wang\rOBX|1|ST|forged||yes", RIS)
def test_a_hostile_name_changes_neither_segments_nor_the_text_after_unescaping(
    family: str, given_name: str, ris: Hl7Destination
) -> None:
    family, given_name = family.replace("^", ""), given_name.replace("^", "")
    named = replace(PATIENT, name=PersonName(f"{family}^{given_name}"))
    try:
        message = made(ris, patient=named)
    except MessageError:  # longer than the field may be
        return
    assert [one.name for one in read(message).segments] == [one.name for one in read(made(ris)).segments]
    pid = read(message).first("PID")
    assert pid is not None
    plain = [
        read(f"MSH|^~\\&|\rNTE|{escape(part.strip())}\r".encode()).segments[1].text(1) for part in (family, given_name)
    ]
    assert list(pid.components(5)[:2]) == plain or not any(plain)
    for part, found in zip((family, given_name), pid.components(5), strict=False):
        kept = "".join(sign for sign in part if sign not in "\r\n\x0b\x1c")
        assert kept.replace(" ", "").strip('"') == found.replace(" ", "").strip('"')


# The statement of docs/hl7.md


def written(messages: list[bytes]) -> set[tuple[str, int]]:
    """Every field that is not empty in any of the messages."""
    return {
        (one.name, number)
        for message in messages
        for one in read(message).segments
        for number in range(1, len(one.fields))
        if one.written(number)
    }


def listed(fields: tuple[Field, ...], version: str) -> set[tuple[str, int]]:
    return {(one.segment, one.number) for one in fields if version in one.versions}


@pytest.mark.parametrize("version", ["2.5.1", "2.3.1"])
def test_the_statement_lists_exactly_the_fields_of_the_messages_we_send(version: str) -> None:
    ris = Hl7Destination(
        "ris", "127.0.0.1", 2575, version=version, sending_facility="A", receiving_facility="B",
        acknowledgement="commit",
    )  # fmt: skip
    failed = replace(STATEMENT, status=Status.FAILED, summary=FAILED, findings=(), reason="No memory.")
    messages = [made(ris), made(ris, STATEMENT), made(ris, failed)]
    assert written(messages) == listed(ORU_FIELDS, version)


@pytest.mark.parametrize("version", ["2.5.1", "2.3.1"])
def test_the_statement_lists_exactly_the_fields_of_the_answers_we_give(version: str) -> None:
    message = parse_message(orm(version=version, more="|||AL|AL||UNICODE UTF-8"), character_set="ASCII")
    ours = Hl7Settings(facility="RAD")
    found = answers(message, Verdict(), ours) + answers(message, Verdict("101", "OBR-18", "is missing"), ours)
    assert written(found) == listed(ACK_FIELDS, version)


def test_every_field_of_the_statement_is_explained_once() -> None:
    for fields in (ORU_FIELDS, ACK_FIELDS):
        places = [(one.segment, one.number) for one in fields]
        assert len(places) == len(set(places))
        assert all(one.source for one in fields)


def test_the_shipped_statement_is_that_of_the_shipped_settings() -> None:
    root = Path(__file__).parents[3]
    kept = (root / "docs" / "hl7.md").read_text(encoding="utf-8")
    assert hl7_statement(load_settings(root / "config.toml", {})) == kept, (
        "run: wetread conformance --hl7 > docs/hl7.md"
    )


def test_the_statement_says_what_becomes_of_a_late_order_as_it_is_configured() -> None:
    silent, told = (
        hl7_statement(Settings(report=ReportSettings(resend_after_late_order=wanted))) for wanted in (False, True)
    )
    assert "sends nothing again" in silent
    assert "sends nothing again" not in told
    assert "as corrected (C in OBR-25 and OBX-11)" in told
