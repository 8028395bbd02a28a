"""The tumour slot with a tiny network in the site's place: volumes of a phantom, and everything it must refuse."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from handlers.brain_tumour import LABELS, NAMES, SEQUENCES, handler
from node.api import Model, NotEvaluableError, Reading
from node.domain.models import ModelCard, Tensor
from node.domain.study import Instance, Series, Study
from node.infer.session import open_model
from node.report import load_templates
from tests.phantoms_head import MR_NAMES, TUMOUR, TUMOUR_MM, mr_head
from tests.phantoms_mr import as_series, as_study, write_mr_series

pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")

BALLS_ML = [4.0 / 3.0 * np.pi * radius**3 / 1000.0 for radius in TUMOUR_MM]
TRUE_ML = {
    "whole_tumour": BALLS_ML[0],
    "tumour_core": BALLS_ML[1],
    "enhancing_tumour": BALLS_ML[1] - BALLS_ML[2],
}
TRUE_MM = {"whole_tumour": 2 * TUMOUR_MM[0], "tumour_core": 2 * TUMOUR_MM[1], "enhancing_tumour": 2 * TUMOUR_MM[1]}


def tiny(folder: Path, name: str, weights: Any, bias: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> Model:
    """A network of one 1x1x1 convolution and a sigmoid, behind the engine's own loader."""
    folder.mkdir()
    tensors = [
        numpy_helper.from_array(np.array(values, np.float32), key)
        for key, values in (("w", np.array(weights)[:, :, None, None, None]), ("b", bias))
    ]
    given, answer = (
        helper.make_tensor_value_info(
            key, TensorProto.FLOAT, [side if side > 0 else f"{key}{n}" for n, side in enumerate(shape)]
        )
        for key, shape in zip(("x", "y"), shapes, strict=True)
    )
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Sigmoid", ["c"], ["y"])]
    graph = helper.make_graph(nodes, name, [given], [answer], tensors)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    card = ModelCard(
        name, "1", "test", "model.onnx", sha256(content).hexdigest(), "test", "test", "test", ("test",), ("test",),
        (Tensor("x", shapes[0]),), (Tensor("y", shapes[1]),), 0.5,
    )  # fmt: skip
    onnx.checker.check_model(onnx.load_from_string(content))
    return open_model(card, folder, threads=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Model]:
    """Whole: bright on FLAIR. Core: dark on T1. Enhancing: bright on T1 with contrast. Brain: bright on T1."""
    root = tmp_path_factory.mktemp("models")
    weights = np.zeros((3, 4))
    weights[0, SEQUENCES.index("flair")] = weights[2, SEQUENCES.index("t1ce")] = 20.0
    weights[1, SEQUENCES.index("t1")] = -20.0
    cube = (1, 1, 128, 128, 128)
    return {
        "brain_tumour": tiny(
            root / "t", "t", weights, [-50.0, -40.0, -100.0], ((1, 4, -1, -1, -1), (1, 3, -1, -1, -1))
        ),
        "brain_extraction": tiny(root / "b", "b", [[100.0]], [-55.0], (cube, cube)),
    }


def head(folder: Path, **options: Any) -> dict[str, Series]:
    return {name: as_series(mr_head(folder / name, name, **options)) for name in SEQUENCES}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Series]:
    return head(tmp_path_factory.mktemp("four"))


def refusal(study: Study, models: Mapping[str, Model]) -> str:
    with pytest.raises(NotEvaluableError) as caught:
        handler.analyse(study, models)
    assert caught.value.key in load_templates(Path("sr_templates"))["brain_tumour"].reasons
    return caught.value.key


def check_truth(reading: Reading, tolerance: float) -> None:
    assert [finding.kind for finding in reading.findings] == list(LABELS)
    for finding in reading.findings:
        volume, axis = finding.measurements
        assert (volume.unit, axis.unit) == ("ml", "mm")
        assert volume.value == pytest.approx(TRUE_ML[finding.kind], rel=tolerance)
        assert axis.value == pytest.approx(TRUE_MM[finding.kind], abs=2.5)
        assert finding.laterality == "L"
        assert finding.certainty is None  # the card has no calibration
        assert finding.score is not None


def test_volumes_of_the_parts_are_those_of_the_phantom_though_the_head_moved_between_thick_sequences(
    four: dict[str, Series], models: Mapping[str, Model], tmp_path: Path
) -> None:
    four = four | {
        "t2": as_series(mr_head(tmp_path / "t2", "t2", moved_mm=(6.0, -4.0, 5.0), turn_deg=4.0, slice_mm=5.0)),
        "flair": as_series(
            mr_head(tmp_path / "flair", "flair", moved_mm=(-5.0, 6.0, -6.0), turn_deg=-5.0, slice_mm=5.0)
        ),
    }
    reading = handler.analyse(as_study(*four.values()), models)
    check_truth(reading, 0.1)
    uids = {instance.sop_instance_uid for series in four.values() for instance in series.instances}
    assert set(reading.source_uids) == uids
    whole, core, enhancing = (segmentation.mask for segmentation in reading.segmentations)
    assert (core <= whole).all()
    assert (enhancing <= core).all()
    place = np.argwhere(whole).mean(axis=0)
    affine = reading.segmentations[0].affine
    assert affine[:3, :3] @ place + affine[:3, 3] == pytest.approx(TUMOUR, abs=1.0)
    of_t1ce = {instance.sop_instance_uid for instance in four["t1ce"].instances}
    for finding, heat_map in zip(reading.findings, reading.heat_maps, strict=True):
        assert {finding.regions[0].sop_instance_uid, heat_map.sop_instance_uid} <= of_t1ce
        assert heat_map.score > heat_map.threshold


