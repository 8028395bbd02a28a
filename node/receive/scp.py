"""The receiver built on pynetdicom: C-ECHO and C-STORE for every storage SOP class.

Objects are written to ``incoming/`` as their fragments arrive, so memory stays flat. Only the proposed
contexts are offered back, each in the sender's own first syntax that we can keep, so nothing is
transcoded on the way in; deflated syntaxes are not offered (a small object can hold gigabytes).
"""

import ipaddress
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE, SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import ThreadedAssociationServer

from node.receive.guard import Watermark
from node.receive.spool import Answer, Incoming
from node.settings import DicomSettings, Peer

__all__ = ["Receiver", "serve"]

log = structlog.get_logger(__name__)

VERIFICATION = "1.2.840.10008.1.1"  # PS3.6 Table A-1; pydicom's name for it is generated at run time
STORAGE_SERVICE = "1.2.840.10008.4.2"  # PS3.6 Table A-1, Storage Service Class; pydicom has no keyword for it
STORAGE_CLASSES = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
# Deflated ones can expand without bound; JPIP and SMPTE ones carry no pixels in the object.
SYNTAXES = tuple(
    uid for uid in ALL_TRANSFER_SYNTAXES if not any(word in UID(uid).name for word in ("Deflate", "JPIP", "SMPTE"))
)
# PS3.8 9.3.4: result, source, reason of an A-ASSOCIATE-RJ
NOT_RECOGNISED = (1, 1, 3)
LIMIT_EXCEEDED = (2, 3, 2)

Accept = Callable[[Incoming], Answer]
Released = Callable[[list[str]], None]
HasRoom = Callable[[], bool]


@dataclass(slots=True)
class Receiver:
    """A running receiver; `port` is the real one when 0 was asked for."""

    server: ThreadedAssociationServer
    ae: ApplicationEntity
    port: int
    door: "_Door"
    tls_port: int = 0  # it has none

    @property
    def open_associations(self) -> int:
        """How many Associations are open now."""
        return len(self.server.active_associations)

    def stop(self, *, drain_s: float) -> None:
        """Refuse new Associations, let open ones finish for `drain_s`, abort what is left."""
        self.door.is_closing = True
        self.server.shutdown()
        self.server.server_close()
        deadline = time.monotonic() + drain_s
        while self.server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        self.ae.shutdown()
        _config.STORE_RECV_CHUNKED_DATASET = False  # the process's own switches, as they were
        tempfile.tempdir = None


def serve(
    settings: DicomSettings,
    incoming: Path,
    *,
    accept: Accept,
    released: Released,
    has_room: HasRoom,
    has_ample_room: HasRoom | None = None,
) -> Receiver:
    """Open the front door.

    Parameters
    ----------
    incoming
        Folder on the store's volume for objects that are not complete yet; the process's temporary folder from here on.
    accept
        Called in the Association's thread for every object; its answer is the sender's answer.
    released
        Called with the studies an Association touched, once no other open Association touches them.
    has_room
        False refuses every new Association as transient, so that senders come back later.
    has_ample_room
        What must be so before they are taken again; `has_room` if not given.

    Raises
    ------
    OSError
        If the address is taken or not ours.
    """
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"  # its debug log holds identifiers
    tempfile.tempdir = str(incoming)  # where pynetdicom writes an object as it arrives
    ae = AE(ae_title=settings.ae_title)
    ae.maximum_associations = settings.max_associations
    ae.acse_timeout = settings.acse_timeout_s
    ae.dimse_timeout = settings.network_timeout_s
    ae.network_timeout = settings.network_timeout_s
    ae.maximum_pdu_size = settings.max_pdu_bytes
    watermark = Watermark(has_room, has_ample_room=has_ample_room, clock=time.monotonic)
    door = _Door(settings, accept, released, watermark.has_room)
    handlers: list[Any] = [  # pynetdicom's own union of event kinds
        (evt.EVT_REQUESTED, door.on_requested),
        (evt.EVT_SOP_COMMON, door.on_sop_common),
        (evt.EVT_C_STORE, door.on_c_store),
        (evt.EVT_RELEASED, door.on_released),
        (evt.EVT_ABORTED, door.on_aborted),
    ]
    server = cast(
        ThreadedAssociationServer,  # what a server that does not block is
        ae.start_server(
            (settings.host, settings.port), block=False, evt_handlers=handlers, contexts=[build_context(VERIFICATION)]
        ),
    )
    return Receiver(server, ae, cast(Any, server.socket).getsockname()[1], door)


