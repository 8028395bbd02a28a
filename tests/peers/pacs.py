"""A PACS on loopback that answers what a test wants, aborts, or says nothing."""

import enum
import threading

from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from node.settings import DicomDestination

__all__ = ["BadPacs", "Fault", "StalledPacs", "destination"]

P_DATA = b"\x04"  # PS3.8 9.3.5


class Fault(enum.Enum):
    """What the PACS does instead of an answer."""

    ABORT = enum.auto()
    SILENCE = enum.auto()


class BadPacs:
    """A storage SCP that follows a script of statuses and faults; the last one goes on for ever.

    `datasets` are the encoded datasets of all requests, as they came over the wire; `associations` counts
    accepted Associations.
    """

    def __init__(
        self,
        *script: int | Fault,
        sop_classes: tuple[str, ...] | None = None,
        transfer_syntaxes: tuple[str, ...] = tuple(AllTransferSyntaxes),
        called_ae: str | None = None,
    ) -> None:
        self._script = list(script) or [0x0000]
        self._let_go = threading.Event()
        self.datasets: list[bytes] = []
        self.sop_instance_uids: list[str] = []
        self.calling_aes: list[str] = []
        self._ae = AE(ae_title="PACS")
        self._ae.require_called_aet = called_ae is not None
        all_storage = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
        for sop_class in sop_classes or all_storage:
            self._ae.add_supported_context(sop_class, list(transfer_syntaxes))
        if not sop_classes:
            self._ae.add_supported_context("1.2.840.10008.5.1.4.1.1.88.34", [ExplicitVRLittleEndian])

    @property
    def associations(self) -> int:
        return len(self.calling_aes)

    def __enter__(self) -> "BadPacs":
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_DATA_RECV, self._received),
        ]
        self._server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self._server.socket.getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go.set()
        self._server.shutdown()

    def _accepted(self, event: Event) -> None:
        self.calling_aes.append(event.assoc.requestor.ae_title)

    def _received(self, event: Event) -> None:
        pass

    def _store(self, event: Event) -> int:
        self.datasets.append(event.encoded_dataset(include_meta=False))
        self.sop_instance_uids.append(str(event.request.AffectedSOPInstanceUID))
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if answer is Fault.ABORT:
            event.assoc.abort()
            return 0x0000
        if answer is Fault.SILENCE:
            self._let_go.wait(10)
            return 0x0000
        assert isinstance(answer, int)
        return answer


class StalledPacs(BadPacs):
    """A PACS that accepts an Association and reads nothing after it, so that the sender's buffers fill."""

    def _received(self, event: Event) -> None:
        if event.data[:1] == P_DATA:  # this runs in the thread that reads the socket
            self._let_go.wait(10)


def destination(port: int, *, ae_title: str = "PACS", timeout_s: float = 5.0) -> DicomDestination:
    return DicomDestination("pacs", "127.0.0.1", port, ae_title, timeout_s=timeout_s)
