"""A store with real files in it: images, analyses and results as the node leaves them, at a time the test owns."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, CTImageStorage, ExplicitVRLittleEndian

from node.dicom.uid import derive_uid
from node.domain.algorithm import Algorithm, Basis
from node.domain.findings import Analysis, Status
from node.domain.work import Assignment, Output, OutputKind, Priority
from node.store.analyses import save_analysis
from node.store.database import Store, open_store
from node.store.digest import dataset_digest
from node.store.files import keep_instance
from node.store.intake import Arrival, Kept, add_instance
from node.store.outbox import mark_accepted, pending_deliveries
from node.store.studies import Try, add_assignments
from node.store.work import mark_analysed, mark_reported
from tests.unit.rows import Clock, freeze_whole

__all__ = ["HANDLER", "Shelf", "open_shelf"]

HANDLER = "chest_xray"
ALGORITHM = Algorithm("test", "1", "us", Basis.RULE_BASED)


@dataclass
class Shelf:
    """A store, its clock, and what was put into it."""

    store: Store
    clock: Clock
    count: int = 0
    images: dict[str, bytes] = field(default_factory=dict)

    def image(self, study: str, *, patient: str = "P1") -> str:
        """Receive an image; its SOP Instance UID."""
        self.count += 1
        uid = f"2.25.900{self.count}"
        path = self.store.root / "incoming" / f"{self.count}.dcm"
        write_object(path, uid, study, CTImageStorage, PatientID=patient, AccessionNumber=f"A{study[-1]}")
        self.keep(path, uid, study, patient=patient)
        return uid

    def keep(self, path: Path, uid: str, study: str, *, patient: str = "P1") -> Kept:
        os.utime(path, (self.clock.now, self.clock.now))
        digest, size = dataset_digest(path)
        name = keep_instance(self.store.root, path, uid)
        kept = add_instance(
            self.store,
            Arrival(
                uid, CTImageStorage, ExplicitVRLittleEndian, study, f"{study}.1", path, size, digest, "CT1", patient,
                f"A{study[-1]}", "CT",
            ),
        )  # fmt: skip
        path.unlink()
        self.images[uid] = (self.store.root / name).read_bytes()
        return kept

    def assign(self, study: str, *, generation: int = 1) -> Assignment:
        """Freeze a study and give it to a handler."""
        assert freeze_whole(self.store, quiet_s=0, after_release_s=0) == [(study, generation)]
        name = derive_uid("assignment", study, str(generation), HANDLER)
        item = Assignment(name, study, generation, HANDLER, "rule", Priority.ROUTINE, ("pacs",), (f"{study}.1",))
        add_assignments(self.store, study, generation, [item], [Try("rule", is_match=True, reason="given")])
        return item

    def analyse(self, item: Assignment) -> None:
        name = f"analyses/{item.assignment_id.removeprefix('2.25.')}"
        analysis = Analysis(Status.NO_FINDINGS, ALGORITHM, "chest_xray", ("2.25.9001",))
        save_analysis(analysis, self.store.root / name)
        self.touch(name)
        mark_analysed(self.store, item, status="no_findings", reason="", folder=name, workflow=item.assignment_id)

    def report(self, item: Assignment) -> list[Output]:
        """Analyse a study and make a readable report and a message; only the report is for a destination."""
        self.analyse(item)
        folder = self.store.root / "results" / item.assignment_id.removeprefix("2.25.")
        folder.mkdir()
        uid = derive_uid("report", item.assignment_id)
        write_object(folder / f"{uid}.dcm", uid, item.study_instance_uid, BasicTextSRStorage)
        (folder / f"M{item.study_instance_uid[-1]}{item.generation}.hl7").write_bytes(b"MSH|^~\\&|\r")
        outputs = [
            self._output(folder / f"{uid}.dcm", OutputKind.TEXT_SR),
            self._output(folder / f"M{item.study_instance_uid[-1]}{item.generation}.hl7", OutputKind.ORU),
        ]
        deliveries = [(outputs[0].output_id, "pacs")]
        mark_reported(
            self.store, item, outputs, deliveries, patient_key="k", summary=[{"sentence": "Nothing was found."}],
            workflow=item.assignment_id,
        )  # fmt: skip
        return outputs

    def deliver(self, item: Assignment) -> None:
        for delivery in pending_deliveries(self.store, item.assignment_id, "pacs"):
            mark_accepted(self.store, delivery, "0x0000")

    def finish(self, study: str, *, images: int = 1, generation: int = 1) -> Assignment:
        """A study from its first image to the last acknowledgement, each step a second after the one before."""
        for _ in range(images):
            self.image(study)
        self.clock.now += 1
        item = self.assign(study, generation=generation)
        self.clock.now += 1
        self.report(item)
        self.clock.now += 1
        self.deliver(item)
        return item

    def touch(self, name: str) -> None:
        for path in (self.store.root / name).iterdir():
            os.utime(path, (self.clock.now, self.clock.now))

    def files(self) -> set[str]:
        """Every file that belongs to a study, relative to the store."""
        kinds = ("instances", "quarantine", "analyses", "results")
        paths = (path for kind in kinds for path in (self.store.root / kind).rglob("*") if path.is_file())
        return {str(path.relative_to(self.store.root)) for path in paths}

    def _output(self, path: Path, kind: OutputKind) -> Output:
        os.utime(path, (self.clock.now, self.clock.now))
        content = path.read_bytes()
        classes: Sequence[str] = (BasicTextSRStorage, ExplicitVRLittleEndian) if kind.is_dicom else ("", "")
        return Output(path.stem, kind, path, hashlib.sha256(content).hexdigest(), len(content), *classes)


def write_object(path: Path, uid: str, study: str, sop_class: str, **values: str) -> None:
    """A Part 10 file without pixels."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.1"
    ds.Modality = "CT"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)


def open_shelf(folder: Path) -> Shelf:
    clock = Clock(1_700_000_000.0)
    return Shelf(open_store(folder, clock=clock), clock)
