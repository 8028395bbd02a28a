"""Escaping HL7 text, checked against python-hl7."""

import hl7
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.errors import ConfigError
from node.network.er7 import (
    CODECS,
    LINE_BREAK,
    NOTHING,
    Er7,
    codec,
    components,
    escape,
    formatted,
    join_segments,
    repetitions,
    segment,
    unescape,
)

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
