"""A message that would tell a RIS of another patient is refused, whatever went wrong while it was written."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from node.deliver import build_oru, gate, oru
from node.deliver.gate import check_message
from node.deliver.mapping import Fields
from node.domain.study import Patient, PersonName
from node.errors import MessageError
from node.network.er7 import Er7
from node.settings import FieldRule, Hl7Destination
from tests.unit.deliver.statements import MADE_AT, ORDER, RIS, STATEMENT

WHO = Patient("P|1&2", "HOSP^A", PersonName("Wang^Xiao~Ming^^Dr", "王^小明\\", "ワン"), "19800102", "M")
GB18030 = replace(RIS, character_set="GB 18030-2000")


def written(destination: Hl7Destination = RIS, patient: Patient = WHO) -> bytes:
    return build_oru(
        STATEMENT, patient=patient, order=ORDER, destination=destination, message_control_id="M-1",
        sr_uids=("2.25.5",), sr_series_uid="2.25.4", application_version="0.1.0", made_at=MADE_AT,
    )  # fmt: skip


@pytest.mark.parametrize("destination", [RIS, GB18030, replace(RIS, version="2.3.1")])
def test_what_the_node_writes_passes(destination: Hl7Destination) -> None:
    check_message(written(destination), patient=WHO, order=ORDER, destination=destination)


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        (b"P\\F\\1", b"P\\F\\2", "PID-3.1"),
        (b"HOSP\\S\\A", b"HOSP", "PID-3.4"),
        ("王^".encode(), "汪^".encode(), "PID-5.1"),
        ("小明\\E\\".encode(), "小明".encode(), "PID-5.2"),
        (b"^Dr^", b"^^", "PID-5.5"),
        ("ワン".encode(), "ワ".encode(), "PID-5.1"),
        (b"|19800102|", b"|19800103|", "PID-7"),
        (b"|M\r", b"|F\r", "PID-8"),
        (b"|A-77|", b"|A-78|", "OBR-18"),
        (b"P\\F\\1", b"X~P\\F\\1", "PID-3"),
        (b"UNICODE UTF-8", b"GB 18030-2000", "MSH-18"),
    ],
)
def test_another_value_is_named_by_its_field_and_never_quoted(before: bytes, after: bytes, field: str) -> None:
    content = written()
    assert before in content
    with pytest.raises(MessageError) as refused:
        check_message(content.replace(before, after, 1), patient=WHO, order=ORDER, destination=RIS)
    assert field in str(refused.value).replace(",", "").split(" ")
    assert not any(value in str(refused.value) for value in ("Wang", "王", "1980", "A-7"))


def test_bytes_in_another_character_set_than_the_header_names_are_refused() -> None:
    content = written().decode().replace("UNICODE UTF-8", "8859/1").encode()
    with pytest.raises(MessageError, match="MSH-18"):
        check_message(content, patient=WHO, order=ORDER, destination=RIS)


def _forgets_to_escape(patient: Patient) -> Fields:
    return {1: Er7("1"), 3: Er7(patient.patient_id), 5: Er7("Wang^Ming^^^^^L^A")}


def _mixes_up_two_patients(patient: Patient) -> Fields:
    return PID(replace(patient, patient_id="P-2"))


PID = oru.pid


@pytest.mark.parametrize("broken", [_forgets_to_escape, _mixes_up_two_patients])
def test_a_writer_that_is_broken_makes_no_message(
    broken: Callable[[Patient], Fields], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oru, "pid", broken)
    with pytest.raises(MessageError):
        written()


def test_a_site_may_fill_its_own_fields_but_not_put_another_id_into_pid_3() -> None:
    issuer = replace(RIS, fields=(FieldRule("PID", 3, 4, 0, "literal", "SITE"), FieldRule("PID", 8, 0, 0, "empty")))
    assert b"SITE" in written(issuer)
    another = replace(RIS, fields=(FieldRule("PID", 3, 0, 0, "accession"),))
    with pytest.raises(MessageError, match=r"PID-3\.1"):
        written(another)


def test_line_breaks_and_what_would_delete_are_what_a_field_can_hold() -> None:
    odd = replace(WHO, name=PersonName('Wang\r\nPID^""'), issuer="")
    check_message(written(patient=odd), patient=odd, order=ORDER, destination=RIS)


def test_the_gate_shares_no_escaper_with_the_writer() -> None:
    assert not {"escape", "unescape"} & set(vars(gate))
