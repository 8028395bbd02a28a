"""From the bytes of an HL7 message to what its sender is told: read, judged, and on the disk before it is accepted."""

import hashlib
import sqlite3
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from node.domain.orders import Received
from node.errors import MessageError, StoreError
from node.network.hl7 import Message, parse_message
from node.paths import write_atomically
from node.receive.hl7_answer import Verdict, answers
from node.receive.hl7_content import DATA_TYPE, RefusedError, read_content
from node.settings import Hl7Settings
from node.store.database import Store
from node.store.intake import add_quarantine
from node.store.orders import Taken, keep_message
from node.store.schema import QUARANTINE

__all__ = ["take_message"]

log = structlog.get_logger(__name__)

ID_IN_USE, INTERNAL = "205", "207"  # HL7 table 0357
QUARANTINED_BY = "HL7"
MOST_QUARANTINED = 1000  # beyond them a refused message is in the log only, so that nobody fills the disk


def take_message(store: Store, settings: Hl7Settings, has_room: Callable[[], bool], data: bytes) -> list[bytes]:
    """Take one message and say what to answer.

    An accepting answer is given only when the message is committed. What cannot be taken is put in quarantine with its
    reason; what could be taken another time (the disk is full, the index is locked) is rejected, so that its sender
    comes again.
    """
    message: Message | None = None
    try:
        message = parse_message(data, character_set=settings.character_set)
        received = read_content(message, accession_fields=settings.accession, data=data)
        verdict = _keep(store, received, has_room)
    except RefusedError as error:
        verdict = Verdict(error.code, error.place, str(error), is_rejected=error.is_rejected)
    except MessageError as error:
        verdict = Verdict(DATA_TYPE if data.lstrip().startswith(b"MSH") else "100", "MSH", str(error))
    if verdict.code and verdict.code != INTERNAL:
        _put_aside(store, data, verdict, has_room)
    tell = log.warning if verdict.code else log.info
    tell("message answered", answer=verdict.letter, reason=verdict.reason, kind=_kind(message))
    return answers(message, verdict, settings)


def _keep(store: Store, received: Received, has_room: Callable[[], bool]) -> Verdict:
    try:
        if not has_room():
            return Verdict(INTERNAL, "", "the disk is nearly full; try again later", is_rejected=True)
        taken = keep_message(store, received)
    except (OSError, StoreError, sqlite3.Error, sa.exc.SQLAlchemyError) as error:
        log.error("message not kept", error=type(error).__name__)
        return Verdict(INTERNAL, "", "the message could not be kept; try again later", is_rejected=True)
    if taken is Taken.ID_IN_USE:
        return Verdict(ID_IN_USE, "MSH-10", "another message with this id came before")
    return Verdict()


def _kind(message: Message | None) -> str:
    """Type and event, if they are the three characters that they must be."""
    if message is None:
        return ""
    said = (message.header.text(9), message.header.text(9, 2))
    return "^".join(word for word in said if len(word) == 3 and word.isascii() and word.isalnum())


def _put_aside(store: Store, data: bytes, verdict: Verdict, has_room: Callable[[], bool]) -> None:
    """Keep a copy of what was refused, once, however often it comes; a failure to do so changes no answer."""
    number = hashlib.sha256(data).hexdigest()[:32]
    name = f"quarantine/{number}.hl7"
    mine = QUARANTINE.c.path.like("quarantine/%.hl7")
    try:
        with store.reading() as connection:
            known = connection.execute(sa.select(QUARANTINE.c.at).where(QUARANTINE.c.quarantine_id == number)).first()
            count = connection.execute(sa.select(sa.func.count()).select_from(QUARANTINE).where(mine)).scalar_one()
        if known is not None or count >= MOST_QUARANTINED or not has_room():
            return
        write_atomically(store.root / name, data)
        add_quarantine(
            store, number=number, name=name, sop_uid="", calling_ae=QUARANTINED_BY, status=int(verdict.code),
            reason=f"HL7 message refused: {verdict.reason}", size_bytes=len(data),
        )  # fmt: skip
    except (OSError, StoreError, sqlite3.Error, sa.exc.SQLAlchemyError) as error:
        log.error("refused message not put aside", error=type(error).__name__)
