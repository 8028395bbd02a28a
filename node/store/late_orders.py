"""Rows of orders that came late: after a study was given to its handler, or after its results were made."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.domain.orders import OrderContext
from node.domain.work import Assignment, Output, OutputKind, Priority
from node.store.check import remains
from node.store.database import Store
from node.store.orders import FOR_PRIORITY, FOR_REPORT, FOR_RESENDING, LEFT, add_uses, belongs, order_row
from node.store.schema import ASSIGNMENTS, DELIVERIES, ORDER_USES, ORDERS, OUTPUTS, STUDIES
from node.store.work import add_outputs, fill_outbox, output_of

__all__ = ["Late", "hasten", "hasty_orders", "last_messages", "late_orders", "leave_orders", "resend"]

UNDER_WAY = ("assigned", "analysed", "reported")


@dataclass(frozen=True, slots=True)
class Late:
    """Messages about the orders of an Assignment that were not used for it; `order_ids` are theirs."""

    assignment_id: str
    order_ids: tuple[int, ...]


def late_orders(store: Store, *, since: float) -> list[Late]:
    """What has been said since then about the orders of results that were made without it.

    Only the last word of each handler on a study counts: a later generation that is under way uses the order itself.
    """
    later = ASSIGNMENTS.alias()
    is_last = ~sa.exists().where(
        later.c.study_uid == ASSIGNMENTS.c.study_uid,
        later.c.handler == ASSIGNMENTS.c.handler,
        later.c.generation > ASSIGNMENTS.c.generation,
        later.c.state.in_(UNDER_WAY),
    )
    query = _unused(FOR_REPORT, FOR_RESENDING, LEFT).where(
        ORDERS.c.at >= since,
        ASSIGNMENTS.c.state == "reported",
        is_last,
        remains(ASSIGNMENTS.c.study_uid, ASSIGNMENTS.c.generation),
    )
    return [
        Late(name, tuple(sorted(one.order_id for one in rows))) for name, rows in _by_assignment(store, query).items()
    ]


def hasty_orders(store: Store) -> list[str]:
    """Ids of the Assignments that are not read yet, and of which an order may say that it is more urgent."""
    is_waiting = (ASSIGNMENTS.c.state == "assigned", ASSIGNMENTS.c.priority > int(Priority.STAT))
    studies = sa.select(ASSIGNMENTS.c.study_uid).where(*is_waiting)  # few of many, so they are looked up first
    query = _unused(FOR_PRIORITY).where(*is_waiting, STUDIES.c.study_uid.in_(studies))
    return [
        name
        for name, rows in _by_assignment(store, query).items()
        if any(_is_hastier(order_row(row).context, row) for row in rows)
    ]


def _is_hastier(order: OrderContext, row: "sa.Row[tuple[object, ...]]") -> bool:
    values = row._mapping
    return order.priority is not None and order.priority < values["priority"]


def _unused(*purposes: str) -> "sa.Select[tuple[object, ...]]":
    """Orders with the Accession Number and Patient ID of an Assignment, not used for it to any of these purposes."""
    use = sa.exists().where(
        ORDER_USES.c.order_id == ORDERS.c.order_id,
        ORDER_USES.c.assignment_id == ASSIGNMENTS.c.assignment_id,
        ORDER_USES.c.purpose.in_(purposes),
    )
    return (
        sa.select(ORDERS, ASSIGNMENTS.c.assignment_id, ASSIGNMENTS.c.priority, STUDIES.c.patient_id)
        .join(STUDIES, STUDIES.c.accession_number == ORDERS.c.accession_number)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.study_uid == STUDIES.c.study_uid)
        .where(STUDIES.c.accession_number != "", ~use)
    )


def _by_assignment(
    store: Store, query: "sa.Select[tuple[object, ...]]"
) -> dict[str, list["sa.Row[tuple[object, ...]]"]]:
    found: dict[str, list[sa.Row[tuple[object, ...]]]] = defaultdict(list)
    with store.reading() as connection:
        for row in connection.execute(query):
            if belongs(order_row(row).context, row._mapping["patient_id"], ""):
                found[row._mapping["assignment_id"]].append(row)
    return found


def last_messages(store: Store, assignment_id: str) -> dict[str, Output]:
    """The last ORU that an Assignment has for each destination, by the destination's name."""
    query = (
        sa.select(OUTPUTS, DELIVERIES.c.destination)
        .join(DELIVERIES, DELIVERIES.c.output_id == OUTPUTS.c.output_id)
        .where(OUTPUTS.c.assignment_id == assignment_id, OUTPUTS.c.kind == str(OutputKind.ORU))
        .order_by(DELIVERIES.c.sequence)
    )
    with store.reading() as connection:
        return {row._mapping["destination"]: output_of(store, row) for row in connection.execute(query).all()}


