"""MR heads as handlers and stages are given them, from the demonstration's own writer."""

from collections.abc import Sequence
from pathlib import Path

from node.demo.colin27 import (
    AXIAL,
    CORONAL,
    FLIPPED,
    RAS_TO_LPS,
    SAGITTAL,
    TEMPLATES,
    load_colin27,
    reorient,
    write_mr_series,
)
from node.dicom.read import header_of, read_dataset
from node.domain.study import Instance, Series, Study

__all__ = [
    "AXIAL",
    "CORONAL",
    "FLIPPED",
    "RAS_TO_LPS",
    "SAGITTAL",
    "TEMPLATES",
    "as_series",
    "as_study",
    "load_colin27",
    "reorient",
    "write_mr_series",
]


def as_series(paths: Sequence[Path]) -> Series:
    """See written files as the Series a handler would be given."""
    instances = tuple(_as_instance(path) for path in paths)
    header = header_of(read_dataset(paths[0]))
    return Series(instances[0].series_instance_uid, str(header["Modality"]), instances, header)


def as_study(*series: Series) -> Study:
    """See Series as one Study."""
    uid = series[0].header["StudyInstanceUID"]
    return Study(str(uid), 1, series)


def _as_instance(path: Path) -> Instance:
    ds = read_dataset(path)
    uids = (str(ds.SOPInstanceUID), str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID), str(ds.SeriesInstanceUID))
    return Instance(*uids, path, path.stat().st_size, "0" * 64)
