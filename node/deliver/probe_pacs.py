"""What a PACS accepts: reached, let in, which results in which form, and how it can be asked what it has.

References
----------
PS3.4 A (Verification), B (Storage), C (Query/Retrieve), J (Storage Commitment).
"""

import uuid
from dataclasses import replace

from pydicom import config
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.deliver.association import Association, Context, open_association
from node.deliver.peer import connect
from node.deliver.probe import Finding, Probe, block
from node.deliver.scu import application_entity
from node.deliver.sent_classes import SENT_CLASSES
from node.deliver.storage import contexts_of, refusal_of
from node.dicom.commitment import COMMITMENT
from node.dicom.native import NATIVE_SYNTAXES
from node.dicom.part10 import FileMeta
from node.dicom.query import STUDY_ROOT_FIND, write_query
from node.domain.work import OutputKind
from node.errors import ConfigError, DeliveryError
from node.network import Kind
from node.network.negotiation import VERIFICATION
from node.settings import DicomDestination, Verify

__all__ = ["probe_pacs"]

SUCCESS = 0x0000
UNANSWERED = "it offers queries and does not answer ours: it may not know us"


def probe_pacs(destination: DicomDestination, *, calling_ae: str) -> Probe:
    """Find out what a PACS accepts; at most some four time limits of the destination."""
    findings: list[Finding] = []
    assoc = _reach(destination, calling_ae, findings)
    if assoc is None:
        return Probe(destination.name, is_usable=False, findings=tuple(findings), proposal="")
    try:
        findings.append(_echo(assoc))
        findings.append(_length(assoc))
        taken = []
        for kind in SENT_CLASSES:
            finding = _object(assoc, kind, is_wanted=kind in destination.objects)
            findings.append(finding)
            if finding.works and kind in destination.objects:
                taken.append(kind)
        commits, finds = _commitment(assoc), _find(assoc)
        findings += (commits, finds)
    finally:
        assoc.release()
    verify = _verify(destination.verify, can_commit=bool(commits.works), can_find=bool(finds.works))
    findings.append(_how_verified(verify))
    changed = {"objects": tuple(map(str, taken)), "verify": str(verify)}
    return Probe(destination.name, bool(taken), tuple(findings), block("dicom", destination, changed) if taken else "")


def _reach(destination: DicomDestination, calling_ae: str, findings: list[Finding]) -> Association | None:
    """Connect, shake hands, ask to be let in; what of it works is noted."""
    try:
        peer = application_entity(destination)
    except ConfigError as error:
        findings.append(Finding("TLS", works=False, found=str(error), meaning="see to the files named there"))
        return None
    try:
        connect(replace(peer, tls=None)).close()
    except DeliveryError as error:
        meaning = "is the PACS on, are host and port right, does a firewall let this machine through?"
        findings.append(Finding("reachable", works=False, found=str(error), meaning=meaning))
        return None
    findings.append(Finding("reachable", works=True, found=f"{destination.host}:{destination.port}"))
    if peer.tls is not None:
        try:
            connect(peer).close()
        except DeliveryError as error:
            meaning = "does it speak TLS on this port, and did tls_authorities sign its certificate?"
            findings.append(Finding("TLS", works=False, found=str(error), meaning=meaning))
            return None
        findings.append(Finding("TLS", works=True, found="its certificate is signed as it should be"))
    try:
        assoc = open_association(peer, calling_ae=calling_ae, contexts=_contexts())
    except DeliveryError as error:
        meaning = f"the PACS must know the AE title {calling_ae} with this machine's address, and its own must be right"
        findings.append(Finding("Association", works=False, found=str(error), meaning=meaning))
        return None
    findings.append(Finding("Association", works=True, found=f"{calling_ae} may come in as {destination.ae_title}"))
    return assoc


def _contexts() -> list[Context]:
    asked = [(uid, syntax) for uid in (VERIFICATION, COMMITMENT, STUDY_ROOT_FIND) for syntax in NATIVE_SYNTAXES]
    for kind in SENT_CLASSES:
        asked += _forms(kind)
    return list(dict.fromkeys(asked))


def _forms(kind: OutputKind) -> tuple[Context, ...]:
    """What is offered for a kind of result, best first."""
    return contexts_of(FileMeta(str(SENT_CLASSES[kind]), "", str(ExplicitVRLittleEndian), 0), as_smaller=True)


