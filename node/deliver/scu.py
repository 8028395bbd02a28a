"""Result objects on their way to a PACS: C-STORE of the stored bytes, nothing encoded again.

References
----------
PS3.4 Annex B (Storage Service Class), PS3.7 Annex C (status).
"""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association

from node.dicom.requestor import Requestor
from node.domain.work import Output
from node.errors import DeliveryError
from node.settings import DicomDestination

__all__ = ["DicomConnection", "send_dicom"]

SUCCESS = 0x0000
ALREADY_THERE = 0x0111  # PS3.7 C.5.11, Duplicate SOP Instance; our UIDs depend on the content, so it is ours
WARNINGS = (0x0001, 0x0107, 0x0116)  # PS3.7 C.4; and 0xBxxx
CONTENT_REFUSED = (  # PS3.7 C.5: the same bytes will never be taken
    0x0105,  # no such attribute
    0x0106,  # invalid attribute value
    0x0115,  # invalid argument value
    0x0117,  # invalid object instance
    0x0118,  # no such SOP class
    0x0120,  # missing attribute
    0x0121,  # missing attribute value
    0x0122,  # SOP class not supported
    0x0211,  # unrecognized operation
    0x0212,  # mistyped argument
)
REFUSALS = {  # PS3.8 9.3.3.2, result of a presentation context
    1: "refused by the user",
    2: "refused without a reason",
    3: "SOP class not supported",
    4: "transfer syntax not supported",
}
LAST_MESSAGE_ID = 0xFFFF  # PS3.7 E.1


class DicomConnection:
    """The Association with one PACS; opened when first used, kept for a series of objects.

    For one thread at a time. Each (SOP class, transfer syntax) has a presentation context of its own; an object
    that none of them fits makes a new Association which offers them all.
    """

    def __init__(self, destination: DicomDestination, *, calling_ae: str) -> None:
        """Remember the destination; nothing is opened yet."""
        self._destination = destination
        self._ae = Requestor(calling_ae, timeout_s=destination.timeout_s)
        self._assoc: Association | None = None
        self._offered: set[tuple[UID, UID]] = set()
        self._message_id = 0

    def __enter__(self) -> Self:
        """Give the connection to a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the Association at the end of a ``with`` block."""
        self.close()

    def close(self) -> None:
        """Release the Association; the next `send` makes a new one."""
        if self._assoc is not None and self._assoc.is_established:
            self._assoc.release()
        self._assoc = None

    def send(self, path: Path, output: Output) -> str:
        """Send one stored object.

        Parameters
        ----------
        path
            The Part 10 file; its dataset goes over the wire byte for byte.
        output
            What the file must be: the object's UID and the file's SHA-256.

        Returns
        -------
        Status of the PACS, such as ``0x0000``; a warning such as ``0xB000`` means that it is stored, with a note.

        Raises
        ------
        DeliveryError
            Permanent if the file is not what was stored or the PACS refuses its kind or content; else
            the same bytes may be sent again.
        """
        context = self._context_of(path, output)
        assoc = self._association(context)
        self._check_context(assoc, context)
        self._message_id = self._message_id % LAST_MESSAGE_ID + 1
        try:
            answer = assoc.send_c_store(path, msg_id=self._message_id)
        except RuntimeError as error:  # the peer closed between the look and the request
            self._assoc = None
            raise DeliveryError(
                f"{self._destination.name}: the Association ended before the object was sent"
            ) from error
        if "Status" not in answer:
            self._assoc = None
            raise DeliveryError(f"{self._destination.name}: no answer to {output.output_id}: aborted or out of time")
        return self._judge(int(answer.Status), output)

    def _context_of(self, path: Path, output: Output) -> tuple[UID, UID]:
        name = self._destination.name
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != output.sha256:
                raise DeliveryError(f"{name}: {output.output_id} is not the file that was stored", is_permanent=True)
            meta = read_file_meta_info(path)
            found = UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID)
            sop_instance_uid = str(meta.MediaStorageSOPInstanceUID)
        except OSError as error:
            raise DeliveryError(f"{name}: {output.output_id} cannot be read: {error.strerror}") from error
        except (InvalidDicomError, AttributeError) as error:
            raise DeliveryError(f"{name}: {output.output_id} is not a DICOM file", is_permanent=True) from error
        if sop_instance_uid != output.output_id:
            raise DeliveryError(f"{name}: the file of {output.output_id} holds another object", is_permanent=True)
        return found

    def _association(self, context: tuple[UID, UID]) -> Association:
        if self._assoc is not None and self._assoc.is_established and context in self._offered:
            return self._assoc
        self.close()
        self._offered.add(context)
        destination = self._destination
        try:
            assoc = self._ae.associate(
                destination.host,
                destination.port,
                contexts=[build_context(sop_class, [syntax]) for sop_class, syntax in sorted(self._offered)],
                ae_title=destination.ae_title,
            )
        except OSError as error:  # the host's name has no address
            raise DeliveryError(f"{destination.name}: {destination.host} has no address: {error.strerror}") from error
        if not assoc.is_established:
            if assoc.rejected_contexts and not assoc.accepted_contexts:
                self._check_context(assoc, context)
            reason = "rejected the Association" if assoc.is_rejected else "cannot be reached or ended the Association"
            raise DeliveryError(f"{destination.name}: {destination.ae_title} {reason}")
        self._assoc = assoc
        return assoc

    def _check_context(self, assoc: Association, context: tuple[UID, UID]) -> None:
        accepted = {(item.abstract_syntax, item.transfer_syntax[0]) for item in assoc.accepted_contexts}
        if context in accepted:
            return
        results = {(item.abstract_syntax, item.transfer_syntax[0]): item.result for item in assoc.rejected_contexts}
        reason = REFUSALS.get(results.get(context) or 0, "refused")
        self._offered.discard(context)
        raise DeliveryError(
            f"{self._destination.name}: {self._destination.ae_title} does not take {context[0].name} "
            f"in {context[1].name}: {reason}",
            is_permanent=True,
        )

    def _judge(self, status: int, output: Output) -> str:
        answer = f"0x{status:04X}"
        if status in (SUCCESS, ALREADY_THERE, *WARNINGS) or status >> 12 == 0xB:
            return answer
        is_permanent = status in CONTENT_REFUSED or status >> 8 in (0xA8, 0xA9) or status >> 12 == 0xC  # PS3.4 B.2.3
        raise DeliveryError(
            f"{self._destination.name}: {output.output_id} was answered {answer}", is_permanent=is_permanent
        )


def send_dicom(path: Path, output: Output, destination: DicomDestination, *, calling_ae: str) -> str:
    """Send one stored object on an Association of its own; see `DicomConnection.send`."""
    with DicomConnection(destination, calling_ae=calling_ae) as connection:
        return connection.send(path, output)
