"""The HL7 message a RIS gets: ORU^R01 of HL7 v2.5.1, as IHE Results Distribution (RAD-128) shapes it, or of v2.3.1.

Every result is sent as stored and unverified (R): only a person makes a result final.
"""

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from node.deliver.gate import check_message
from node.deliver.mapping import Fields, apply_rules, values_of
from node.deliver.observations import (
    NOT_OBTAINED,
    NOT_SOUGHT,
    Form,
    code_field,
    observations,
    result_status,
)
from node.deliver.person import DATES, authority, checked, pid
from node.deliver.profile import Profile, profile
from node.deliver.structure import check_structure
from node.domain.algorithm import Algorithm, Basis
from node.domain.codes import Code
from node.domain.findings import Status
from node.domain.statement import Statement
from node.domain.study import Order, Patient, PersonName
from node.errors import ConfigError, MessageError
from node.network.er7 import (
    ENCODING_CHARACTERS,
    NOTHING,
    Er7,
    codec,
    components,
    escape,
    join_segments,
    moment_field,
    segment,
)
from node.settings import Hl7Destination

__all__ = ["build_oru", "check_destination", "derive_control_id"]

log = structlog.get_logger(__name__)

LONGEST_CONTROL_ID = 20  # HL7 v2.5.1 2.15.9.10
CONTROL_ID = re.compile(r"[A-Za-z0-9.-]+")
LONGEST_TEXT = 199  # HL7 v2.5.1 2.A.74 (ST); words of an order, which its sender has in full
TIMES = {6: "%H%M%S", 4: "%H%M"}
ASKED_FOR = {  # MSH-15 and MSH-16, HL7 table 0155
    "original": (NOTHING, NOTHING),
    "commit": (Er7("AL"), Er7("NE")),
    "enhanced": (Er7("AL"), Er7("AL")),
}
ORDER = ("MSH", "PID", "PV1", "ORC", "OBR")


def build_oru(
    statement: Statement,
    *,
    patient: Patient,
    order: Order,
    destination: Hl7Destination,
    message_control_id: str,
    sr_uids: tuple[str, ...],
    sr_series_uid: str,
    application_version: str,
    made_at: datetime,
) -> bytes:
    """Write what the node says about a Study as one message for one RIS.

    Parameters
    ----------
    message_control_id
        MSH-10, at most 20 characters; the same on every retry. See `derive_control_id`.
    sr_uids, sr_series_uid
        Where the PACS has the Structured Reports of the same Statement; empty if there are none.
    made_at
        Time of the message (MSH-7); written as local time with its offset.

    Returns
    -------
    The message in the destination's character set, each segment ended by a carriage return.

    Raises
    ------
    MessageError
        If an identifier is missing, a number is not finite or has no unit, text cannot be written in
        the character set, or the message does not have the structure of ORU_R01 or, read back, another patient.
    ConfigError
        If the destination's character set or version is unknown.
    """
    encoding, version = codec(destination.character_set), profile(destination.version)
    if not CONTROL_ID.fullmatch(message_control_id) or len(message_control_id) > LONGEST_CONTROL_ID:
        raise MessageError(f"MSH-10 must have 1 to {LONGEST_CONTROL_ID} letters, digits, dots or hyphens")
    if not order.study_instance_uid:
        raise MessageError("an ORU needs a StudyInstanceUID")
    found = observations(
        statement,
        study_instance_uid=order.study_instance_uid,
        sr_series_uid=sr_series_uid,
        sr_uids=sr_uids,
        node=f"{destination.sending_application} {application_version}",
        form=Form(version, destination.coded_type),
    )
    header, person = _msh(destination, version, message_control_id, made_at), pid(patient)

    def written(order: Order) -> str:
        orc, obr = _order(statement, order, destination, made_at)
        fields = {"MSH": header, "PID": person, "ORC": orc, "OBR": obr}
        fields = apply_rules(fields, destination.fields, values_of(statement, patient, order))
        segments = [segment(name, fields[name]) for name in ORDER if any(fields.get(name, {}).values())]
        message = join_segments((*segments, *found))
        check_structure(message)
        return message

    try:
        message = written(order)
    except MessageError:
        bare = _without_words(order)
        if bare == order:
            raise
        message = written(bare)  # words of another system must not cost a result
        log.warning("words of the order left out", output=message_control_id, destination=destination.name)
    try:
        content = message.encode(encoding)
    except UnicodeEncodeError:
        raise MessageError(f"the text of the message cannot be written in {destination.character_set}") from None
    check_message(content, patient=patient, order=order, destination=destination)
    return content


