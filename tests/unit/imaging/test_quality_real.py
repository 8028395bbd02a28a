"""Real images pass the gate, and the same images spoilt do not: where the limits of the gate come from."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from node.dicom.pixels import slice_values
from node.dicom.read import read_dataset
from node.domain.volume import Image, Volume
from node.imaging.quality import Demands, noise_per_contrast, quality
from tests.phantoms_mr import TEMPLATES, load_colin27

FILES = ("CT_small.dcm", "MR_small.dcm", "RG1_UNCR.dcm", "RG3_UNCR.dcm", "693_UNCR.dcm", "MR2_UNCR.dcm")


def picture(name: str) -> Image:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is not there: pydicom-data is not installed")
    values = slice_values(read_dataset(Path(str(path)), with_pixels=True))
    return Image(values, values, None, "1.2")


@pytest.mark.parametrize("name", FILES)
def test_a_real_image_passes(name: str) -> None:
    assert quality(picture(name)) == ()


@pytest.mark.parametrize("name", FILES)
def test_a_real_image_drowned_in_noise_does_not(name: str) -> None:
    values = picture(name).array
    low, high = np.percentile(values, (1, 99))
    spoilt = (values + np.random.default_rng(0).normal(0, 0.4 * (high - low), values.shape)).astype(np.float32)
    assert [reason.key for reason in quality(Image(spoilt, spoilt, None, "1.2"))] == ["noise"]
    assert noise_per_contrast(values) < 0.6 * noise_per_contrast(spoilt)


@pytest.mark.parametrize("name", FILES[2:])
def test_a_real_image_overexposed_does_not(name: str) -> None:
    values = picture(name).array
    level = np.percentile(values[values > values.min()], 55)
    spoilt = np.minimum(values, np.float32(level))
    assert "saturated" in [reason.key for reason in quality(Image(spoilt, spoilt, None, "1.2"))]


def test_a_real_head_passes_whole_and_is_cut_off_when_it_is_cut() -> None:
    if not (TEMPLATES / "ch2.nii.gz").exists():
        pytest.skip("Colin27 is not there: mricron-data is not installed")
    array, affine = load_colin27()
    head = Volume(array[60:140:4].astype(np.float32), affine, "arbitrary", (), "1")
    demands = Demands(most_on_border=0.3)
    assert quality(head, demands) == ()
    cut = Volume(head.array[:, :, 60:120].copy(), affine, "arbitrary", (), "1")
    assert "cut_off" in [reason.key for reason in quality(cut, demands)]
