"""Asking a sender by C-FIND how many images of a study it holds (PS3.4 Annex C)."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from node.complete.requestor import FindRequestor
from node.complete.settle import due_studies, is_answered
from node.dicom.elements import number, text
from node.errors import SenderError
from node.settings import CompleteSettings, Sender
from node.store import gathering
from node.store.database import Store
from node.store.gathering import OpenStudy

__all__ = ["Asker", "count_at"]

log = structlog.get_logger(__name__)

SUCCESS = 0x0000  # PS3.4 C.4.1.1.4
PENDING = (0xFF00, 0xFF01)
MOST_MATCHES = 100_000


@dataclass(slots=True)
class Asker:
    """Asks senders about the studies that are due; one that does not answer is told of once, until it does again."""

    store: Store
    settings: CompleteSettings
    ae_title: str
    silent: set[str] = field(default_factory=set)

    def ask(self) -> None:
        """Ask about every study that is due and whose sender was not asked since the last image."""
        if not self.settings.senders:
            return
        due = [one.study for one in due_studies(self.store, self.settings) if one.signal != "forced"]
        for sender in self.settings.senders:
            studies = [one for one in due if one.calling_ae == sender.ae_title and not is_answered(one)]
            if studies:
                self._ask(sender, studies)

    def _ask(self, sender: Sender, studies: list[OpenStudy]) -> None:
        for study in studies:
            asked_at = self.store.clock()
            try:
                ours = gathering.made_here(self.store, study.study_uid)
                count = count_at(sender, study.study_uid, calling_ae=self.ae_title, leave_out=ours)
            except SenderError as error:
                self._note_silence(sender, str(error))
                for left in studies[studies.index(study) :]:  # each would have to wait as long
                    gathering.note_expected(self.store, left.study_uid, None, asked_at=asked_at)
                return
            gathering.note_expected(self.store, study.study_uid, count, asked_at=asked_at)
            if sender.ae_title in self.silent:
                self.silent.discard(sender.ae_title)
                log.info("sender answered again", calling_ae=sender.ae_title)

    def _note_silence(self, sender: Sender, why: str) -> None:
        if sender.ae_title not in self.silent:
            self.silent.add(sender.ae_title)
            log.warning("sender did not say what it holds", calling_ae=sender.ae_title, reason=why)


def count_at(sender: Sender, study_uid: str, *, calling_ae: str, leave_out: frozenset[str] = frozenset()) -> int | None:
    """How many images of a study a sender holds, None if it does not know the study.

    The study's own count if the sender gives one; else its series' counts, else its images one by one.

    Parameters
    ----------
    leave_out
        SOP Instance UIDs that do not count; if there are any, the images are looked at one by one.

    Raises
    ------
    SenderError
        If it cannot be reached, does not answer in time, or does not support the question.
    """
    deadline = time.monotonic() + sender.timeout_s
    with _association(sender, calling_ae) as assoc:
        where = _Place(assoc, sender, deadline)
        if not leave_out:
            studies = where.find("STUDY", "NumberOfStudyRelatedInstances", StudyInstanceUID=study_uid)
            total = number(studies[0], "NumberOfStudyRelatedInstances") if studies else None
            if total is not None:
                return int(total)
        series = where.find(
            "SERIES", "NumberOfSeriesRelatedInstances", StudyInstanceUID=study_uid, SeriesInstanceUID=""
        )
        totals = [number(one, "NumberOfSeriesRelatedInstances") for one in series]
        if not leave_out and totals and None not in totals:
            return sum(int(total or 0) for total in totals)
        uids = {
            text(image, "SOPInstanceUID")
            for one in series
            for image in where.find(
                "IMAGE",
                "InstanceNumber",
                StudyInstanceUID=study_uid,
                SeriesInstanceUID=text(one, "SeriesInstanceUID"),
                SOPInstanceUID="",
            )
        }
    return len(uids - leave_out) if uids else None


@dataclass(frozen=True, slots=True)
class _Place:
    """An open Association with a sender, and when its time is over."""

    assoc: Association
    sender: Sender
    deadline: float

    def find(self, level: str, wanted: str, **keys: str) -> list[Dataset]:
        """All matches at one level; `wanted` is asked for as well."""
        query = Dataset()
        query.QueryRetrieveLevel = level
        setattr(query, wanted, None)
        for keyword, value in keys.items():
            setattr(query, keyword, value)
        found: list[Dataset] = []
        for status, match in self.assoc.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
            code = status.get("Status") if status else None
            if code == SUCCESS:
                return found
            if code not in PENDING or match is None:
                said = "no answer" if code is None else f"status 0x{code:04X}"
                raise SenderError(f"{self.sender.ae_title}: expected matches at {level} level, found {said}")
            found.append(match)
            if len(found) > MOST_MATCHES or time.monotonic() > self.deadline:
                raise SenderError(f"{self.sender.ae_title}: {len(found)} matches and no end in time")
        raise SenderError(f"{self.sender.ae_title}: the answer has no end")


@contextlib.contextmanager
def _association(sender: Sender, calling_ae: str) -> Iterator[Association]:
    ae = FindRequestor(calling_ae, timeout_s=sender.timeout_s)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    called_ae = sender.called_ae or sender.ae_title
    assoc = ae.associate(sender.host, sender.port, ae_title=called_ae)
    if not assoc.is_established:
        why = "rejected the Association" if assoc.is_rejected else "cannot be reached"
        raise SenderError(f"{called_ae} at {sender.host}:{sender.port} {why}")
    try:
        yield assoc
    except SenderError:
        assoc.abort()  # it may still be sending
        raise
    if assoc.is_established:
        assoc.release()
