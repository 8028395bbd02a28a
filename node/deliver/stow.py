"""Result objects to a DICOMweb archive: STOW-RS of the stored bytes, judged by what the archive says of the instance.

References
----------
PS3.18 10.5 (Store Transaction), I.2.2 (Store Instances Response Attributes).
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.deliver.scu import ALREADY_THERE, is_refusal_of_content
from node.deliver.web import WebAnswer, WebClient, refusal, stretches
from node.domain.work import Output
from node.errors import DeliveryError
from node.settings import StowDestination

__all__ = ["StowConnection"]

JUDGED_BY_RESPONSE = (200, 202, 409)  # PS3.18 Table 10.5.3-1: their body says which instances are stored
# PS3.18 Table I.2-1: elements of the response, as they are named in DICOM JSON (PS3.18 F.2)
FAILED_SEQUENCE, FAILURE_REASON = "00081198", "00081197"
REFERENCED_SEQUENCE, WARNING_REASON = "00081199", "00081196"
REFERENCED_UID = "00081155"


@dataclass(frozen=True, slots=True)
class _Said:
    """What a Store response says of one instance; a reason is 0 if there is none."""

    is_stored: bool = False
    is_failed: bool = False
    reason: int = 0


class StowConnection:
    """What is sent to one DICOMweb archive; the connection is opened when first used and kept for what comes next."""

    def __init__(self, destination: StowDestination) -> None:
        """Remember the archive; nothing is opened yet.

        Raises
        ------
        ConfigError
            If its secret, certificate or key is not what it must be.
        """
        self._name = destination.name
        self._client = WebClient(destination)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def send(self, path: Path, output: Output) -> str:
        """Send one stored object, its file byte for byte.

        Returns
        -------
        The HTTP status, with the archive's warning or ``0x0111`` (it is there already) if there is one.

        Raises
        ------
        DeliveryError
            Permanent if the archive refuses the object itself; else the same bytes may be sent again.
        OSError
            If the file cannot be read.
        """
        if not output.kind.is_dicom:
            raise DeliveryError(f"{self._name}: {output.output_id} is no DICOM object", is_permanent=True)
        # A boundary must not occur in the content: none that holds the content's own SHA-256 can.
        boundary = f"wetread-{output.sha256}"
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        answer = self._client.post(
            "/studies",
            itertools.chain((head,), stretches(path), (tail,)),
            size_bytes=len(head) + output.size_bytes + len(tail),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        )
        return self._judge(answer, output)

    def _judge(self, answer: WebAnswer, output: Output) -> str:
        name, uid = self._name, output.output_id
        said = _said_of(uid, answer.body) if answer.status in JUDGED_BY_RESPONSE else None
        if said is None or not (said.is_stored or said.is_failed):
            if answer.is_success:
                raise DeliveryError(f"{name}: {uid} was answered {answer.status}, but not whether it is stored")
            raise refusal(name, uid, answer)
        code = f" 0x{said.reason:04X}" if said.reason else ""
        if said.is_stored or said.reason == ALREADY_THERE:
            return f"{answer.status}{code}"
        raise DeliveryError(
            f"{name}: {uid} was answered {answer.status}{code}",
            is_permanent=is_refusal_of_content(said.reason),
            least_wait_s=answer.retry_after_s,
        )


def _said_of(uid: str, body: bytes) -> _Said | None:
    """What a response in DICOM JSON says of an instance; None if it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list):  # some archives put the one dataset into a list
        found = found[0] if found else None
    if not isinstance(found, dict):
        return None
    for item in _items(found, FAILED_SEQUENCE):
        if _first(item, REFERENCED_UID) == uid:
            return _Said(is_failed=True, reason=_code(item, FAILURE_REASON))
    for item in _items(found, REFERENCED_SEQUENCE):
        if _first(item, REFERENCED_UID) == uid:
            return _Said(is_stored=True, reason=_code(item, WARNING_REASON))
    return _Said()


def _items(ds: dict[str, object], tag: str) -> Sequence[dict[str, object]]:
    values = _values(ds, tag)
    return [item for item in values if isinstance(item, dict)]


def _first(ds: dict[str, object], tag: str) -> object:
    values = _values(ds, tag)
    return values[0] if values else None


def _code(ds: dict[str, object], tag: str) -> int:
    value = _first(ds, tag)
    return value & 0xFFFF if isinstance(value, int) else 0


def _values(ds: dict[str, object], tag: str) -> list[object]:
    element = ds.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
