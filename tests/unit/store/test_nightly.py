"""In 28 nights every stored image is read once, and what has changed is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store.files import name_of
from node.store.nightly import NIGHTS, NOTE, check_share, last_share
from tests.unit.store.shelf import Shelf, open_shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    found = open_shelf(tmp_path / "store")
    yield found
    found.store.close()


def test_in_28_nights_every_image_is_looked_at_once(shelf: Shelf) -> None:
    for _ in range(NIGHTS + 3):
        shelf.image("2.25.1")
    counts = [check_share(shelf.store, night=night).instances for night in range(20_000, 20_000 + NIGHTS)]
    assert sum(counts) == NIGHTS + 3
    assert max(counts) == 2


def test_a_changed_image_is_named_in_its_night_and_in_the_status(shelf: Shelf) -> None:
    uid = shelf.image("2.25.1")
    path = shelf.store.root / name_of(uid)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    damaged = {night: check_share(shelf.store, night=night).damage for night in range(NIGHTS)}
    (found,) = [one for damage in damaged.values() for one in damage]
    assert (found.kind, found.name) == ("instance", uid)
    night = next(night for night, damage in damaged.items() if damage)
    check_share(shelf.store, night=night + NIGHTS)
    last = last_share(shelf.store.root)
    assert last is not None
    assert last.damage == (found,)
    assert last.at == "2023-11-14T22:13:20+00:00"


def test_a_note_that_is_not_there_or_not_ours_is_none(shelf: Shelf) -> None:
    assert last_share(shelf.store.root) is None
    for content in (b"", b"{}", b"[1]", b'{"at": 1, "instances": "x", "audit_records": 1, "damage": []}'):
        (shelf.store.root / NOTE).write_bytes(content)
        assert last_share(shelf.store.root) is None
