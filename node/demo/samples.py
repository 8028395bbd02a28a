"""Real studies for the demonstration, from packages that carry them; what cannot be had is said."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread

from node.demo.colin27 import TEMPLATES, load_colin27, write_mr_series

__all__ = ["Sample", "make_samples"]

RADIOGRAPH = "RG1_UNCR.dcm"


@dataclass(frozen=True, slots=True)
class Sample:
    """A study to be sent: its short name, what it is in words, its UID and its files."""

    name: str
    title: str
    study_instance_uid: str
    files: tuple[Path, ...]


def make_samples(folder: Path) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Write the sample studies that can be had; also why others cannot.

    A chest radiograph from the package pydicom-data, and the Colin27 head from Debian's mricron-data,
    written as 181 axial MR images.
    """
    samples, missing = [], []
    radiograph = get_testdata_file(RADIOGRAPH, download=False)
    if radiograph is None:
        missing.append("the chest radiograph RG1 (install the package pydicom-data)")
    else:
        path = folder / "chest" / RADIOGRAPH
        path.parent.mkdir(parents=True)
        shutil.copyfile(str(radiograph), path)
        samples.append(Sample("chest", "a chest radiograph", _study_uid(path), (path,)))
    if (TEMPLATES / "ch2.nii.gz").is_file():
        array, affine = load_colin27()
        files = tuple(write_mr_series(array, affine, folder / "brain"))
        samples.append(Sample("brain", "a brain MR, 181 images", _study_uid(files[0]), files))
    else:
        missing.append("the brain MR Colin27 (as root: apt-get install mricron-data)")
    return tuple(samples), tuple(missing)


def _study_uid(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