@dataclass(slots=True)
class _Door:
    """Who may come in, what they may bring, and which studies they have touched."""

    settings: DicomSettings
    accept: Accept
    released: Released
    has_room: HasRoom
    is_closing: bool = False
    touched: dict[Association, set[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_requested(self, event: evt.Event) -> None:
        """Refuse strangers and overload, else offer what was proposed."""
        assoc: Association = event.assoc
        request = cast(A_ASSOCIATE, assoc.requestor.primitive)  # there is one when this event comes
        address = str(assoc.requestor.address)
        calling_ae = str(request.calling_ae_title).strip()
        here = [one for one in assoc.ae.active_associations if one.is_acceptor and one.requestor.address == address]
        if not any(_admits(peer, calling_ae, address) for peer in self.settings.allowed_peers):
            self._reject(assoc, NOT_RECOGNISED, "peer not allowed", calling_ae, address)
        elif self.is_closing or len(here) > self.settings.max_associations_per_address or not self.has_room():
            self._reject(assoc, LIMIT_EXCEEDED, "no room for another association", calling_ae, address)
        else:
            assoc.acceptor.supported_contexts = self._offer(request.presentation_context_definition_list)

    def _reject(self, assoc: Association, answer: tuple[int, int, int], reason: str, ae: str, address: str) -> None:
        log.warning("association rejected", reason=reason, calling_ae=ae, address=address)
        assoc.acse.send_reject(*answer)
        assoc.kill()

    def _offer(self, proposed: list[PresentationContext]) -> list[PresentationContext]:
        offered: dict[str, list[str]] = {VERIFICATION: [str(uid) for uid in SYNTAXES[:2]]}
        for context in proposed:
            abstract = str(context.abstract_syntax)
            syntax = next((str(uid) for uid in context.transfer_syntax if uid in SYNTAXES), None)
            if syntax is not None and self._is_storage(abstract):
                syntaxes = offered.setdefault(abstract, [])
                if syntax not in syntaxes:
                    syntaxes.append(syntax)
        return [build_context(abstract, syntaxes) for abstract, syntaxes in sorted(offered.items())]

    def _is_storage(self, abstract: str) -> bool:
        if abstract in STORAGE_CLASSES:
            return True
        is_standard_service = abstract.startswith("1.2.840.10008.")
        return self.settings.accept_private_sop_classes and not is_standard_service

    def on_sop_common(self, event: evt.Event) -> dict[str, SOPClassCommonExtendedNegotiation]:
        """Treat private SOP classes as storage (PS3.7 D.3.3.6 by our own word, if the sender says nothing)."""
        items = {}
        request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
        for context in request.presentation_context_definition_list:
            abstract = str(context.abstract_syntax)
            if abstract not in STORAGE_CLASSES and self._is_storage(abstract):
                item = SOPClassCommonExtendedNegotiation()
                item.sop_class_uid = abstract
                item.service_class_uid = STORAGE_SERVICE
                items[abstract] = item
        return items

    def on_c_store(self, event: evt.Event) -> Dataset:
        """Hand one object to the spool and answer with its status."""
        request = cast(C_STORE, event.request)
        path = Path(event.dataset_path)
        answer = self.accept(
            Incoming(
                path=path,
                sop_class_uid=str(request.AffectedSOPClassUID or ""),
                sop_instance_uid=str(request.AffectedSOPInstanceUID or ""),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                calling_ae=str(event.assoc.requestor.ae_title).strip(),
            )
        )
        if answer.study_instance_uid:
            with self.lock:
                self.touched.setdefault(event.assoc, set()).add(answer.study_instance_uid)
        status = Dataset()
        status.Status = answer.status
        if answer.comment:
            status.ErrorComment = answer.comment
        return status

    def on_released(self, event: evt.Event) -> None:
        """Report the studies no open Association touches any more."""
        with self.lock:
            mine = self.touched.pop(event.assoc, set())
            for ended in [assoc for assoc in self.touched if not assoc.is_alive()]:
                del self.touched[ended]
            still_open = set().union(*self.touched.values())
        if mine - still_open:
            self.released(sorted(mine - still_open))

    def on_aborted(self, event: evt.Event) -> None:
        """Forget an Association that broke off: its sender will come again, so nothing is whole by this."""
        with self.lock:
            self.touched.pop(event.assoc, None)


def _admits(peer: Peer, calling_ae: str, address: str) -> bool:
    if peer.ae_title not in ("*", calling_ae) or peer.certificate:  # without TLS nobody shows one
        return False
    if peer.address == "*":
        return True
    return ipaddress.ip_address(address) in ipaddress.ip_network(peer.address, strict=False)
