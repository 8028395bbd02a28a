"""The promise of the node, checked after any fault: I1 to I10 of docs/operations.md.

What needs a destination is in `check_invariants`; what a store alone must keep is in `check_store`, which also
holds for a store that was restored (I10).
"""

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from node.audit import verify
from node.deliver.ack import control_id_of
from node.demo.pacs import DemoPacs
from node.demo.summary import by_control_id
from node.dicom.part10 import dataset_offset
from node.store.database import Store
from node.store.files import name_of, verify_instance
from node.store.intake import instance_row
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, METADATA, OUTPUTS, QUARANTINE, STUDIES

__all__ = [
    "Footprint",
    "check_canaries",
    "check_footprint",
    "check_invariants",
    "check_stat_first",
    "check_store",
    "digests_of",
    "footprint",
    "unfinished",
]

MOST_DRIFT_BYTES, MOST_DRIFT_THREADS, MOST_DRIFT_DESCRIPTORS = 64 << 20, 4, 4  # I7
PATIENT_DATA = {"instances", "quarantine", "analyses", "results"}  # where patients may be named, beside the databases


def unfinished(store: Store) -> dict[str, int]:
    """What has not ended yet, by kind; empty when the node is at rest."""
    counts = {
        "open studies": sa.select(sa.func.count()).where(STUDIES.c.is_open),
        "frozen studies": sa.select(sa.func.count()).where(GENERATIONS.c.state == "frozen"),
        "waiting studies": sa.select(sa.func.count()).where(GENERATIONS.c.state == "waiting"),
        "readings": sa.select(sa.func.count()).where(ASSIGNMENTS.c.state.in_(("assigned", "analysed"))),
        "deliveries": sa.select(sa.func.count()).where(DELIVERIES.c.state == "pending"),
    }
    with store.reading() as connection:
        found = {name: int(connection.execute(query).scalar_one()) for name, query in counts.items()}
    return {name: count for name, count in found.items() if count}


