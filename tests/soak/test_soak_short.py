"""The soak tests in two minutes: the same drivers as ``make soak``, each with a small count."""

import os
import time
from pathlib import Path

import pytest

from tests.soak.cuts import Cut, soak_cuts
from tests.soak.flapping import soak_flapping
from tests.soak.hostile import soak_file_mutations, soak_wire_mutations
from tests.soak.power import copy_as_cut, formatted, mounted, need_mount, soak_power
from tests.soak.senders import soak_senders
from tests.soak.tracing import need_strace

SEED = "20261122"
LIMIT_S = 60.0


def _until() -> float:
    return time.monotonic() + LIMIT_S


@pytest.mark.timeout(120)
def test_four_senders_at_once_lose_and_double_nothing_while_the_door_stays_open(tmp_path: Path) -> None:
    soak_senders(tmp_path / "soak", senders=4, objects=300, seed=SEED, limit_s=LIMIT_S)


@pytest.mark.peer
@pytest.mark.timeout(180)
def test_a_disk_call_that_fails_or_is_the_last_loses_nothing_acknowledged(tmp_path: Path) -> None:
    need_strace()
    figures = soak_cuts(tmp_path / "soak", seed=SEED, most=6, until=_until())
    assert figures["acknowledged objects lost"] == "0"


@pytest.mark.peer
@pytest.mark.timeout(180)
def test_a_failed_sync_of_the_index_closes_the_volume_whatever_was_written(tmp_path: Path) -> None:
    need_strace()

    def is_sync_of_the_index(cut: Cut) -> bool:
        return cut.is_failed_sync and cut.call.file == "wetread.db-wal"

    figures = soak_cuts(tmp_path / "soak", seed=SEED, most=None, until=_until(), chosen=is_sync_of_the_index)
    assert int(figures["failed fsyncs that closed the volume"]) > 1


@pytest.mark.timeout(60)
def test_what_was_not_synced_is_not_in_a_copy_of_the_disk(tmp_path: Path) -> None:
    need_mount(tmp_path)
    image = formatted(tmp_path / "disk.img")
    with mounted(image, tmp_path / "disk") as disk:
        with (disk / "synced").open("wb") as file:
            file.write(b"durable")
            file.flush()
            os.fsync(file.fileno())
        (disk / "unsynced").write_bytes(b"in the page cache")
        copy_as_cut(image, tmp_path / "after.img")
    with mounted(tmp_path / "after.img", tmp_path / "after") as disk:
        assert (disk / "synced").read_bytes() == b"durable"
        assert not (disk / "unsynced").exists()


@pytest.mark.timeout(120)
def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path) -> None:
    need_mount(tmp_path)
    figures = soak_power(tmp_path / "soak", cuts=2, seed=SEED, until=_until())
    assert figures["lost"] == "0"


@pytest.mark.timeout(120)
def test_broken_conversations_end_and_the_next_honest_sender_is_served(tmp_path: Path) -> None:
    figures = soak_wire_mutations(tmp_path / "soak", count=300, seed=SEED, until=_until())
    assert figures["broken conversations"] == "300"


@pytest.mark.timeout(120)
def test_a_broken_object_is_taken_whole_or_put_aside_with_its_status(tmp_path: Path) -> None:
    figures = soak_file_mutations(tmp_path / "soak", count=300, seed=SEED, until=_until())
    assert figures["broken objects"] == "300"


@pytest.mark.peer
@pytest.mark.timeout(200)
def test_studies_end_well_while_the_pacs_and_the_ris_come_and_go(tmp_path: Path) -> None:
    figures = soak_flapping(tmp_path / "soak", studies=6, seed=SEED, limit_s=150)
    assert figures["not delivered, delivered twice"] == "0, 0"
