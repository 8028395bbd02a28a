"""Received messages: any delimiters, any declared character set, any bytes."""

import contextlib

import hl7
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.errors import MessageError
from node.network.er7 import Er7, escape, join_segments, segment
from node.network.hl7 import parse_message

UTF8 = "UNICODE UTF-8"
MSH = Er7("MSH|^~\\&|HIS||W||20260101||ORM^O01|1|P|2.5.1||||||UNICODE UTF-8")
TEXT = st.text(
    st.sampled_from("\r\n\x0b\x1c\t|^&~\\FSTREX.br'\"王小明Zoë 0D") | st.characters(exclude_categories=["Cs"]),
    max_size=30,
)


def read(data: bytes, default: str = UTF8) -> "list[str]":
    return [one.name for one in parse_message(data, character_set=default).segments]


@given(TEXT)
@example("王^小明|&~\\\rOBX|99|ST|forged||yes")
def test_what_we_escape_is_read_as_the_same_text_by_us_and_by_python_hl7(text: str) -> None:
    shown = " ".join(hl7.parse(join_segments((MSH, segment("PID", {5: escape(text)})))).unescape(escape(text)).split())
    data = join_segments((MSH, segment("PID", {5: escape(text), 6: Er7("end")}))).encode()
    found = parse_message(data, character_set=UTF8)
    assert [one.name for one in found.segments] == ["MSH", "PID"]
    assert " ".join(found.segments[1].text(5).split()) == shown.strip()
    assert found.segments[1].text(6) == "end"


def test_header_counts_its_own_separator() -> None:
    msh = parse_message(f"{MSH}\r".encode(), character_set=UTF8).header
    assert [msh.text(number) for number in (3, 9, 10, 11, 12, 18)] == ["HIS", "ORM", "1", "P", "2.5.1", UTF8]
    assert msh.text(9, 2) == "O01"


def test_other_delimiters_are_those_of_the_message() -> None:
    found = parse_message(b"MSH$%*!@$HIS$$W\rPID$1$$7%%%NS@1.2%X*8$$a!S!b%c!F!\r", character_set="ASCII")
    pid = found.segments[1]
    assert (pid.text(3), pid.text(3, 4, 2), pid.text(3, repetition=2), pid.text(5), pid.text(5, 2)) == (
        "7", "1.2", "8", "a%b", "c$",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("one\\.br\\two", "one\ntwo"),
        ("\\H\\loud\\N\\", "loud"),
        ("\\X0D\\\\X0A41\\", "A"),
        ("\\Zown\\", "\\Zown\\"),
        ("open\\", "open\\"),
        ('""', ""),
    ],
)
def test_escapes_mean_what_the_standard_says(written: str, text: str) -> None:
    found = parse_message(f"{MSH}\rNTE|1||{written}\r".encode(), character_set=UTF8)
    assert found.segments[1].text(3) == text


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\r"])
def test_segments_may_end_as_senders_end_them(end: bytes) -> None:
    assert read(end.join((MSH.encode(), b"PID|1", b""))) == ["MSH", "PID"]


@pytest.mark.parametrize("name", ["GB 18030-2000", "UNICODE UTF-8", "BIG-5", "GB18030", "UTF-8"])
def test_chinese_before_msh_18_does_not_hide_it(name: str) -> None:
    """In GB 18030 the trail byte of this sign is the separator."""
    encoding = {"BIG-5": "big5", "GB 18030-2000": "gb18030", "GB18030": "gb18030"}.get(name, "utf-8")
    sender = b"\x81\x7c".decode("gb18030") if encoding == "gb18030" else "王"
    data = f"MSH|^~\\&|{sender}||W||20260101||ORM^O01|1|P|2.5.1||||||{name}\rPID|1||7||王^小明\r".encode(encoding)
    found = parse_message(data, character_set="ASCII")
    assert (found.header.text(3), found.segments[1].text(5, 2)) == (sender, "小明")


def test_without_msh_18_the_default_holds() -> None:
    data = "MSH|^~\\&|HIS||W\rPID|1||7||王^小明\r".encode("gb18030")
    assert parse_message(data, character_set="GB 18030-2000").segments[1].text(5, 2) == "小明"
    with pytest.raises(MessageError, match="MSH-18"):
        parse_message(data, character_set=UTF8)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"MSH", b"MSH|", b"MSH|^^\\&|x", b"MSHA^~\\&Ax", b"MSH|^~\\|x\r",
        b"MSH|^~\\&|x\rpid|1\r", b"MSH|^~\\&|x\rCanary says hello\r", b"MSH|^~\\&||||||||||||||||KLINGON\r",
        b"MSH|^~\\&|x\r" + b"NTE|1\r" * 3000, b"MSH|^~\\&" + b"|" * 400,
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_without_its_words(data: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        parse_message(data, character_set="ASCII")
    assert "Canary" not in str(caught.value)


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda data: b"MSH|^~\\&|" + data + b"\rPID|" + data))
def test_hostile_bytes_raise_nothing_but_message_error(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        found = parse_message(data, character_set=UTF8)
        for one in found.segments:
            for number in range(-1, 40):
                one.text(number, 3, 2, repetition=2)
                one.components(number)
                one.words(number)
