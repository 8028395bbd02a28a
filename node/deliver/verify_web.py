"""Asking a web archive whether it has what it took: QIDO-RS, or the look-up of Orthanc.

References
----------
PS3.18 10.6 (Search Transaction).
"""

import json

from node.deliver.rounds import FOUND, Round
from node.deliver.web import WebAnswer, WebClient
from node.errors import DeliveryError
from node.settings import OrthancDestination, StowDestination
from node.store.verification import Check

__all__ = ["ask_web"]

NO_CONTENT, NOT_FOUND = 204, 404  # PS3.18 10.6.3: some archives answer so where nothing matches
NOT_FOR_US = (405, 501)  # there is no such service
SOP_INSTANCE_UID = "00080018"  # as it is named in DICOM JSON (PS3.18 F.2)


def ask_web(this: Round, destination: StowDestination | OrthancDestination) -> None:
    """Ask about everything that is left in a round.

    Raises
    ------
    DeliveryError
        If the archive cannot be reached or does not answer.
    """
    client = WebClient(destination)
    try:
        for one in list(this.left.values()):
            ask = _look_up if isinstance(destination, OrthancDestination) else _search
            _judge(this, one, ask(client, one))
    finally:
        client.close()


def _search(client: WebClient, one: Check) -> WebAnswer:
    path = f"/studies/{one.study_uid}/instances?SOPInstanceUID={one.delivery.output.output_id}"
    return client.get(path, headers={"Accept": "application/dicom+json"})


def _look_up(client: WebClient, one: Check) -> WebAnswer:
    uid = one.delivery.output.output_id.encode("ascii")
    return client.post("/tools/lookup", (uid,), size_bytes=len(uid), headers={"Content-Type": "text/plain"})


def _judge(this: Round, one: Check, answer: WebAnswer) -> None:
    if answer.status in (NO_CONTENT, NOT_FOUND):
        this.not_found(one, "a search does not find it")
    elif answer.status in NOT_FOR_US:
        this.unverifiable(one, f"its search was answered {answer.status}")
    elif not answer.is_success:
        this.postpone(one, f"a search was answered {answer.status}")
    elif _names(answer.body, one.delivery.output.output_id):
        this.verified(one, FOUND)
    else:
        this.not_found(one, "a search does not find it")


def _names(body: bytes, uid: str) -> bool:
    """True if an answer in JSON names the object: as a match of QIDO-RS, or as an instance that Orthanc looked up."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise DeliveryError("the answer to a search is not JSON") from None
    matches = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return any(one.get("Type") == "Instance" or _uid_of(one) == uid for one in matches)


def _uid_of(match: dict[str, object]) -> object:
    element = match.get(SOP_INSTANCE_UID)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None
