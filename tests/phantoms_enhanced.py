"""A volume as one enhanced multi-frame image: the same truth as the classic slices of `write_mr_series`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedCTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless

from node.dicom.uid import derive_uid

__all__ = ["enhanced", "item", "write_enhanced"]


def item(**values: object) -> Dataset:
    """An item of a sequence."""
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def write_enhanced(volume: npt.NDArray[Any], affine_lps: npt.NDArray[np.float64], path: Path, **given: Any) -> Path:
    """Write a volume ``[slice, row, column]`` as one Enhanced MR or CT image; see `enhanced`."""
    transfer_syntax: UID = given.pop("transfer_syntax", ExplicitVRLittleEndian)
    ds = enhanced(volume, affine_lps, **given)
    path.parent.mkdir(parents=True, exist_ok=True)
    if transfer_syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    return path


def enhanced(
    volume: npt.NDArray[Any],
    affine_lps: npt.NDArray[np.float64],
    *,
    order: Sequence[int] | None = None,
    modality: str = "MR",
    shared: dict[str, Dataset] | None = None,
    each: dict[int, dict[str, Dataset]] | None = None,
    **header: Any,
) -> Dataset:
    """Build it.

    Parameters
    ----------
    order
        Which slice each frame shows; as they lie if None.
    shared, each
        Functional groups of all frames, and of the frame of one slice, in place of the usual ones.
    """
    order = list(range(len(volume)) if order is None else order)
    steps = np.linalg.norm(affine_lps[:3, :3], axis=0)
    cosines = affine_lps[:3, :3] / steps
    ds = item(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=EnhancedMRImageStorage if modality == "MR" else EnhancedCTImageStorage,
        Modality=modality,
        StudyInstanceUID=derive_uid("enhanced study"),
        SeriesInstanceUID=derive_uid("enhanced series"),
        SOPInstanceUID=derive_uid("enhanced", str(header.get("InstanceNumber", 1))),
        FrameOfReferenceUID=derive_uid("enhanced frame of reference"),
        PatientName="Enhanced^Head", PatientID="P-ENH", PatientBirthDate="19700101", PatientSex="F",
        StudyDate="20260301", StudyTime="101500", StudyID="1", AccessionNumber="ENH1", ReferringPhysicianName="",
        StudyDescription="MR head", SeriesDescription="T1 MPRAGE", ProtocolName="T1 MPRAGE", SeriesNumber=3,
        Manufacturer="Phantom maker", PositionReferenceIndicator="", InstanceNumber=1, PatientPosition="HFS",
        ImageType=["ORIGINAL", "PRIMARY", "T1", "NONE"], BodyPartExamined="HEAD",
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", PresentationLUTShape="IDENTITY",
        Rows=volume.shape[1], Columns=volume.shape[2], NumberOfFrames=len(order),
        BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=1,
    )  # fmt: skip
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    of_all = {
        "PixelMeasuresSequence": item(
            PixelSpacing=[float(f"{steps[1]:.9g}"), float(f"{steps[2]:.9g}")],
            SliceThickness=float(f"{steps[0]:.9g}"),
        ),
        "PlaneOrientationSequence": item(
            ImageOrientationPatient=[float(f"{value:.9g}") for value in (*cosines[:, 2], *cosines[:, 1])]
        ),
        "PixelValueTransformationSequence": item(RescaleIntercept=0, RescaleSlope=1, RescaleType="US"),
        **(shared or {}),
    }
    ds.SharedFunctionalGroupsSequence = [item(**{keyword: [value] for keyword, value in of_all.items()})]
    ds.PerFrameFunctionalGroupsSequence = [
        _group(affine_lps, index, (each or {}).get(index, {})) for index in order
    ]  # fmt: skip
    ds.PixelData = np.rint(volume[order]).astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _group(affine_lps: npt.NDArray[np.float64], index: int, other: dict[str, Dataset]) -> Dataset:
    position = affine_lps[:3] @ (index, 0, 0, 1)
    macros = {
        "FrameContentSequence": item(StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[1, index + 1]),
        "PlanePositionSequence": item(ImagePositionPatient=[float(f"{value + 0.0:.9g}") for value in position]),
        **other,
    }
    return item(**{keyword: [value] for keyword, value in macros.items()})
