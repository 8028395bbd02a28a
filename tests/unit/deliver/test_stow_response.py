"""Whatever an archive answers to a Store request, it is read or it is none; nothing in it can stop a visit."""

import json

from hypothesis import given
from hypothesis import strategies as st

from node.deliver.stow import _said_of

UID = "2.25.771"
KEYS = st.sampled_from(["00081198", "00081199", "00081155", "00081197", "00081196", "Value", "vr", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.just(UID) | st.text(max_size=5)
BODIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@given(BODIES)
def test_any_json_is_read_without_an_error(body: object) -> None:
    said = _said_of(UID, json.dumps(body).encode())
    assert said is None or 0 <= said.reason <= 0xFFFF


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    said = _said_of(UID, body)
    assert said is None or not said.is_stored


@given(st.sampled_from(["00081198", "00081199"]), st.integers(0, 0xFFFF))
def test_an_instance_is_found_among_others_with_its_reason(sequence: str, reason: int) -> None:
    tag = {"00081198": "00081197", "00081199": "00081196"}[sequence]
    items = [
        {"00081155": {"vr": "UI", "Value": [uid]}, tag: {"vr": "US", "Value": [code]}}
        for uid, code in (("2.25.1", 1), (UID, reason), ("2.25.2", 2))
    ]
    said = _said_of(UID, json.dumps({sequence: {"vr": "SQ", "Value": items}}).encode())
    assert said is not None
    assert (said.is_stored, said.is_failed, said.reason) == (sequence == "00081199", sequence == "00081198", reason)
