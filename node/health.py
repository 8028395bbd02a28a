"""What the node is doing now: states, queues and destinations, in one look."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from node.process import read_ready
from node.settings import Settings
from node.store.database import Store
from node.store.files import free_megabytes
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, QUARANTINE, STUDIES

__all__ = ["DestinationHealth", "Health", "look"]


@dataclass(frozen=True, slots=True)
class DestinationHealth:
    """How a destination does: counts of outputs by state, and its last error ("" when all went well)."""

    name: str
    address: str
    pending: int
    accepted: int
    dead_letters: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Health:
    """One look at a node.

    `processes` maps each role to its process id, 0 if it does not run; `assignments` counts by state.
    """

    processes: Mapping[str, int]
    port: int
    free_mb: int
    studies: int
    instances: int
    open_studies: int
    unrouted: int
    quarantined: int
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
            port=ready["receiver"].get("port", 0) if "receiver" in ready else 0,
            free_mb=free_megabytes(store.root),
            studies=_count(connection, STUDIES),
            instances=_count(connection, INSTANCES),
            open_studies=_count(connection, STUDIES, STUDIES.c.is_open),
            unrouted=_count(connection, GENERATIONS, GENERATIONS.c.state == "unrouted"),
            quarantined=_count(connection, QUARANTINE),
            assignments=assignments,
            destinations=tuple(_destination(connection, settings, name) for name in settings.destinations),
        )


def _count(connection: sa.Connection, table: sa.Table, *where: "sa.ColumnElement[bool]") -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())


def _destination(connection: sa.Connection, settings: Settings, name: str) -> DestinationHealth:
    destination = settings.destinations[name]
    mine = DELIVERIES.c.destination == name
    counts = {
        state: _count(connection, DELIVERIES, mine, DELIVERIES.c.state == state)
        for state in ("pending", "accepted", "dead_letter")
    }
    last = connection.execute(
        sa.select(DELIVERIES.c.error)
        .where(mine, DELIVERIES.c.error != "", DELIVERIES.c.state != "accepted")
        .order_by(DELIVERIES.c.next_attempt_at.desc())
        .limit(1)
    ).scalar_one_or_none()
    return DestinationHealth(
        name=name,
        address=f"{destination.host}:{destination.port}",
        pending=counts["pending"],
        accepted=counts["accepted"],
        dead_letters=counts["dead_letter"],
        last_error=last or "",
    )