def digests_of(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of the dataset of each file, by SOP Instance UID: what a sender was answered 0x0000 for."""
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): _dataset_sha256(path) for path in paths}


def check_invariants(
    store: Store, acknowledged: Mapping[str, str], pacs: DemoPacs, messages: Sequence[bytes], *, canaries: Sequence[str]
) -> None:
    """Fail with the broken promise.

    Parameters
    ----------
    acknowledged
        SHA-256 of the dataset of every object whose sender was told 0x0000, by SOP Instance UID.
    messages
        Every receipt of the RIS, in order.
    canaries
        Words that only patient data hold.
    """
    check_store(store, acknowledged)
    _i3_every_study_ended(store)
    _i4_each_output_arrived_exactly_once(store, pacs, messages)
    _i5_identity_is_that_of_the_input(store, pacs)
    _i6_every_change_has_its_audit_record(store)
    check_canaries(store.root, canaries)


def check_store(store: Store, acknowledged: Mapping[str, str]) -> None:
    """I1, I2 and the audit chain of I6: what holds after any restart, whatever was cut off."""
    _i1_acknowledged_objects_are_there_byte_for_byte(store, acknowledged)
    _i2_nothing_partial_is_left(store)
    _i6_the_audit_chain_is_whole(store)


def _i1_acknowledged_objects_are_there_byte_for_byte(store: Store, acknowledged: Mapping[str, str]) -> None:
    with store.reading() as connection:
        paths = {row.sop_uid: row.path for row in connection.execute(sa.select(INSTANCES))}
    for uid, sent in acknowledged.items():
        assert uid in paths, f"I1: {uid} was acknowledged and has no row"
        assert _dataset_sha256(store.root / paths[uid]) == sent, f"I1: {uid} is not byte-identical"


def _dataset_sha256(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(dataset_offset(file))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _i2_nothing_partial_is_left(store: Store) -> None:
    left = [path for path in (store.root / "incoming").rglob("*") if path.is_file()]
    assert not left, f"I2: {len(left)} files are left in incoming/"
    with store.reading() as connection:
        kept = connection.execute(sa.select(INSTANCES)).all()
        aside = connection.execute(sa.select(QUARANTINE)).all()
    for row in kept:
        assert row.path == name_of(row.sop_uid), f"I2: {row.sop_uid} is not where its UID says"
        verify_instance(instance_row(store.root, row))  # whole, acknowledged or not: somebody may have looked at it
    for row in aside:
        size_bytes = (store.root / row.path).stat().st_size
        assert size_bytes == row.size_bytes, f"I2: the quarantined object {row.quarantine_id} is not whole"


def _i3_every_study_ended(store: Store) -> None:
    assert not unfinished(store), f"I3: not at rest: {unfinished(store)}"
    with store.reading() as connection:
        for row in connection.execute(sa.select(GENERATIONS).where(GENERATIONS.c.state != "routed")):
            assert row.reason, f"I3: study {row.study_uid} was not read and does not say why"
        for row in connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.state == "failed")):
            assert row.reason, f"I3: assignment {row.assignment_id} failed and does not say why"
        for row in connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.state == "dead_letter")):
            assert row.error, f"I3: {row.delivery_id} is a dead letter and does not say why"


def _accepted(store: Store, *, is_oru: bool) -> set[str]:
    query = (
        sa.select(OUTPUTS.c.output_id)
        .join(DELIVERIES, DELIVERIES.c.output_id == OUTPUTS.c.output_id)
        .where(DELIVERIES.c.state.in_(("accepted", "verified")), (OUTPUTS.c.kind == "oru") == is_oru)
    )
    with store.reading() as connection:
        return {row.output_id for row in connection.execute(query)}


def _i4_each_output_arrived_exactly_once(store: Store, pacs: DemoPacs, messages: Sequence[bytes]) -> None:
    there = pacs.instances()
    assert len(there) == len(set(there)), "I4: the PACS holds a SOP Instance UID twice"
    assert set(there) == _accepted(store, is_oru=False), "I4: the PACS does not hold exactly the outputs"
    with store.reading() as connection:
        rows = {row.output_id: row for row in connection.execute(sa.select(OUTPUTS))}
    copy = store.root / "run" / "from_pacs.dcm"
    for uid in there:
        copy.write_bytes(pacs.download(uid))
        is_same = _dataset_sha256(copy) == _dataset_sha256(store.root / rows[uid].path)
        copy.unlink()
        assert is_same, f"I4: the PACS holds other bytes of {uid}"
    got: Mapping[str, bytes] = by_control_id(list(messages))
    assert set(got) == _accepted(store, is_oru=True), "I4: the RIS does not hold exactly the messages"
    for message in messages:
        # A RIS that was killed off before its answer gets the message again; it must be the very same one.
        assert message == got[control_id_of(message)], "I4: one MSH-10 came with two contents"


def _identity(ds: Dataset) -> tuple[str, ...]:
    return (str(ds.PatientID), str(ds.StudyInstanceUID))


def _i5_identity_is_that_of_the_input(store: Store, pacs: DemoPacs) -> None:
    with store.reading() as connection:
        sources: dict[str, list[sa.Row[tuple[object, ...]]]] = {}
        for row in connection.execute(sa.select(INSTANCES)):
            sources.setdefault(row.study_uid, []).append(row)
        query = sa.select(OUTPUTS.c.output_id, ASSIGNMENTS.c.study_uid).join(
            ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id
        )
        study_of = {row.output_id: row.study_uid for row in connection.execute(query)}
    path = store.root / "run" / "from_pacs.dcm"
    for uid in pacs.instances():
        path.write_bytes(pacs.download(uid))
        result = dcmread(path)
        path.unlink()
        assert result.StudyInstanceUID == study_of[uid], f"I5: {uid} is in another study than its input"
        own = sources[study_of[uid]]
        first = dcmread(store.root / own[0]._mapping["path"], stop_before_pixels=True)
        assert _identity(result) == _identity(first), f"I5: {uid} has another identity than its input"
        images = {row._mapping["sop_uid"] for row in own}
        for referenced in _referenced(result):
            known = referenced in images or study_of.get(referenced) == study_of[uid]
            assert known, f"I5: {uid} refers to {referenced}, which is not in its study"


def _referenced(ds: Dataset) -> set[str]:
    return {str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID"}


def _i6_the_audit_chain_is_whole(store: Store) -> None:
    with store.reading() as connection:
        verify(connection, store.key, store.root / "audit.anchor")


def _i6_every_change_has_its_audit_record(store: Store) -> None:
    audit = METADATA.tables["audit"]
    with store.reading() as connection:
        found = connection.execute(sa.select(audit.c.action, audit.c.subject))
        recorded = Counter((action, subject) for action, subject in found)
        generations = connection.execute(sa.select(GENERATIONS)).all()
        assignments = connection.execute(sa.select(ASSIGNMENTS)).all()
        deliveries = connection.execute(sa.select(DELIVERIES)).all()
    # A study may be frozen, routed and read more than once, each time with a record of its own.
    expected = Counter(("study frozen", row.study_uid) for row in generations)
    expected.update((f"study {row.state}", row.study_uid) for row in generations if row.state != "frozen")
    expected.update(("study reported", row.study_uid) for row in assignments if row.state == "reported")
    taken = [row for row in deliveries if row.state in ("accepted", "verified")]
    expected.update(("output accepted", row.output_id) for row in taken)
    expected.update(("output verified", row.output_id) for row in taken if row.state == "verified")
    missing = expected - recorded
    assert not missing, f"I6: changes without an audit record: {missing}"
    for row in assignments:
        times = [at for at in (row.assigned_at, row.analysed_at, row.reported_at) if at is not None]
        assert times == sorted(times), f"I6: assignment {row.assignment_id} went backward"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What processes hold of the machine."""

    memory_bytes: int
    threads: int
    descriptors: int


def footprint(*pids: int) -> Footprint:
    """What these processes hold now: memory of their own, threads and open descriptors."""
    memory_bytes = threads = descriptors = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
            numbers = {key: int(value) for key, value in re.findall(r"^(RssAnon|Threads):\s+(\d+)", status, re.M)}
            memory_bytes += numbers.get("RssAnon", 0) << 10
            threads += numbers["Threads"]
            descriptors += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Footprint(memory_bytes, threads, descriptors)


def check_footprint(before: Footprint, after: Footprint) -> None:
    """I7: memory, threads and descriptors are back."""
    assert after.memory_bytes - before.memory_bytes <= MOST_DRIFT_BYTES, f"I7: memory: {before}, then {after}"
    assert after.threads - before.threads <= MOST_DRIFT_THREADS, f"I7: threads: {before}, then {after}"
    assert after.descriptors - before.descriptors <= MOST_DRIFT_DESCRIPTORS, f"I7: descriptors: {before}, then {after}"


def check_canaries(root: Path, canaries: Sequence[str], *more: Path) -> None:
    """I8: patient data are in no log and no other file that tells of the node's own state.

    Parameters
    ----------
    canaries
        Words that only patient data hold.
    more
        Files outside the store, such as what a process said on standard error.
    """
    words = [word.encode() for word in canaries]
    inside = [path for path in root.rglob("*") if path.relative_to(root).parts[0] not in PATIENT_DATA]
    for path in [*inside, *more]:
        if not path.is_file() or ".db" in path.name:
            continue
        content = path.read_bytes()
        assert not any(word in content for word in words), f"I8: {path.name} holds patient data"
    with closing(sqlite3.connect(root / "wetread.db")) as connection:
        audit = str(connection.execute("SELECT group_concat(subject || ' ' || details) FROM audit").fetchone()[0])
    assert not any(word in audit for word in canaries), "I8: the audit chain holds patient data"


def check_stat_first(store: Store) -> None:
    """I9: no STAT reading began after a routine one that was handed to the engine later.

    For a node whose worker was not killed meanwhile and that reads one study at a time.
    """
    with store.reading() as connection:
        query = sa.select(ASSIGNMENTS.c.assignment_id, ASSIGNMENTS.c.priority)
        priorities = {row.assignment_id: row.priority for row in connection.execute(query)}
    with closing(sqlite3.connect(store.root / "engine.db")) as engine:
        rows = engine.execute(
            "SELECT workflow_uuid, created_at, started_at_epoch_ms FROM workflow_status"
            " WHERE workflow_uuid LIKE 'reading:%' AND started_at_epoch_ms IS NOT NULL"
        ).fetchall()
    readings = [(priorities[workflow.split(":")[1]], created, started) for workflow, created, started in rows]
    for priority, created, started in readings:
        overtaken = [one for one in readings if one[0] > priority and one[1] > created and one[2] < started]
        assert not overtaken, f"I9: {len(overtaken)} readings overtook a more urgent one"