def resend(
    store: Store,
    item: Assignment,
    messages: Sequence[Output],
    deliveries: Sequence[tuple[str, str]],
    *,
    patient_key: str,
    order_ids: Collection[int],
    left_ids: Collection[int] = (),
) -> bool:
    """Commit messages that were made again after orders came late, with their outbox rows, and what they were made of.

    Doing it again changes nothing. `left_ids` are messages that came, too, but say nothing for this Assignment.

    Returns
    -------
    False if it was done before, or a later generation has the word now.
    """
    now = store.clock()
    ids = [one.output_id for one in messages]
    later = sa.select(ASSIGNMENTS.c.generation).where(
        ASSIGNMENTS.c.study_uid == item.study_instance_uid,
        ASSIGNMENTS.c.handler == item.handler,
        ASSIGNMENTS.c.generation > item.generation,
        ASSIGNMENTS.c.state.in_(UNDER_WAY),
    )
    done = sa.select(OUTPUTS.c.output_id).where(OUTPUTS.c.output_id.in_(ids))
    with store.writing() as connection:
        if connection.execute(later).first() is not None or connection.execute(done).first() is not None:
            return False
        add_outputs(store, connection, item, messages, now)
        fill_outbox(connection, item, deliveries, patient_key, now)
        add_uses(connection, order_ids, item.assignment_id, FOR_RESENDING, at=now)
        add_uses(connection, left_ids, item.assignment_id, LEFT, at=now)
        details: dict[str, str | int | float] = {"handler": item.handler, "orders": len(order_ids)}
        for one in messages:
            store.audit(
                connection, "message made again for a late order", one.output_id,
                workflow=item.assignment_id, details=details,
            )  # fmt: skip
    return True


def leave_orders(store: Store, item: Assignment, order_ids: Collection[int], error: str = "") -> None:
    """Note that nothing is sent again for these messages: they say nothing new, or it cannot be, because of `error`."""
    with store.writing() as connection:
        add_uses(connection, order_ids, item.assignment_id, LEFT, at=store.clock())
        if not error:
            return
        step = f"order {max(order_ids)}"
        details: dict[str, str | int | float] = {"handler": item.handler, "reason": error}
        store.audit(
            connection, "late order left", item.study_instance_uid,
            workflow=item.assignment_id, step=step, details=details,
        )  # fmt: skip


def hasten(store: Store, item: Assignment, priority: Priority, order_ids: Collection[int]) -> bool:
    """Make an Assignment that was not read yet more urgent, because its orders are; false if it is read already."""
    with store.writing() as connection:
        changed = connection.execute(
            sa.update(ASSIGNMENTS)
            .where(
                ASSIGNMENTS.c.assignment_id == item.assignment_id,
                ASSIGNMENTS.c.state == "assigned",
                ASSIGNMENTS.c.priority > int(priority),
            )
            .values(priority=int(priority))
        )
        if not changed.rowcount:
            return False
        add_uses(connection, order_ids, item.assignment_id, FOR_PRIORITY, at=store.clock())
        details: dict[str, str | int | float] = {"handler": item.handler, "priority": priority.name}
        store.audit(
            connection, "reading made more urgent", item.study_instance_uid,
            workflow=item.assignment_id, step=priority.name, details=details,
        )  # fmt: skip
    return True
