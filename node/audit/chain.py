"""Appending to the chain: every record carries an HMAC over itself and the record before it.

A record is keyed by workflow, step and action: a step that is run again after a crash finds its
record already there and adds nothing. Records hold UIDs, counts and names of rules, never patient data.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from node.errors import AuditChainError
from node.paths import sync_folder

__all__ = ["AUDIT", "METADATA", "AuditKey", "append", "mac_of", "read_or_make_key"]

METADATA = sa.MetaData()
AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("workflow", sa.String(200), nullable=False),
    sa.Column("step", sa.String(100), nullable=False),
    sa.Column("action", sa.String(100), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("mac", sa.String(64), nullable=False),
    sa.UniqueConstraint("workflow", "step", "action", "subject", name="audit_once"),
)
KEY_BYTES = 32
FIRST_MAC = "0" * 64


@dataclass(frozen=True, slots=True, repr=False)
class AuditKey:
    """The secret of one store's chain; never printed."""

    secret: bytes


def read_or_make_key(path: Path) -> AuditKey:
    """Read the key beside the store, or make one that only its owner can read.

    Raises
    ------
    AuditChainError
        If the key file is there but is not a key.
    """
    if not path.exists():
        _make_key(path)
    text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        secret = bytes.fromhex(text)
    except ValueError as error:
        raise AuditChainError(f"{path.name} is not an audit key: expected {KEY_BYTES * 2} hex digits") from error
    if len(secret) != KEY_BYTES:
        raise AuditChainError(f"{path.name} is not an audit key: expected {KEY_BYTES * 2} hex digits")
    return AuditKey(secret)


def _make_key(path: Path) -> None:
    """Give the key its name only when its bytes are durable; of two processes that do so at once, one wins."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
        sync_folder(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def mac_of(key: AuditKey, previous_mac: str, record: Mapping[str, object]) -> str:
    """HMAC-SHA-256 (RFC 2104) over the previous record's MAC and this record's fields, as 64 hex digits."""
    fields = ("seq", "at", "workflow", "step", "action", "subject", "details")
    text = json.dumps([previous_mac, *(record[field] for field in fields)], ensure_ascii=False, separators=(",", ":"))
    return hmac.new(key.secret, text.encode(), hashlib.sha256).hexdigest()


def append(
    connection: sa.Connection,
    key: AuditKey,
    *,
    at: datetime,
    action: str,
    subject: str,
    workflow: str = "",
    step: str = "",
    details: Mapping[str, str | int | float] | None = None,
) -> None:
    """Add one record inside the caller's write transaction; a record that is already there is not added again.

    Parameters
    ----------
    connection
        In a transaction that holds the write lock, so that the chain has one order.
    action
        Past-tense words, such as ``study frozen``.
    subject
        What it was done to: a Study, SOP Instance or output UID, or a rule or destination name.
    workflow, step
        Identity of the durable step; with `action` and `subject` the key of the record.
    """
    where = sa.and_(
        AUDIT.c.workflow == workflow, AUDIT.c.step == step, AUDIT.c.action == action, AUDIT.c.subject == subject
    )
    if connection.execute(sa.select(AUDIT.c.seq).where(where)).first() is not None:
        return
    last = connection.execute(sa.select(AUDIT.c.seq, AUDIT.c.mac).order_by(AUDIT.c.seq.desc()).limit(1)).first()
    record: dict[str, object] = {
        "seq": last.seq + 1 if last else 1,
        "at": at.isoformat(timespec="milliseconds"),
        "workflow": workflow,
        "step": step,
        "action": action,
        "subject": subject,
        "details": json.dumps(dict(details or {}), ensure_ascii=False, sort_keys=True),
    }
    mac = mac_of(key, last.mac if last else FIRST_MAC, record)
    connection.execute(sa.insert(AUDIT).values(**record, mac=mac))
