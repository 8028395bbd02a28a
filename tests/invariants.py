"""The promise of the node, checked after any fault: I1 to I6 of docs/operations.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from node.audit import verify
from node.deliver.er7 import control_id_of
from node.demo.pacs import DemoPacs
from node.demo.summary import by_control_id
from node.store.database import Store
from node.store.files import dataset_digest, name_of
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, OUTPUTS, STUDIES

__all__ = ["check_invariants", "unfinished"]


def unfinished(store: Store) -> dict[str, int]:
    """What has not ended yet, by kind; empty when the node is at rest."""
    counts = {
        "open studies": sa.select(sa.func.count()).where(STUDIES.c.is_open),
        "frozen studies": sa.select(sa.func.count()).where(GENERATIONS.c.state == "frozen"),
        "readings": sa.select(sa.func.count()).where(ASSIGNMENTS.c.state.in_(("assigned", "analysed"))),
        "deliveries": sa.select(sa.func.count()).where(DELIVERIES.c.state == "pending"),
    }
    with store.reading() as connection:
        found = {name: int(connection.execute(query).scalar_one()) for name, query in counts.items()}
    return {name: count for name, count in found.items() if count}


def check_invariants(store: Store, acknowledged: Sequence[Path], pacs: DemoPacs, messages: Sequence[bytes]) -> None:
    """Fail with the broken promise.

    Parameters
    ----------
    acknowledged
        Files whose sender was told 0x0000.
    messages
        Every receipt of the RIS, in order.
    """
    _i1_acknowledged_objects_are_there_byte_for_byte(store, acknowledged)
    _i2_nothing_partial_is_left(store)
    _i3_every_study_ended(store)
    _i4_each_output_arrived_exactly_once(store, pacs, messages)
    _i5_identity_is_that_of_the_input(store, pacs)
    _i6_the_audit_chain_is_whole(store)


def _i1_acknowledged_objects_are_there_byte_for_byte(store: Store, acknowledged: Sequence[Path]) -> None:
    with store.reading() as connection:
        rows = {row.sop_uid: row for row in connection.execute(sa.select(INSTANCES))}
    for path in acknowledged:
        uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        assert uid in rows, f"I1: {uid} was acknowledged and has no row"
        kept, sent = dataset_digest(store.root / rows[uid].path), dataset_digest(path)
        assert kept == sent, f"I1: {uid} is not byte-identical"
        assert rows[uid].sha256 == sent[0], f"I1: the row of {uid} has another digest"


def _i2_nothing_partial_is_left(store: Store) -> None:
    left = list((store.root / "incoming").iterdir())
    assert not left, f"I2: {len(left)} files are left in incoming/"
    with store.reading() as connection:
        kept = {row.sop_uid for row in connection.execute(sa.select(INSTANCES.c.sop_uid))}
    files = {str(path.relative_to(store.root)) for path in (store.root / "instances").rglob("*") if path.is_file()}
    assert {name_of(uid) for uid in kept} <= files, "I2: a row has no file"


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
        .where(DELIVERIES.c.state == "accepted", (OUTPUTS.c.kind == "oru") == is_oru)
    )
    with store.reading() as connection:
        return {row.output_id for row in connection.execute(query)}


def _i4_each_output_arrived_exactly_once(store: Store, pacs: DemoPacs, messages: Sequence[bytes]) -> None:
    there = pacs.instances()
    assert len(there) == len(set(there)), "I4: the PACS holds a SOP Instance UID twice"
    assert set(there) == _accepted(store, is_oru=False), "I4: the PACS does not hold exactly the outputs"
    with store.reading() as connection:
        rows = {row.output_id: row for row in connection.execute(sa.select(OUTPUTS))}
    for uid in there:
        path = store.root / rows[uid].path
        copy = store.root / "run" / "from_pacs.dcm"
        copy.write_bytes(pacs.download(uid))
        assert dataset_digest(copy) == dataset_digest(path), f"I4: the PACS holds other bytes of {uid}"
        copy.unlink()
    got: Mapping[str, bytes] = by_control_id(list(messages))
    assert set(got) == _accepted(store, is_oru=True), "I4: the RIS does not hold exactly the messages"
    for message in messages:
        # A RIS that was killed off before its answer gets the message again; it must be the very same one.
        assert message == got[control_id_of(message)], "I4: one MSH-10 came with two contents"


def _identity(ds: Dataset) -> tuple[str, ...]:
    return (str(ds.PatientID), str(ds.StudyInstanceUID))


def _i5_identity_is_that_of_the_input(store: Store, pacs: DemoPacs) -> None:
    with store.reading() as connection:
        sources = {row.sop_uid: row for row in connection.execute(sa.select(INSTANCES))}
        query = sa.select(OUTPUTS.c.output_id, ASSIGNMENTS.c.study_uid).join(
            ASSIGNMENTS, ASSIGNMENTS.c.assignment_id == OUTPUTS.c.assignment_id
        )
        study_of = {row.output_id: row.study_uid for row in connection.execute(query)}
    for uid in pacs.instances():
        path = store.root / "run" / "from_pacs.dcm"
        path.write_bytes(pacs.download(uid))
        result = dcmread(path)
        path.unlink()
        assert result.StudyInstanceUID == study_of[uid], f"I5: {uid} is in another study than its input"
        own = [row for row in sources.values() if row.study_uid == study_of[uid]]
        first = dcmread(store.root / own[0].path, stop_before_pixels=True)
        assert _identity(result) == _identity(first), f"I5: {uid} has another identity than its input"
        for referenced in _referenced(result):
            known = referenced in {row.sop_uid for row in own} or study_of.get(referenced) == study_of[uid]
            assert known, f"I5: {uid} refers to {referenced}, which is not in its study"


def _referenced(ds: Dataset) -> set[str]:
    return {str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID"}


def _i6_the_audit_chain_is_whole(store: Store) -> None:
    with store.reading() as connection:
        verified = verify(connection, store.key, store.root / "audit.anchor")
        frozen = sa.select(sa.func.count()).select_from(GENERATIONS)
        assert verified.count >= connection.execute(frozen).scalar_one(), "I6: a change has no audit record"
