"""How much of a dataset fits a PDU, as the peer's word has it."""

import pytest

from node.network import Machine, answer_request
from node.network.events import AssociationRequested
from node.network.machine import LONGEST_OWN_DATA_BYTES
from node.network.pdu import PDU_HEAD
from tests.unit.network.conversations import request


@pytest.mark.parametrize(("limit", "room"), [(16384, 16378), (17, 10), (0, LONGEST_OWN_DATA_BYTES - 6)])
def test_a_stretch_of_whole_fragments_makes_only_the_longest_pdus_the_peer_takes(limit: int, room: int) -> None:
    ours = Machine(request(), max_pdu_bytes=16384)
    theirs = Machine(max_pdu_bytes=16384)
    (asked,) = theirs.receive(memoryview(ours.open()))
    assert isinstance(asked, AssociationRequested)
    accept = answer_request(asked.request, lambda _: ("1.2.840.10008.1.2",), max_pdu_bytes=limit)
    list(ours.receive(memoryview(theirs.accept(accept))))
    assert ours.fragment_bytes == room
    heads = [bytes(part) for part in ours.send_data(1, memoryview(bytes(3 * room)), is_last=True)][::2]
    assert [PDU_HEAD.unpack_from(head)[1] for head in heads] == [room + 6] * 3
