"""Objects to one archive, each in a form that it takes: as it is, uncompressed, or as a smaller report class.

The Association is kept from one object to the next. One that the archive ended meanwhile, as archives do, is opened
again; an object that was under way at that moment is sent once more, which leaves one object there.

References
----------
PS3.4 Annex B (Storage Service Class), B.3.1 (which transfer syntaxes are offered).
"""

import io
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom import config
from pydicom.uid import UID, ImplicitVRLittleEndian

from node.deliver.association import MOST_CONTEXTS, ApplicationEntity, Association, Context, End, open_association
from node.dicom.native import NATIVE_SYNTAXES, Copy, native_copy
from node.dicom.part10 import FileMeta, file_header, read_file_meta
from node.dicom.sr_class import as_smaller_class, hindrance, smaller_class_uid, smaller_classes
from node.errors import DeliveryError, DicomError
from node.paths import write_atomically

__all__ = ["Answer", "StorageUser", "contexts_of", "identity_of", "refusal_of"]

LONGEST_IDLE_S = 10.0  # archives end an idle Association after 30 s and more, and have few of them
REFUSALS = {  # PS3.8 9.3.3.2, result of a presentation context
    1: "refused by the user",
    2: "refused without a reason",
    3: "SOP class not supported",
    4: "transfer syntax not supported",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The archive's status, and in which other form it got the object, "" if as it is."""

    status: int
    form: str = ""


def contexts_of(meta: FileMeta, *, as_smaller: bool = False) -> tuple[Context, ...]:
    """What is offered for an object, best first: its own transfer syntax and the uncompressed ones, for each class."""
    classes = (meta.sop_class_uid, *(smaller_classes(meta.sop_class_uid) if as_smaller else ()))
    found = dict.fromkeys((meta.transfer_syntax_uid, *NATIVE_SYNTAXES))
    return tuple((sop_class, syntax) for sop_class in classes for syntax in found)


def identity_of(form: str, sop_class_uid: str, sop_instance_uid: str) -> tuple[str, str]:
    """SOP class and SOP Instance UID under which an archive has an object that it got in another form."""
    for smaller in smaller_classes(sop_class_uid):
        if form == _class_form(smaller):
            return smaller, smaller_class_uid(sop_instance_uid, smaller)
    return sop_class_uid, sop_instance_uid


def refusal_of(assoc: Association, context: Context) -> str:
    """Why an archive does not take a context, in words."""
    return REFUSALS.get(assoc.refused.get(context, 0), "refused")


class StorageUser:
    """Who sends to one archive; an Association is opened when first used.

    One object is under way at a time, whichever threads share it.
    """

    def __init__(self, peer: ApplicationEntity, *, calling_ae: str) -> None:
        """Remember the archive; nothing is opened yet."""
        self._peer = peer
        self._calling_ae = calling_ae
        self._assoc: Association | None = None
        self._offered: tuple[Context, ...] = ()  # needed last, first
        self._used_at = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Give it to a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the Association at the end of a ``with`` block."""
        self.close()

    @property
    def end(self) -> End | None:
        """How the Association ended that was used last; None if it stands."""
        return self._assoc.end if self._assoc is not None else None

    def close(self) -> None:
        """Release the Association; the next object opens another."""
        with self._lock:
            self._close()

    def close_if_idle(self) -> None:
        """Release the Association if nothing was sent for a while; does not wait for an object under way."""
        if self._assoc is not None and self._lock.acquire(blocking=False):
            try:
                if self._is_idle():
                    self._close()
            finally:
                self._lock.release()

    def open(self, first: Context, others: Iterable[Context]) -> None:
        """Open an Association for what is to come, as much as it holds, unless the first was offered on the one kept.

        Raises
        ------
        DeliveryError
            If the archive does not let us in.
        """
        with self._lock:
            assoc = self._standing()
            if assoc is None or first not in (*assoc.accepted, *assoc.refused):
                self._open((first, *others))

    def send(self, path: Path, meta: FileMeta, *, as_smaller: bool = False) -> Answer:
        """Send one object.

        Parameters
        ----------
        path
            A Part 10 file.
        meta
            What its header says.
        as_smaller
            A report whose class is refused may go as a document of a smaller class, which is then kept beside it.

        Raises
        ------
        DeliveryError
            Permanent if the archive takes the object in no form; else the Association ended before an answer.
        OSError
            If the file cannot be read.
        """
        wanted = contexts_of(meta, as_smaller=as_smaller)
        with self._lock:
            assoc, is_kept = self._association(wanted)
            try:
                return self._store(assoc, wanted, path, meta)
            except DeliveryError:
                if not is_kept or assoc.end not in (End.RELEASED, End.CLOSED):
                    raise
            return self._store(self._open(wanted), wanted, path, meta)

    def _association(self, wanted: tuple[Context, ...]) -> tuple[Association, bool]:
        """One on which at least one of the contexts was offered, and whether it had been used before."""
        assoc = self._standing()
        if assoc is not None:
            is_all_offered = all(context in assoc.accepted or context in assoc.refused for context in wanted)
            if wanted[0] in assoc.accepted or is_all_offered:
                return assoc, True
        return self._open(wanted), False

    def _standing(self) -> Association | None:
        if self._assoc is None or self._is_idle() or not self._assoc.is_usable():
            self._close()
        return self._assoc

    def _is_idle(self) -> bool:
        return time.monotonic() - self._used_at > LONGEST_IDLE_S

    def _open(self, wanted: tuple[Context, ...]) -> Association:
        self._close()
        self._offered = tuple(dict.fromkeys((*wanted, *self._offered)))[:MOST_CONTEXTS]
        self._assoc = open_association(self._peer, calling_ae=self._calling_ae, contexts=self._offered)
        self._used_at = time.monotonic()
        return self._assoc

    def _close(self) -> None:
        if self._assoc is not None:
            self._assoc.release()
            self._assoc = None

    def _store(self, assoc: Association, wanted: tuple[Context, ...], path: Path, meta: FileMeta) -> Answer:
        """Send the object in the first form that the archive takes."""
        reason = ""
        try:
            for context in (one for one in wanted if one in assoc.accepted):
                sop_class, syntax = context
                if context == wanted[0]:
                    return self._store_file(assoc, context, path, meta)
                if sop_class == meta.sop_class_uid:
                    return self._store_copy(assoc, native_copy(path, meta, to=syntax), _form(syntax))
                reason = hindrance(path, sop_class)
                if not reason:
                    return self._store_smaller(assoc, context, path, meta, _class_form(sop_class))
                reason = f"; {_name(sop_class)} is taken, but {reason}"
        except DicomError as error:
            reason = f", and it cannot be sent in another form: {error}"
        own = wanted[0]
        refusal = refusal_of(assoc, own)
        raise DeliveryError(
            f"{self._peer.title} does not take {_name(own[0])} in {_name(own[1])}: {refusal}{reason}",
            is_permanent=True,
        )

    def _store_file(self, assoc: Association, context: Context, path: Path, meta: FileMeta) -> Answer:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, io.SEEK_END) - meta.dataset_offset
            if size <= 0:
                raise DeliveryError(f"{meta.sop_instance_uid} has no dataset", is_permanent=True)
            file.seek(meta.dataset_offset)
            status = assoc.store(context, meta.sop_instance_uid, file, size)
        self._used_at = time.monotonic()
        return Answer(status)

    def _store_copy(self, assoc: Association, copy: Copy, form: str) -> Answer:
        context = (copy.sop_class_uid, copy.transfer_syntax_uid)
        status = assoc.store(context, copy.sop_instance_uid, io.BytesIO(copy.dataset), len(copy.dataset))
        self._used_at = time.monotonic()
        return Answer(status, form)

    def _store_smaller(self, assoc: Association, context: Context, path: Path, meta: FileMeta, name: str) -> Answer:
        """Make the document of the smaller class if it is not there, and send that file from then on.

        It has no row of its own, so it is not named as one that has.
        """
        sop_class, syntax = context
        kept = path.with_name(f"{smaller_class_uid(meta.sop_instance_uid, sop_class)}.smaller.dcm")
        if not kept.exists():
            made = as_smaller_class(path, meta, sop_class)
            header = file_header(made.sop_class_uid, made.sop_instance_uid, made.transfer_syntax_uid)
            write_atomically(kept, header + made.dataset)
        with kept.open("rb") as file:
            kept_meta = read_file_meta(file)
        if kept_meta.transfer_syntax_uid == syntax:
            return Answer(self._store_file(assoc, context, kept, kept_meta).status, name)
        return self._store_copy(assoc, native_copy(kept, kept_meta, to=syntax), name)


def _name(uid: str) -> str:
    return UID(uid, config.IGNORE).name


def _class_form(sop_class: str) -> str:
    return _name(sop_class).removesuffix(" Storage")


def _form(syntax: str) -> str:
    return "Implicit VR" if syntax == ImplicitVRLittleEndian else "Explicit VR"
