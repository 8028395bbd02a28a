"""What a RIS, a web service or a folder accepts, without leaving anything there."""

import json
import os
import uuid
from datetime import datetime
from pathlib import Path

from node.deliver.mllp import MllpConnection
from node.deliver.peer import ApplicationEntity, connect
from node.deliver.probe import Finding, Probe, block, plain
from node.deliver.web import WebAnswer, WebClient
from node.errors import ConfigError, DeliveryError
from node.network.er7 import ENCODING_CHARACTERS, Er7, codec, components, escape, join_segments, moment_field, segment
from node.network.tls import client_context
from node.settings import (
    FolderDestination,
    Hl7Destination,
    HttpDestination,
    OrthancDestination,
    StowDestination,
    WebDestination,
)

__all__ = ["probe_folder", "probe_ris", "probe_web"]

SPEAKS_WITHIN_S = 1.0
CREDENTIALS = (401, 403)
NOT_THERE = (404, 410)


def probe_ris(destination: Hl7Destination, *, is_test_sent: bool, now: datetime) -> Probe:
    """Connect to a RIS and look how it behaves.

    Parameters
    ----------
    is_test_sent
        Also send an ORU of a patient that is none, marked as a test in MSH-11; only when a person asked for it.
    """
    findings: list[Finding] = []
    is_there = _reach_ris(destination, findings)
    if is_there and is_test_sent:
        findings.append(_send_test(destination, now))
    elif is_there:
        meaning = "ask with --send-test: an ORU of no patient, marked T in MSH-11"
        findings.append(Finding("acknowledgement", works=None, found="not tried", meaning=meaning))
    is_usable = is_there and all(one.works is not False for one in findings)
    proposal = block("hl7", destination, {}) if is_usable else ""
    return Probe(destination.name, is_usable, tuple(findings), proposal)


def _reach_ris(destination: Hl7Destination, findings: list[Finding]) -> bool:
    where = f"[destinations.{destination.name}]"
    try:
        tls = None
        if destination.tls:
            tls = client_context(
                destination.tls_authorities,
                certificate=destination.tls_certificate,
                key=destination.tls_key,
                where=where,
            )
        codec(destination.character_set)
    except ConfigError as error:
        findings.append(Finding("settings", works=False, found=str(error), meaning="see to what is named there"))
        return False
    title = f"{destination.name}: {destination.host}"
    peer = ApplicationEntity(title, destination.host, destination.port, "", destination.ack_timeout_s, tls)
    try:
        connection = connect(peer)
    except DeliveryError as error:
        meaning = "is the RIS on, are host and port right, and does it speak TLS as configured?"
        findings.append(Finding("reachable", works=False, found=str(error), meaning=meaning))
        return False
    with connection:
        found = f"{destination.host}:{destination.port}{', over TLS' if tls is not None else ''}"
        findings.append(Finding("reachable", works=True, found=found))
        connection.settimeout(SPEAKS_WITHIN_S)
        try:
            said = connection.recv(1)
        except TimeoutError:
            findings.append(Finding("listens", works=True, found="it waits for a message, as it should"))
            return True
        except OSError as error:
            said, reason = b"", error.strerror or type(error).__name__
        else:
            reason = "it closed the connection"
    if said:
        meaning = "what listens there is probably no MLLP receiver"
        findings.append(Finding("listens", works=False, found="it speaks before it is asked", meaning=meaning))
    else:
        meaning = "it may know senders by address: tell it this machine's"
        findings.append(Finding("listens", works=False, found=reason, meaning=meaning))
    return False


def _send_test(destination: Hl7Destination, now: datetime) -> Finding:
    try:
        with MllpConnection(destination) as connection:
            ack = connection.exchange(_test_message(destination, now))
    except DeliveryError as error:
        return Finding("acknowledgement", works=False, found=str(error), meaning="it took a connection and no message")
    errors = f", error {', '.join(ack.error_codes)}" if ack.error_codes else ""
    meanings = {
        "AA": "results end as verified",
        "CA": "it keeps messages and does not say what becomes of them: results end as accepted",
        "AR": "it does not take messages like this now, or not with this MSH-11, -12 or these names",
    }
    meaning = meanings.get(ack.code, "it refuses the content; it may refuse this test only because it is one")
    return Finding("acknowledgement", works=ack.code in ("AA", "CA"), found=f"{ack.code}{errors}", meaning=meaning)


def _test_message(destination: Hl7Destination, now: datetime) -> bytes:
    """An ORU^R01 that says of itself that it is a test (HL7 table 0103: T)."""
    test = escape("WETREAD-PROBE")
    msh = {
        2: ENCODING_CHARACTERS, 3: escape(destination.sending_application), 4: escape(destination.sending_facility),
        5: escape(destination.receiving_application), 6: escape(destination.receiving_facility), 7: moment_field(now),
        9: components(Er7("ORU"), Er7("R01"), Er7("ORU_R01")), 10: escape(uuid.uuid4().hex[:20]), 11: Er7("T"),
        12: Er7(destination.version), 18: escape(destination.character_set),
    }  # fmt: skip
    study = components(test, escape("Connection test"), Er7("L"))
    obx = {1: Er7("1"), 2: Er7("TX"), 3: study, 5: escape("Connection test of no patient"), 11: Er7("X")}
    segments = (
        segment("MSH", msh),
        segment("PID", {3: test, 5: components(escape("Probe"), escape("Wetread"))}),
        segment("OBR", {1: Er7("1"), 3: test, 4: study, 25: Er7("X")}),
        segment("OBX", obx),
    )
    return join_segments(segments).encode(codec(destination.character_set), errors="replace")


