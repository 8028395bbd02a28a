"""The index made anew from the files, when the database is lost or damaged.

A study whose results are on disk is not read again by itself, because they may have been delivered; it comes
back as a generation in the state ``recovered``. Images that came after these results, and studies without
any, are open again. The new database is built aside and takes its place in one step; the old one is kept.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from node.audit import last_anchor, read_or_make_key, write_anchor
from node.errors import StoreError, UnreadableInstanceError
from node.paths import sync_folder
from node.store.database import Store, open_store
from node.store.files import quarantine_file
from node.store.found import FoundInstance, FoundReport, find_instance, find_reports
from node.store.holding import store_alone
from node.store.schema import ASSIGNMENTS, GENERATIONS, INSTANCES, OUTPUTS, QUARANTINE, STUDIES

__all__ = ["REASON", "Recovered", "recover"]

Advance = Callable[[int, int], None]
REASON = "index rebuilt; results were made before, and whether they were delivered is not known"
UNKNOWN = "(unknown)"  # who sent an image is known to the database alone
AT_ONCE = 500
DATABASES = ("wetread.db", "wetread.db-wal", "wetread.db-shm", "engine.db", "engine.db-wal", "engine.db-shm")
PRIORITY = 100
NO_STATUS = 0  # what its sender was told is not known any more


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the files gave: `reopened` studies are read at the next start, `reported` have results on disk already.

    `put_aside` is the folder with the old databases.
    """

    studies: int
    instances: int
    reported: int
    reopened: int
    quarantined: tuple[str, ...]
    put_aside: Path


@dataclass(slots=True)
class _Study:
    """A study as it comes together from its files; `covered_at` is when its last results were begun, if any were."""

    first_at: float
    last_at: float
    patient_id: str = ""
    accession_number: str = ""
    generation: int = 0
    covered_at: float | None = None
    covered: int = 0
    is_open: bool = False


