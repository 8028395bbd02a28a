"""Result objects on their way to a PACS: C-STORE of the stored bytes, and what the PACS says to them.

References
----------
PS3.4 Annex B (Storage Service Class), PS3.7 Annex C (status).
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from node.deliver.association import ApplicationEntity
from node.deliver.storage import StorageUser
from node.deliver.stored import check_stored
from node.dicom.part10 import FileMeta, read_file_meta
from node.domain.work import Output
from node.errors import ConfigError, DeliveryError, UnreadableInstanceError
from node.network.tls import client_context
from node.settings import DicomDestination

__all__ = ["ALREADY_THERE", "DicomConnection", "application_entity", "is_refusal_of_content", "send_dicom"]

log = structlog.get_logger(__name__)

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


def application_entity(destination: DicomDestination) -> ApplicationEntity:
    """Whom to call for a destination.

    Raises
    ------
    ConfigError
        If a certificate or key for TLS is not what it must be.
    """
    title = f"{destination.name}: {destination.ae_title}"
    tls = None
    if destination.tls:
        tls = client_context(
            destination.tls_authorities,
            certificate=destination.tls_certificate,
            key=destination.tls_key,
            where=f"[destinations.{destination.name}]",
        )
    return ApplicationEntity(
        title, destination.host, destination.port, destination.ae_title, destination.timeout_s, tls
    )


class DicomConnection:
    """What is sent to one PACS; its Association is opened when first used and kept for what comes next.

    May be shared by threads: one object is under way at a time.
    """

    def __init__(self, destination: DicomDestination, *, calling_ae: str) -> None:
        """Remember the destination; nothing is opened yet.

        Raises
        ------
        ConfigError
            If a certificate or key for TLS is not what it must be.
        """
        self._name = destination.name
        self._user = StorageUser(application_entity(destination), calling_ae=calling_ae)

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
        self._user.close()

    def close_if_idle(self) -> None:
        """Release the Association if nothing was sent for ten seconds."""
        self._user.close_if_idle()

    def send(self, path: Path, output: Output) -> str:
        """Send one stored object.

        Parameters
        ----------
        path
            The Part 10 file; its dataset goes over the wire byte for byte if the PACS takes it as it is.
        output
            What the file must be: the object's UID. Whoever sends has looked at its bytes (`node.deliver.stored`).

        Returns
        -------
        Status of the PACS, such as ``0x0000``; a warning such as ``0xB000`` means that it is stored, with a note.
        ``0x0000 as Implicit VR`` says that it was encoded anew, ``0x0000 as Enhanced SR`` that the PACS takes this
        report as a document of that class only (see `node.dicom.sr_class.smaller_class_uid`).

        Raises
        ------
        DeliveryError
            Permanent if the file is not that object or the PACS refuses its kind or content; else
            the same bytes may be sent again.
        """
        try:
            meta = self._checked(path, output)
            answer = self._user.send(path, meta, as_smaller=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DeliveryError(f"{self._name}: {output.output_id} cannot be read: {reason}") from error
        judged = self._judge(answer.status, output)
        if not answer.form:
            return judged
        log.info("output sent in another form", output=output.output_id, destination=self._name, kind=answer.form)
        return f"{judged} as {answer.form}"

    def _checked(self, path: Path, output: Output) -> FileMeta:
        """What the file says it is, if it is the object that it must be."""
        name = self._name
        with path.open("rb") as file:
            try:
                meta = read_file_meta(file)
            except UnreadableInstanceError as error:
                raise DeliveryError(f"{name}: {output.output_id} is not a DICOM file", is_permanent=True) from error
        if meta.sop_instance_uid != output.output_id:
            raise DeliveryError(f"{name}: the file of {output.output_id} holds another object", is_permanent=True)
        return meta

    def _judge(self, status: int, output: Output) -> str:
        answer = f"0x{status:04X}"
        if status in (SUCCESS, ALREADY_THERE, *WARNINGS) or status >> 12 == 0xB:
            return answer
        is_permanent = is_refusal_of_content(status)
        raise DeliveryError(f"{self._name}: {output.output_id} was answered {answer}", is_permanent=is_permanent)


def is_refusal_of_content(status: int) -> bool:
    """True if a status of the Storage Service says that the same bytes will never be taken (PS3.4 B.2.3)."""
    return status in CONTENT_REFUSED or status >> 8 in (0xA8, 0xA9) or status >> 12 == 0xC


def send_dicom(path: Path, output: Output, destination: DicomDestination, *, calling_ae: str) -> str:
    """Look at one stored object and send it on an Association of its own; see `DicomConnection.send`.

    Raises
    ------
    DeliveryError
        As `DicomConnection.send`; permanent if the bytes are not those that were made, or the destination's
        certificates are not what they must be.
    """
    try:
        check_stored(path, output)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DeliveryError(f"{destination.name}: {output.output_id} cannot be read: {reason}") from error
    try:
        connection = DicomConnection(destination, calling_ae=calling_ae)
    except ConfigError as error:
        raise DeliveryError(str(error), is_permanent=True) from error
    with connection:
        return connection.send(path, output)
