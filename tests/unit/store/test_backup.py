"""A backup holds everything that was acknowledged before it, is whole or not there, and gives the same store again."""

import hashlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.audit import verify, write_anchor
from node.errors import AlreadyRunningError, StoreError
from node.store.archive import MANIFEST, backups_in, read_manifest
from node.store.backup import BackedUp, back_up
from node.store.check import check_store
from node.store.database import open_store
from node.store.erase import finish_removals
from node.store.files import name_of
from node.store.holding import lock_folder, store_alone
from node.store.removal import EXPIRE, begin_removal
from node.store.restore import Restored, choose_backup, restore
from node.store.schema import DELIVERIES, INSTANCES
from tests.unit.store.shelf import Shelf, open_shelf

STUDY, OTHER = "2.25.1", "2.25.2"


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    found = open_shelf(tmp_path / "store")
    (tmp_path / "config.toml").write_text("# a site\n", encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "store" / "engine.db")) as engine:
        engine.execute("CREATE TABLE work (name TEXT)")
        engine.commit()
    yield found
    found.store.close()


def _back_up(shelf: Shelf, *, link: bool = False, keep: int = 0) -> BackedUp:
    shelf.clock.now += 1
    folder = shelf.store.root.parent
    return back_up(
        shelf.store, folder / "backups", version="1", settings_file=folder / "config.toml", link=link, keep=keep
    )


def _restore(shelf: Shelf, backup: Path) -> tuple[Restored, Shelf]:
    root = shelf.store.root.with_name("restored")
    made = restore(backup, root, clock=shelf.clock)
    return made, Shelf(open_store(root, clock=shelf.clock), shelf.clock)


def test_everything_that_was_acknowledged_is_there_after_a_restore(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=3)
    shelf.image(OTHER)
    with shelf.store.reading() as connection:
        write_anchor(connection, shelf.store.root / "audit.anchor")
    made = _back_up(shelf)
    assert (made.files, made.copied, made.missing) == (8, 8, ())
    _, again = _restore(shelf, made.folder)
    found = check_store(again.store)
    assert (found.instances, found.outputs, found.analyses, found.damage, found.unlisted) == (4, 2, 1, (), ())
    for uid, content in shelf.images.items():
        assert (again.store.root / name_of(uid)).read_bytes() == content
    with again.store.reading() as connection:
        assert verify(connection, again.store.key, again.store.root / "audit.anchor").count > 4
    assert (again.store.root / "engine.db").is_file()
    assert (made.folder / "config.toml").read_text(encoding="utf-8") == "# a site\n"
    again.store.close()


def test_a_second_backup_copies_only_what_is_new(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=3)
    _back_up(shelf)
    shelf.image(OTHER)
    second = _back_up(shelf)
    assert (second.files, second.copied) == (8, 1)
    _, again = _restore(shelf, second.folder)
    assert check_store(again.store).damage == ()
    again.store.close()


def test_a_content_that_is_gone_from_the_backup_is_copied_again(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=2)
    first = _back_up(shelf)
    victim = next(path for path in (first.folder.parent / "files").rglob("*") if path.is_file())
    victim.unlink()
    assert _back_up(shelf).copied == 1


def test_an_older_backup_still_holds_what_the_store_has_replaced_since(shelf: Shelf) -> None:
    shelf.image(STUDY)
    (uid,) = shelf.images
    first = _back_up(shelf)
    with shelf.store.writing() as connection:
        shelf.clock.now += 1
        begin_removal(shelf.store, connection, STUDY, kind=EXPIRE, reason="")
    finish_removals(shelf.store)
    shelf.count, old = 0, shelf.images[uid]
    shelf.image(STUDY, patient="somebody else")
    assert shelf.images[uid] != old
    _back_up(shelf)
    _, again = _restore(shelf, first.folder)
    assert (again.store.root / name_of(uid)).read_bytes() == old
    again.store.close()


