"""What came back of each study, read from the PACS and the RIS themselves, not from the node's word."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.deliver.ack import control_id_of
from node.demo.pacs import DemoPacs
from node.domain.work import OutputKind
from node.report import preview_png
from node.store.database import Store
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, OUTPUTS

__all__ = ["Progress", "StudySummary", "by_control_id", "collect", "progress_of"]


@dataclass(frozen=True, slots=True)
class StudySummary:
    """One study in ``summary.json``.

    `files` and `receipts` are by kind of output; `seconds` is from the last C-STORE of the study to the
    last receipt of a destination, None if something was not taken.
    """

    name: str
    handler: str
    status: str
    reason: str
    findings: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    receipts: Mapping[str, str]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How many deliveries of a study are finished, of how many known so far, and whether more may come."""

    finished: int
    known: int
    is_over: bool


def progress_of(store: Store, study_uid: str) -> Progress:
    """How far a study is; over when every reading ended and every delivery was answered."""
    deliveries = (
        sa.select(DELIVERIES.c.state)
        .join(OUTPUTS, OUTPUTS.c.output_id == DELIVERIES.c.output_id)
        .join(ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id)
        .where(ASSIGNMENTS.c.study_uid == study_uid)
    )
    with store.reading() as connection:
        generations = [row.state for row in connection.execute(_of(GENERATIONS, study_uid))]
        readings = [row.state for row in connection.execute(_of(ASSIGNMENTS, study_uid))]
        states = [row.state for row in connection.execute(deliveries)]
    finished = sum(state != "pending" for state in states)
    is_routed = bool(generations) and "frozen" not in generations
    is_read = all(state in ("reported", "failed") for state in readings)
    return Progress(finished, len(states), is_routed and is_read and finished == len(states))


def _of(table: sa.Table, study_uid: str) -> "sa.Select[Any]":
    return sa.select(table.c.state).where(table.c.study_uid == study_uid)


def collect(
    store: Store, name: str, study_uid: str, *, pacs: DemoPacs, receipts: Mapping[str, bytes], out: Path
) -> list[StudySummary]:
    """Write the objects as the PACS holds them, PNG previews and the messages as the RIS got them; say what they are.

    Parameters
    ----------
    receipts
        Message control id to the bytes the RIS got.
    """
    with store.reading() as connection:
        readings = _rows(connection, sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.study_uid == study_uid))
        last = sa.select(sa.func.max(INSTANCES.c.received_at)).where(INSTANCES.c.study_uid == study_uid)
        last_received_at = float(connection.execute(last).scalar_one())
        rows = {reading["assignment_id"]: _rows(connection, _outputs(reading["assignment_id"])) for reading in readings}
    if not readings:
        return [StudySummary(name, "", "unrouted", _why_unrouted(store, study_uid), (), {}, {}, None)]
    return [
        _one(name, reading, rows[reading["assignment_id"]], last_received_at, pacs=pacs, receipts=receipts, out=out)
        for reading in readings
    ]


def _why_unrouted(store: Store, study_uid: str) -> str:
    query = sa.select(GENERATIONS.c.reason).where(GENERATIONS.c.study_uid == study_uid)
    with store.reading() as connection:
        return "; ".join(row.reason for row in connection.execute(query)) or "it did not come to routing"


def _rows(connection: sa.Connection, query: "sa.Select[Any]") -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _outputs(assignment_id: str) -> "sa.Select[Any]":
    return (
        sa.select(
            OUTPUTS.c.output_id, OUTPUTS.c.kind, DELIVERIES.c.state, DELIVERIES.c.answer, DELIVERIES.c.accepted_at
        )
        .join(DELIVERIES, DELIVERIES.c.output_id == OUTPUTS.c.output_id)
        .where(OUTPUTS.c.assignment_id == assignment_id)
        .order_by(DELIVERIES.c.sequence)
    )


def _one(
    name: str,
    reading: Mapping[str, Any],
    outputs: list[Mapping[str, Any]],
    last_received_at: float,
    *,
    pacs: DemoPacs,
    receipts: Mapping[str, bytes],
    out: Path,
) -> StudySummary:
    files: dict[str, list[str]] = {}
    for row in outputs:
        for path in _write(
            f"{name}_{row['kind']}", len(files.get(row["kind"], ())), row, pacs=pacs, receipts=receipts, out=out
        ):
            files.setdefault("preview" if path.suffix == ".png" else row["kind"], []).append(path.name)
    taken = [float(row["accepted_at"]) for row in outputs if row["accepted_at"] is not None]
    is_all_taken = bool(outputs) and len(taken) == len(outputs)
    by_kind: dict[str, list[str]] = {}
    for row in outputs:
        by_kind.setdefault(row["kind"], []).append(row["answer"] or row["state"])
    return StudySummary(
        name=name,
        handler=reading["handler"],
        status=reading["status"] or reading["state"],
        reason=reading["reason"],
        findings=tuple(item["sentence"] for item in json.loads(reading["summary"] or "[]")),
        files={kind: tuple(names) for kind, names in files.items()},
        receipts={kind: ", ".join(dict.fromkeys(answers)) for kind, answers in by_kind.items()},
        seconds=round(max(taken) - last_received_at, 2) if is_all_taken else None,
    )


def _write(
    stem: str,
    number: int,
    row: Mapping[str, Any],
    *,
    pacs: DemoPacs,
    receipts: Mapping[str, bytes],
    out: Path,
) -> list[Path]:
    if row["state"] not in ("accepted", "verified"):
        return []
    if row["kind"] == OutputKind.ORU:
        path = out / f"{stem}.hl7"
        path.write_bytes(receipts[row["output_id"]])
        return [path]
    path = out / f"{stem}{'' if number == 0 else f'_{number + 1}'}.dcm"
    path.write_bytes(pacs.download(row["output_id"]))
    if row["kind"] != OutputKind.HEAT_MAP:
        return [path]
    preview_png(path, path.with_suffix(".png"))
    return [path, path.with_suffix(".png")]


def by_control_id(messages: list[bytes]) -> dict[str, bytes]:
    """Messages by their MSH-10; the last one if a RIS got one twice."""
    return {control_id_of(message): message for message in messages}
