"""What a person asks of a study: take it as whole now, or leave it unread."""

import sqlalchemy as sa

from node.errors import StoreError
from node.store.database import Store
from node.store.gathering import DISCARDED
from node.store.schema import ASSIGNMENTS, GENERATIONS, STUDIES

__all__ = ["discard", "force", "release"]

UNREAD = ("frozen", "waiting", "held", "assigned")


def force(store: Store, study_uid: str, *, by: str) -> str:
    """Take a study as whole now, because a person says so; the worker freezes it at its next look.

    Returns
    -------
    What will happen, in words.

    Raises
    ------
    StoreError
        If there is nothing to settle: the study is whole already.
    """
    now = store.clock()
    with store.writing() as connection:
        row = _study(connection, study_uid)
        is_waiting = sa.and_(GENERATIONS.c.study_uid == study_uid, GENERATIONS.c.state == "waiting")
        waiting = connection.execute(sa.select(GENERATIONS.c.generation).where(is_waiting)).scalar()
        if row.is_open or row.discarded_at is not None:
            values = {"is_open": True, "forced_at": now, "discarded_at": None}
            connection.execute(sa.update(STUDIES).where(STUDIES.c.study_uid == study_uid).values(values))
            text = f"generation {row.generation + 1} will be read now"
        elif waiting is not None:
            connection.execute(sa.update(GENERATIONS).where(is_waiting).values(signal="forced", wait_until=now))
            text = f"generation {waiting} waits for no series any more"
        elif _let_go(connection, row, now):
            text = f"generation {row.generation} is held no longer and will be read now"
        else:
            raise StoreError(f"study {study_uid} is whole already: generation {row.generation}")
        _audit_wish(store, connection, "study forced", study_uid, by)
    return text


def release(store: Store, study_uid: str, *, by: str) -> str:
    """Let a held study be read, because a person says that it is one of a patient; nothing holds it any more.

    Returns
    -------
    What will happen, in words.

    Raises
    ------
    StoreError
        If it is not held.
    """
    now = store.clock()
    with store.writing() as connection:
        row = _study(connection, study_uid)
        if _let_go(connection, row, now):
            text = f"generation {row.generation} is held no longer and will be read now"
        elif row.is_open:
            connection.execute(sa.update(STUDIES).where(STUDIES.c.study_uid == study_uid).values(let_go_at=now))
            text = "it will not be held when it is whole"
        else:
            raise StoreError(f"study {study_uid} is not held: generation {row.generation}")
        _audit_wish(store, connection, "study let go", study_uid, by)
    return text


def _let_go(connection: sa.Connection, row: "sa.Row[tuple[object, ...]]", now: float) -> bool:
    """Hand the last generation of a study to routing again if it is held; True if it was."""
    study_uid = row._mapping["study_uid"]
    changed = connection.execute(
        sa.update(GENERATIONS)
        .where(
            GENERATIONS.c.study_uid == study_uid,
            GENERATIONS.c.generation == row._mapping["generation"],
            GENERATIONS.c.state == "held",
        )
        .values(state="waiting", reason="a person let it go", wait_until=now)
    )
    if changed.rowcount:
        connection.execute(sa.update(STUDIES).where(STUDIES.c.study_uid == study_uid).values(let_go_at=now))
    return bool(changed.rowcount)


def discard(store: Store, study_uid: str, *, by: str) -> str:
    """Leave a study unread, because a person says so; its images stay, and later ones are not read either.

    Returns
    -------
    What will happen, in words.

    Raises
    ------
    StoreError
        If it was read already: what was said of it cannot be taken back.
    """
    with store.writing() as connection:
        row = _study(connection, study_uid)
        changed = [
            connection.execute(
                sa.update(table)
                .where(table.c.study_uid == study_uid, table.c.state.in_(UNREAD))
                .values(state="discarded", reason=DISCARDED)
            ).rowcount
            for table in (GENERATIONS, ASSIGNMENTS)
        ]
        if not row.is_open and not any(changed):
            state = "was discarded already" if row.discarded_at is not None else "was read already"
            raise StoreError(f"study {study_uid} {state}: generation {row.generation}")
        values = {"discarded_at": store.clock(), "forced_at": None}
        connection.execute(sa.update(STUDIES).where(STUDIES.c.study_uid == study_uid).values(values))
        _audit_wish(store, connection, "study discarded", study_uid, by)
    return "it will not be read; its images stay"


def _study(connection: sa.Connection, study_uid: str) -> "sa.Row[tuple[object, ...]]":
    row = connection.execute(sa.select(STUDIES).where(STUDIES.c.study_uid == study_uid)).first()
    if row is None:
        raise StoreError(f"there is no study {study_uid}")
    return row


def _audit_wish(store: Store, connection: sa.Connection, action: str, study_uid: str, by: str) -> None:
    """Each wish is a record of its own, so its time is part of what tells it from others."""
    store.audit(connection, action, study_uid, step=f"at {store.clock():.3f}", details={"by": by})
