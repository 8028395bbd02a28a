"""A check finds every file that is not what its row says, and a damaged database is never worked on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.audit import write_anchor
from node.errors import StoreError
from node.store.check import check_store, open_sound_store
from node.store.files import name_of, quarantine_file
from node.store.holding import keeping_files, removing_files
from node.store.intake import add_quarantine
from tests.unit.store.shelf import Shelf, open_shelf

STUDY = "2.25.1"


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    found = open_shelf(tmp_path / "store")
    yield found
    found.store.close()


def _flip(path: Path, *, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_whole_store_is_found_whole_and_everything_is_counted(shelf: Shelf) -> None:
    shelf.finish(STUDY, images=3)
    seen: list[tuple[int, int]] = []
    found = check_store(shelf.store, advance=lambda done, total: seen.append((done, total)))
    assert (found.instances, found.outputs, found.analyses, found.quarantined) == (3, 2, 1, 0)
    assert found.damage == found.unlisted == ()
    assert found.audit_records >= 4
    assert seen[-1] == (6, 6)


def test_every_kind_of_damage_is_named_with_its_row(shelf: Shelf) -> None:
    item = shelf.finish(STUDY, images=2)
    root = shelf.store.root
    first, second = shelf.images
    _flip(root / name_of(first), at=-1)
    (root / name_of(second)).unlink()
    short = item.assignment_id.removeprefix("2.25.")
    _flip(root / "analyses" / short / "arrays.npz", at=10)
    _flip(root / "results" / short / "M11.hl7", at=0)
    (root / "incoming" / "q").write_bytes(b"quarantined")
    number, name = quarantine_file(root, root / "incoming" / "q")
    add_quarantine(shelf.store, number=number, name=name, sop_uid="", calling_ae="", status=1, reason="", size_bytes=1)
    found = {(one.kind, one.name) for one in check_store(shelf.store).damage}
    assert found == {
        ("instance", first), ("instance", second), ("analysis", item.assignment_id), ("output", "M11"),
        ("quarantined object", number),
    }  # fmt: skip


def test_files_without_a_row_are_listed_and_are_no_damage(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    (shelf.store.root / name_of("2.25.77")).write_bytes(b"linked, then the power went")
    found = check_store(shelf.store)
    assert found.damage == ()
    assert found.unlisted == (name_of("2.25.77"),)


def test_what_a_reading_is_making_now_is_not_left_over(shelf: Shelf) -> None:
    shelf.image(STUDY)
    item = shelf.assign(STUDY)
    folder = shelf.store.root / "results" / item.assignment_id.removeprefix("2.25.")
    folder.mkdir()
    (folder / "M11.hl7").write_bytes(b"MSH")
    assert check_store(shelf.store).unlisted == ()


def test_a_cut_audit_trail_is_damage(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    with shelf.store.reading() as connection:
        write_anchor(connection, shelf.store.root / "audit.anchor")
    with shelf.store.writing() as connection:
        connection.execute(sa.text("DROP TRIGGER audit_no_delete"))
        connection.execute(sa.text("DELETE FROM audit WHERE seq > 2"))
    (found,) = check_store(shelf.store).damage
    assert found.kind == "audit trail"
    assert "was cut" in found.reason


def test_nothing_is_changed_by_a_check(shelf: Shelf) -> None:
    shelf.finish(STUDY)
    before = {name: (shelf.store.root / name).stat().st_mtime_ns for name in shelf.files()}
    check_store(shelf.store)
    assert {name: (shelf.store.root / name).stat().st_mtime_ns for name in shelf.files()} == before


def test_nothing_is_removed_while_somebody_looks_and_many_may_look(shelf: Shelf) -> None:
    root = shelf.store.root
    with (
        keeping_files(root),
        keeping_files(root),
        pytest.raises(StoreError, match="is going on"),
        removing_files(root),
    ):
        pass
    with removing_files(root), pytest.raises(StoreError, match="being removed"), keeping_files(root, wait_s=0):
        pass


@pytest.mark.parametrize("place", ["header", "middle"])
def test_a_database_with_a_broken_page_is_not_opened_and_the_message_names_what_helps(shelf: Shelf, place: str) -> None:
    for number in range(200):
        shelf.image(f"2.25.{number + 1}")
    root = shelf.store.root
    with shelf.store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shelf.store.close()
    database = root / "wetread.db"
    content = bytearray(database.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    start, end = (0, 100) if place == "header" else (middle, middle + 3 * 4096)
    content[start:end] = b"\xa5" * (end - start)
    database.write_bytes(content)
    with pytest.raises(StoreError, match="wetread store recover"):
        open_sound_store(root)


def test_a_sound_store_is_opened(shelf: Shelf) -> None:
    shelf.image(STUDY)
    again = open_sound_store(shelf.store.root)
    assert check_store(again).instances == 1
    again.close()
