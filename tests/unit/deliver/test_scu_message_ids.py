"""Message IDs on an Association that carries more objects than there are numbers."""

import io

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.deliver.association import ApplicationEntity, Association
from node.network import Machine, answer_request
from node.network.events import AssociationRequested, OperationComplete
from node.network.items import PresentationContext
from node.network.pdu import AssociateRequest

CONTEXT = (str(CTImageStorage), str(ExplicitVRLittleEndian))
OBJECTS = 65_536 + 2


class _Twin:
    """The other end of a connection, in memory: takes what is said and has the answer ready."""

    def __init__(self) -> None:
        self.machine = Machine(max_pdu_bytes=16384)
        self.ready = bytearray()
        self.message_ids: list[int] = []

    def send(self, data: bytes, *, timeout_s: float) -> bool:
        for event in self.machine.receive(memoryview(data)):
            if isinstance(event, AssociationRequested):
                self.ready += self.machine.accept(answer_request(event.request, lambda _: CONTEXT[1:], max_pdu_bytes=0))
            elif isinstance(event, OperationComplete):
                self.message_ids.append(event.command.message_id)
                self.ready += self.machine.respond(0x0000)
        return True

    def receive(self, into: memoryview, *, timeout_s: float) -> int:
        count = len(self.ready)
        into[:count] = self.ready
        self.ready.clear()
        return count


def test_65538_objects_on_one_association_have_message_ids_that_start_again_at_one() -> None:
    peer = ApplicationEntity("pacs", "", 0, "PACS", 1.0)
    proposed = (PresentationContext(1, CONTEXT[0], (CONTEXT[1],)),)
    machine = Machine(AssociateRequest("PACS", "WETREAD", proposed), max_pdu_bytes=16384)
    twin = _Twin()
    assoc = Association(peer, machine, twin, proposed)  # type: ignore[arg-type]
    assoc.begin(machine.open())
    for _ in range(OBJECTS):
        assert assoc.store(CONTEXT, "2.25.1", io.BytesIO(b"ab"), 2) == 0x0000
    assert twin.message_ids == [*range(1, 65_536), 1, 2, 3]
