"""A head as one Enhanced MR image is read like the same head as classic slices."""

from pathlib import Path

import numpy as np
import pytest

from handlers.brain_mr import handler
from node.errors import NotEvaluableError
from node.infer.models import load_manifest
from node.infer.session import open_model
from node.route.rules import why_not_terms
from tests.phantoms_enhanced import item, write_enhanced
from tests.phantoms_mr import TEMPLATES, as_series, as_study, load_colin27, write_mr_series

MODEL = Path(__file__).parents[2] / "models" / "brain_extraction"


@pytest.mark.peer
def test_the_brain_of_an_enhanced_head_has_the_volume_and_place_of_the_classic_one(tmp_path: Path) -> None:
    if not (MODEL / "model.onnx").exists():
        pytest.skip("the model is not there: wetread models fetch brain_extraction")
    pytest.importorskip("nibabel", reason="nibabel is not installed")
    if not (TEMPLATES / "ch2.nii.gz").exists():
        pytest.skip("Colin27 is not there: apt-get install mricron-data")
    head, affine = load_colin27()
    order = np.random.default_rng(7).permutation(len(head)).tolist()
    times = {"MREchoSequence": item(EffectiveEchoTime=2.98)}
    classic = as_series(write_mr_series(head, affine, tmp_path / "classic"))
    enhanced = as_series([write_enhanced(head, affine, tmp_path / "e.dcm", order=order, shared=times)])
    assert why_not_terms(handler.terms, enhanced) == ""

    models = {"brain_extraction": open_model(load_manifest(MODEL).card, MODEL, threads=2)}
    first, second = (handler.analyse(as_study(series), models) for series in (classic, enhanced))
    assert second.findings[0].measurements == first.findings[0].measurements
    np.testing.assert_array_equal(second.segmentations[0].mask, first.segmentations[0].mask)
    np.testing.assert_allclose(second.segmentations[0].affine, first.segmentations[0].affine, atol=1e-6)
    assert second.source_uids == (enhanced.instances[0].sop_instance_uid,)
    for before, after in zip(first.heat_maps, second.heat_maps, strict=True):
        slice_number = first.segmentations[0].sop_instance_uids.index(before.sop_instance_uid)
        assert after.frame_number == order.index(slice_number) + 1
        assert after.regions[0][0].frame_number == after.frame_number


def test_a_t2_echo_of_an_enhanced_head_is_refused_by_its_times(tmp_path: Path) -> None:
    volume, affine = np.ones((30, 8, 8), np.float32), np.eye(4)[[2, 1, 0, 3]]
    late = {"MREchoSequence": item(EffectiveEchoTime=95.0)}
    silent = {"SeriesDescription": "AX", "ProtocolName": "AX"}
    series = as_series([write_enhanced(volume, affine, tmp_path / "e.dcm", shared=late, **silent)])
    with pytest.raises(NotEvaluableError, match="times of the sequence are not those of a T1"):
        handler.analyse(as_study(series), {})
