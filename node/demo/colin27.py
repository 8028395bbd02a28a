"""A real head as MR images, in every storage a scanner may choose: Colin27, from Debian's mricron-data."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from node.domain.volume import Affine

TEMPLATES = Path("/usr/share/mricron/templates")  # Debian mricron-data: Colin27 and its brain mask, BSD-3
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

AXIAL = "SPL"  # slices go up, rows to the back, columns to the patient's left
SAGITTAL = "LIP"
CORONAL = "PIL"
FLIPPED = "IAR"  # axial, every axis the other way round

DIRECTIONS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}

MPRAGE: dict[str, Any] = {
    "PatientName": "Colin^Demo",
    "PatientID": "DEMO-MR-1",
    "PatientBirthDate": "19700101",
    "PatientSex": "M",
    "StudyDate": "20250102",
    "StudyTime": "101500",
    "SeriesDate": "20250102",
    "SeriesTime": "101730",
    "AcquisitionDate": "20250102",
    "AcquisitionTime": "101730",
    "ContentDate": "20250102",
    "ContentTime": "102230",
    "AccessionNumber": "MR0001",
    "ReferringPhysicianName": "",
    "StudyID": "1",
    "StudyDescription": "MR head",
    "SeriesNumber": 3,
    "SeriesDescription": "T1 MPRAGE",
    "ProtocolName": "t1_mprage",
    "Manufacturer": "Phantom maker",
    "ManufacturerModelName": "Phantom 3T",
    "BodyPartExamined": "HEAD",
    "PatientPosition": "HFS",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "ScanningSequence": ["GR", "IR"],
    "SequenceVariant": ["SK", "SP", "MP"],
    "ScanOptions": "",
    "MRAcquisitionType": "3D",
    "RepetitionTime": 2300.0,
    "EchoTime": 2.98,
    "InversionTime": 900.0,
    "FlipAngle": 9.0,
    "EchoTrainLength": 1,
    "NumberOfAverages": 1.0,
    "MagneticFieldStrength": 3.0,
    "ImagedNucleus": "1H",
    "PositionReferenceIndicator": "",
}


def load_colin27(name: str = "ch2") -> tuple[npt.NDArray[np.float32], Affine]:
    """Load Colin27 (``ch2``), or its brain (``ch2bet``), stored axially: ``float32[slice, row, column]``, LPS mm."""
    image: Any = nibabel.load(TEMPLATES / f"{name}.nii.gz")
    array = np.asarray(image.dataobj, np.float32)
    return reorient(array, RAS_TO_LPS @ np.asarray(image.affine, np.float64), AXIAL)


def reorient(array: npt.NDArray[Any], affine_lps: Affine, storage: str) -> tuple[npt.NDArray[Any], Affine]:
    """Store a volume the other way: `storage` says where slices, rows and columns go, such as `SAGITTAL`."""
    steps = affine_lps[:3, :3] / np.linalg.norm(affine_lps[:3, :3], axis=0)
    matrix, axes = affine_lps.copy(), []
    for letter in storage:
        along = np.array(DIRECTIONS[letter]) @ steps
        axis = int(np.argmax(np.abs(along)))
        axes.append(axis)
        if along[axis] < 0:
            array = np.flip(array, axis)
            matrix[:3, 3] += matrix[:3, axis] * (array.shape[axis] - 1)
            matrix[:3, axis] *= -1
    return np.ascontiguousarray(array.transpose(axes)), matrix[:, [*axes, 3]]


def write_mr_series(volume: npt.NDArray[Any], affine_lps: Affine, folder: Path, **identity: Any) -> list[Path]:
    """Write a volume ``[slice, row, column]`` as one T1 Series of single-frame MR images.

    The UIDs depend on PatientID, AccessionNumber, SeriesNumber and SeriesDescription only. `identity`
    sets any DICOM keyword; None leaves it out.
    Values are rounded to int16; the affine must not be sheared.
    """
    header = MPRAGE | identity
    study_uid = header.get("StudyInstanceUID") or _uid("study", header, "PatientID", "AccessionNumber")
    keys = ("PatientID", "AccessionNumber", "SeriesNumber", "SeriesDescription")
    series_uid = header.get("SeriesInstanceUID") or _uid("series", header, *keys)
    header |= {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    header.setdefault("FrameOfReferenceUID", _uid("frame of reference", header, "PatientID", "AccessionNumber"))
    steps = np.linalg.norm(affine_lps[:3, :3], axis=0)
    cosines = affine_lps[:3, :3] / steps
    header.setdefault("ImageOrientationPatient", [_decimal(value) for value in (*cosines[:, 2], *cosines[:, 1])])
    header.setdefault("PixelSpacing", [_decimal(steps[1]), _decimal(steps[2])])
    header.setdefault("SliceThickness", _decimal(steps[0]))
    header.setdefault("SpacingBetweenSlices", _decimal(steps[0]))
    low, high = np.percentile(volume[volume > volume.min()] if np.ptp(volume) else volume, (1, 99))
    header.setdefault("WindowCenter", _decimal((low + high) / 2))
    header.setdefault("WindowWidth", _decimal(max(high - low, 1)))
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write_slice(plane, affine_lps[:3] @ (index, 0, 0, 1), index, header, folder)
        for index, plane in enumerate(np.rint(volume).astype(np.int16))
    ]


def _write_slice(
    plane: npt.NDArray[np.int16], position: npt.NDArray[np.float64], index: int, header: dict[str, Any], folder: Path
) -> Path:
    uid = generate_uid(entropy_srcs=[header["SeriesInstanceUID"], str(index)])
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = MRImageStorage, uid, "MR"
    ds.InstanceNumber = index + 1
    ds.ImagePositionPatient = [_decimal(value) for value in position]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = plane.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    for keyword, value in header.items():
        if value is not None:
            setattr(ds, keyword, value)
    ds.PixelData = plane.astype("<i2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{index + 1:04d}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def _uid(what: str, header: dict[str, Any], *keywords: str) -> str:
    return str(generate_uid(entropy_srcs=[what, *(str(header.get(keyword)) for keyword in keywords)]))


def _decimal(value: float) -> str:
    """Write a decimal string of at most 16 characters (PS3.5 6.2)."""
    return f"{value + 0.0:.9g}"[:16]
