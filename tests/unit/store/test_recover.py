"""A lost index comes back from the files; nothing that may have been delivered is sent again, nothing is left out."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.audit import AUDIT, verify, write_anchor
from node.errors import AlreadyRunningError, StoreError
from node.explain import story
from node.store.check import check_store
from node.store.database import Store, open_store
from node.store.files import name_of, quarantine_file
from node.store.holding import store_alone
from node.store.recover import Recovered, recover
from node.store.schema import ASSIGNMENTS, DELIVERIES, GENERATIONS, INSTANCES, OUTPUTS, QUARANTINE, STUDIES
from node.store.work import corrected_outputs, unfinished_assignments
from tests.unit.rows import freeze_whole
from tests.unit.store.shelf import HANDLER, Shelf, open_shelf, write_object

STUDY, OTHER = "2.25.1", "2.25.2"


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    found = open_shelf(tmp_path / "store")
    yield found
    found.store.close()


def _recover(shelf: Shelf, *, read_again: bool = False) -> tuple[Recovered, Store]:
    """Lose the database and make it anew."""
    root = shelf.store.root
    shelf.store.close()
    (root / "wetread.db").write_bytes(b"not a database" * 500)
    found = recover(root, handlers=["brain_mr", HANDLER], clock=shelf.clock, read_again=read_again)
    shelf.store = open_store(root, clock=shelf.clock)
    return found, shelf.store


def _rows(store: Store, table: sa.Table) -> list[dict[str, object]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def test_images_come_back_with_the_bytes_and_rows_they_had(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=3)
    shelf.image(OTHER, patient="P2")
    before = {row["sop_uid"]: row for row in _rows(shelf.store, INSTANCES)}
    found, store = _recover(shelf)
    assert (found.studies, found.instances, found.quarantined) == (2, 4, ())
    after = {row["sop_uid"]: row for row in _rows(store, INSTANCES)}
    same = ("study_uid", "series_uid", "digest", "size_bytes", "path", "patient_id", "modality", "transfer_syntax_uid")
    for uid, row in before.items():
        assert {key: after[uid][key] for key in same} == {key: row[key] for key in same}
        assert (store.root / name_of(str(uid))).read_bytes() == shelf.images[str(uid)]
    assert check_store(store).damage == ()
    assert {row["accession_number"] for row in _rows(store, STUDIES)} == {"A1", "A2"}


def test_a_study_with_results_is_neither_read_nor_sent_again(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    outputs = {row["output_id"]: row["sha256"] for row in _rows(shelf.store, OUTPUTS)}
    found, store = _recover(shelf)
    assert (found.reported, found.reopened) == (1, 0)
    shelf.clock.now += 1e6
    assert freeze_whole(store, quiet_s=0, after_release_s=0) == []
    assert unfinished_assignments(store) == []
    assert _rows(store, DELIVERIES) == []
    (generation,) = _rows(store, GENERATIONS)
    assert (generation["state"], generation["generation"], generation["instance_count"]) == ("recovered", 1, 1)
    assert "whether they were delivered is not known" in str(generation["reason"])
    assert {row["output_id"]: row["sha256"] for row in _rows(store, OUTPUTS)} == outputs
    (assignment,) = _rows(store, ASSIGNMENTS)
    assert (assignment["handler"], assignment["state"], assignment["status"]) == (HANDLER, "reported", "no_findings")


def test_the_story_of_a_recovered_study_says_so(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    _, store = _recover(shelf)
    told = [event.text for event in story(store, STUDY)]
    assert any("whether they were delivered is not known" in text for text in told)
    assert not any("no findings stated" in text for text in told)


def test_studies_without_results_are_open_again_and_settle_once(shelf: Shelf) -> None:
    shelf.image(STUDY)
    shelf.image(OTHER)
    shelf.clock.now += 1
    freeze_whole(shelf.store, quiet_s=0, after_release_s=0)
    shelf.clock.now += 1
    shelf.image("2.25.3")
    found, store = _recover(shelf)
    assert (found.reported, found.reopened) == (0, 3)
    shelf.clock.now += 1
    assert sorted(freeze_whole(store, quiet_s=0, after_release_s=0)) == [(STUDY, 1), (OTHER, 1), ("2.25.3", 1)]


def test_an_analysis_without_results_was_never_sent_so_its_study_is_read(shelf: Shelf) -> None:
    shelf.image(STUDY)
    shelf.clock.now += 1
    shelf.analyse(shelf.assign(STUDY))
    found, _ = _recover(shelf)
    assert (found.reported, found.reopened) == (0, 1)


def test_images_that_came_after_the_results_make_the_next_generation_and_its_report_a_correction(
    shelf: Shelf,
) -> None:
    shelf.finish(STUDY)
    shelf.clock.now += 10
    late = shelf.image(STUDY)
    found, store = _recover(shelf)
    assert (found.reported, found.reopened) == (1, 1)
    assert {row["sop_uid"]: row["generation"] for row in _rows(store, INSTANCES)} == {"2.25.9001": 1, late: None}
    shelf.clock.now += 1
    item = shelf.assign(STUDY, generation=2)
    assert [output.kind.is_dicom for output in corrected_outputs(store, item)].count(True) == 1


def test_read_again_opens_what_has_results_as_a_new_generation(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    shelf.clock.now += 10
    shelf.finish(STUDY, generation=2)
    found, store = _recover(shelf, read_again=True)
    assert (found.reported, found.reopened) == (1, 1)
    shelf.clock.now += 1
    item = shelf.assign(STUDY, generation=3)
    assert {row["state"] for row in _rows(store, GENERATIONS)} == {"recovered", "routed"}
    corrected = [output.output_id for output in corrected_outputs(store, item)]
    assert "M12" in corrected
    assert "M11" not in corrected


def test_results_of_a_handler_that_is_gone_still_hold_their_study_back(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    root = shelf.store.root
    shelf.store.close()
    found = recover(root, handlers=[], clock=shelf.clock)
    assert (found.reported, found.reopened) == (1, 0)


def test_damaged_and_foreign_files_go_to_quarantine_with_the_reason(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=2)
    root = shelf.store.root
    cut, _ = shelf.images
    (root / name_of(cut)).write_bytes(shelf.images[cut][:-3])
    (root / "instances" / "00" / "notes.txt").write_bytes(b"a text that somebody put here")
    write_object(root / "instances" / "00" / "strange.dcm", "2.25.5", STUDY, "1.2.840.10008.5.1.4.1.1.2")
    found, store = _recover(shelf)
    assert len(found.quarantined) == 3
    reasons = " ".join(str(row["reason"]) for row in _rows(store, QUARANTINE))
    assert "not in the place of its SOP Instance UID" in reasons
    assert check_store(store).damage == ()
    assert check_store(store).unlisted == ()


def test_what_was_in_quarantine_has_a_row_again(shelf: Shelf) -> None:
    root = shelf.store.root
    (root / "incoming" / "q").write_bytes(b"quarantined")
    number, name = quarantine_file(root, root / "incoming" / "q")
    _, store = _recover(shelf)
    (row,) = _rows(store, QUARANTINE)
    assert (row["quarantine_id"], row["path"], row["size_bytes"]) == (number, name, 11)


def test_the_new_trail_begins_with_the_end_of_the_old_one(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    anchor = shelf.store.root / "audit.anchor"
    with shelf.store.reading() as connection:
        write_anchor(connection, anchor)
    old = json.loads(anchor.read_text(encoding="ascii"))
    found, store = _recover(shelf)
    with store.reading() as connection:
        assert verify(connection, store.key, anchor).count == 1
        (first,) = connection.execute(sa.select(AUDIT)).all()
    details = json.loads(first.details)
    assert (first.seq, first.action) == (1, "index rebuilt")
    assert (details["old_records"], details["old_mac"]) == (old["count"], old["mac"])
    assert json.loads((found.put_aside / "audit.anchor").read_text(encoding="ascii")) == old


def test_the_old_databases_are_kept_and_their_logs_do_not_touch_the_new_one(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    root = shelf.store.root
    (root / "engine.db").write_bytes(b"engine")
    living = sqlite3.connect(root / "wetread.db")  # keeps the log there, as a killed node does
    living.execute("SELECT count(*) FROM studies").fetchone()
    assert (root / "wetread.db-wal").exists()
    found = recover(root, handlers=[HANDLER], clock=shelf.clock)
    assert {path.name for path in found.put_aside.iterdir()} >= {"wetread.db", "wetread.db-wal", "engine.db"}
    assert not (root / "engine.db").exists()
    living.close()
    again = open_store(root, clock=shelf.clock)
    assert [row["state"] for row in _rows(again, GENERATIONS)] == ["recovered"]
    again.close()


def test_recovering_twice_gives_the_same_index(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=2)
    first, store = _recover(shelf)
    rows = _rows(store, INSTANCES)
    shelf.clock.now += 60
    second, store = _recover(shelf)
    assert _rows(store, INSTANCES) == rows
    assert (first.studies, first.reopened) == (second.studies, second.reopened)


def test_a_store_that_is_in_use_is_not_recovered(shelf: Shelf) -> None:
    with store_alone(shelf.store.root), pytest.raises(AlreadyRunningError):
        recover(shelf.store.root, handlers=[], clock=shelf.clock)


def test_a_folder_that_is_no_store_is_not_recovered(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        recover(tmp_path, handlers=[], clock=lambda: 0.0)