def probe_web(destination: WebDestination) -> Probe:
    """Ask a web service for something harmless: nothing is stored, nothing of a patient is fetched."""
    findings: list[Finding] = []
    try:
        client = WebClient(destination)
    except ConfigError as error:
        found = Finding("settings", works=False, found=str(error), meaning="see to what is named there")
        return Probe(destination.name, is_usable=False, findings=(found,), proposal="")
    try:
        if isinstance(destination, OrthancDestination):
            kind, is_usable = "orthanc", _orthanc(client, findings)
        elif isinstance(destination, StowDestination):
            kind, is_usable = "stow", _stow(client, findings)
        else:
            kind, is_usable = "http", _http(client, findings)
    except DeliveryError as error:
        meaning = "is the service on, is url right, and did the configured authorities sign its certificate?"
        findings.append(Finding("reachable", works=False, found=str(error), meaning=meaning))
        return Probe(destination.name, is_usable=False, findings=tuple(findings), proposal="")
    finally:
        client.close()
    changed: dict[str, object] = {}
    if not isinstance(destination, HttpDestination) and any(one.what == "search" and not one.works for one in findings):
        changed = {"verify": "none"}
    return Probe(destination.name, is_usable, tuple(findings), block(kind, destination, changed) if is_usable else "")


def _orthanc(client: WebClient, findings: list[Finding]) -> bool:
    answer = client.get("/system", headers={"Accept": "application/json"})
    if not _lets_in(answer, findings):
        return False
    try:
        said = json.loads(answer.body)
        version = plain(str(said["Version"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        meaning = "what answers there is no Orthanc, or url is not its root"
        findings.append(Finding("Orthanc", works=False, found="no version", meaning=meaning))
        return False
    findings.append(Finding("Orthanc", works=True, found=f"version {version}"))
    findings.append(Finding("search", works=True, found="/tools/lookup", meaning="results end as verified"))
    return True


def _stow(client: WebClient, findings: list[Finding]) -> bool:
    """Search for a study that nobody has: it tells of the root, which is that of STOW-RS, and of the credentials."""
    nobody = f"2.25.{uuid.uuid4().int}"
    answer = client.get(f"/studies?StudyInstanceUID={nobody}", headers={"Accept": "application/dicom+json"})
    if answer.status in NOT_THERE:
        options = client.options("/studies")
        if options.status in NOT_THERE:
            meaning = "url must be the root of the DICOMweb service, such as https://host/dicom-web"
            findings.append(Finding("DICOMweb", works=False, found=f"{options.status}", meaning=meaning))
            return False
    if not _lets_in(answer, findings, is_any_good=True):
        return False
    works = answer.is_success
    meaning = "results end as verified" if works else "results end as accepted, not verifiable"
    findings.append(Finding("search", works=works, found=f"QIDO-RS: {answer.status}", meaning=meaning))
    meaning = "not tried: whether it takes an object is known only when it gets one"
    findings.append(Finding("STOW-RS", works=None, found="at the same root", meaning=meaning))
    return True


def _http(client: WebClient, findings: list[Finding]) -> bool:
    answer = client.options("")
    if answer.status in NOT_THERE:
        found = Finding("service", works=False, found=f"{answer.status}", meaning="there is nothing at this url")
        findings.append(found)
        return False
    return _lets_in(answer, findings, is_any_good=True)


def _lets_in(answer: WebAnswer, findings: list[Finding], *, is_any_good: bool = False) -> bool:
    """Note whether it is there and takes our credentials; with `is_any_good` an answer that is no success will do."""
    findings.append(Finding("reachable", works=True, found=f"answered {answer.status}"))
    if answer.status in CREDENTIALS:
        meaning = "see user and secret_variable"
        findings.append(Finding("credentials", works=False, found=f"{answer.status}", meaning=meaning))
        return False
    if answer.is_success or (is_any_good and answer.status < 500 and answer.status // 100 != 3):
        return True
    hint = "url must be where the redirect ends" if answer.status // 100 == 3 else "the service has a fault of its own"
    findings.append(Finding("service", works=False, found=f"{answer.status}", meaning=hint))
    return False


def probe_folder(destination: FolderDestination) -> Probe:
    """Look whether a folder is there and may be written to; nothing is."""
    folder = Path(destination.path)
    if not folder.is_dir():
        meaning = "is the share mounted? it is not made by us"
        found = Finding("folder", works=False, found=f"{destination.path} is no folder", meaning=meaning)
        return Probe(destination.name, is_usable=False, findings=(found,), proposal="")
    may_write = os.access(folder, os.W_OK | os.X_OK)
    meaning = "" if may_write else "give this account the right to write there"
    found = Finding("writing", works=may_write, found=destination.path, meaning=meaning)
    return Probe(destination.name, may_write, (found,), block("folder", destination, {}) if may_write else "")
