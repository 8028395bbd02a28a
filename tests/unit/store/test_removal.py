"""What is removed is removed wholly, whatever cuts it short; what is not at rest stays."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.audit import AUDIT, verify
from node.errors import StoreError
from node.explain import find_studies, story
from node.settings import StoreSettings
from node.store import removal
from node.store.check import check_store
from node.store.database import Store
from node.store.erase import erase_study, finish_removals, look_at_study
from node.store.files import name_of, quarantine_file
from node.store.holding import keeping_files
from node.store.intake import add_quarantine
from node.store.outbox import mark_dead, pending_deliveries
from node.store.removal import ERASE, EXPIRE, begin_removal, unfinished_removals
from node.store.retention import Tidied, sweep_partial, tidy
from node.store.schema import ASSIGNMENTS, GENERATIONS, INSTANCES, METADATA, OUTPUTS, QUARANTINE, STUDIES
from node.store.studies import instances_of
from node.store.work import corrected_outputs
from tests.unit.store.shelf import Shelf, open_shelf, write_object

STUDY, OTHER = "2.25.1", "2.25.2"
DAY_S = 86400.0
KEEP = StoreSettings(keep_days=30, free_below_mb=0, keep_quarantine_days=90)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    found = open_shelf(tmp_path / "store")
    yield found
    found.store.close()


def _count(store: Store, table: sa.Table, *where: "sa.ColumnElement[bool]") -> int:
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())


def _actions(store: Store) -> list[str]:
    with store.reading() as connection:
        verify(connection, store.key, store.root / "audit.anchor")
        return [row.action for row in connection.execute(sa.select(AUDIT).order_by(AUDIT.c.seq))]


def _quarantine(shelf: Shelf, study: str, uid: str) -> str:
    path = shelf.store.root / "incoming" / "q.dcm"
    write_object(path, uid, study, "1.2.840.10008.5.1.4.1.1.2")
    path.write_bytes(path.read_bytes()[:-3])
    number, name = quarantine_file(shelf.store.root, path)
    add_quarantine(
        shelf.store, number=number, name=name, sop_uid="", calling_ae="CT1", status=1, reason="cut", size_bytes=1
    )
    return number


def test_an_erased_study_leaves_nothing_but_its_audit_records(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=3)
    shelf.finish(OTHER)
    mine, other = _quarantine(shelf, STUDY, "2.25.55"), _quarantine(shelf, OTHER, "2.25.56")
    there = look_at_study(shelf.store, STUDY)
    assert (there.instances, there.outputs, there.pending, there.quarantined) == (3, 2, 0, 1)
    (gone,) = erase_study(shelf.store, STUDY)
    assert len(gone.assignment_ids) == 1
    for table in METADATA.tables.values():
        if table is not AUDIT:
            with shelf.store.reading() as connection:
                assert STUDY not in {value for row in connection.execute(sa.select(table)) for value in row}
    short = gone.assignment_ids[0].removeprefix("2.25.")
    assert not [name for name in shelf.files() if short in name or mine in name]
    assert f"quarantine/{other}.dcm" in shelf.files()
    assert _actions(shelf.store)[-1] == "study erased"
    found = check_store(shelf.store)
    assert (found.damage[1:], found.unlisted, found.instances) == ((), (), 1)


def test_a_study_that_is_being_read_is_not_erased_unless_no_node_runs(shelf: Shelf) -> None:
    shelf.image(STUDY)
    shelf.assign(STUDY)
    with pytest.raises(StoreError, match="is being read"):
        erase_study(shelf.store, STUDY)
    assert _count(shelf.store, INSTANCES) == 1
    erase_study(shelf.store, STUDY, may_be_waiting=True)
    assert _count(shelf.store, STUDIES) == 0


def test_what_was_still_to_be_sent_is_not_sent_any_more(shelf: Shelf) -> None:
    shelf.image(STUDY)
    item = shelf.assign(STUDY)
    shelf.report(item)
    with shelf.store.writing() as connection:
        begin_removal(shelf.store, connection, STUDY, kind=ERASE, reason="")
    assert pending_deliveries(shelf.store, item.assignment_id, "pacs") == []


def test_a_study_that_is_not_there_cannot_be_erased(shelf: Shelf) -> None:
    with pytest.raises(StoreError, match="no study"):
        look_at_study(shelf.store, STUDY)
    with pytest.raises(StoreError, match="no study"):
        erase_study(shelf.store, STUDY)


def test_nothing_is_erased_while_a_backup_is_made(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.finish(STUDY)
    monkeypatch.setattr("node.store.erase.LOCK_WAIT_S", 0.0)
    with keeping_files(shelf.store.root), pytest.raises(StoreError, match="is going on"):
        erase_study(shelf.store, STUDY)
    assert _count(shelf.store, INSTANCES) == 1


def _cut_after(count: int, function: Callable[..., None]) -> Callable[..., None]:
    """`function`, but the process dies after so many calls."""
    left = [count]

    def call(*arguments: object) -> None:
        if not left[0]:
            raise SystemExit
        left[0] -= 1
        function(*arguments)

    return call


@pytest.mark.parametrize("kind", [ERASE, EXPIRE])
@pytest.mark.parametrize("calls", range(6))
@pytest.mark.parametrize("where", ["_unlink", "sync_folder"])
def test_a_removal_that_is_cut_short_anywhere_is_finished(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, kind: str, calls: int, where: str
) -> None:
    monkeypatch.setattr(removal, "AT_ONCE", 2)
    shelf.finish(STUDY, images=5)
    _quarantine(shelf, STUDY, "2.25.55")
    shelf.finish(OTHER)
    with shelf.store.writing() as connection:
        begin_removal(shelf.store, connection, STUDY, kind=kind, reason="")
    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(removal, where, _cut_after(calls, getattr(removal, where)))
        finish_removals(shelf.store)
    finish_removals(shelf.store)
    assert unfinished_removals(shelf.store) == []
    left = {name for name in shelf.files() if not name.startswith("quarantine")}
    assert len(left) == 5  # the other study's image, two results, and analysis in two files
    assert _count(shelf.store, INSTANCES, INSTANCES.c.study_uid == STUDY) == 0
    assert _count(shelf.store, STUDIES, STUDIES.c.study_uid == STUDY) == (kind == EXPIRE)
    assert check_store(shelf.store).unlisted == ()


def test_an_image_that_comes_while_its_study_is_erased_stays(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    with shelf.store.writing() as connection:
        begin_removal(shelf.store, connection, STUDY, kind=ERASE, reason="")
    shelf.clock.now += 1
    late = shelf.image(STUDY)
    finish_removals(shelf.store)
    with shelf.store.reading() as connection:
        assert connection.execute(sa.select(INSTANCES.c.sop_uid)).scalars().all() == [late]
        assert connection.execute(sa.select(STUDIES.c.is_open)).scalar_one()
    assert _count(shelf.store, GENERATIONS) == 0


def test_a_study_may_come_again_after_it_was_erased_and_go_again(shelf: Shelf) -> None:
    for _ in range(2):
        shelf.image(STUDY)
        shelf.clock.now += 1
        erase_study(shelf.store, STUDY)
        shelf.clock.now += 1
    assert _actions(shelf.store).count("study erased") == 2


def test_a_study_that_is_done_goes_after_its_days_and_its_rows_stay(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=2)
    shelf.clock.now += 30 * DAY_S - 10
    assert tidy(shelf.store, KEEP) == Tidied()
    shelf.clock.now += 20
    assert tidy(shelf.store, KEEP) == Tidied(too_old=1)
    assert shelf.files() == set()
    assert _count(shelf.store, INSTANCES) == 0
    assert [_count(shelf.store, table) for table in (STUDIES, GENERATIONS, ASSIGNMENTS, OUTPUTS)] == [1, 1, 1, 2]
    assert tidy(shelf.store, KEEP) == Tidied()
    assert _actions(shelf.store).count("study expired") == 1
    assert check_store(shelf.store).damage == ()


def test_the_story_of_a_removed_study_is_still_told(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=2)
    shelf.clock.now += 31 * DAY_S
    tidy(shelf.store, KEEP)
    assert find_studies(shelf.store, "A1") == [STUDY]
    told = [event.text for event in story(shelf.store, STUDY)]
    assert told[-1] == "2 images, with 2 results of them, were removed: 30 days after the last of it"
    assert any("is whole with 2 images" in text for text in told)
    assert any("pacs took text sr" in text for text in told)


def test_nothing_that_is_not_at_rest_ever_goes(shelf: Shelf) -> None:
    shelf.image("2.25.11")  # open
    shelf.clock.now += 1
    shelf.image("2.25.12")
    shelf.image("2.25.13")
    with shelf.store.writing() as connection:
        connection.execute(sa.update(STUDIES).where(STUDIES.c.study_uid != "2.25.11").values(is_open=False))
        for study, state in (("2.25.12", "frozen"), ("2.25.13", "waiting")):
            connection.execute(
                sa.insert(GENERATIONS).values(
                    study_uid=study, generation=1, frozen_at=0, last_instance_at=0, signal="quiet", instance_count=1,
                    state=state,
                )
            )  # fmt: skip
    shelf.clock.now += 1000 * DAY_S
    assert tidy(shelf.store, replace(KEEP, free_below_mb=10**9)) == Tidied()
    assert _count(shelf.store, INSTANCES) == 3


@pytest.mark.parametrize("state", ["assigned", "analysed", "pending"])
def test_a_study_that_still_has_work_stays(shelf: Shelf, state: str) -> None:
    shelf.image(STUDY)
    item = shelf.assign(STUDY)
    if state == "analysed":
        shelf.analyse(item)
    elif state == "pending":
        shelf.report(item)
    shelf.clock.now += 1000 * DAY_S
    assert tidy(shelf.store, replace(KEEP, free_below_mb=10**9)) == Tidied()


def test_a_dead_letter_keeps_its_study_for_the_days_a_person_has_to_see_it(shelf: Shelf) -> None:
    shelf.image(STUDY)
    item = shelf.assign(STUDY)
    shelf.report(item)
    shelf.clock.now += 3 * DAY_S
    with shelf.store.writing() as connection:
        connection.execute(sa.update(METADATA.tables["deliveries"]).values(next_attempt_at=shelf.clock.now))
    (delivery,) = pending_deliveries(shelf.store, item.assignment_id, "pacs")
    mark_dead(shelf.store, delivery, "refused")
    shelf.clock.now += 28 * DAY_S
    assert tidy(shelf.store, replace(KEEP, free_below_mb=10**9)) == Tidied()
    shelf.clock.now += 3 * DAY_S
    assert tidy(shelf.store, KEEP) == Tidied(too_old=1)


def test_when_the_disk_fills_the_oldest_goes_first_and_never_what_ended_just_now(shelf: Shelf) -> None:
    forever = replace(KEEP, keep_days=0, free_below_mb=10**9)
    shelf.finish(STUDY)
    shelf.clock.now += 3500
    shelf.finish(OTHER)
    shelf.clock.now += 200
    assert tidy(shelf.store, forever) == Tidied(for_room=1)
    with shelf.store.reading() as connection:
        assert connection.execute(sa.select(INSTANCES.c.study_uid)).scalars().all() == [OTHER]


def test_with_room_and_no_days_nothing_goes(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    _quarantine(shelf, STUDY, "2.25.55")
    shelf.clock.now += 10000 * DAY_S
    assert tidy(shelf.store, StoreSettings(keep_days=0, free_below_mb=1, keep_quarantine_days=0)) == Tidied()


def test_quarantine_goes_after_its_own_days(shelf: Shelf) -> None:
    _quarantine(shelf, STUDY, "2.25.55")
    shelf.clock.now += 91 * DAY_S
    assert tidy(shelf.store, KEEP) == Tidied(quarantined=1)
    assert (_count(shelf.store, QUARANTINE), shelf.files()) == (0, set())
    assert _actions(shelf.store)[-1] == "quarantine tidied"


def test_a_late_image_of_a_removed_study_is_read_alone_and_corrects_nothing(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=2)
    shelf.clock.now += 31 * DAY_S
    tidy(shelf.store, KEEP)
    late = shelf.image(STUDY)
    shelf.clock.now += 1
    item = shelf.assign(STUDY, generation=2)
    assert [one.sop_instance_uid for one in instances_of(shelf.store, STUDY, 2)] == [late]
    assert corrected_outputs(shelf.store, item) == []
    shelf.report(item)
    shelf.deliver(item)
    assert check_store(shelf.store).damage == ()
    shelf.clock.now += 31 * DAY_S
    assert tidy(shelf.store, KEEP) == Tidied(too_old=1)


def test_the_same_image_may_come_again_after_its_study_was_removed(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    (uid,) = shelf.images
    content = shelf.images[uid]
    shelf.clock.now += 31 * DAY_S
    tidy(shelf.store, KEEP)
    shelf.count = 0
    shelf.image(STUDY)
    assert (shelf.store.root / name_of(uid)).read_bytes() == content


def test_leftovers_of_yesterday_go_and_those_of_today_stay(tmp_path: Path) -> None:
    old = ["run/.new-1", "results/77/.new-2", "analyses/.77.x.part/arrays.npz", ".recover.part/wetread.db"]
    kept = ["results/77/M1.hl7", "wetread.db", "run/.new-today"]
    for name in (*old, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for path in tmp_path.rglob("*"):
        if path.name != ".new-today":
            os.utime(path, (1000.0, 1000.0))
    assert sweep_partial(tmp_path, now=1000.0 + DAY_S) == 4
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
