from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from node.dicom.pixels import display_values, read_image, slice_values
from node.dicom.read import read_dataset
from node.domain.study import Instance
from node.errors import PixelError, UnreadableInstanceError
from tests.phantoms import ct_slice, write_cr

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def instance(path: Path) -> Instance:
    return Instance("1.2.3", "", "", "1.2", path, path.stat().st_size, "")


def film(tmp_path: Path, array: np.ndarray = RAMP, **header: object) -> Dataset:
    return read_dataset(write_cr(array, tmp_path / "film.dcm", **header), with_pixels=True)


def example(name: str) -> Path:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return Path(path)


def lut(first: int, table: list[int], bits: int = 16) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table), first, bits])
    item.add_new("LUTData", "US", table)
    return item


def test_a_ct_slice_is_in_hounsfield_units(tmp_path: Path) -> None:
    values = slice_values(read_dataset(ct_slice(tmp_path / "a.dcm"), with_pixels=True))
    assert values.dtype == np.float32
    assert (values[0, 0], values[32, 32]) == (-1000.0, 0.0)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("RG1_J2KR.dcm", "RG1_UNCR.dcm"),  # JPEG 2000, lossless
        ("693_J2KR.dcm", "693_UNCR.dcm"),
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
    ],
)
def test_lossless_pixels_are_the_same_in_every_transfer_syntax(name: str, reference: str) -> None:
    one, other = (slice_values(read_dataset(example(each), with_pixels=True)) for each in (name, reference))
    assert_array_equal(one, other)


def test_jpeg_lossless_is_decoded() -> None:
    values = slice_values(read_dataset(example("JPEG-LL.dcm"), with_pixels=True))
    assert values.shape == (1024, 256)
    assert values.max() > values.min()


def test_padding_outside_the_field_of_view_becomes_air() -> None:
    values = slice_values(read_dataset(example("693_UNCR.dcm"), with_pixels=True))
    assert values.min() >= -1024.0  # stored as -2000, which the rescale would make -3024 HU


def test_signed_values_in_fewer_stored_bits_are_spread(tmp_path: Path) -> None:
    stored = np.full((64, 64), 0x0FFF, dtype=np.uint16)  # -1 in 12 bits, upper bits not filled
    stored[0, 0] = 0x0800
    stored[0, 1] = 0xF005  # 5, with other things in the upper bits
    values = slice_values(film(tmp_path, stored, PixelRepresentation=1))
    assert (values[1, 1], values[0, 0], values[0, 1]) == (-1.0, -2048.0, 5.0)


def test_stored_bits_that_end_at_the_high_bit_are_moved_down(tmp_path: Path) -> None:
    values = slice_values(film(tmp_path, RAMP << 4, HighBit=15))
    assert_array_equal(values, RAMP)