def test_linked_backups_share_the_bytes_with_the_store(shelf: Shelf) -> None:
    shelf.image(STUDY)
    (uid,) = shelf.images
    made = _back_up(shelf, link=True)
    assert (shelf.store.root / name_of(uid)).stat().st_nlink == 2
    _, again = _restore(shelf, made.folder)
    assert check_store(again.store).damage == ()
    again.store.close()


def test_old_backups_go_with_what_only_they_named(shelf: Shelf) -> None:
    shelf.image(STUDY)
    _back_up(shelf)
    with shelf.store.writing() as connection:
        begin_removal(shelf.store, connection, STUDY, kind=EXPIRE, reason="")
    finish_removals(shelf.store)
    shelf.image(OTHER)
    made = _back_up(shelf, keep=1)
    assert made.pruned == 1
    assert backups_in(made.folder.parent) == [made.folder]
    made, again = _restore(shelf, made.folder)
    assert made.files == 1
    again.store.close()


def test_a_missing_file_is_named_and_the_rest_is_kept(shelf: Shelf) -> None:
    shelf.image(STUDY)
    shelf.image(STUDY)
    victim = name_of(next(iter(shelf.images)))
    (shelf.store.root / victim).unlink()
    made = _back_up(shelf)
    assert (made.files, made.missing) == (1, (victim,))


def test_a_backup_while_others_write_is_one_state_of_the_store(shelf: Shelf) -> None:
    started, stop = threading.Event(), threading.Event()

    def receive() -> None:
        for _ in range(400):
            if stop.is_set():
                break
            shelf.image(STUDY)
            started.set()

    sender = threading.Thread(target=receive)
    sender.start()
    assert started.wait(30)
    acknowledged = list(shelf.images)
    made = _back_up(shelf)
    stop.set()
    sender.join(30)
    _, again = _restore(shelf, made.folder)
    found = check_store(again.store)
    assert found.damage == found.unlisted == ()
    with again.store.reading() as connection:
        kept = set(connection.execute(sa.select(INSTANCES.c.sop_uid)).scalars())
    assert set(acknowledged) <= kept
    again.store.close()


def test_a_backup_that_was_cut_short_is_no_backup_and_the_next_one_clears_it(shelf: Shelf) -> None:
    shelf.image(STUDY)
    folder = shelf.store.root.parent / "backups"
    (folder / "20200101T000000.000Z.part").mkdir(parents=True)
    (folder / "20200101T000000.000Z.part" / MANIFEST).write_text("{}", encoding="utf-8")
    (folder / "files").mkdir()
    (folder / "files" / "x.part").write_bytes(b"half")
    with pytest.raises(StoreError, match="no whole backup"):
        choose_backup(folder)
    made = _back_up(shelf)
    assert choose_backup(folder) == made.folder
    assert not list(folder.rglob("*.part"))


def test_a_folder_that_holds_something_else_is_not_written_into(shelf: Shelf) -> None:
    folder = shelf.store.root.parent / "backups"
    folder.mkdir()
    (folder / "thesis.doc").write_bytes(b"")
    with pytest.raises(StoreError, match=r"thesis\.doc"):
        _back_up(shelf)


def test_two_backups_into_one_folder_do_not_run_at_once(shelf: Shelf) -> None:
    folder = _back_up(shelf).folder.parent
    with lock_folder(folder), pytest.raises(StoreError, match="another backup"):
        _back_up(shelf)


def test_a_damaged_database_is_not_copied_as_if_it_were_well(shelf: Shelf) -> None:
    (shelf.store.root / "engine.db").write_bytes(b"\xa5" * 8192)
    with pytest.raises(StoreError, match=r"engine\.db"):
        _back_up(shelf)