def _accepted(assoc: Association, sop_class: str) -> Context | None:
    return next((context for context in assoc.accepted if context[0] == sop_class), None)


def _echo(assoc: Association) -> Finding:
    context = _accepted(assoc, VERIFICATION)
    if context is None:
        return Finding("C-ECHO", works=False, found="refused", meaning="no harm: results can be stored without it")
    try:
        status, _ = assoc.ask(context, Kind.ECHO_REQUEST)
    except DeliveryError as error:
        return Finding("C-ECHO", works=False, found=str(error), meaning="it lets us in and does not answer")
    return Finding("C-ECHO", works=status == SUCCESS, found=f"0x{status:04X}")


def _length(assoc: Association) -> Finding:
    most = assoc.peer_max_pdu_bytes
    meaning = "" if not 0 < most < 16384 else "short: large objects are slow"  # PS3.8 D.1: 16 KB is usual
    return Finding("longest PDU", works=None, found=f"{most} bytes" if most else "any length", meaning=meaning)


def _object(assoc: Association, kind: OutputKind, *, is_wanted: bool) -> Finding:
    """In which form a kind of result would go."""
    forms = _forms(kind)
    own = forms[0]
    taken = next((form for form in forms if form in assoc.accepted), None)
    syntaxes = [_name(form[1]) for form in forms if form[0] == own[0] and form in assoc.accepted]
    if taken is None:
        meaning = "take it out of objects" if is_wanted else "not among its objects"
        return Finding(str(kind), works=False, found=f"{_name(own[0])}: {refusal_of(assoc, own)}", meaning=meaning)
    if taken[0] != own[0]:
        meaning = "goes as a document of this class if its content has a place there"
        return Finding(str(kind), works=True, found=f"only as {_name(taken[0])}", meaning=meaning)
    meaning = "" if taken == own else "is encoded anew when it is sent"
    if not is_wanted:
        meaning = "; ".join(filter(None, (meaning, "not among its objects")))
    return Finding(str(kind), works=True, found=f"{_name(own[0])} in {', '.join(syntaxes)}", meaning=meaning)


def _commitment(assoc: Association) -> Finding:
    context = _accepted(assoc, COMMITMENT)
    if context is None:
        refusal = refusal_of(assoc, (COMMITMENT, NATIVE_SYNTAXES[0]))
        return Finding("storage commitment", works=False, found=refusal, meaning="it cannot say that it keeps results")
    meaning = (
        "its report may come on an Association of its own: it must know our host and port, and be in allowed_peers"
    )
    return Finding("storage commitment", works=True, found="accepted", meaning=meaning)


def _find(assoc: Association) -> Finding:
    """Ask for an object that nobody has."""
    context = _accepted(assoc, STUDY_ROOT_FIND)
    if context is None:
        refusal = refusal_of(assoc, (STUDY_ROOT_FIND, NATIVE_SYNTAXES[0]))
        return Finding("C-FIND", works=False, found=refusal, meaning="it cannot be asked what it has")
    nobody = f"2.25.{uuid.uuid4().int}"
    try:
        status, _ = assoc.ask(context, Kind.FIND_REQUEST, dataset=write_query(nobody, nobody, nobody, context[1]))
    except DeliveryError as error:
        return Finding("C-FIND", works=False, found=str(error), meaning=UNANSWERED)
    meaning = "" if status == SUCCESS else UNANSWERED
    return Finding("C-FIND", works=status == SUCCESS, found=f"0x{status:04X}", meaning=meaning)


def _verify(wanted: Verify, *, can_commit: bool, can_find: bool) -> Verify:
    offers = {Verify.AUTO: can_commit or can_find, Verify.COMMITMENT: can_commit, Verify.FIND: can_find}
    if wanted is Verify.NONE or offers[wanted]:
        return wanted
    return Verify.AUTO if can_commit or can_find else Verify.NONE


def _how_verified(verify: Verify) -> Finding:
    if verify is Verify.NONE:
        return Finding("verification", works=None, found="none", meaning="results end as accepted, not verifiable")
    return Finding("verification", works=True, found=str(verify), meaning="results end as verified")


def _name(uid: str) -> str:
    return UID(uid, config.IGNORE).name
