"""A study of 5,000 images settles and is routed like any other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from node import complete, route
from node.infer.job import Job, decode_job, encode
from node.settings import CompleteSettings, Condition, Rule
from node.store.database import Store, open_store
from node.store.schema import GENERATIONS, INSTANCES, STUDIES
from node.store.studies import add_assignments, instances_of, patient_count
from node.store.work import assignments_of
from tests.phantoms_mr import write_mr_series
from tests.unit.route.handlers import handler
from tests.unit.rows import Clock

STUDY, SERIES, PER_SERIES = "2.25.77", 10, 500
SETTINGS = CompleteSettings(quiet_s=60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=Clock())
    yield found
    found.close()


def _receive(store: Store, folder: Path) -> None:
    """Rows of 5,000 images that came 0.2 s apart; only the first image of each series has a file, and is enough."""
    (path, *_) = write_mr_series(np.ones((2, 2, 2), np.float32), np.eye(4)[[2, 1, 0, 3]], folder)
    start = store.clock() - 0.2 * SERIES * PER_SERIES
    rows = []
    for number in range(SERIES * PER_SERIES):
        series, index = divmod(number, PER_SERIES)
        name = f"instances/00/{series}.dcm" if index == 0 else f"instances/00/nothing.{number}.dcm"
        if index == 0:
            (store.root / name).write_bytes(path.read_bytes())
        rows.append(
            {
                "sop_uid": f"2.25.77.{series}.{index:03d}1", "study_uid": STUDY, "series_uid": f"2.25.77.{series}",
                "sop_class_uid": "1.2", "transfer_syntax_uid": "1.2", "path": name, "size_bytes": 1, "digest": "x",
                "modality": "MR", "patient_id": "P1", "calling_ae": "MR1", "received_at": start + 0.2 * number,
            }
        )  # fmt: skip
    with store.writing() as connection:
        connection.execute(
            sa.insert(STUDIES).values(
                study_uid=STUDY, first_at=start, last_instance_at=rows[-1]["received_at"], is_open=True, generation=0,
                calling_ae="MR1",
            )
        )  # fmt: skip
        connection.execute(sa.insert(INSTANCES), rows)


def test_five_thousand_images_in_ten_series_are_one_generation_and_one_assignment(store: Store, tmp_path: Path) -> None:
    _receive(store, tmp_path)
    clock = store.clock
    assert isinstance(clock, Clock)
    assert complete.settle(store, SETTINGS) == []
    clock.now += 60
    assert complete.settle(store, SETTINGS) == [(STUDY, 1)]
    with store.reading() as connection:
        row = connection.execute(sa.select(GENERATIONS)).one()
    assert (row.instance_count, row.longest_pause_s) == (5000, pytest.approx(0.2, abs=1e-6))

    study = route.gather(STUDY, 1, instances_of(store, STUDY, 1))
    assert [len(series.instances) for series in study.series] == [PER_SERIES] * SERIES
    assert {series.modality for series in study.series} == {"MR"}
    assert patient_count(store, STUDY) == 1
    rules = (Rule("all", "a", (Condition("Modality", any_of=("MR",)),)),)
    routing = route.route(study, rules, {"a": handler("a")})
    add_assignments(store, STUDY, 1, routing.assignments, routing.tries)
    (given,) = assignments_of(store, STUDY, 1)
    assert len(given.series_uids) == SERIES
    job = Job(1, tmp_path, study, 1)
    assert decode_job(encode(job)).study == study


def test_a_late_image_of_a_large_study_makes_a_generation_with_all(store: Store, tmp_path: Path) -> None:
    _receive(store, tmp_path)
    clock = store.clock
    assert isinstance(clock, Clock)
    clock.now += 60
    complete.settle(store, SETTINGS)
    with store.writing() as connection:
        connection.execute(sa.update(STUDIES).values(is_open=True, last_instance_at=clock.now))
        connection.execute(
            sa.insert(INSTANCES).values(
                sop_uid="2.25.78", study_uid=STUDY, series_uid="2.25.77.0", sop_class_uid="1.2",
                transfer_syntax_uid="1.2", path="x", size_bytes=1, digest="x", modality="MR", patient_id="P1",
                calling_ae="MR1", received_at=clock.now,
            )
        )  # fmt: skip
    clock.now += 60
    assert complete.settle(store, SETTINGS) == [(STUDY, 2)]
    assert [len(instances_of(store, STUDY, generation)) for generation in (1, 2)] == [5000, 5001]
