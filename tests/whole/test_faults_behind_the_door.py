"""Bytes that rot after receipt, an audit that cannot be written, mistakes of the site: said, and the others go on."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from node import audit, infer
from node.app import open_site
from node.dicom.part10 import file_header
from node.errors import ConfigError
from node.explain import find_studies, story
from node.health import look
from node.infer import State
from node.log import configure_logging
from node.paths import bundled_site
from node.receive.spool import Answer, Incoming, accept
from node.settings import StoreSettings, load_settings
from node.steps import Site, infer_assignment, report_assignment, report_failure, route_study
from node.store.schema import ASSIGNMENTS, DELIVERIES, INSTANCES, STUDIES
from tests.unit.report.studies import head
from tests.unit.rows import freeze_whole

ROT, SOUND = "2.25.1001", "2.25.1002"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    shipped = load_settings(bundled_site() / "config.toml", {})
    changed = replace(shipped, store=StoreSettings(tmp_path / "store", refuse_below_free_mb=0))
    found = open_site(bundled_site(), changed)
    yield found
    found.store.close()


def _send(site: Site, study: str, **text: str) -> Answer:
    ds = head(study, f"{study}.2", str(ComputedRadiographyImageStorage), 1)
    ds.Modality = "CR"
    ds.Rows = ds.Columns = 8
    ds.PixelData = b"\0" * 128
    for keyword, value in text.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = site.store.root / "incoming" / "a"
    dcmwrite(path, ds, enforce_file_format=False)
    body = path.read_bytes()
    body = body[body.index(b"\x08\x00\x05\x00") :]  # the first element: SpecificCharacterSet
    path.write_bytes(file_header(str(ds.SOPClassUID), str(ds.SOPInstanceUID), ExplicitVRLittleEndian) + body)
    incoming = Incoming(path, str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ExplicitVRLittleEndian), "CR1")
    return accept(site.store, incoming, refuse_below_free_mb=0)


def _assigned(site: Site, *studies: str) -> list[str]:
    for study in studies:
        assert _send(site, study).status == 0x0000
    frozen = freeze_whole(site.store, quiet_s=0, after_release_s=0)
    assert sorted(frozen) == [(study, 1) for study in studies]
    return [route_study(site, study, 1)[0] for study in studies]


def _file_of(site: Site, study: str) -> Path:
    with site.store.reading() as connection:
        (name,) = connection.execute(sa.select(INSTANCES.c.path).where(INSTANCES.c.study_uid == study)).scalars()
    return site.store.root / str(name)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"Wang^XiaoMing")] ^= 1  # now another patient's name
    path.chmod(0o640)
    path.write_bytes(content)


@pytest.mark.parametrize("fault", ["bit-flipped", "deleted"])
def test_an_image_that_rots_after_receipt_is_never_read_or_reported_and_other_studies_go_on(
    site: Site, fault: str
) -> None:
    rotten, sound = _assigned(site, ROT, SOUND)
    path = _file_of(site, ROT)
    if fault == "deleted":
        path.unlink()
    else:
        _flip(path)
    reason = infer_assignment(site, rotten)
    assert re.search("was changed|is gone", reason)
    report_failure(site, rotten, reason)
    assert re.search("was changed|is gone", report_assignment(site, rotten))
    assert infer_assignment(site, sound) == ""
    assert report_assignment(site, sound) == ""
    with site.store.reading() as connection:
        states = {row.assignment_id: row.state for row in connection.execute(sa.select(ASSIGNMENTS))}
        sent = {row.delivery_id for row in connection.execute(sa.select(DELIVERIES))}
        audit.verify(connection, site.store.key, site.store.root / "audit.anchor")
    assert states == {rotten: "failed", sound: "reported"}
    assert sent
    assert look(site.store, site.settings, ()).without_result == 1
    assert any("has no result" in event.text and "SOP Instance" in event.text for event in story(site.store, ROT))


def test_an_object_whose_audit_record_cannot_be_written_is_0xA700_and_leaves_nothing(site: Site) -> None:
    with site.store.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    assert _send(site, ROT).status == 0xA700
    with site.store.reading() as connection:
        assert connection.execute(sa.select(INSTANCES)).all() == []
        assert connection.execute(sa.select(STUDIES)).all() == []
    assert list((site.store.root / "incoming").iterdir()) == []
    with site.store.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    assert _send(site, ROT).status == 0x0000
    assert list((site.store.root / "instances").rglob("*.dcm")) == [_file_of(site, ROT)]


@pytest.fixture
def log_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("log_as_it_was")
def test_a_log_on_a_full_disk_stops_no_receiving(site: Site) -> None:
    with contextlib.suppress(OSError), Path("/dev/full").open("w", encoding="utf-8") as full:  # closing it fails too
        with contextlib.redirect_stderr(full):
            configure_logging("info", "json")
            answers = _send(site, ROT).status, _send(site, ROT, PatientID="other content").status
        with pytest.raises(OSError, match="No space"):  # what was to be written is still there
            full.flush()
    assert answers == (0x0000, 0xC001)


def _copied_site(folder: Path) -> Path:
    for name in ("handlers", "sr_templates", "models"):
        shutil.copytree(bundled_site() / name, folder / name)
    return folder


def test_a_misspelt_key_stops_the_start_and_names_the_line(tmp_path: Path) -> None:
    text = (bundled_site() / "config.toml").read_text(encoding="utf-8").replace("quiet_s = ", "quite_s = ")
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    line = 1 + text[: text.index("quite_s")].count("\n")
    with pytest.raises(ConfigError, match=rf"config\.toml, line {line}: .*quite_s"):
        load_settings(tmp_path / "config.toml", {})


def test_a_model_file_with_the_wrong_hash_is_off_and_the_node_starts(tmp_path: Path) -> None:
    folder = _copied_site(tmp_path)
    name = next(path.parent.name for path in sorted((folder / "models").glob("*/model.toml")))
    weights = folder / "models" / name / infer.load_cards(folder / "models")[name].file
    weights.write_bytes(b"other weights")
    shipped = load_settings(bundled_site() / "config.toml", {})
    site = open_site(folder, replace(shipped, store=StoreSettings(tmp_path / "store")))
    site.store.close()
    states = {state.name: state.state for state in infer.model_states(folder / "models")}
    assert states[name] not in (State.READY, State.MISSING)


HOSTILE = st.text(st.sampled_from("'\"%_;\\-/*.~=王\u202e\x85() aA1"), min_size=1, max_size=16)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE.filter(lambda text: text == text.strip() and "\\" not in text and "\x85" not in text))
def test_whatever_a_peer_calls_a_patient_is_a_value_in_sql_and_finds_that_study_only(site: Site, name: str) -> None:
    study = f"2.25.7{int.from_bytes(name.encode()) % 10**30}"
    assert _send(site, study, PatientID=name, AccessionNumber="A-1").status == 0x0000
    assert study in find_studies(site.store, name)
    assert find_studies(site.store, name + "' OR '1'='1") == []
    assert len(list((site.store.root / "instances").rglob("*.dcm"))) >= 1
    assert not any(character in str(_file_of(site, study)) for character in "'\"%;~=王")
