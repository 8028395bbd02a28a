"""Whatever an image module says of itself, its pixels are finite numbers or one clear error."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from node.dicom.pixels import display_values, slice_values
from node.errors import DicomError

US = st.one_of(st.sampled_from([0, 1, 2, 7, 8, 12, 15, 16, 17, 32, 64, 255, 0xFFFF]), st.integers(0, 0xFFFF))
DS = st.one_of(st.sampled_from(["", "0", "1", "-1024", "1e308", "-1e308", "NaN", "inf", "x"]), st.floats().map(str))
FAULTS: dict[str, st.SearchStrategy[str | int | bytes | None]] = {
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"), DS),
    **dict.fromkeys(("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"), US | st.none()),
    "PixelPaddingValue": US,
    "PixelRepresentation": st.none() | st.just(2),
    "PhotometricInterpretation": st.sampled_from(["MONOCHROME1", "RGB", "PALETTE COLOR", "nonsense"]),
    "NumberOfFrames": st.sampled_from(["1", "0", "-1", "2", "2147483647", "x"]),
    "PixelData": st.binary(max_size=64) | st.none(),
    "RLE": st.binary(min_size=2, max_size=300),
}


@st.composite
def images(draw: st.DrawFn) -> Dataset:
    """A small honest image with up to three elements that are not."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, "2.25.1", "CT"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = draw(st.integers(1, 4)), draw(st.integers(1, 4)), 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = draw(st.sampled_from([(8, 8, 7), (16, 12, 11), (16, 16, 15)]))
    ds.PixelRepresentation, ds.PhotometricInterpretation = draw(st.integers(0, 1)), "MONOCHROME2"
    size_bytes = ds.Rows * ds.Columns * ds.BitsAllocated // 8
    ds.PixelData = draw(st.binary(min_size=size_bytes, max_size=size_bytes + size_bytes % 2))
    ds["PixelData"].VR = "OW"
    for keyword in draw(st.lists(st.sampled_from(sorted(FAULTS)), max_size=3, unique=True)):
        fault = draw(FAULTS[keyword])
        if keyword == "RLE":
            ds.file_meta.TransferSyntaxUID = RLELossless
            ds.PixelData = encapsulate([fault])
            ds["PixelData"].VR = "OB"
        elif fault is None:
            del ds[keyword]
        elif isinstance(fault, str):
            ds[keyword] = _unchecked(keyword, fault)
        else:
            setattr(ds, keyword, fault)
    return ds


def _unchecked(keyword: str, value: str) -> RawDataElement:
    """An element as it comes from a file: whatever its bytes are."""
    vr = {"NumberOfFrames": "IS", "PhotometricInterpretation": "CS"}.get(keyword, "DS")
    tag = Tag(keyword)
    return RawDataElement(tag, vr, len(value), value.encode(), 0, is_implicit_VR=False, is_little_endian=True)


@settings(deadline=None, max_examples=300)
@given(images())
def test_hostile_pixels_are_finite_numbers_or_one_clear_error(ds: Dataset) -> None:
    try:
        values = slice_values(ds)
        shown = display_values(ds, values)
    except DicomError:
        return
    assert np.isfinite(values).all()
    assert ((shown >= 0) & (shown <= 1)).all()
