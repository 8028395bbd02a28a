"""N4 takes a known bias field out of a real head; a known move and turn of it is found; other things are refused."""

import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from node.domain.volume import Volume
from node.errors import ConfigError, NotEvaluableError
from node.imaging.bias import bias_field, bias_field_corrected
from node.imaging.grids import Grid, grid_of, resample, resample_to, spaced, to_mm
from node.imaging.itk import from_itk, load_itk, to_itk
from node.imaging.registration import register_rigid
from tests.phantoms_mr import TEMPLATES, load_colin27

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def _simpleitk() -> None:
    pytest.importorskip("SimpleITK", reason="the extra mr is not installed")


@pytest.fixture(scope="module")
def head() -> Volume:
    """Colin27 at 2 mm."""
    return resample(read("ch2"), (2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def brain() -> npt.NDArray[np.bool_]:
    return np.asarray(resample(read("ch2bet"), (2.0, 2.0, 2.0)).array > 10, np.bool_)


def read(name: str) -> Volume:
    if not (TEMPLATES / f"{name}.nii.gz").exists():
        pytest.skip("Colin27 is not there: mricron-data is not installed")
    array, affine = load_colin27(name)
    uids = tuple(f"1.{index}" for index in range(len(array)))
    return Volume(array.astype(np.float32), affine, "arbitrary", uids, "1.9.1")


def log_field(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    up, back, left = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    return (0.35 * left + 0.25 * back - 0.3 * up**2 + 0.2 * back * left).astype(np.float32)


def spread(values: npt.NDArray[np.float32]) -> float:
    return float(values.std() / values.mean())


def test_n4_takes_a_known_bias_field_out_of_a_real_head(head: Volume, brain: npt.NDArray[np.bool_]) -> None:
    truth = log_field(head.array.shape)
    biased = replace(head, array=head.array * np.exp(truth))
    levels = np.percentile(head.array[brain], (65, 97))
    white = ndimage.binary_erosion(brain & (head.array > levels[0]) & (head.array < levels[1]))
    corrected = bias_field_corrected(biased)
    before, after, clean = (spread(each.array[white]) for each in (biased, corrected, head))
    assert before > 4 * clean
    assert after < 1.5 * clean
    found = np.log(biased.array[brain] / corrected.array[brain])  # what the head brings with it included
    assert (found - truth[brain]).std() < 0.35 * truth[brain].std()
    assert np.corrcoef(found, truth[brain])[0, 1] > 0.95
    assert corrected.sop_instance_uids == head.sop_instance_uids


def test_n4_gives_the_same_field_again_and_leaves_the_mean_alone(head: Volume) -> None:
    small = resample(head, (9.0, 9.0, 9.0))
    first = bias_field(small)
    np.testing.assert_array_equal(first, bias_field(small))
    assert first.min() > 0
    inside = small.array > 0.3 * small.array.max()
    assert np.exp(np.log(first[inside]).mean()) == pytest.approx(1, abs=0.1)


def test_n4_without_tissue_is_refused(head: Volume) -> None:
    with pytest.raises(ValueError, match="tissue"):
        bias_field(replace(head, array=np.zeros_like(head.array)))


def moved(
    volume: Volume, degrees: tuple[float, ...], by_mm: tuple[float, ...], spacing_mm: tuple[float, ...]
) -> tuple[Volume, Array]:
    """The patient after a move, on a grid of another scan, and the transform from `volume` to it."""
    centre = to_mm(volume.affine, (np.array(volume.array.shape) - 1) / 2)
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    transform[:3, 3] = centre - transform[:3, :3] @ centre + by_mm
    own = spaced(grid_of(volume), spacing_mm)
    seen = Grid(own.shape, np.linalg.inv(transform) @ own.affine)
    array = resample_to(volume, seen, fill=0.0).array
    return Volume(array, own.affine, "arbitrary", tuple(map(str, range(len(array)))), "1.9.2"), transform


def error_of(found: Array, truth: Array, volume: Volume, brain: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Largest error inside the brain in mm, and error of the angle in degrees."""
    places = to_mm(volume.affine, np.argwhere(brain)[::200])
    apart = (np.c_[places, np.ones(len(places))] @ (found - truth).T)[:, :3]
    turn = (np.linalg.inv(truth) @ found)[:3, :3]
    return float(np.linalg.norm(apart, axis=1).max()), float(np.degrees(Rotation.from_matrix(turn).magnitude()))


def t2_like(volume: Volume) -> Volume:
    """Another contrast: bright water, dark fat, and noise."""
    ranks = volume.array / volume.array.max()
    noise = np.random.default_rng(4).normal(0, 15, ranks.shape)
    array = np.where(ranks > 0.05, 900 * np.sqrt(np.clip(1.2 - ranks, 0, None)), 0) + noise
    return replace(volume, array=array.astype(np.float32))


@pytest.mark.parametrize(
    ("move", "spacing_mm", "is_other_contrast"),
    [
        (((6.0, -4.0, 8.0), (7.0, -5.0, 9.0)), (2.0, 1.5, 1.5), False),
        (((-9.0, 7.0, -5.0), (-12.0, 8.0, -6.0)), (5.0, 1.2, 1.2), True),
    ],
)
def test_a_known_move_is_found_within_half_a_millimetre_and_half_a_degree(
    move: tuple[tuple[float, ...], tuple[float, ...]],
    spacing_mm: tuple[float, ...],
    is_other_contrast: bool,
    head: Volume,
    brain: npt.NDArray[np.bool_],
) -> None:
    moving, truth = moved(head, *move, spacing_mm)
    found = register_rigid(t2_like(moving) if is_other_contrast else moving, head)
    error_mm, error_degrees = error_of(found.transform, truth, head, brain)
    assert error_mm < 0.5
    assert error_degrees < 0.5
    assert found.angle_degrees == pytest.approx(np.degrees(Rotation.from_matrix(truth[:3, :3]).magnitude()), abs=0.5)
    assert found.volume.array.shape == head.array.shape
    np.testing.assert_array_equal(found.volume.affine, head.affine)
    assert (found.volume.frame_of_reference_uid, found.volume.sop_instance_uids) == ("1.9.1", ())
    if not is_other_contrast:
        assert np.corrcoef(found.volume.array[brain], head.array[brain])[0, 1] > 0.97


def test_registration_gives_the_same_transform_again(head: Volume) -> None:
    small = resample(head, (5.0, 5.0, 5.0))
    moving, _ = moved(small, (3.0, 0.0, 2.0), (4.0, 1.0, -2.0), (5.0, 5.0, 5.0))
    transforms = [register_rigid(moving, small).transform for _ in range(2)]
    np.testing.assert_array_equal(transforms[0], transforms[1])


def test_what_shows_something_else_is_not_registered(head: Volume) -> None:
    small = resample(head, (5.0, 5.0, 5.0))
    noise = np.random.default_rng(7).gamma(2.0, 100.0, small.array.shape).astype(np.float32)
    blank = np.zeros_like(small.array)
    for array in (noise, blank):
        with pytest.raises(NotEvaluableError) as refused:
            register_rigid(Volume(array, small.affine, "arbitrary", (), "1.9.3"), small)
        assert refused.value.key == "not_registered"


def test_another_part_of_the_same_patient_is_not_registered(head: Volume) -> None:
    small = resample(head, (5.0, 5.0, 5.0))
    away = small.affine.copy()
    away[2, 3] -= 400.0
    with pytest.raises(NotEvaluableError) as refused:
        register_rigid(Volume(small.array, away, "arbitrary", (), "1.9.1"), small)
    assert refused.value.key == "not_registered"


def test_an_itk_image_keeps_values_and_place() -> None:
    affine = np.eye(4)
    affine[:3, :3] = (
        Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix() @ np.diag([3.0, 0.7, 1.1])[:, ::-1]
    )
    affine[:3, 3] = (-40.0, 25.5, 100.0)
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = to_itk(array, affine)
    np.testing.assert_array_equal(from_itk(image), array)
    for place in np.ndindex(2, 3, 4):
        there = image.TransformIndexToPhysicalPoint([int(index) for index in place[::-1]])  # type: ignore[attr-defined]
        np.testing.assert_allclose(there, to_mm(affine, place), atol=1e-6)


def test_a_tilted_stack_is_not_handed_to_itk() -> None:
    affine = np.eye(4)
    affine[1, 0] = 0.3
    with pytest.raises(ValueError, match="straightened"):
        to_itk(np.zeros((2, 3, 4), np.float32), affine)


def test_without_simpleitk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ConfigError, match="extra mr"):
        load_itk()
