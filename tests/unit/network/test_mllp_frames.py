"""Frames of MLLP without a socket."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import MessageError
from node.network.mllp import FrameDecoder, frame

MESSAGES = st.lists(st.binary(max_size=30).map(lambda data: data.translate(None, b"\x0b\x1c")), max_size=5)


@given(MESSAGES, st.lists(st.integers(0, 200), max_size=8))
def test_messages_come_out_whole_wherever_the_packets_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(frame(message) for message in messages)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    decoder = FrameDecoder(1000)
    found = [message for start, end in itertools.pairwise(edges) for message in decoder.feed(wire[start:end])]
    assert found == messages


@given(st.binary(max_size=300), st.lists(st.binary(max_size=20), max_size=5))
def test_hostile_bytes_raise_nothing_but_message_error(first: bytes, more: list[bytes]) -> None:
    decoder = FrameDecoder(100)
    try:
        for data in (first, *more):
            for message in decoder.feed(data):
                assert len(message) <= 100
    except MessageError:
        pass


def test_bytes_between_frames_are_skipped_and_a_new_start_begins_afresh() -> None:
    assert FrameDecoder(100).feed(b"noise\x0bhalf\x0bwhole\x1c\rmore noise" + frame(b"next")) == [b"whole", b"next"]


def test_a_frame_without_carriage_return_is_whole() -> None:
    assert FrameDecoder(100).feed(b"\x0bone\x1c\x0btwo\x1c\r") == [b"one", b"two"]


@pytest.mark.parametrize("end", [b"", b"\x1c\r"])
def test_a_message_beyond_the_limit_is_refused_and_noise_is_not_kept(end: bytes) -> None:
    decoder = FrameDecoder(10)
    assert decoder.feed(b"n" * 1000) == []
    with pytest.raises(MessageError, match="10 bytes"):
        decoder.feed(b"\x0b" + b"x" * 11 + end)
