"""What is answered 0x0000 is durable and unchanged; what is not is said, with its status and a row."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from node.dicom.part10 import file_header
from node.errors import StoreError
from node.receive.spool import Answer, Incoming, accept
from node.store.database import Store, open_store
from node.store.files import name_of, verify_instance
from node.store.intake import instance_row, sweep_quarantine
from node.store.schema import INSTANCES, QUARANTINE, STUDIES
from node.store.volume import clear_bad


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=lambda: 1000.0)
    yield found
    found.close()


def _body(**values: object) -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "2.25.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = "2.25.2", "2.25.3", "P1"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def _send(
    store: Store, body: bytes, *, uid: str = "2.25.1", sop_class: str = CTImageStorage, least_mb: int = 0
) -> Answer:
    path = store.root / "incoming" / "arriving.dcm"
    path.write_bytes(file_header(CTImageStorage, "2.25.1", ExplicitVRLittleEndian) + body)
    incoming = Incoming(path, sop_class, uid, str(ExplicitVRLittleEndian), "CT1")
    answer = accept(store, incoming, refuse_below_free_mb=least_mb)
    assert not list((store.root / "incoming").iterdir())
    return answer


def _rows(store: Store, table: sa.Table) -> list[dict[str, object]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def test_an_object_is_kept_byte_for_byte_and_then_acknowledged(store: Store) -> None:
    body = _body()
    assert _send(store, body) == Answer(0x0000, study_instance_uid="2.25.2")
    (row,) = _rows(store, INSTANCES)
    assert (store.root / str(row["path"])).read_bytes().endswith(body)
    assert row["size_bytes"] == len(body)
    with store.reading() as connection:
        found = connection.execute(sa.select(INSTANCES)).one()
    verify_instance(instance_row(store.root, found))
    (study,) = _rows(store, STUDIES)
    assert (study["is_open"], study["last_instance_at"], study["patient_id"]) == (True, 1000.0, "P1")


def test_the_same_bytes_again_are_acknowledged_and_change_nothing(store: Store) -> None:
    _send(store, _body())
    before = _rows(store, INSTANCES)
    assert _send(store, _body()).status == 0x0000
    assert _rows(store, INSTANCES) == before
    assert _rows(store, QUARANTINE) == []


def test_other_content_under_a_known_uid_keeps_the_first_and_is_quarantined(store: Store) -> None:
    first = _body()
    _send(store, first)
    answer = _send(store, _body(PatientID="P2"))
    assert answer.status == 0xC001
    (row,) = _rows(store, QUARANTINE)
    assert "other content" in str(row["reason"])
    assert (store.root / str(row["path"])).read_bytes().endswith(_body(PatientID="P2"))
    assert (store.root / name_of("2.25.1")).read_bytes().endswith(first)


def test_a_command_set_that_names_another_object_is_refused_with_0xA900(store: Store) -> None:
    assert _send(store, _body(), uid="2.25.77").status == 0xA900
    assert _send(store, _body(), sop_class=str(MRImageStorage)).status == 0xA900
    assert _rows(store, INSTANCES) == []
    assert len(_rows(store, QUARANTINE)) == 2


@pytest.mark.parametrize("uid", ["", "../x", "/etc/passwd", "1." * 40, "1.2 ", "1.2\x00../"])
def test_peer_text_never_becomes_a_path(store: Store, uid: str) -> None:
    before = sorted(path for path in store.root.rglob("*") if path.is_dir())
    answer = _send(store, _body(), uid=uid)
    assert answer.status == 0xC000
    assert sorted(path for path in store.root.rglob("*") if path.is_dir()) == before
    assert _rows(store, QUARANTINE)[0]["sop_uid"] == ""


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_without_a_study_or_series_is_refused_with_0xC000(store: Store, keyword: str) -> None:
    answer = _send(store, _body(**{keyword: ""}))
    assert (answer.status, keyword in answer.comment) == (0xC000, True)
    assert len(_rows(store, QUARANTINE)) == 1


def test_a_truncated_object_is_refused_with_0xC000_and_a_row(store: Store) -> None:
    body = _body(BitsAllocated=8, PixelData=b"0" * 100)
    assert _send(store, body[:-10]).status == 0xC000
    (row,) = _rows(store, QUARANTINE)
    assert "lacks its last 10 bytes" in str(row["reason"])
    assert row["status"] == 0xC000


def test_a_nearly_full_disk_refuses_with_0xA700_and_keeps_nothing(store: Store) -> None:
    assert _send(store, _body(), least_mb=10**9).status == 0xA700
    assert _rows(store, INSTANCES) == _rows(store, QUARANTINE) == []


def test_a_file_that_was_linked_but_never_acknowledged_makes_way(store: Store) -> None:
    target = store.root / name_of("2.25.1")
    target.write_bytes(b"left by a crash between link and row")
    assert _send(store, _body()).status == 0x0000
    assert target.read_bytes().endswith(_body())


def test_a_late_image_opens_its_study_again(store: Store) -> None:
    _send(store, _body())
    with store.writing() as connection:
        connection.execute(sa.update(STUDIES).values(is_open=False, released_at=1.0))
    body = _body(SOPInstanceUID="2.25.4")
    _send(store, body, uid="2.25.4")
    (study,) = _rows(store, STUDIES)
    assert (study["is_open"], study["released_at"]) == (True, None)


def test_a_file_put_aside_just_before_a_crash_is_swept_when_it_is_an_hour_old(store: Store) -> None:
    _send(store, _body(), uid="2.25.77")
    (row,) = _rows(store, QUARANTINE)
    for name in ("old.dcm", "young.dcm"):
        (store.root / "quarantine" / name).write_bytes(b"no row")
    os.utime(store.root / "quarantine" / "old.dcm", (0, 0))
    assert sweep_quarantine(store) == 1
    left = {f"quarantine/{path.name}" for path in (store.root / "quarantine").iterdir()}
    assert left == {"quarantine/young.dcm", row["path"]}


def test_after_a_failed_fsync_nothing_is_acknowledged_until_a_person_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        assert _send(store, _body()).status == 0xA700
    assert _send(store, _body()) == Answer(0xA700, "the disk has failed")
    assert _rows(store, INSTANCES) == []
    clear_bad(store.root)
    assert _send(store, _body()).status == 0x0000


def test_a_changed_file_is_noticed_before_it_is_read(store: Store) -> None:
    _send(store, _body())
    with store.reading() as connection:
        instance = instance_row(store.root, connection.execute(sa.select(INSTANCES)).one())
    content = bytearray(instance.path.read_bytes())
    content[-1] ^= 1
    instance.path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="was changed"):
        verify_instance(instance)
    shutil.move(instance.path, store.root / "gone")
    with pytest.raises(StoreError, match="is gone"):
        verify_instance(instance)


def test_a_database_that_cannot_write_now_is_0xA700_so_that_the_sender_comes_again(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("CREATE TRIGGER no BEFORE INSERT ON instances BEGIN SELECT RAISE(ABORT, 'no'); END")
    assert _send(store, _body()).status == 0xA700
    assert _rows(store, INSTANCES) == _rows(store, STUDIES) == []
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER no")
    assert _send(store, _body()).status == 0x0000


def test_an_object_whose_quarantine_cannot_be_noted_leaves_nothing(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("CREATE TRIGGER no BEFORE INSERT ON quarantine BEGIN SELECT RAISE(ABORT, 'no'); END")
    assert _send(store, _body(), uid="2.25.77").status == 0xA700
    assert list((store.root / "quarantine").iterdir()) == []
