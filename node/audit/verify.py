"""Proving that the chain is whole: nothing changed, removed, added or re-ordered.

A chain alone cannot show that its last records were cut off, so the number and MAC of the last
record are written to an anchor file from time to time; a chain shorter than its anchor was cut.
"""

import hmac
import json
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from node.audit.chain import AUDIT, FIRST_MAC, AuditKey, mac_of
from node.errors import AuditChainError
from node.paths import write_atomically

__all__ = ["Verified", "last_anchor", "verify", "write_anchor"]


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that is whole: how many records, and the time of the first and last ("" when empty)."""

    count: int
    first_at: str
    last_at: str


def verify(connection: sa.Connection, key: AuditKey, anchor: Path) -> Verified:
    """Walk the whole chain and its anchor.

    Raises
    ------
    AuditChainError
        At the first record that is missing or does not match, with its number.
    """
    previous, count, first_at, last_at = FIRST_MAC, 0, "", ""
    anchored_count, anchored_mac = last_anchor(anchor)
    for row in connection.execute(sa.select(AUDIT).order_by(AUDIT.c.seq)).mappings():
        count += 1
        if row["seq"] != count:
            raise AuditChainError(f"audit record {count} is missing: found number {row['seq']} in its place")
        if not hmac.compare_digest(mac_of(key, previous, dict(row)), row["mac"]):
            raise AuditChainError(f"audit record {count} was changed after it was written")
        if count == anchored_count and row["mac"] != anchored_mac:
            raise AuditChainError(f"audit record {count} is not the one its anchor names")
        previous = row["mac"]
        first_at, last_at = first_at or row["at"], row["at"]
    if count < anchored_count:
        raise AuditChainError(f"audit trail was cut: expected at least {anchored_count} records, found {count}")
    return Verified(count, first_at, last_at)


def write_anchor(connection: sa.Connection, anchor: Path) -> None:
    """Write down how long the chain is, so that a shorter one is seen to be cut."""
    last = connection.execute(sa.select(AUDIT.c.seq, AUDIT.c.mac).order_by(AUDIT.c.seq.desc()).limit(1)).first()
    if last is not None:
        write_atomically(anchor, json.dumps({"count": last.seq, "mac": last.mac}).encode(), mode=0o600)


def last_anchor(anchor: Path) -> tuple[int, str]:
    """How many records the chain had when that was last written down, and the MAC of the last; 0 and "" if never.

    Raises
    ------
    AuditChainError
        If the file is no anchor.
    """
    try:
        record = json.loads(anchor.read_text(encoding="ascii"))
        return int(record["count"]), str(record["mac"])
    except FileNotFoundError:
        return 0, ""
    except (ValueError, KeyError, TypeError) as error:
        raise AuditChainError(f"{anchor.name} is not an anchor: expected a count and a mac") from error