def check_destination(destination: Hl7Destination) -> None:
    """Make a message as this RIS wants it, of a study that does not exist, so that a mistake is found at the start.

    Raises
    ------
    ConfigError
        If the message would not have the structure of its version, or its character set is unknown.
    """
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    code = Code("1", "99TEST", "Test")
    statement = Statement(
        status=Status.NO_FINDINGS, summary=code, title="Test", conclusion="Test.", findings=(),
        algorithm=Algorithm("test", "1", "Test", Basis.RULE_BASED), made_at=long_ago, language="en",
        responsibility="Test.",
    )  # fmt: skip
    order = Order(
        "2.25.1", "A-1", "P-1", "F-1", code, "Test", "20000101", "000000", PersonName("Test^Test"), "Test", "Test",
        ("1", "Test", "Test"), "I", ("Test",),
    )  # fmt: skip
    try:
        build_oru(
            statement, patient=Patient("1", "TEST", PersonName("Test^Test"), "20000101", "O"), order=order,
            destination=destination, message_control_id="TEST", sr_uids=("2.25.2",), sr_series_uid="2.25.3",
            application_version="1", made_at=long_ago,
        )  # fmt: skip
    except MessageError as error:
        raise ConfigError(
            f"[destinations.{destination.name}] fields or names cannot stay as they are: {error}"
        ) from error


def derive_control_id(*parts: str) -> str:
    """Make the MSH-10 that always belongs to these parts: 20 characters, 100 bits of their SHA-256."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return base64.b32encode(digest).decode("ascii")[:LONGEST_CONTROL_ID]


def _msh(destination: Hl7Destination, version: Profile, message_control_id: str, made_at: datetime) -> Fields:
    commit, application = ASKED_FOR[destination.acknowledgement]
    return {
        2: ENCODING_CHARACTERS,
        3: authority(destination.sending_application),
        4: authority(destination.sending_facility),
        5: authority(destination.receiving_application),
        6: authority(destination.receiving_facility),
        7: moment_field(made_at),
        9: version.message_type,
        10: escape(message_control_id),
        11: Er7("P"),
        12: Er7(version.version),
        15: commit,
        16: application,
        18: escape(destination.character_set),
        21: version.message_profile,
    }


def _order(statement: Statement, order: Order, destination: Hl7Destination, made_at: datetime) -> tuple[Fields, Fields]:
    placer = escape(order.placer_order_number)
    accession = escape(order.accession_number)
    filler = accession if destination.accession_as_filler and accession else escape(order.filler_order_number)
    procedure = code_field(order.procedure) if order.procedure else NOTHING
    title = components(NOTHING, escape(order.study_description.strip()) or escape(statement.title))
    study_date = checked(order.study_date, {8: DATES[8]})
    study_time = checked(order.study_time.split(".")[0], TIMES) if study_date else NOTHING
    obr = {
        1: Er7("1"),
        2: placer,
        3: filler,
        4: procedure or title,
        7: Er7(study_date + study_time),
        13: _shortened(order.indication),
        16: components(*map(escape, order.ordering_provider)),
        18: accession,
        22: moment_field(made_at),
        25: _report_status(statement),
        31: components(NOTHING, _shortened(order.reason)),
    }
    return {1: Er7("RE"), 2: placer, 3: filler}, obr


def _without_words(order: Order) -> Order:
    return replace(order, indication="", reason="", ordering_provider=(), patient_class="", location=())


def _shortened(text: str) -> Er7:
    """As much of a text as an ST may hold once it is escaped."""
    if len(escape(text)) <= LONGEST_TEXT:
        return escape(text)
    kept = text[:LONGEST_TEXT]
    while len(escape(kept)) > LONGEST_TEXT - 3:
        kept = kept[:-1]
    return Er7(f"{escape(kept)}...")


def _report_status(statement: Statement) -> Er7:
    """OBR-25 (HL7 table 0123), which has no N: nothing was evaluated is X there, no results available."""
    status = result_status(statement)
    return NOT_OBTAINED if status == NOT_SOUGHT else status
