"""Stored objects for tests of sending, with what an encoding that is done again would change."""

import hashlib
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from node.dicom.part10 import read_file_meta
from node.domain.work import Output, OutputKind

__all__ = ["dataset_bytes", "output_of", "stored"]


def stored(
    folder: Path, number: int = 1, *, sop_class: str = BasicTextSRStorage, size: int = 40_001
) -> tuple[Path, Output]:
    """An object on disk with two things that encoding again would change: odd padding and a private text."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = f"2.25.77{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1001", "2.25.9002"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = "Wang^XiaoMing=王^小明", "P-0042"
    ds.Modality = "SR" if sop_class == BasicTextSRStorage else "OT"
    ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ""
    ds.add_new(0x00091001, "LT", "padded with a space ")
    ds.private_block(0x0009, "WETREAD TEST", create=True)
    ds.TextValue = "x" * size  # more than one PDU
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path, output_of(path)


def output_of(path: Path, kind: OutputKind = OutputKind.TEXT_SR) -> Output:
    """The output a file would be, by its own header."""
    content = path.read_bytes()
    with path.open("rb") as file:
        meta = read_file_meta(file)
    digest = hashlib.sha256(content).hexdigest()
    return Output(
        meta.sop_instance_uid, kind, path, digest, len(content), meta.sop_class_uid, meta.transfer_syntax_uid
    )  # fmt: skip


def dataset_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(read_file_meta(file).dataset_offset)
        return file.read()
