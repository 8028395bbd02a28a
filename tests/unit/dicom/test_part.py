"""What fits of a Series becomes a Volume, and every image that does not is named with its reason."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from node.dicom.part import PartialVolume, stack_part
from node.dicom.stack import stack
from node.domain.study import Series
from node.errors import GeometryError
from node.imaging.tilt import straightened, tilt_degrees
from tests.phantoms_enhanced import item, write_enhanced
from tests.phantoms_mr import SAGITTAL, as_series, reorient, write_mr_series

SHAPE = (8, 5, 4)
NUMBERED = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)  # every voxel is its own number
AFFINE = np.array([[0, 0, 1.1, -40], [0, 0.7, 0, 25.5], [3, 0, 0, 100], [0, 0, 0, 1]], np.float64)


def change(path: Path, **values: object) -> None:
    ds = dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def reasons(found: PartialVolume) -> list[str]:
    return sorted(left.reason for left in found.left_out)


def test_an_even_stack_is_the_volume_that_the_strict_rule_gives(tmp_path: Path) -> None:
    series = as_series(write_mr_series(NUMBERED, AFFINE, tmp_path))
    found, expected = stack_part(series), stack(series)
    assert found.left_out == ()
    np.testing.assert_array_equal(found.volume.array, expected.array)
    np.testing.assert_array_equal(found.volume.affine, expected.affine)
    assert found.volume.sop_instance_uids == expected.sop_instance_uids


@pytest.mark.parametrize(("missing", "first", "count"), [(1, 2, 6), (5, 0, 5), (4, 0, 4), (3, 4, 4)])
def test_beyond_a_gap_the_longer_run_stays_and_nothing_is_filled_in(
    missing: int, first: int, count: int, tmp_path: Path
) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path)
    found = stack_part(as_series(paths[:missing] + paths[missing + 1 :]))
    np.testing.assert_array_equal(found.volume.array, NUMBERED[first : first + count])
    np.testing.assert_allclose(found.volume.affine[:3, 3], AFFINE[:3] @ (first, 0, 0, 1))
    assert reasons(found) == ["beyond_gap"] * (7 - count)


def test_localizers_other_planes_and_repeated_images_are_left_out_by_name(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path / "head")
    scout, scout_affine = reorient(NUMBERED, AFFINE, SAGITTAL)
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    paths += write_mr_series(scout[:1], scout_affine, tmp_path / "scout", ImageType=image_type, SeriesNumber=1)
    paths += write_mr_series(scout[:3], scout_affine, tmp_path / "sagittal", SeriesNumber=2)
    again = write_mr_series(NUMBERED, AFFINE, tmp_path / "again", SeriesNumber=4)[2]
    found = stack_part(as_series([*paths, again]))
    np.testing.assert_array_equal(found.volume.array, NUMBERED)
    assert reasons(found) == ["localizer", "repeated", "unlike", "unlike", "unlike"]
    named = {left.sop_instance_uid for left in found.left_out} | set(found.volume.sop_instance_uids)
    assert named == {instance.sop_instance_uid for instance in as_series([*paths, again]).instances}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Rows": 4, "PixelData": b"\0" * 32}, "unlike"),
        ({"PixelSpacing": [0.8, 1.1]}, "unlike"),
        ({"FrameOfReferenceUID": "1.2.3"}, "unlike"),
        ({"ImagePositionPatient": None}, "no_place"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "no_place"),
        ({"PixelSpacing": [0.0, 0.0]}, "no_place"),
        ({"PixelData": b"\0" * 10}, "unreadable"),
    ],
)
def test_one_bad_slice_at_the_end_costs_only_itself(values: dict[str, object], reason: str, tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path)
    change(paths[-1], **values)
    found = stack_part(as_series(paths))
    np.testing.assert_array_equal(found.volume.array, NUMBERED[:-1])
    assert reasons(found) == [reason]
    assert found.left_out[0].detail


def test_a_file_that_is_no_dicom_is_left_out(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path)
    series = as_series(paths)
    paths[0].write_bytes(b"no image at all")
    found = stack_part(series)
    assert (len(found.volume.array), reasons(found)) == (7, ["unreadable"])


@pytest.mark.parametrize("degrees", [3.0, 12.0, -25.0])
def test_a_tilted_gantry_gives_a_slanted_volume_that_can_be_straightened(degrees: float, tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path)
    for index, path in enumerate(paths):
        sideways = 3.0 * index * float(np.tan(np.radians(degrees)))
        change(path, ImagePositionPatient=[-40.0, 25.5 + round(sideways, 6), 100.0 + 3.0 * index])
    found = stack_part(as_series(paths))
    np.testing.assert_array_equal(found.volume.array, NUMBERED)
    assert tilt_degrees(found.volume) == pytest.approx(abs(degrees), abs=1e-3)
    assert tilt_degrees(straightened(found.volume)) < 0.01


def test_slices_that_do_not_lie_along_a_line_are_refused(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path)
    change(paths[4], ImagePositionPatient=[-30.0, 25.5, 112.0])
    with pytest.raises(GeometryError, match="along one line"):
        stack_part(as_series(paths))


def test_a_stack_seen_at_half_a_right_angle_is_refused(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path)
    for index, path in enumerate(paths):
        change(path, ImagePositionPatient=[-40.0, 25.5 + 4.0 * index, 100.0 + 3.0 * index])
    with pytest.raises(GeometryError, match="tilt below 45"):
        stack_part(as_series(paths))


def test_two_different_images_in_one_place_are_still_refused(tmp_path: Path) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path / "first echo")
    paths += write_mr_series(NUMBERED + 1, AFFINE, tmp_path / "second echo", SeriesNumber=4)
    with pytest.raises(GeometryError, match="several volumes"):
        stack_part(as_series(paths))


def test_of_several_stacks_in_an_enhanced_image_the_largest_stays(tmp_path: Path) -> None:
    each = {
        index: {"FrameContentSequence": item(StackID="1" if index < 3 else "2", InStackPositionNumber=index + 1)}
        for index in range(8)
    }
    found = stack_part(as_series([write_enhanced(NUMBERED, AFFINE, tmp_path / "e.dcm", each=each)]))
    np.testing.assert_array_equal(found.volume.array, NUMBERED[3:])
    assert reasons(found) == ["unlike"] * 3
    assert found.volume.frame_numbers == (4, 5, 6, 7, 8)
    assert {left.frame_number for left in found.left_out} == {1, 2, 3}


def test_several_times_in_an_enhanced_image_are_refused(tmp_path: Path) -> None:
    each = {
        index: {"FrameContentSequence": item(StackID="1", InStackPositionNumber=1, TemporalPositionIndex=index + 1)}
        for index in range(8)
    }
    with pytest.raises(GeometryError, match="one time"):
        stack_part(as_series([write_enhanced(NUMBERED, AFFINE, tmp_path / "e.dcm", each=each)]))


def test_nothing_that_fits_is_refused(tmp_path: Path) -> None:
    series = as_series(write_mr_series(NUMBERED, AFFINE, tmp_path))
    for few in ((), series.instances[:1], series.instances[::7]):
        if len(few) == 2:
            assert len(stack_part(Series("1", "MR", few, {})).volume.array) == 2
        else:
            with pytest.raises(GeometryError, match="at least 2"):
                stack_part(Series("1", "MR", few, {}))


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(8)), st.sets(st.integers(0, 7), max_size=5))
def test_every_image_is_in_the_volume_or_named_whatever_is_missing_and_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], missing: set[int]
) -> None:
    paths = write_mr_series(NUMBERED, AFFINE, tmp_path_factory.mktemp("any"))
    series = as_series([paths[index] for index in order if index not in missing])
    try:
        found = stack_part(series)
    except GeometryError:
        return
    named = [left.sop_instance_uid for left in found.left_out] + list(found.volume.sop_instance_uids)
    assert sorted(named) == sorted(instance.sop_instance_uid for instance in series.instances)
    kept = [index for index in range(8) if index not in missing]
    first = round(float(np.linalg.solve(AFFINE, found.volume.affine[:, 3])[0]))
    step = round(found.volume.spacing_mm[0] / 3)
    np.testing.assert_array_equal(found.volume.array, NUMBERED[first::step][: len(found.volume.array)])
    assert first in kept
