"""A share of the store every night: in four weeks every stored image was read once and compared with its digest.

Bits rot where nobody looks; found while the sender still has the image, they can be had again.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from node.paths import write_atomically
from node.store.check import Damage, check_audit, fault_of
from node.store.database import Store
from node.store.holding import keeping_files
from node.store.schema import INSTANCES

__all__ = ["NIGHTS", "Share", "check_share", "last_share"]

NIGHTS = 28
NOTE = "run/nightly.json"
MOST_NAMED = 100


@dataclass(frozen=True, slots=True)
class Share:
    """What one night's check looked at and found: when it ended (ISO 8601, UTC), how many images, what is damaged."""

    at: str
    instances: int
    audit_records: int
    damage: tuple[Damage, ...]


def check_share(store: Store, *, night: int) -> Share:
    """Read one of 28 shares of the stored images and the whole audit trail; what was found is kept for `last_share`.

    Parameters
    ----------
    night
        Any count of nights; nights that differ by 28 look at the same images.

    Raises
    ------
    StoreError
        If files are being removed all the time, or the index is damaged.
    """
    damage: list[Damage] = []
    count = 0
    mine = sa.text("instances.rowid % :nights = :night").bindparams(nights=NIGHTS, night=night % NIGHTS)
    with keeping_files(store.root):
        with store.reading() as connection:
            uids = list(connection.execute(sa.select(INSTANCES.c.sop_uid).where(mine)).scalars())
        for uid in uids:
            with store.reading() as connection:
                row = connection.execute(sa.select(INSTANCES).where(INSTANCES.c.sop_uid == uid)).first()
            fault = None if row is None else fault_of(store, INSTANCES, row)
            count += row is not None
            if fault is not None:
                damage.append(fault)
        records, broken = check_audit(store)
    at = datetime.fromtimestamp(store.clock(), UTC).isoformat(timespec="seconds")
    share = Share(at, count, records, (*damage, *broken))
    named = {**asdict(share), "damage": [asdict(one) for one in share.damage[:MOST_NAMED]]}
    write_atomically(store.root / NOTE, json.dumps(named).encode())
    return share


def last_share(root: Path) -> Share | None:
    """What the last night's check found, at most 100 damages; None if there was none."""
    try:
        found = json.loads((root / NOTE).read_bytes())
        damage = tuple(Damage(**one) for one in found["damage"])
        return Share(str(found["at"]), int(found["instances"]), int(found["audit_records"]), damage)
    except (OSError, ValueError, KeyError, TypeError):
        return None
