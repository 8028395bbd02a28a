"""A site with a study that is routed, and orders that come before or after its results."""

import hashlib
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from node.app import open_site
from node.dicom.part10 import file_header
from node.domain.orders import OrderContext, PatientIdentifier, Received
from node.domain.work import Output, OutputKind, Priority
from node.paths import bundled_site
from node.receive.spool import Incoming, accept
from node.settings import StoreSettings, load_settings
from node.steps import Site, report_assignment, report_failure, route_study
from node.store.orders import keep_message
from node.store.work import outputs_of
from tests.unit.report.studies import head
from tests.unit.rows import freeze_whole

STUDY = "2.25.1001"
MINE = PatientIdentifier("P-0042", "HOSPITAL")
ORDER = OrderContext(
    "ACC1", (MINE,), "NW", placer_order_number="PL-1", filler_order_number="F-1", priority=Priority.STAT,
    indication="Fall from stairs", reason="Pain", patient_class="E",
)  # fmt: skip


def bundled(root: Path) -> Site:
    """The shipped site with a store of its own."""
    shipped = load_settings(bundled_site() / "config.toml", {})
    return open_site(bundled_site(), replace(shipped, store=StoreSettings(root, refuse_below_free_mb=0)))


def keep(site: Site, order: OrderContext, control_id: str = "1") -> None:
    digest = hashlib.sha256(control_id.encode()).hexdigest()
    keep_message(site.store, Received("HIS", control_id, "ORM^O01", digest, (order,)))


def arrived(site: Site, number: int = 1) -> int:
    """Receive a film of the study; the generation that holds it."""
    ds = head(STUDY, f"{STUDY}.2", str(ComputedRadiographyImageStorage), number)
    ds.Modality = "CR"
    ds.Rows = ds.Columns = 8
    ds.PixelData = b"\0" * 128
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = site.store.root / "incoming" / "a"
    dcmwrite(path, ds, enforce_file_format=False)
    body = path.read_bytes()
    body = body[body.index(b"\x08\x00\x05\x00") :]  # the first element: SpecificCharacterSet
    path.write_bytes(file_header(str(ds.SOPClassUID), str(ds.SOPInstanceUID), ExplicitVRLittleEndian) + body)
    incoming = Incoming(path, str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ExplicitVRLittleEndian), "CR1")
    assert accept(site.store, incoming, refuse_below_free_mb=0).status == 0x0000
    ((_, generation),) = freeze_whole(site.store, quiet_s=0, after_release_s=0)
    return generation


def routed(site: Site, number: int = 1) -> str:
    (assignment_id,) = route_study(site, STUDY, arrived(site, number))
    return assignment_id


def reported(site: Site, item: str) -> dict[OutputKind, Output]:
    report_failure(site, item, "the process was killed")
    assert report_assignment(site, item) == ""
    return {output.kind: output for output in outputs_of(site.store, item)}