@pytest.mark.parametrize(
    "header", [{"PixelPaddingValue": 0xF830}, {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 0xFFFF}]
)
def test_padding_is_shown_black_also_where_low_is_white(tmp_path: Path, header: dict[str, int]) -> None:
    array = np.clip(RAMP, 0, 3000)
    array[:10] = 0xF830  # -2000 in 16 bits, in an image of 12 stored bits
    path = write_cr(array, tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1", **header)
    image = read_image(instance(path))
    assert image.array[:10].max() == image.array.min()
    assert image.display[:10].max() == image.display.min()


def test_a_modality_lut_is_applied(tmp_path: Path) -> None:
    ds = film(tmp_path, ModalityLUTSequence=[lut(10, [100, 200, 300])])
    values = slice_values(ds)
    assert (values[0, 0], values[0, 11], values[0, 12], values[63, 63]) == (100.0, 200.0, 300.0, 300.0)


def test_a_voi_lut_is_shown_rather_than_a_window(tmp_path: Path) -> None:
    ds = film(tmp_path, VOILUTSequence=[lut(0, [0, 128, 255], bits=8)])
    shown = display_values(ds, slice_values(ds))
    assert_allclose(shown[0, :4], [0.0, 128 / 255, 1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("function", "at_center", "at_upper_edge"),
    [("LINEAR", 0.5 + 0.5 / 99, 1.0), ("LINEAR_EXACT", 0.5, 1.0), ("SIGMOID", 0.5, 1 / (1 + np.exp(-2)))],
)  # PS3.3 C.11.2.1.2 and C.11.2.1.3
def test_a_window_is_applied_by_its_function(
    tmp_path: Path, function: str, at_center: float, at_upper_edge: float
) -> None:
    ds = film(tmp_path, WindowCenter=1000, WindowWidth=100, VOILUTFunction=function)
    shown = display_values(ds, slice_values(ds)).ravel()
    assert_allclose([shown[1000], shown[1050]], [at_center, at_upper_edge], atol=1e-5)


def test_the_first_of_several_windows_is_shown(tmp_path: Path) -> None:
    ds = film(tmp_path, WindowCenter=[1000, 3000], WindowWidth=[100, 10])
    assert display_values(ds, slice_values(ds)).ravel()[1100] == 1.0


@pytest.mark.parametrize("header", [{"WindowWidth": 0}, {"WindowWidth": -5}, {"WindowWidth": None}])
def test_without_a_usable_window_the_middle_98_percent_are_shown(tmp_path: Path, header: dict[str, int]) -> None:
    ds = film(tmp_path, **header)
    shown = display_values(ds, slice_values(ds)).ravel()
    assert (shown[0], shown[-1]) == (0.0, 1.0)
    assert_allclose(shown[2048], 0.5, atol=0.01)


@pytest.mark.parametrize(
    "header",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
    ],
)
def test_an_inverse_film_is_turned_round_once(tmp_path: Path, header: dict[str, str]) -> None:
    image = read_image(instance(write_cr(RAMP, tmp_path / "a.dcm", **header)))
    assert_array_equal(image.array.ravel(), RAMP.ravel()[::-1])
    assert image.display[0, 0] == pytest.approx(1.0)
    assert image.display[63, 63] == pytest.approx(0.0)


def test_a_film_that_says_both_identity_and_monochrome2_is_not_inverted(tmp_path: Path) -> None:
    image = read_image(instance(write_cr(RAMP, tmp_path / "a.dcm", PresentationLUTShape="IDENTITY")))
    assert_array_equal(image.array, RAMP)


SPACINGS: list[tuple[dict[str, object], tuple[float, float] | None]] = [
    ({"PixelSpacing": [0.15, 0.2], "PixelSpacingCalibrationType": None}, (0.15, 0.2)),
    ({"PixelSpacing": [0, 0]}, None),
    ({"PixelSpacing": None}, None),
    ({"PixelSpacing": [0.2]}, None),
    ({"PixelSpacing": [0.2, -0.2]}, None),
    ({"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.2]}, None),
    ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": None}, None),
    ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2)),
    (
        {
            "PixelSpacing": None,
            "ImagerPixelSpacing": [0.2, 0.2],
            "EstimatedRadiographicMagnificationFactor": 1.25,
        },
        (0.16, 0.16),
    ),
]


@pytest.mark.parametrize(("header", "spacing_mm"), SPACINGS)
def test_spacing_is_given_only_where_it_is_real(
    tmp_path: Path, header: dict[str, object], spacing_mm: tuple[float, float] | None
) -> None:
    image = read_image(instance(write_cr(RAMP, tmp_path / "a.dcm", **header)))
    assert image.spacing_mm == (None if spacing_mm is None else pytest.approx(spacing_mm))


def test_the_real_film_without_spacing_has_none() -> None:
    image = read_image(instance(example("RG1_UNCR.dcm")))
    assert image.spacing_mm is None
    assert image.array.shape == (1955, 1841)
    assert image.array[1000, 900] > image.array[500, 1500]  # the spine is brighter than the lung


def test_an_object_of_impossible_size_is_refused_before_decoding(tmp_path: Path) -> None:
    path = ct_slice(tmp_path / "a.dcm")
    ds = dcmread(path)
    ds.compress(RLELossless)
    ds.Rows = ds.Columns = 65535
    ds.save_as(path)
    with pytest.raises(PixelError, match="65535"):
        slice_values(read_dataset(path, with_pixels=True))


@pytest.mark.parametrize(
    "header",
    [
        {"Rows": 0},
        {"Rows": None},
        {"Rows": 80},
        {"NumberOfFrames": 2},
        {"NumberOfFrames": -1},
        {"SamplesPerPixel": 3},
        {"BitsAllocated": 7},
        {"PhotometricInterpretation": None},
        {"RescaleSlope": 0},
        {"RescaleSlope": 1e300},
        {"ModalityLUTSequence": [Dataset()]},
        {"ModalityLUTSequence": [lut(0, [])]},
    ],
)
def test_pixels_that_are_not_what_the_header_says_are_refused(tmp_path: Path, header: dict[str, object]) -> None:
    ds = film(tmp_path, **header)
    with pytest.raises(PixelError):
        slice_values(ds)


def test_an_object_without_pixels_is_refused(tmp_path: Path) -> None:
    path = ct_slice(tmp_path / "a.dcm")
    with pytest.raises(PixelError, match="missing"):
        slice_values(read_dataset(path))


def test_broken_compressed_pixels_are_refused(tmp_path: Path) -> None:
    ds = dcmread(example("693_J2KR.dcm"))
    ds.PixelData = ds.PixelData[:2000] + b"\0" * (len(ds.PixelData) - 2000)
    ds.save_as(tmp_path / "a.dcm")
    with pytest.raises(PixelError):
        slice_values(read_dataset(tmp_path / "a.dcm", with_pixels=True))


@pytest.mark.parametrize("seed", range(40))
def test_mutated_rle_pixels_are_decoded_or_refused_also_where_the_decoder_panics(tmp_path: Path, seed: int) -> None:
    ds = dcmread(example("MR_small_RLE.dcm"))
    random = np.random.default_rng(seed)
    content = np.frombuffer(ds.PixelData, dtype=np.uint8).copy()
    content[random.integers(16, 400, size=6)] = random.integers(0, 256, size=6)
    ds.PixelData = content.tobytes()
    ds.save_as(tmp_path / "a.dcm")
    try:
        values = slice_values(read_dataset(tmp_path / "a.dcm", with_pixels=True))
    except (PixelError, UnreadableInstanceError):
        return
    assert values.shape == (64, 64)
