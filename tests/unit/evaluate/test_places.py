"""Places, masks and healing, each against a truth that can be written down."""

from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from scipy import ndimage

from node.domain.findings import Finding, Region, Segmentation
from node.errors import EvaluationError
from node.evaluate.cases import studies_in
from node.evaluate.geometry import extent_of, is_hit, overlap, planes_of, truth_on
from node.evaluate.healing import grown, heal
from node.evaluate.labels import ImageBox, ReferenceMask, SpaceBox
from node.evaluate.masks import lesions_of, on_grid, read_mask
from node.evaluate.overlap import dice, hd95_mm
from tests.unit.evaluate.sites import write_ball, write_film

AFFINE = np.array([[0, 0, 1, -100.0], [0, 1, 0, -100.0], [5, 0, 0, 0.0], [0, 0, 0, 1]])


def _cube(shape: tuple[int, int, int], low: int, high: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[low:high, low:high, low:high] = True
    return mask


def test_dice_and_distance_of_shifted_cubes() -> None:
    one = _cube((20, 20, 20), 5, 15)
    other = np.roll(one, 3, axis=2)
    assert dice(one, other) == pytest.approx(2 * 700 / 2000)
    assert hd95_mm(one, other, np.array([1.0, 1.0, 2.0])) == pytest.approx(6.0)
    assert hd95_mm(one, one, np.ones(3)) == 0.0
    assert dice(one, ~one & False) == 0.0
    assert hd95_mm(one, one & False, np.ones(3)) is None
    assert dice(one & False, one & False) is None


def test_a_mask_of_one_slice_has_a_contour() -> None:
    one = np.zeros((1, 20, 20), bool)
    one[0, 5:15, 5:15] = True
    assert hd95_mm(one, np.roll(one, 2, axis=1), np.array([5.0, 0.5, 0.5])) == pytest.approx(1.0)


def test_a_place_in_the_patient_is_hit_from_the_outline_on_a_slice(tmp_path: Path) -> None:
    write_ball(tmp_path, "ball")
    (study,) = studies_in(tmp_path).studies
    planes = planes_of(study)
    (key,) = [key for key, plane in planes.items() if plane.to_lps is not None and plane.to_lps[2, 2] == 35.0]
    region = Region(key[0], ((20.0, 30.0), (24.0, 30.0), (24.0, 38.0), (20.0, 38.0)))
    extent = extent_of(Finding("f", "k", regions=(region,)), planes)
    # Pixel corners 20 to 24 are -80.5 to -76.5 mm: the centre of the first pixel is at -100.
    assert extent.in_space == SpaceBox((-80.5, -70.5, 32.5), (-76.5, -62.5, 37.5))
    here, away = SpaceBox((-80, -70, 30), (-76, -60, 40)), SpaceBox((-70, -70, 30), (-60, -60, 40))
    assert is_hit(extent, here, planes)
    assert not is_hit(extent, away, planes)
    assert overlap(extent, extent.in_space, planes) == pytest.approx(1.0)
    truth = truth_on(key, [here], planes)
    assert (truth.sum(), truth[30:41, 20:25].sum()) == (55, 55)  # centres at whole mm, both ends counted


def test_a_box_in_mm_on_a_film_uses_its_spacing(tmp_path: Path) -> None:
    write_film(tmp_path, "film")
    (study,) = studies_in(tmp_path).studies
    planes = planes_of(study)
    (key,) = planes
    in_mm, in_px = ImageBox((4.0, 8.0, 8.0, 12.0), "mm"), ImageBox((10, 20, 20, 30))
    np.testing.assert_array_equal(truth_on(key, [in_mm], planes), truth_on(key, [in_px], planes))
    region = Region(key[0], ((12.0, 20.0), (20.0, 20.0), (20.0, 30.0), (12.0, 30.0)))
    extent = extent_of(Finding("f", "k", regions=(region,)), planes)
    assert is_hit(extent, in_mm, planes)
    assert overlap(extent, in_px, planes) == pytest.approx(0.8)


def test_masks_of_every_form_come_onto_the_same_grid(tmp_path: Path) -> None:
    _, mask = write_ball(tmp_path / "data", "ball")
    (study,) = studies_in(tmp_path / "data").studies
    planes = planes_of(study)
    uids = [uid for (uid, _), _ in sorted(planes.items(), key=lambda item: item[1].to_lps[2, 2])]  # type: ignore[index]
    segmentation = Segmentation("ball", mask, AFFINE, tuple(uids))
    np.savez(tmp_path / "a.npz", mask=mask.astype(np.uint8) * 3, affine=AFFINE)
    np.savez(tmp_path / "u.npz", mask=mask[::-1], sop_instance_uids=np.array(uids[::-1]))
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE @ np.eye(4)[[2, 1, 0, 3]]  # its first axis is columns
    image = nibabel.Nifti1Image(mask.transpose(2, 1, 0).astype(np.uint8) * 3, to_ras)
    nibabel.save(image, tmp_path / "n.nii.gz")
    for name in ("a.npz", "u.npz", "n.nii.gz"):
        value = None if name == "u.npz" else 3
        reference = read_mask(ReferenceMask(tmp_path / name, value), planes)
        np.testing.assert_array_equal(on_grid(reference, segmentation), mask, err_msg=name)
        (box,) = lesions_of(reference)
        np.testing.assert_allclose(box.low, (-88.5, -88.5, 17.5), err_msg=name)
        np.testing.assert_allclose(box.high, (-48.5, -48.5, 57.5), err_msg=name)
    assert not on_grid(read_mask(ReferenceMask(tmp_path / "a.npz", 2), planes), segmentation).any()
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    with pytest.raises(EvaluationError, match="no mask can be read"):
        read_mask(ReferenceMask(tmp_path / "bad.nii.gz"), planes)


def test_a_healed_lesion_is_gone_and_nothing_else_is_touched() -> None:
    rows, columns = np.mgrid[:120, :120].astype(float)
    generator = np.random.default_rng(1)
    healthy = 500 + 2 * rows + ndimage.gaussian_filter(generator.normal(0, 60, (120, 120)), 1.5)
    blob = 300 * np.exp(-((rows - 60) ** 2 + (columns - 35) ** 2) / 50)
    lesion = np.zeros((120, 120), bool)
    lesion[48:73, 23:48] = True
    area = grown(lesion)
    healed = heal(healthy + blob, area, area)
    np.testing.assert_array_equal(healed[~area], (healthy + blob)[~area])
    left = ndimage.gaussian_filter(healed - healthy, 4)[area]
    assert np.abs(left).max() < 30
    assert ndimage.gaussian_filter(blob, 4).max() > 150
    assert np.std((healed - 2 * rows)[area]) > 0.5 * np.std((healthy - 2 * rows)[area]), "texture, no smooth patch"


def test_where_no_place_is_healthy_the_membrane_fills_the_hole() -> None:
    rows, columns = np.mgrid[:40, :40].astype(float)
    plane = 3 * rows + columns
    lesion = np.zeros((40, 40), bool)
    lesion[10:30, 10:30] = True
    healed = heal(np.where(lesion, 999.0, plane), lesion, np.ones((40, 40), bool))
    np.testing.assert_allclose(healed, plane, atol=1e-6)


def test_a_segmentation_object_is_a_reference_by_segment_number(tmp_path: Path) -> None:
    _, mask = write_ball(tmp_path / "data", "ball")
    (study,) = studies_in(tmp_path / "data").studies
    planes = planes_of(study)
    headers = [dcmread(instance.path) for instance in study.instances]
    headers.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    small = ndimage.binary_erosion(mask, iterations=2)
    described = [
        highdicom.seg.SegmentDescription(
            number, f"part {number}", codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number in (1, 2)
    ]
    seg = highdicom.seg.Segmentation(
        headers,
        np.stack([mask & ~small, small], axis=-1).astype(np.uint8),
        highdicom.seg.SegmentationTypeValues.BINARY,
        described,
        *(generate_uid(), 1, generate_uid(), 1),
        *("us", "it", "1", "1"),
    )
    seg.save_as(tmp_path / "reference.dcm")
    uids = tuple(str(ds.SOPInstanceUID) for ds in headers)
    segmentation = Segmentation("ball", mask, AFFINE, uids)
    for number, expected in ((None, mask), (1, mask & ~small), (2, small)):
        reference = read_mask(ReferenceMask(tmp_path / "reference.dcm", number), planes)
        np.testing.assert_array_equal(on_grid(reference, segmentation), expected)
