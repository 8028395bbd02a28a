"""A store with rows in it, made the way the node makes them, at a time that the test owns."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from node.complete import settle
from node.domain.work import Assignment, Output, OutputKind, Priority
from node.settings import CompleteSettings
from node.store.database import Store
from node.store.intake import Arrival, Kept, add_instance
from node.store.studies import Try, add_assignments
from node.store.volume import sync_file
from node.store.work import mark_analysed, mark_reported

NOTHING_LEARNED = CompleteSettings(learn=False)
STUDY, SERIES = "2.25.1", "2.25.5"


@dataclass
class Clock:
    """Seconds since the epoch; moves when a test says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def arrive(store: Store, number: int, *, study: str = STUDY, patient: str = "P1", content: bytes = b"bytes") -> Kept:
    path = store.root / "incoming" / str(number)
    path.write_bytes(content)
    sync_file(store.root, path)
    sha256 = hashlib.sha256(content).hexdigest()
    arrival = Arrival(
        f"2.25.9{number}", "1.2", "1.2", study, SERIES, path, len(content), sha256, "CT1", patient, f"A-{study}"
    )
    kept = add_instance(store, arrival)
    path.unlink(missing_ok=True)
    return kept


def freeze_whole(store: Store, *, quiet_s: float, after_release_s: float) -> list[tuple[str, int]]:
    """Freeze what is whole by these two times alone."""
    return settle(store, replace(NOTHING_LEARNED, quiet_s=quiet_s, after_release_s=after_release_s))


def assign(
    store: Store,
    *,
    study: str = STUDY,
    generation: int = 1,
    handler: str = "chest_xray",
    destinations: Sequence[str] = ("pacs", "ris"),
    priority: Priority = Priority.ROUTINE,
) -> Assignment:
    """Receive an image, freeze the study, and give it to a handler."""
    arrive(store, int(f"{study.rpartition('.')[2]}{generation}"), study=study)
    assert freeze_whole(store, quiet_s=0, after_release_s=0) == [(study, generation)]
    name = f"{study}.{generation}.{len(handler)}"
    item = Assignment(name, study, generation, handler, "a rule", priority, tuple(destinations), (SERIES,))
    add_assignments(store, study, generation, [item], [Try("a rule", is_match=True, reason=f"given to {handler}")])
    return item


def analyse(store: Store, item: Assignment) -> None:
    mark_analysed(store, item, status="findings", reason="", folder="analyses/x", workflow=item.assignment_id)


def report(store: Store, item: Assignment, outputs: Sequence[tuple[Output, str]], *, patient: str = "P1") -> None:
    """Analyse and report, each output for one destination."""
    analyse(store, item)
    mark_reported(
        store,
        item,
        [output for output, _ in outputs],
        [(output.output_id, destination) for output, destination in outputs],
        patient_key=hashlib.sha256(patient.encode()).hexdigest(),
        summary=[{"sentence": "A nodule is seen."}],
        workflow=item.assignment_id,
    )


def message(store: Store, control_id: str) -> Output:
    """An ORU of which only MSH matters."""
    content = f"MSH|^~\\&|WETREAD||RIS||20260301||ORU^R01^ORU_R01|{control_id}|P|2.5.1\rPID|||P1\r".encode()
    return _kept(
        store.root / "results" / f"{control_id}.hl7", content, Output(control_id, OutputKind.ORU, Path(), "", 0)
    )


def image(store: Store, uid: str) -> Output:
    """A secondary capture without pixels."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = store.root / "results" / f"{uid}.dcm"
    ds.save_as(path, enforce_file_format=True)
    made = Output(uid, OutputKind.HEAT_MAP, path, "", 0, str(SecondaryCaptureImageStorage), str(ExplicitVRLittleEndian))
    return _kept(path, path.read_bytes(), made)


def _kept(path: Path, content: bytes, made: Output) -> Output:
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return Output(
        made.output_id, made.kind, path, sha256, len(content), made.sop_class_uid, made.transfer_syntax_uid
    )  # fmt: skip
