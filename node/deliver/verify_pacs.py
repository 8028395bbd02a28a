"""Asking a PACS whether it has for good what it took: by storage commitment, else by C-FIND.

References
----------
PS3.4 J.3.2 (N-ACTION), C.4.1 (C-FIND).
"""

import uuid
from functools import partial

import structlog

from node.deliver.association import Association, Context, Message, open_association
from node.deliver.patience import delay_s
from node.deliver.rounds import FOUND, Round
from node.deliver.scu import application_entity
from node.deliver.storage import identity_of, refusal_of
from node.dicom.commitment import COMMITMENT, COMMITMENT_INSTANCE, REQUEST_COMMITMENT, write_request
from node.dicom.elements import text
from node.dicom.native import NATIVE_SYNTAXES
from node.dicom.query import STUDY_ROOT_FIND, is_match, write_query
from node.dicom.read import read_dataset
from node.errors import UnreadableInstanceError
from node.network import Kind
from node.network.negotiation import VERIFICATION
from node.settings import DicomDestination, Verify
from node.store.commitment import take_report
from node.store.database import Store
from node.store.verification import Check, Step, begin_commitment

__all__ = ["ASKED_FOR", "ask_pacs"]

log = structlog.get_logger(__name__)

SAME_ASSOCIATION_S = 5.0  # many archives report at once; the others on an Association of their own
SUCCESS = 0x0000
NOT_FOR_US = (0x0122, 0x0124, 0x0211)  # PS3.7 C.5: class not supported, not authorized, unrecognized operation
ASKED_FOR = {
    Verify.AUTO: (COMMITMENT, STUDY_ROOT_FIND),
    Verify.COMMITMENT: (COMMITMENT,),
    Verify.FIND: (STUDY_ROOT_FIND,),
}


def ask_pacs(this: Round, destination: DicomDestination, *, calling_ae: str) -> None:
    """Ask about everything that is left in a round, on an Association of its own.

    Raises
    ------
    DeliveryError
        If the Association cannot be opened or ends before the last answer.
    """
    wanted = ASKED_FOR[destination.verify]
    contexts = [(sop_class, syntax) for sop_class in (*wanted, VERIFICATION) for syntax in NATIVE_SYNTAXES]
    assoc = open_association(application_entity(destination), calling_ae=calling_ae, contexts=contexts)
    try:
        commitment, find = (_accepted(assoc, sop_class) for sop_class in (COMMITMENT, STUDY_ROOT_FIND))
        if commitment is None and find is None:
            _nothing_offered(this, refusal_of(assoc, contexts[0]))
            return
        if commitment is not None:
            to_commit = [one for one in list(this.left.values()) if _wants_commitment(this, one, find)]
            if to_commit:
                _commit(this, assoc, commitment, to_commit, has_find=find is not None)
        if find is not None:
            for one in list(this.left.values()):
                _find(this, assoc, find, one)
    finally:
        assoc.release()


def _wants_commitment(this: Round, one: Check, find: Context | None) -> bool:
    """True if a PACS is to be asked to commit; where no report came, a query is better than asking again."""
    if one.was_asked and find is not None:
        return False
    overdue = f"no report of storage commitment came within {this.settings.commitment_wait_s:g} s"
    return one.step is not Step.REPORT or not this.gives_up(one, overdue)


def _accepted(assoc: Association, sop_class: str) -> Context | None:
    return next((context for context in assoc.accepted if context[0] == sop_class), None)


def _nothing_offered(this: Round, refusal: str) -> None:
    what = {Verify.COMMITMENT: "storage commitment", Verify.FIND: "C-FIND"}.get(this.destination.verify, "")
    for one in list(this.left.values()):
        if what:
            this.postpone(one, f"it does not offer {what}: {refusal}")
        else:
            this.unverifiable(one, "it offers neither storage commitment nor C-FIND")


def _commit(this: Round, assoc: Association, context: Context, checks: list[Check], *, has_find: bool) -> None:
    """Ask to commit, and hear the report if it comes at once; what is answered later is noted as it comes."""
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    names = {one.delivery.delivery_id: _identity(one) for one in checks}
    wait_s = max(this.settings.commitment_wait_s, delay_s(max(one.checks for one in checks), this.settings))
    begin_commitment(this.store, transaction_uid, {key: uid for key, (_, uid) in names.items()}, wait_s=wait_s)
    heard: list[int] = []
    assoc.on_report = partial(_hear, this.store, heard)
    status, _ = assoc.ask(
        context,
        Kind.ACTION_REQUEST,
        dataset=write_request(transaction_uid, list(names.values()), context[1]),
        sop_instance_uid=COMMITMENT_INSTANCE,
        type_id=REQUEST_COMMITMENT,
    )
    if status == SUCCESS:
        for delivery_id in names:
            this.left.pop(delivery_id, None)
        log.info("commitment asked for", destination=this.destination.name, count=len(names))
        limit_s = min(SAME_ASSOCIATION_S, this.destination.timeout_s)
        assoc.attend(lambda: bool(heard), limit_s=limit_s)
        return
    if not has_find:
        for one in checks:
            _refused(this, one, f"storage commitment was answered 0x{status:04X}", status)


def _hear(store: Store, heard: list[int], message: Message) -> int:
    status = take_report(store, message.dataset, message.transfer_syntax_uid)
    heard.append(status)
    return status


def _identity(one: Check) -> tuple[str, str]:
    """SOP class and SOP Instance UID that the PACS has."""
    output = one.delivery.output
    return identity_of(one.answer.partition(" as ")[2], output.sop_class_uid, output.output_id)


def _find(this: Round, assoc: Association, context: Context, one: Check) -> None:
    _, sop_uid = _identity(one)
    query = write_query(one.study_uid, _series_uid(one), sop_uid, context[1])
    status, matches = assoc.ask(context, Kind.FIND_REQUEST, dataset=query)
    try:
        is_there = any(is_match(match.dataset, match.transfer_syntax_uid, sop_uid) for match in matches)
    except UnreadableInstanceError as error:
        this.postpone(one, f"the answer to C-FIND cannot be read: {error}")
        return
    if is_there:
        this.verified(one, FOUND)
    elif status != SUCCESS:
        _refused(this, one, f"C-FIND was answered 0x{status:04X}", status)
    else:
        this.not_found(one, "C-FIND does not find it")


def _refused(this: Round, one: Check, reason: str, status: int) -> None:
    if this.destination.verify is Verify.AUTO and status in NOT_FOR_US:
        this.unverifiable(one, reason)
    else:
        this.postpone(one, reason)


def _series_uid(one: Check) -> str:
    try:
        return text(read_dataset(one.delivery.output.path), "SeriesInstanceUID")
    except UnreadableInstanceError:
        return ""  # then any series of the study
