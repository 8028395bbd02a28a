"""A Volume holds every voxel at its true place in the patient, or there is none."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from node.dicom.stack import stack
from node.errors import GeometryError, PixelError
from tests.phantoms_mr import AXIAL, CORONAL, FLIPPED, SAGITTAL, as_series, reorient, write_mr_series

SHAPE = (6, 5, 4)
SPACING_MM = (3.0, 0.7, 1.1)
NUMBERED = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)  # every voxel is its own number


def affine(
    rotation: npt.NDArray[np.float64] | None = None, origin_mm: tuple[float, ...] = (-40.0, 25.5, 100.0)
) -> npt.NDArray[np.float64]:
    """Axial, its axes turned by `rotation`; columns of the matrix are steps along slice, row and column."""
    matrix = np.eye(4)
    axes = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) * SPACING_MM
    matrix[:3, :3] = axes if rotation is None else rotation @ axes
    matrix[:3, 3] = origin_mm
    return matrix


def change(path: Path, **values: object) -> None:
    ds = dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


@pytest.mark.parametrize("storage", [AXIAL, SAGITTAL, CORONAL, FLIPPED])
def test_every_voxel_keeps_its_place_in_the_patient_in_every_storage(storage: str, tmp_path: Path) -> None:
    stored, stored_affine = reorient(NUMBERED, affine(), storage)
    volume = stack(as_series(write_mr_series(stored, stored_affine, tmp_path)))
    for place in np.ndindex(SHAPE):
        x_y_z = affine() @ (*place, 1)
        index = np.linalg.solve(volume.affine, x_y_z)
        np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
        assert volume.array[tuple(np.rint(index[:3]).astype(int))] == NUMBERED[place]


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.floats(-180, 180)] * 3))
def test_an_oblique_stack_has_the_affine_it_was_written_with(
    tmp_path_factory: pytest.TempPathFactory, angles: tuple[float, float, float]
) -> None:
    truth = affine(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
    volume = stack(as_series(write_mr_series(NUMBERED[:3], truth, tmp_path_factory.mktemp("oblique"))))
    np.testing.assert_allclose(volume.affine, truth, atol=1e-4)
    np.testing.assert_array_equal(volume.array, NUMBERED[:3])


def test_order_of_arrival_and_instance_number_mean_nothing(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    expected = stack(as_series(paths))
    for number, path in enumerate(reversed(paths)):
        change(path, InstanceNumber=number)
    found = stack(as_series([paths[index] for index in (3, 0, 5, 1, 4, 2)]))
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert found.sop_instance_uids == expected.sop_instance_uids


def test_spacing_is_that_of_positions_not_slice_thickness(tmp_path: Path) -> None:
    volume = stack(as_series(write_mr_series(NUMBERED, affine(), tmp_path, SliceThickness=9.0)))
    assert volume.spacing_mm == pytest.approx(SPACING_MM)


def test_the_modality_lut_is_applied_slice_by_slice(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    change(paths[2], RescaleSlope=2.0, RescaleIntercept=-7.0)
    volume = stack(as_series(paths))
    np.testing.assert_array_equal(volume.array[2], NUMBERED[2] * 2 - 7)
    np.testing.assert_array_equal(volume.array[3], NUMBERED[3])
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize(
    ("values", "unit"), [({}, "HU"), ({"RescaleType": "HU"}, "HU"), ({"RescaleType": "US"}, "arbitrary")]
)
def test_ct_is_in_hu_unless_its_header_says_otherwise(values: dict[str, str], unit: str, tmp_path: Path) -> None:
    volume = stack(as_series(write_mr_series(NUMBERED, affine(), tmp_path, Modality="CT", **values)))
    assert volume.unit == unit


def test_localizers_are_left_out(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path / "head")
    scout, scout_affine = reorient(NUMBERED, affine(), SAGITTAL)
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    paths += write_mr_series(scout[:1], scout_affine, tmp_path / "scout", ImageType=image_type, SeriesNumber=1)
    assert len(stack(as_series(paths)).array) == len(NUMBERED)


def test_a_repeated_image_counts_once(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path / "first")
    again = write_mr_series(NUMBERED, affine(), tmp_path / "again", SeriesNumber=4)
    volume = stack(as_series(paths + again))
    np.testing.assert_array_equal(volume.array, NUMBERED)
    assert volume.sop_instance_uids == stack(as_series(again + paths)).sop_instance_uids


def test_two_different_images_in_one_place_are_refused(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path / "first echo")
    paths += write_mr_series(NUMBERED + 1, affine(), tmp_path / "second echo", SeriesNumber=4)
    with pytest.raises(GeometryError, match="several volumes"):
        stack(as_series(paths))


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_a_missing_slice_is_refused(missing: int, tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    with pytest.raises(GeometryError, match=r"3\.00 mm between slices, found 6\.00 mm after slice \d of 5"):
        stack(as_series(paths[:missing] + paths[missing + 1 :]))


def test_a_slice_out_of_its_place_is_refused(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    change(paths[3], ImagePositionPatient=[-40.0, 25.5, 109.5])
    with pytest.raises(GeometryError, match="between slices"):
        stack(as_series(paths))


def test_steps_that_slowly_grow_are_refused(tmp_path: Path) -> None:
    volume = np.zeros((30, 2, 2), np.float32)
    paths = write_mr_series(volume, affine(), tmp_path)
    for index, path in enumerate(paths):
        change(path, ImagePositionPatient=[-40.0, 25.5, 100.0 + 3.0 * index + 0.005 * index**2])
    with pytest.raises(GeometryError, match="out of its place"):
        stack(as_series(paths))


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_taken(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    for index, path in enumerate(paths):
        change(path, ImagePositionPatient=[-40.0, 25.5, round(100.0 + 3.04 * index, 1)])
    assert stack(as_series(paths)).spacing_mm[0] == pytest.approx(3.04)


@pytest.mark.parametrize("degrees", [2.0, 12.0, -25.0])
def test_a_tilted_gantry_is_refused(degrees: float, tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    for index, path in enumerate(paths):
        sideways = 3.0 * index * float(np.tan(np.radians(degrees)))
        change(path, ImagePositionPatient=[-40.0, 25.5 + round(sideways, 6), 100.0 + 3.0 * index])
    with pytest.raises(GeometryError, match="tilted"):
        stack(as_series(paths))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.999, 0.0447]}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.1, 0.995, 0]}, "perpendicular"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "unit vectors"),
        ({"ImageOrientationPatient": None}, "ImageOrientationPatient"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
        ({"PixelSpacing": [0.0, 0.0]}, "PixelSpacing"),
        ({"PixelSpacing": [0.8, 1.1]}, "PixelSpacing"),
        ({"FrameOfReferenceUID": "1.2.3"}, "FrameOfReferenceUID"),
        ({"Rows": 4, "PixelData": b"\0" * 32}, "rows and columns"),
    ],
)
def test_one_slice_unlike_the_others_is_refused(values: dict[str, object], said: str, tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    change(paths[2], **values)
    with pytest.raises(GeometryError, match=said):
        stack(as_series(paths))


def test_one_slice_or_none_is_no_volume(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    with pytest.raises(GeometryError, match="at least 2 slices"):
        stack(as_series(paths[:1]))


def test_pixels_shorter_than_the_header_says_are_refused(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, affine(), tmp_path)
    change(paths[2], PixelData=b"\0" * 10)
    with pytest.raises(PixelError):
        stack(as_series(paths))
