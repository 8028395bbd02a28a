"""An enhanced multi-frame image gives the very Volume that its classic slices give, or none."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from scipy.spatial.transform import Rotation

from node.dicom.read import header_of, read_dataset
from node.dicom.stack import stack
from node.domain.volume import Volume
from node.errors import GeometryError, PixelError
from tests.phantoms_enhanced import item, write_enhanced
from tests.phantoms_mr import CORONAL, SAGITTAL, as_series, reorient, write_mr_series

SHAPE = (6, 5, 4)
NUMBERED = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)  # every voxel is its own number
AFFINE = np.array([[0, 0, 1.1, -40], [0, 0.7, 0, 25.5], [3, 0, 0, 100], [0, 0, 0, 1]], np.float64)
SCRAMBLED = (3, 0, 5, 1, 4, 2)


def _assert_same(found: Volume, expected: Volume) -> None:
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)
    assert (found.unit, found.spacing_mm) == (expected.unit, pytest.approx(expected.spacing_mm))


@pytest.mark.parametrize("storage", [None, SAGITTAL, CORONAL])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_an_enhanced_image_gives_the_volume_of_its_classic_slices(
    modality: str, storage: str | None, tmp_path: Path
) -> None:
    volume, affine = (NUMBERED, AFFINE) if storage is None else reorient(NUMBERED, AFFINE, storage)
    classic = stack(as_series(write_mr_series(volume, affine, tmp_path / "classic", Modality=modality)))
    hu = {"PixelValueTransformationSequence": item(RescaleIntercept=0, RescaleSlope=1, RescaleType="HU")}
    shared = hu if modality == "CT" else None
    order = np.random.default_rng(1).permutation(len(volume)).tolist()
    path = write_enhanced(volume, affine, tmp_path / "e.dcm", modality=modality, order=order, shared=shared)
    _assert_same(stack(as_series([path])), classic)


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.floats(-180, 180)] * 3), st.permutations(range(6)))
def test_order_of_frames_means_nothing_in_any_direction(
    tmp_path_factory: pytest.TempPathFactory, angles: tuple[float, float, float], order: list[int]
) -> None:
    affine = AFFINE.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ AFFINE[:3, :3]
    volume = stack(as_series([write_enhanced(NUMBERED, affine, tmp_path_factory.mktemp("e") / "e.dcm", order=order)]))
    np.testing.assert_array_equal(
        volume.array, NUMBERED if volume.affine[:3, 0] @ affine[:3, 0] > 0 else NUMBERED[::-1]
    )
    assert [order[(frame or 0) - 1] for frame in volume.frame_numbers] in (list(range(6)), list(range(5, -1, -1)))


def test_each_slice_names_its_image_and_its_frame(tmp_path: Path) -> None:
    path = write_enhanced(NUMBERED, AFFINE, tmp_path / "e.dcm", order=SCRAMBLED)
    volume = stack(as_series([path]))
    assert set(volume.sop_instance_uids) == {str(dcmread(path).SOPInstanceUID)}
    assert volume.frame_numbers == (2, 4, 6, 1, 5, 3)
    assert volume.frame_number(3) == 1


def test_classic_slices_name_no_frame(tmp_path: Path) -> None:
    volume = stack(as_series(write_mr_series(NUMBERED, AFFINE, tmp_path)))
    assert (set(volume.frame_numbers), volume.frame_number(0)) == ({None}, None)


def test_compressed_frames_are_the_same(tmp_path: Path) -> None:
    paths = [
        write_enhanced(NUMBERED, AFFINE, tmp_path / name, order=SCRAMBLED, **more)
        for name, more in (("a.dcm", {}), ("b.dcm", {"transfer_syntax": RLELossless}))
    ]
    plain, compressed = (stack(as_series([path])) for path in paths)
    assert read_dataset(paths[1]).file_meta.TransferSyntaxUID == RLELossless
    _assert_same(compressed, plain)


def test_each_frame_has_its_own_rescale(tmp_path: Path) -> None:
    twice = {"PixelValueTransformationSequence": item(RescaleIntercept=-7, RescaleSlope=2, RescaleType="US")}
    path = tmp_path / "e.dcm"
    write_enhanced(NUMBERED, AFFINE, path, order=SCRAMBLED, each={2: twice})
    expected = NUMBERED.copy()
    expected[2] = expected[2] * 2 - 7
    np.testing.assert_array_equal(stack(as_series([path])).array, expected)


def test_a_volume_may_be_parted_over_several_objects(tmp_path: Path) -> None:
    paths = [
        write_enhanced(NUMBERED, AFFINE, tmp_path / f"{number}.dcm", order=order, InstanceNumber=number)
        for number, order in ((1, (4, 0, 2)), (2, (1, 5, 3)))
    ]
    volume = stack(as_series(paths))
    np.testing.assert_array_equal(volume.array, NUMBERED)
    assert len(set(volume.sop_instance_uids)) == 2


def test_localizer_frames_and_objects_are_left_out(tmp_path: Path) -> None:
    scout = {
        "PlaneOrientationSequence": item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        "MRImageFrameTypeSequence": item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]),
        "FrameContentSequence": item(StackID="2"),
    }
    volume = np.concatenate([NUMBERED, NUMBERED[:1] * 0])
    path = write_enhanced(volume, AFFINE, tmp_path / "e.dcm", each={6: scout}, order=(6, *SCRAMBLED))
    np.testing.assert_array_equal(stack(as_series([path])).array, NUMBERED)
    whole = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    other = write_enhanced(NUMBERED, AFFINE, tmp_path / "f.dcm", InstanceNumber=2, ImageType=whole)
    np.testing.assert_array_equal(stack(as_series([path, other])).array, NUMBERED)


def _frame(**macros: Dataset) -> dict[int, dict[str, Dataset]]:
    return {5: macros}


@pytest.mark.parametrize(
    ("each", "said"),
    [
        (_frame(FrameContentSequence=item(StackID="2")), "one stack, found 2"),
        (_frame(FrameContentSequence=item(StackID="1", TemporalPositionIndex=2)), "one time, found 2: several volumes"),
        (_frame(PlanePositionSequence=item(ImagePositionPatient=[-40, 25.5, 112])), "different images in one place"),
        (_frame(PlanePositionSequence=item(ImagePositionPatient=[-40, 25.5, 118])), "slices are missing"),
        (_frame(PlaneOrientationSequence=item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])), "frame 6: ImageOrient"),
        (_frame(PixelMeasuresSequence=item(PixelSpacing=[0.7, 0.7])), "frame 6: PixelSpacing differs"),
        (_frame(PixelMeasuresSequence=item(SliceThickness=3)), "frame 6: expected a frame with"),
        (_frame(PlanePositionSequence=item()), "different images|expected a frame with"),
    ],
)
def test_frames_that_are_no_one_volume_are_refused(
    each: dict[int, dict[str, Dataset]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(GeometryError, match=said):
        stack(as_series([write_enhanced(NUMBERED, AFFINE, tmp_path / "e.dcm", each=each)]))


def test_functional_groups_that_do_not_match_the_frames_are_refused(tmp_path: Path) -> None:
    path = write_enhanced(NUMBERED, AFFINE, tmp_path / "e.dcm")
    ds = dcmread(path)
    del ds.PerFrameFunctionalGroupsSequence[2]
    ds.save_as(path)
    with pytest.raises(GeometryError, match="functional groups for 6 frames, found 5"):
        stack(as_series([path]))


def test_pixels_for_fewer_frames_than_the_header_says_are_refused(tmp_path: Path) -> None:
    path = write_enhanced(NUMBERED, AFFINE, tmp_path / "e.dcm", PixelData=b"")
    ds = dcmread(path)
    ds.PixelData = ds.PixelData[: -2 * 5 * 4 * 2]
    ds.save_as(path)
    with pytest.raises(PixelError):
        stack(as_series([path]))


def test_rules_see_what_all_frames_share_under_the_names_of_classic_images(tmp_path: Path) -> None:
    echo = item(EffectiveEchoTime=2.98)
    path = write_enhanced(NUMBERED, AFFINE, tmp_path / "e.dcm", shared={"MREchoSequence": echo})
    header = header_of(read_dataset(path))
    assert (header["SliceThickness"], header["PixelSpacing"], header["EchoTime"]) == (3.0, [0.7, 1.1], 2.98)
    assert header["NumberOfFrames"] == 6
    assert as_series([path]).image_count == 6
    assert "ImagePositionPatient" not in header
