"""What the node is doing now: states, queues and destinations, in one look."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from node.process import read_ready
from node.settings import Settings
from node.store.database import Store
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, QUARANTINE, STUDIES
from node.store.volume import free_megabytes

__all__ = ["DestinationHealth", "Health", "look"]


@dataclass(frozen=True, slots=True)
class DestinationHealth:
    """How a destination does: counts of outputs by state, and its last error ("" when all went well).

    What is verified is among what was accepted.
    """

    name: str
    address: str
    pending: int
    accepted: int
    verified: int
    dead_letters: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Health:
    """One look at a node.

    `processes` maps each role to its process id, 0 if it does not run; `assignments` counts by state;
    `without_result` counts the dead letters before delivery: readings and routings that were given up.
    """

    processes: Mapping[str, int]
    port: int
    tls_port: int
    free_mb: int
    studies: int
    instances: int
    open_studies: int
    waiting: int
    held: int
    unrouted: int
    quarantined: int
    without_result: int
    assignments: Mapping[str, int]
    destinations: tuple[DestinationHealth, ...]


def look(store: Store, settings: Settings, roles: tuple[str, ...]) -> Health:
    """Ask the store and the run folder; works whether or not the node runs."""
    run: Path = store.root / "run"
    ready = {role: read_ready(run, role) for role in roles}
    with store.reading() as connection:
        by_state = sa.select(ASSIGNMENTS.c.state, sa.func.count().label("total")).group_by(ASSIGNMENTS.c.state)
        assignments = {row.state: int(row.total) for row in connection.execute(by_state)}
        return Health(
            processes={role: record.get("pid", 0) for role, record in ready.items()},
            port=ready.get("receiver", {}).get("port", 0),
            tls_port=ready.get("receiver", {}).get("tls_port", 0),
            free_mb=free_megabytes(store.root),
            studies=_count(connection, STUDIES),
            instances=_count(connection, INSTANCES),
            open_studies=_count(connection, STUDIES, STUDIES.c.is_open),
            waiting=_count(connection, GENERATIONS, GENERATIONS.c.state == "waiting"),
            held=_held(connection),
            unrouted=_count(connection, GENERATIONS, GENERATIONS.c.state == "unrouted"),
            quarantined=_count(connection, QUARANTINE),
            without_result=assignments.get("failed", 0)
            + _count(connection, GENERATIONS, GENERATIONS.c.state == "failed"),
            assignments=assignments,
            destinations=tuple(_destination(connection, settings, name) for name in settings.destinations),
        )


def _count(connection: sa.Connection, table: sa.Table, *where: "sa.ColumnElement[bool]") -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())


def _held(connection: sa.Connection) -> int:
    """Studies whose last generation is held."""
    is_last = sa.and_(GENERATIONS.c.study_uid == STUDIES.c.study_uid, GENERATIONS.c.generation == STUDIES.c.generation)
    query = sa.select(sa.func.count()).select_from(GENERATIONS).join(STUDIES, is_last)
    return int(connection.execute(query.where(GENERATIONS.c.state == "held")).scalar_one())


def _destination(connection: sa.Connection, settings: Settings, name: str) -> DestinationHealth:
    destination = settings.destinations[name]
    mine = DELIVERIES.c.destination == name
    counts = {
        state: _count(connection, DELIVERIES, mine, DELIVERIES.c.state == state)
        for state in ("pending", "accepted", "verified", "dead_letter")
    }
    last = connection.execute(
        sa.select(DELIVERIES.c.error)
        .where(mine, DELIVERIES.c.error != "", DELIVERIES.c.state.in_(("pending", "dead_letter")))
        .order_by(DELIVERIES.c.next_attempt_at.desc())
        .limit(1)
    ).scalar_one_or_none()
    return DestinationHealth(
        name=name,
        address=destination.address,
        pending=counts["pending"],
        accepted=counts["accepted"] + counts["verified"],
        verified=counts["verified"],
        dead_letters=counts["dead_letter"],
        last_error=last or "",
    )
