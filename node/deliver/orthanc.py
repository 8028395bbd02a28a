"""Result objects to an Orthanc over its own REST interface; the only module that knows the library for it."""

import contextlib
import hashlib
import io
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from orthanc_api_client import OrthancApiClient
from orthanc_api_client.exceptions import HttpError, OrthancApiException
from requests.adapters import HTTPAdapter

from node.deliver.web import check_secret, is_final
from node.dicom.part10 import read_file_meta
from node.domain.work import Output
from node.errors import DeliveryError, UnreadableInstanceError
from node.settings import OrthancDestination

__all__ = ["OrthancConnection"]

STORED, THERE, REFUSED = "Success", "AlreadyStored", "FilteredOut"
TRANSCODED = "AlreadyStored, transcoded"


class OrthancConnection:
    """What is sent to one Orthanc; the connection is opened when first used and kept for what comes next.

    Time limits are those of the library: they count from byte to byte.
    """

    def __init__(self, destination: OrthancDestination) -> None:
        """Remember the Orthanc; nothing is opened yet.

        Raises
        ------
        ConfigError
            If its secret is not in the environment.
        """
        check_secret(destination)
        self._name = destination.name
        secret = destination.secret.reveal() or None
        self._client = OrthancApiClient(
            f"{destination.url.rstrip('/')}/",
            user=destination.user or None,
            pwd=secret if destination.user else None,
            api_token=None if destination.user else secret,
        )
        session: requests.Session = self._client._http_session
        session.trust_env = False  # no proxy and no password file of the environment
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=0))  # repeating is the outbox's
        session.verify = destination.tls_authorities or ssl.get_default_verify_paths().cafile or True
        if destination.tls_certificate:
            session.cert = (destination.tls_certificate, destination.tls_key)
        self._limits: dict[str, Any] = {"timeout": destination.timeout_s, "allow_redirects": False}

    def close(self) -> None:
        """Close the connection; the next `send` opens another."""
        self._client.close()

    def send(self, path: Path, output: Output) -> str:
        """Send one stored object, its file byte for byte.

        Returns
        -------
        Orthanc's word: ``Success``, or ``AlreadyStored`` if it has the very same bytes; ``AlreadyStored, transcoded``
        if it keeps what it gets in a transfer syntax of its own.

        Raises
        ------
        DeliveryError
            Permanent if Orthanc refuses the object or has another one under its UID; else the same bytes may be sent
            again.
        OSError
            If the file cannot be read.
        """
        if not output.kind.is_dicom:
            raise DeliveryError(f"{self._name}: {output.output_id} is no DICOM object", is_permanent=True)
        with path.open("rb") as file, self._judged(output):
            answer = self._client.post("instances", data=file, **self._limits)
            said = answer.json()
            status, orthanc_id = str(said["Status"]), str(said["ID"])
        if status == STORED:
            return status
        if status != THERE:
            message = f"{self._name}: {output.output_id} was answered with a status that says it is not stored"
            raise DeliveryError(message, is_permanent=status == REFUSED)
        with self._judged(output):
            return self._compare(path, output, orthanc_id)

    def _compare(self, path: Path, output: Output, orthanc_id: str) -> str:
        """Whether what is there under the UID is what we have."""
        if self._md5_there(orthanc_id) == hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest():
            return THERE
        content: bytes = self._client.get(f"instances/{orthanc_id}/file", **self._limits).content
        if hashlib.sha256(content).hexdigest() == output.sha256:
            return THERE
        if _syntax_of(content) not in ("", output.transfer_syntax_uid):
            return TRANSCODED
        message = f"{self._name}: another object is stored there as {output.output_id}"
        raise DeliveryError(message, is_permanent=True)

    def _md5_there(self, orthanc_id: str) -> str:
        """MD5 that Orthanc keeps of a file, "" if it was told to keep none."""
        try:
            return str(self._client.get(f"instances/{orthanc_id}/attachments/dicom/md5", **self._limits).text).strip()
        except HttpError as error:
            if error.http_status_code in (400, 404):
                return ""
            raise

    @contextlib.contextmanager
    def _judged(self, output: Output) -> Iterator[None]:
        """Turn the library's errors into ours; their words may be the peer's and are left out."""
        name, uid = self._name, output.output_id
        try:
            yield
        except HttpError as error:
            status = _status(error)
            message = f"{name}: {uid} was answered {status or 'an error'}"
            raise DeliveryError(message, is_permanent=is_final(status)) from None
        except (OrthancApiException, requests.RequestException) as error:
            kind = type(error).__name__
            raise DeliveryError(f"{name}: the service did not answer to the end ({kind})") from None
        except (ValueError, KeyError, TypeError, AttributeError):  # the library gives None where it has no error
            raise DeliveryError(f"{name}: {uid} was answered with something that is not Orthanc's") from None


def _status(error: HttpError) -> int:
    """The HTTP status; where the library lost it, that of the error it made of it."""
    status = error.http_status_code
    return status if isinstance(status, int) else 0


def _syntax_of(content: bytes) -> str:
    """Transfer syntax of a Part 10 file, "" if it is none."""
    try:
        return read_file_meta(io.BytesIO(content)).transfer_syntax_uid
    except UnreadableInstanceError:
        return ""