def test_a_head_without_a_tumour_has_no_finding(models: Mapping[str, Model], tmp_path: Path) -> None:
    reading = handler.analyse(as_study(*head(tmp_path, has_tumour=False).values()), models)
    assert reading.findings == ()


@pytest.mark.parametrize("missing", SEQUENCES)
def test_a_missing_sequence_is_named(missing: str, four: dict[str, Series], models: Mapping[str, Model]) -> None:
    rest = {name: series for name, series in four.items() if name != missing}
    assert refusal(as_study(*rest.values()), models) == "_".join(["found", *rest])
    with pytest.raises(NotEvaluableError, match=r"expected four sequences .*, found "):
        handler.analyse(as_study(*rest.values()), models)


def test_four_series_of_one_sequence_are_not_four_sequences(
    four: dict[str, Series], models: Mapping[str, Model]
) -> None:
    assert refusal(as_study(*[four["t1"]] * 4), models) == "found_t1"


def test_a_blank_sequence_is_refused(four: dict[str, Series], models: Mapping[str, Model], tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2, 0], [0, 2, 0, 0], [5, 0, 0, 0], [0, 0, 0, 1.0]])
    names = {"SeriesDescription": MR_NAMES["flair"], "ProtocolName": MR_NAMES["flair"]}
    blank = as_series(write_mr_series(np.zeros((24, 100, 100)), affine, tmp_path, **names))
    assert refusal(as_study(*(four | {"flair": blank}).values()), models) == "blank"


def test_another_body_under_the_name_of_a_sequence_is_refused(
    four: dict[str, Series], models: Mapping[str, Model], tmp_path: Path
) -> None:
    affine = np.array([[0, 0, 2, -100], [0, 2, 0, -100], [5, 0, 0, -60], [0, 0, 0, 1.0]])
    noise = np.random.default_rng(1).normal(100, 30, (24, 100, 100)).clip(0)
    names = {"SeriesDescription": MR_NAMES["t1"], "ProtocolName": MR_NAMES["t1"]}
    other = as_series(write_mr_series(noise, affine, tmp_path, **names))
    assert refusal(as_study(*(four | {"t1": other}).values()), models) == "not_registered"


def test_a_body_of_no_brain_is_refused(four: dict[str, Series], models: Mapping[str, Model]) -> None:
    small = {
        name: replace(series, instances=series.instances[:14]) for name, series in four.items()
    }  # the lowest 42 mm
    assert refusal(as_study(*small.values()), models) in {"no_brain", "not_registered"}


def told(modality: str = "MR", count: int = 20, **header: Any) -> Series:
    instances = tuple(
        Instance(f"1.{number}", "1.2", "1.2.840.10008.1.2.1", "1", Path(f"{number}.dcm"), 0, "")
        for number in range(count)
    )
    return Series("1", modality, instances, header)


@pytest.mark.parametrize(
    ("series", "key"),
    [
        (told("CT"), "not_head_mr"),
        (told(BodyPartExamined="KNEE"), "not_head_mr"),
        (told(SeriesDescription="膝关节 T1"), "not_head_mr"),
        (told(SeriesDescription="T1", BodyPartExamined="HEAD"), "found_t1"),
        (
            told(SeriesDescription="t1_mprage_sag", BodyPartExamined="HEAD", ContrastBolusAgent="Gadobutrol"),
            "found_t1ce",
        ),
        (told(SeriesDescription="T1 3D 增强", BodyPartExamined="HEAD"), "found_t1ce"),
        (told(SeriesDescription="Ax T1 +C", BodyPartExamined="HEAD"), "found_t1ce"),
        (told(SeriesDescription="Ax T1 pre contrast", BodyPartExamined="HEAD"), "found_t1"),
        (told(SeriesDescription="Ax T1 FLAIR", BodyPartExamined="HEAD"), "found_t1"),
        (told(SeriesDescription="Sag 3D T2 FLAIR", BodyPartExamined="HEAD"), "found_flair"),
        (told(SeriesDescription="t2_tse_tra", BodyPartExamined="HEAD"), "found_t2"),
        (told(BodyPartExamined="HEAD", EchoTime=95.0, RepetitionTime=5000.0), "found_t2"),
        (told(BodyPartExamined="HEAD", EchoTime=120.0, RepetitionTime=9000.0, InversionTime=2500.0), "found_flair"),
        (told(BodyPartExamined="HEAD", EchoTime=12.0, RepetitionTime=600.0), "found_t1"),
        (told(BodyPartExamined="HEAD", EchoTime=12.0, RepetitionTime=600.0, ContrastBolusAgent="Gd"), "found_t1ce"),
        (told(SeriesDescription="DWI b1000", BodyPartExamined="HEAD"), "found_none"),
        (told(SeriesDescription="t2* hemo", BodyPartExamined="HEAD"), "found_none"),
        (told(SeriesDescription="T1 map", BodyPartExamined="HEAD"), "found_none"),
        (told(SeriesDescription="T1", BodyPartExamined="HEAD", count=6), "found_none"),
        (told(BodyPartExamined="HEAD"), "found_none"),
    ],
)
def test_what_the_header_says_decides_which_sequence_it_is(series: Series, key: str) -> None:
    assert refusal(Study("1", 1, (series,)), {}) == key


def test_the_template_says_every_combination_that_can_be_missing() -> None:
    reasons = load_templates(Path("sr_templates"))["brain_tumour"].reasons
    assert sum(key.startswith("found_") for key in reasons) == 2 ** len(SEQUENCES) - 1
    assert set(NAMES) == set(SEQUENCES)
