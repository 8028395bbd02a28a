"""An archive on pynetdicom that commits, or does not, and answers C-FIND about what it has."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from node.settings import DicomDestination, Verify

__all__ = ["Committer"]

COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"


@dataclass
class Committer:
    """What it holds, what it was asked to commit, and how it answers.

    `reports` says when its report comes: on the ``same`` Association at once, or ``never``. `fails` are reasons for SOP
    Instance UIDs it does not commit; with `hides` no query finds anything. It can be left and entered again: then it is
    on the same `port` and still holds what it held.
    """

    port: int = 0
    commits: bool = True
    finds: bool = True
    reports: str = "same"
    action_status: int = 0x0000
    find_status: int = 0x0000
    hides: bool = False
    fails: dict[str, int] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    stores: int = 0
    transactions: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    queries: list[Dataset] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    reported: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Committer":
        ae = AE("PACS")
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), list(AllTransferSyntaxes))
        ae.add_supported_context(Verification)
        if self.commits:
            ae.add_supported_context(StorageCommitmentPushModel)
        if self.finds:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._action),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_DIMSE_SENT, self._sent),
        ]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        self.port = int(self._server.socket.getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def destination(self, verify: Verify = Verify.AUTO, *, timeout_s: float = 10.0) -> DicomDestination:
        return DicomDestination("pacs", "127.0.0.1", self.port, "PACS", timeout_s=timeout_s, verify=verify)

    def dataset(self, transaction: int = -1) -> Dataset:
        return self._result(*self.transactions[transaction])[1]

    def _store(self, event: Event) -> int:
        self.stores += 1
        self.held.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _action(self, event: Event) -> tuple[int, None]:
        ds = event.action_information
        references = [
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in ds.ReferencedSOPSequence
        ]
        self.transactions.append((str(ds.TransactionUID), references))
        return self.action_status, None

    def _sent(self, event: Event) -> None:
        if type(event.message).__name__ != "N_ACTION_RSP" or self.reports != "same" or self.action_status:
            return
        threading.Thread(target=self._report_here, args=(event.assoc,), daemon=True).start()

    def _report_here(self, assoc: object) -> None:
        event_type, ds = self._result(*self.transactions[-1])
        status, _ = assoc.send_n_event_report(ds, event_type, StorageCommitmentPushModel, COMMITMENT_INSTANCE)  # type: ignore[attr-defined]
        self.answers.append(int(status.get("Status", -1)))
        self.reported.set()

    def _result(self, uid: str, references: list[tuple[str, str]]) -> tuple[int, Dataset]:
        ds = Dataset()
        ds.TransactionUID = uid
        kept, failed = [], []
        for sop_class, sop_uid in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
            if sop_uid in self.fails or sop_uid not in self.held:
                item.FailureReason = self.fails.get(sop_uid, 0x0112)
                failed.append(item)
            else:
                kept.append(item)
        if kept:
            ds.ReferencedSOPSequence = kept
        if failed:
            ds.FailedSOPSequence = failed
        return (2 if failed else 1), ds

    def _find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        self.queries.append(query)
        if self.find_status:
            yield self.find_status, None
            return
        if str(query.SOPInstanceUID) in self.held and not self.hides:
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.SOPInstanceUID = query.SOPInstanceUID
            yield 0xFF00, match