@pytest.mark.parametrize("what", ["content", "manifest", "seal", "database"])
def test_a_changed_backup_is_refused_and_nothing_is_restored(shelf: Shelf, what: str) -> None:
    shelf.image(STUDY)
    made = _back_up(shelf)
    victims = {
        "content": next(path for path in (made.folder.parent / "files").rglob("*") if path.is_file()),
        "manifest": made.folder / MANIFEST,
        "seal": made.folder / "manifest.sha256",
        "database": made.folder / "wetread.db",
    }
    content = bytearray(victims[what].read_bytes())
    content[-2] ^= 1
    victims[what].write_bytes(content)
    root = shelf.store.root.with_name("restored")
    with pytest.raises(StoreError, match="changed"):
        restore(made.folder, root, clock=shelf.clock)
    assert not root.exists()
    assert not root.with_name("restored.part").exists()


def test_a_manifest_cannot_name_a_file_outside_the_store(shelf: Shelf) -> None:
    made = _back_up(shelf)
    record = json.loads((made.folder / MANIFEST).read_bytes())
    record["files"] = {"../../etc/x": {"digest": "sha256:" + "0" * 64, "size_bytes": 1, "mtime_ns": 0}}
    content = json.dumps(record).encode()
    (made.folder / MANIFEST).write_bytes(content)
    seal = f"sha256:{hashlib.sha256(content).hexdigest()}"
    (made.folder / "manifest.sha256").write_text(seal, encoding="ascii")
    with pytest.raises(StoreError, match="outside the store"):
        read_manifest(made.folder)


def test_a_store_that_is_there_is_kept_and_only_put_aside_when_asked(shelf: Shelf) -> None:
    shelf.image(STUDY)
    made = _back_up(shelf)
    shelf.image(OTHER)
    root = shelf.store.root
    with pytest.raises(StoreError, match="--force"):
        restore(made.folder, root, clock=shelf.clock)
    with store_alone(root), pytest.raises(AlreadyRunningError):
        restore(made.folder, root, clock=shelf.clock, force=True)
    shelf.store.close()
    done = restore(made.folder, root, clock=shelf.clock, force=True)
    assert done.put_aside is not None
    old, new = (open_store(path, clock=shelf.clock) for path in (done.put_aside, root))
    assert (check_store(old).instances, check_store(new).instances) == (2, 1)
    old.close()
    new.close()


def test_what_was_accepted_stays_so_and_what_was_pending_is_counted(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    shelf.image(OTHER)
    shelf.clock.now += 1
    shelf.report(shelf.assign(OTHER))
    made = _back_up(shelf)
    done, again = _restore(shelf, made.folder)
    assert done.pending == 1
    with again.store.reading() as connection:
        states = connection.execute(sa.select(DELIVERIES.c.state).order_by(DELIVERIES.c.sequence)).scalars().all()
    assert states == ["accepted", "pending"]
    again.store.close()


def test_times_of_files_come_back_so_that_an_index_can_be_rebuilt_from_them(shelf: Shelf) -> None:
    shelf.image(STUDY)
    (uid,) = shelf.images
    _, again = _restore(shelf, _back_up(shelf).folder)
    times = [(one.root / name_of(uid)).stat().st_mtime_ns for one in (shelf.store, again.store)]
    assert times[0] == times[1]
    again.store.close()


def test_a_backup_is_named_and_the_newest_is_taken_by_itself(shelf: Shelf) -> None:
    first, second = _back_up(shelf), _back_up(shelf)
    folder = first.folder.parent
    assert choose_backup(folder) == second.folder
    assert choose_backup(folder, first.folder.name) == first.folder
    with pytest.raises(StoreError, match=second.folder.name):
        choose_backup(folder, "19990101T000000.000Z")
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="none"):
        choose_backup(folder)


def test_a_clock_that_was_set_back_makes_no_backup_fail(shelf: Shelf) -> None:
    first = _back_up(shelf)
    shelf.clock.now -= 1
    assert _back_up(shelf).folder != first.folder
    assert len(backups_in(first.folder.parent)) == 2
