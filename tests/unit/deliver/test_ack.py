"""Reading what receivers answer, whatever they write."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deliver.ack import control_id_of, parse_ack
from node.errors import MessageError
from node.network.er7 import Er7, join_segments

MSH = Er7("MSH|^~\\&|A||B||20260101||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8")
ACK = (
    b"MSH|^~\\&|RIS||W||20260101||ACK^R01^ACK|9|P|2.5.1\r"
    b"MSA|AE|M-1|no such order\rERR||PID^1|204^Unknown key^HL70357|E\r"
)


@pytest.mark.parametrize("version", [b"2.3.1", b"2.5.1", b"2.9", b"", b"3000"])
@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_acknowledgement_is_read_in_any_version_and_with_any_line_end(version: bytes, end: bytes) -> None:
    ack = parse_ack(ACK.replace(b"2.5.1", version).replace(b"\r", end))
    assert (ack.code, ack.control_id, ack.text, ack.error_codes) == ("AE", "M-1", "no such order", ("204",))


def test_acknowledgement_with_other_delimiters_is_read() -> None:
    ack = parse_ack(b"MSH$%~\\&$RIS\rMSA$AA$M-1\rERR$$$207%x\r")
    assert (ack.code, ack.control_id, ack.error_codes) == ("AA", "M-1", ("207",))


def test_error_code_of_an_older_version_is_found_in_err_1() -> None:
    ack = parse_ack(b"MSH|^~\\&|RIS\rMSA|AR|M-1\rERR|PID^1^3^101&Required field missing&HL70357~OBR^1^4^102\r")
    assert ack.error_codes == ("101", "102")


def test_error_code_that_could_be_a_name_is_left_out() -> None:
    assert parse_ack(b"MSH|^~\\&|RIS\rMSA|AE|M-1\rERR|||Wang^Xiaoming\r").error_codes == ()


@pytest.mark.parametrize(
    "data",
    [b"", b"MSH", b"hello", ACK.replace(b"MSA", b"MSB"), ACK.replace(b"|AE|", b"|OK|"), ACK.replace(b"M-1", b"")],
)
def test_what_is_no_acknowledgement_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        parse_ack(data)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: b"MSH|^~\\&|" + data + b"\rMSA|AA|" + data))
def test_hostile_bytes_raise_nothing_but_message_error(data: bytes) -> None:
    for encoding in ("utf-8", "gb18030", "ascii"):
        try:
            parse_ack(data, encoding)
        except MessageError:
            continue


@given(st.binary(max_size=120))
def test_control_id_of_hostile_bytes_raises_nothing_but_message_error(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        control_id_of(data)


def test_control_id_of_our_message_is_msh_10() -> None:
    assert control_id_of(join_segments((MSH,)).encode()) == "1"
