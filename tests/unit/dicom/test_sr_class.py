"""A report becomes a document of a smaller class only when every word of it has a place there."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
)

from node.dicom.part10 import file_header, read_file_meta
from node.dicom.sr_class import as_smaller_class, hindrance, smaller_class_uid, smaller_classes

CLASSES = [str(ComprehensiveSRStorage), str(EnhancedSRStorage), str(BasicTextSRStorage)]


def _item(value_type: str, relation: str, *below: Dataset) -> Dataset:
    item = Dataset()
    item.ValueType, item.RelationshipType = value_type, relation
    if below:
        item.ContentSequence = list(below)
    return item


def _reference() -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 1]
    return item


def _saved(folder: Path, *content: Dataset, is_signed: bool = False) -> Path:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = Comprehensive3DSRStorage, "2.25.7"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
    ds.ValueType, ds.ContentSequence = "CONTAINER", list(content)
    if is_signed:
        ds.DigitalSignaturesSequence = [Dataset()]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(folder / "report.dcm", enforce_file_format=True)
    return folder / "report.dcm"


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        (_item("TEXT", "CONTAINS", _item("IMAGE", "INFERRED FROM")), (True, True, True)),
        (_item("CODE", "CONTAINS", _item("TEXT", "HAS CONCEPT MOD")), (True, True, True)),
        (_item("CODE", "CONTAINS", _item("TEXT", "HAS PROPERTIES")), (True, True, False)),
        (_item("NUM", "CONTAINS"), (True, True, False)),
        (
            _item("NUM", "CONTAINS", _item("SCOORD", "INFERRED FROM", _item("IMAGE", "SELECTED FROM"))),
            (True, True, False),
        ),
        (_item("NUM", "CONTAINS", _item("DATETIME", "HAS OBS CONTEXT")), (True, False, False)),
        (_item("TEXT", "CONTAINS", _item("CONTAINER", "INFERRED FROM")), (True, False, False)),
        (_item("TEXT", "CONTAINS", _reference()), (True, False, False)),
        (_item("SCOORD3D", "CONTAINS"), (False, False, False)),
        (_item("CONTAINER", "CONTAINS", _item("CONTAINER", "CONTAINS", _item("TABLE", "CONTAINS"))), (False,) * 3),
        (_item("TEXT", "INVENTED"), (False, False, False)),
    ],
)
def test_content_is_measured_by_the_tables_of_the_standard(
    tmp_path: Path, content: Dataset, fits: tuple[bool, ...]
) -> None:
    path = _saved(tmp_path, content)
    assert tuple(not hindrance(path, one) for one in CLASSES) == fits


def test_a_signed_report_stays_what_it_is(tmp_path: Path) -> None:
    assert hindrance(_saved(tmp_path, _item("TEXT", "CONTAINS"), is_signed=True), CLASSES[0]) == "it is signed"


def test_classes_come_largest_first_and_only_for_reports() -> None:
    assert smaller_classes(str(Comprehensive3DSRStorage)) == tuple(CLASSES)
    assert smaller_classes(str(EnhancedSRStorage)) == (str(BasicTextSRStorage),)
    assert smaller_classes(str(BasicTextSRStorage)) == smaller_classes(str(CTImageStorage)) == ()


def test_the_same_report_always_gives_the_same_document_and_each_class_another_uid(tmp_path: Path) -> None:
    path = _saved(tmp_path, _item("TEXT", "CONTAINS"))
    with path.open("rb") as file:
        meta = read_file_meta(file)
    made = [as_smaller_class(path, meta, one) for one in CLASSES]
    assert made == [as_smaller_class(path, meta, one) for one in CLASSES]
    assert len({one.sop_instance_uid for one in made} | {meta.sop_instance_uid}) == 4
    for one, sop_class in zip(made, CLASSES, strict=True):
        header = file_header(one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid)
        got = dcmread(DicomBytesIO(header + one.dataset))
        assert (got.SOPClassUID, got.SOPInstanceUID) == (sop_class, smaller_class_uid("2.25.7", sop_class))
        assert got.ContentSequence == dcmread(path).ContentSequence
