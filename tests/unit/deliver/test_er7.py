"""Escaping and reading HL7 text, checked against python-hl7."""

import contextlib

import hl7
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.deliver.er7 import (
    CODECS,
    LINE_BREAK,
    NOTHING,
    Er7,
    codec,
    components,
    control_id_of,
    escape,
    formatted,
    join_segments,
    parse_ack,
    repetitions,
    segment,
    unescape,
)
from node.errors import ConfigError, MessageError

HOSTILE = st.text(st.sampled_from("\r\n\x0b\x1c\x00\x1b\t|^&~\\FSTREX.br\"'王小明Zoë \u2028\x85"), max_size=40)
TEXT = HOSTILE | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MSH = Er7("MSH|^~\\&|A||B||20260101||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8")


def shown(text: str) -> str:
    """The text as a person would see it on one line, without what no field can hold."""
    line = LINE_BREAK.sub(" ", text).replace("\t", " ")
    return "".join(sign for sign in line if not (ord(sign) < 32 or 127 <= ord(sign) < 160))


@given(TEXT)
@example("Wang\rOBX|99|ST|forged||yes")
@example("\\E\\|\\F\\")
@example("\\.br\\")
def test_text_never_ends_its_field_and_comes_back_whole(text: str) -> None:
    written = escape(text)
    assert not set(written) & set("|^&~\r\n\x0b\x1c")
    if shown(text).strip() != '""':
        assert unescape(written) == shown(text)


@given(TEXT)
@example("王^小明|&~\\\rOBX|99|ST|forged||yes")
def test_python_hl7_finds_the_segments_we_meant_and_the_text_we_meant(text: str) -> None:
    message = join_segments((MSH, segment("PID", {3: Er7("1"), 5: escape(text), 6: Er7("end")}), Er7("OBR|1")))
    parsed = hl7.parse(message)
    assert [str(line[0]) for line in parsed] == ["MSH", "PID", "OBR"]
    assert str(parsed.segment("PID")[6]) == "end"
    if shown(text).strip() != '""':
        assert parsed.unescape(str(parsed.segment("PID")[5])) == shown(text)


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_lines_of_formatted_text_come_back_as_lines(lines: list[str]) -> None:
    lines = [shown(line) for line in lines if shown(line).strip() != '""']
    assert unescape(formatted("\r\n".join(lines))) == "\n".join(lines)


@given(TEXT)
def test_an_escaped_text_written_in_gb18030_holds_no_frame_byte(text: str) -> None:
    encoded = escape(text).encode("gb18030")
    assert not set(encoded) & {0x0B, 0x0D, 0x1C}


def test_two_double_quotes_never_delete_what_the_receiver_holds() -> None:
    assert escape('""') == escape(' "" ') == NOTHING


def test_line_break_is_a_space_in_one_line_and_br_in_formatted_text() -> None:
    assert escape("a\r\nb\nc") == "a b c"
    assert formatted("a\r\nb\nc") == "a\\.br\\b\\.br\\c"


def test_components_and_repetitions_drop_what_is_empty() -> None:
    assert components(Er7("a"), NOTHING, Er7("c"), NOTHING) == "a^^c"
    assert repetitions((NOTHING, Er7("a"), Er7("b"))) == "a~b"


def test_every_character_set_has_a_codec_and_an_unknown_one_is_a_configuration_error() -> None:
    for name in CODECS:
        assert "ABC".encode(codec(name)) == b"ABC"
    with pytest.raises(ConfigError, match="UNICODE UTF-16"):
        codec("UNICODE UTF-16")


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
