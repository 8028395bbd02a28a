"""Images with known truth: a chest radiograph with round opacities, and CT slices of anybody.

Everything is made from arguments and a seed, UIDs too: the same call writes the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
)
from scipy import ndimage

from node.dicom.uid import derive_uid

Stored = npt.NDArray[np.uint16]
CHEST_SPACING_MM = 0.4


@dataclass(frozen=True, slots=True)
class Opacity:
    """A ball in the lung: its centre in pixels (centre of the first pixel is 0, 0), its diameter and its contrast.

    `contrast` is a fraction of the step from lung to mediastinum.
    """

    row: float
    column: float
    diameter_mm: float
    contrast: float


OPACITIES = (Opacity(300, 250, 24.0, 0.7), Opacity(420, 690, 30.0, 0.7), Opacity(560, 210, 18.0, 0.8))


def chest_phantom(
    opacities: Sequence[Opacity] = OPACITIES, *, rows: int = 1000, columns: int = 920, seed: int = 0
) -> tuple[Stored, tuple[Opacity, ...]]:
    """Draw a frontal chest radiograph, denser is brighter, 12 bits, 0.4 mm a pixel; the truth beside it.

    Positions are for the default size; another size scales the anatomy, not the opacities.
    """
    y, x = np.mgrid[:rows, :columns] / np.array([rows, columns]).reshape(2, 1, 1)
    image = np.full((rows, columns), 0.55)
    shoulders = _ellipse(y, x, (0.05, 0.0), (0.14, 0.36)) | _ellipse(y, x, (0.05, 1.0), (0.14, 0.36))
    image[shoulders] = 0.05  # air above them
    image += 0.25 * (y > 0.72) + 0.30 * np.exp(-(((x - 0.5) / 0.07) ** 2))  # abdomen, spine
    dome = _ellipse(y, x, (0.90, 0.27), (0.20, 0.24)) | _ellipse(y, x, (0.93, 0.74), (0.20, 0.24))
    heart = _ellipse(y, x, (0.62, 0.57), (0.17, 0.15))
    lungs = _ellipse(y, x, (0.46, 0.27), (0.40, 0.19)) | _ellipse(y, x, (0.46, 0.73), (0.40, 0.19))
    lungs &= ~dome & ~heart
    lungs &= y < 0.80
    depth = ndimage.distance_transform_edt(lungs) / columns
    image = np.where(lungs, 0.40 - 0.20 * np.clip(depth / 0.08, 0, 1), image + 0.15 * heart)
    for number in range(9):  # ribs: arcs that fall outwards on both sides
        middle = 0.10 + 0.075 * number + 0.9 * (np.abs(x - 0.5) - 0.15) ** 2
        image += 0.035 * np.exp(-(((y - middle) / 0.008) ** 2)) * (np.abs(x - 0.5) < 0.42)
    down, across = np.mgrid[:rows, :columns]
    for opacity in opacities:
        radius = opacity.diameter_mm / 2 / CHEST_SPACING_MM
        square = ((down - opacity.row) ** 2 + (across - opacity.column) ** 2) / radius**2
        image += 0.35 * opacity.contrast * np.sqrt(np.clip(1 - square, 0, 1))  # a ball absorbs by its chord
    image = ndimage.gaussian_filter(image, 1.5) + np.random.default_rng(seed).normal(0, 0.008, image.shape)
    return (np.clip(image, 0, 1.2) / 1.2 * 4095).astype(np.uint16), tuple(opacities)


def write_cr(array: Stored, path: Path, **header: object) -> Path:
    """Write a radiograph as CR; `header` sets or (with None) removes any attribute by its keyword."""
    ds = _base(ComputedRadiographyImageStorage, path.stem, "CR", header)
    ds.update(
        _elements(
            BodyPartExamined="CHEST",
            ViewPosition="PA",
            PatientOrientation=["L", "F"],
            PixelSpacing=[CHEST_SPACING_MM, CHEST_SPACING_MM],
            PixelSpacingCalibrationType="GEOMETRY",
            PixelSpacingCalibrationDescription="phantom",
            WindowCenter=2048,
            WindowWidth=4096,
        )
    )
    return _write(ds, array, path, header, bits=12)


def ct_slice(path: Path, *, number: int = 1, values_hu: npt.NDArray[np.int16] | None = None, **header: object) -> Path:
    """Write one axial CT slice, 5 mm from the next; 64x64 water in air if no values are given."""
    if values_hu is None:
        values_hu = np.full((64, 64), -1000, dtype=np.int16)
        values_hu[16:48, 16:48] = 0
    ds = _base(CTImageStorage, path.stem, "CT", header)
    ds.update(
        _elements(
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            BodyPartExamined="HEAD",
            PatientPosition="HFS",
            KVP=120,
            AcquisitionNumber=1,
            InstanceNumber=number,
            PositionReferenceIndicator="",
            ImagePositionPatient=[-100.0, -100.0, 5.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            FrameOfReferenceUID=derive_uid("phantom", "frame", str(ds.StudyInstanceUID)),
            PixelSpacing=[1.0, 1.0],
            SliceThickness=5.0,
            RescaleIntercept=-1024,
            RescaleSlope=1,
            RescaleType="HU",
            WindowCenter=40,
            WindowWidth=400,
        )
    )
    return _write(ds, (values_hu.astype(np.int32) + 1024).astype(np.uint16), path, header, bits=16)


def _ellipse(
    y: npt.NDArray[np.float64], x: npt.NDArray[np.float64], center: tuple[float, float], half: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = ((y - center[0]) / half[0]) ** 2 + ((x - center[1]) / half[1]) ** 2 < 1
    return inside


def _base(sop_class_uid: str, name: str, modality: str, header: dict[str, object]) -> Dataset:
    patient_id = str(header.get("PatientID", "P-1"))
    study_uid = str(header.get("StudyInstanceUID", derive_uid("phantom", "study", patient_id)))
    return _elements(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=sop_class_uid,
        SOPInstanceUID=derive_uid("phantom", "instance", study_uid, modality, name),
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=derive_uid("phantom", "series", study_uid, modality),
        Modality=modality,
        PatientName="Wang^XiaoMing=王^小明",
        PatientID=patient_id,
        PatientBirthDate="19600102",
        PatientSex="M",
        StudyDate="20260301",
        StudyTime="101500",
        StudyID="1",
        AccessionNumber="A-1",
        ReferringPhysicianName="",
        SeriesNumber=1,
        InstanceNumber=1,
        Manufacturer="Phantom",
    )


def _write(ds: Dataset, array: Stored, path: Path, header: dict[str, object], *, bits: int) -> Path:
    ds.update(
        _elements(
            SamplesPerPixel=1,
            PhotometricInterpretation="MONOCHROME2",
            Rows=array.shape[0],
            Columns=array.shape[1],
            BitsAllocated=16,
            BitsStored=bits,
            HighBit=bits - 1,
            PixelRepresentation=0,
        )
    )
    for keyword, value in header.items():
        if value is None:
            del ds[keyword]
        else:
            ds.update(_elements(**{keyword: value}))
    ds.add(DataElement("PixelData", "OW", array.astype("<u2").tobytes()))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def _elements(**header: object) -> Dataset:
    """A Dataset of the given attributes, not validated: phantoms may be wrong on purpose."""
    ds = Dataset()
    for keyword, value in header.items():
        vr = "US" if (vr := dictionary_VR(keyword)) == "US or SS" else vr
        ds.add(DataElement(tag_for_keyword(keyword) or 0, vr, value, validation_mode=config.IGNORE))
    return ds