def recover(
    root: Path,
    *,
    handlers: Sequence[str],
    clock: Callable[[], float],
    read_again: bool = False,
    advance: Advance = lambda _done, _total: None,
) -> Recovered:
    """Make the index of a store from its files.

    Parameters
    ----------
    handlers
        Names of the site's handlers, by which results are told apart.
    read_again
        Also open studies that have results: they are read as a new generation and reported as corrected.

    Raises
    ------
    AlreadyRunningError
        If a node works on the store.
    StoreError
        If there is no store, or it cannot be written.
    """
    if not (root / "instances").is_dir():
        raise StoreError(f"{root} is no store: it has no folder instances")
    building = root / ".recover.part"
    aside = root / "aside" / f"{datetime.fromtimestamp(clock(), UTC):%Y%m%dT%H%M%SZ}"
    try:
        with store_alone(root):
            shutil.rmtree(building, ignore_errors=True)
            built = open_store(building, clock=clock)
            with closing(built):
                store = replace(built, root=root, key=read_or_make_key(root / "audit.key"))
                found = _fill(store, handlers, aside, read_again=read_again, advance=advance)
                with store.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            _take_place(root, building, aside)
            with closing(open_store(root, clock=clock)) as opened, opened.reading() as connection:
                write_anchor(connection, root / "audit.anchor")
    except OSError as error:
        raise StoreError(f"the index was not rebuilt: {error.strerror}: {error.filename or root}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return found


def _take_place(root: Path, building: Path, aside: Path) -> None:
    """Keep the old databases, then let the new one take their place; the log of the old one must not touch it."""
    aside.mkdir(parents=True, mode=0o750)
    for name in (*DATABASES, "audit.anchor"):
        if (root / name).exists():
            os.link(root / name, aside / name)
    sync_folder(aside)
    sync_folder(root)
    new = building / "wetread.db"
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    for name in DATABASES[1:]:
        (root / name).unlink(missing_ok=True)
    new.replace(root / DATABASES[0])
    sync_folder(root)


def _fill(store: Store, handlers: Sequence[str], aside: Path, *, read_again: bool, advance: Advance) -> Recovered:
    studies: dict[str, _Study] = {}
    reports = list(find_reports(store.root, handlers))
    for report in reports:
        _cover(studies, report)
    paths = sorted(path for path in (store.root / "instances").rglob("*") if path.is_file())
    batch: list[tuple[FoundInstance, int | None]] = []
    count, put_away = 0, []
    for done, path in enumerate(paths, start=1):
        try:
            found = find_instance(store.root, path)
        except (UnreadableInstanceError, OSError, ValueError) as error:
            put_away.append((path, str(error)))
            continue
        finally:
            advance(done, len(paths))
        batch.append((found, _place(studies, found)))
        count += 1
        if len(batch) == AT_ONCE:
            _add_instances(store, studies, batch)
            batch.clear()
    _add_instances(store, studies, batch)
    for study in studies.values():
        study.is_open |= read_again and study.covered > 0
    moved = [_put_away(store, path, reason) for path, reason in put_away]
    _add_rest(store, studies, reports)
    _add_quarantine(store)
    reported = sum(study.covered_at is not None for study in studies.values())
    reopened = sum(study.is_open for study in studies.values())
    result = Recovered(len(studies), count, reported, reopened, tuple(moved), aside)
    _begin_trail(store, result)
    return result


def _cover(studies: dict[str, _Study], report: FoundReport) -> None:
    """Note that a study has results; the last generation's beginning parts what it held from what came later."""
    at = report.analysed_at
    study = studies.setdefault(report.study_instance_uid, _Study(at, at))
    if report.generation > study.generation:
        study.generation, study.covered_at = report.generation, at
    elif report.generation == study.generation:
        study.covered_at = min(at, study.covered_at or at)


def _place(studies: dict[str, _Study], found: FoundInstance) -> int | None:
    """The generation of an image, None if no result can have seen it."""
    at = found.received_at
    study = studies.setdefault(found.study_instance_uid, _Study(at, at))
    study.first_at, study.last_at = min(study.first_at, at), max(study.last_at, at)
    study.patient_id = study.patient_id or found.patient_id
    study.accession_number = study.accession_number or found.accession_number
    if study.covered_at is not None and at <= study.covered_at:
        study.covered += 1
        return study.generation
    study.is_open = True
    return None


def _add_instances(store: Store, studies: dict[str, _Study], batch: Sequence[tuple[FoundInstance, int | None]]) -> None:
    with store.writing() as connection:
        known = set(connection.execute(sa.select(STUDIES.c.study_uid)).scalars()) if batch else set()
        for uid in dict.fromkeys(found.study_instance_uid for found, _ in batch):
            if uid not in known:
                _add_study(connection, uid, studies[uid])
        for found, generation in batch:
            connection.execute(
                sa.insert(INSTANCES).values(
                    sop_uid=found.sop_instance_uid,
                    study_uid=found.study_instance_uid,
                    series_uid=found.series_instance_uid,
                    sop_class_uid=found.sop_class_uid,
                    transfer_syntax_uid=found.transfer_syntax_uid,
                    path=str(found.path.relative_to(store.root)),
                    size_bytes=found.size_bytes,
                    digest=found.digest,
                    modality=found.modality,
                    patient_id=found.patient_id,
                    calling_ae=UNKNOWN,
                    received_at=found.received_at,
                    generation=generation,
                )
            )


def _add_study(connection: sa.Connection, uid: str, study: _Study) -> None:
    connection.execute(
        sa.insert(STUDIES).values(
            study_uid=uid,
            first_at=study.first_at,
            last_instance_at=study.last_at,
            is_open=False,
            generation=study.generation,
            calling_ae=UNKNOWN,
            patient_id=study.patient_id,
            accession_number=study.accession_number,
        )
    )


def _add_rest(store: Store, studies: dict[str, _Study], reports: Sequence[FoundReport]) -> None:
    """Rows that need every image to be counted: what became of each study, and its results."""
    with store.writing() as connection:
        known = set(connection.execute(sa.select(STUDIES.c.study_uid)).scalars())
        for uid, study in studies.items():
            if uid not in known:
                _add_study(connection, uid, study)  # its results are there, its images are not
            connection.execute(
                sa.update(STUDIES)
                .where(STUDIES.c.study_uid == uid)
                .values(first_at=study.first_at, last_instance_at=study.last_at, is_open=study.is_open)
            )
            if study.covered_at is not None:
                _add_generation(connection, uid, study)
        for report in reports:
            _add_report(store, connection, report)


def _add_generation(connection: sa.Connection, uid: str, study: _Study) -> None:
    connection.execute(
        sa.insert(GENERATIONS).values(
            study_uid=uid,
            generation=study.generation,
            frozen_at=study.covered_at,
            last_instance_at=study.last_at,
            signal="recovered",
            instance_count=study.covered,
            state="recovered",
            reason=REASON,
        )
    )


def _add_report(store: Store, connection: sa.Connection, report: FoundReport) -> None:
    at = report.analysed_at
    connection.execute(
        sa.insert(ASSIGNMENTS).values(
            assignment_id=report.assignment_id, study_uid=report.study_instance_uid, generation=report.generation,
            handler=report.handler or UNKNOWN, rule="", priority=PRIORITY, destinations="[]", series_uids="[]",
            state="reported", assigned_at=at, analysed_at=at, status=report.status, summary="", reason=report.reason,
            reported_at=max(output.made_at for output in report.outputs), analysis_path=report.analysis,
        )
    )  # fmt: skip
    for output in report.outputs:
        connection.execute(
            sa.insert(OUTPUTS).values(
                output_id=output.output_id, assignment_id=report.assignment_id, kind=str(output.kind),
                path=str(output.path.relative_to(store.root)), sha256=output.sha256, size_bytes=output.size_bytes,
                sop_class_uid=output.sop_class_uid, transfer_syntax_uid=output.transfer_syntax_uid,
                made_at=output.made_at,
            )
        )  # fmt: skip


def _put_away(store: Store, path: Path, reason: str) -> str:
    """Move a file that is no whole image of this store to quarantine, with the reason."""
    name = str(path.relative_to(store.root))
    number, place = quarantine_file(store.root, path)
    _note_quarantined(store, number, place, f"found when the index was rebuilt: {reason}")
    return name


def _add_quarantine(store: Store) -> None:
    """Rows for what was in quarantine already; why is not known any more."""
    with store.reading() as connection:
        known = set(connection.execute(sa.select(QUARANTINE.c.quarantine_id)).scalars())
    for path in sorted((store.root / "quarantine").glob("*.dcm")):
        if path.stem not in known:
            name = str(path.relative_to(store.root))
            _note_quarantined(store, path.stem[:32], name, "index rebuilt; the reason is not known any more")


def _note_quarantined(store: Store, number: str, name: str, reason: str) -> None:
    stat = (store.root / name).stat()
    with store.writing() as connection:
        connection.execute(
            sa.insert(QUARANTINE).values(
                quarantine_id=number, at=stat.st_mtime, sop_uid="", calling_ae=UNKNOWN, status=NO_STATUS,
                reason=reason, path=name, size_bytes=stat.st_size,
            )
        )  # fmt: skip


def _begin_trail(store: Store, result: Recovered) -> None:
    """The first record of the new audit trail says that it is one, and where the old one was known to end."""
    count, mac = last_anchor(store.root / "audit.anchor")
    details: dict[str, str | int | float] = {
        "old_records": count, "old_mac": mac, "old_database": result.put_aside.name, "studies": result.studies,
        "instances": result.instances, "reported": result.reported, "reopened": result.reopened,
        "quarantined": len(result.quarantined),
    }  # fmt: skip
    with store.writing() as connection:
        store.audit(connection, "index rebuilt", "store", details=details)
