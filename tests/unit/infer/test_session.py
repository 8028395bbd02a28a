"""A session gives what the card says or an error, never something else."""

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from node.errors import ConfigError, ModelError, ModelHashError, ModelOutputError
from node.infer.loaded import LoadedModel
from node.infer.models import load_manifest
from node.infer.session import check_onnxruntime, open_model
from tests.unit.infer.sites import doubling_model, logarithm_model, onnx_of, write_model


def opened(tmp_path: Path, content: bytes) -> LoadedModel:
    folder = write_model(tmp_path, "tiny", content)
    return open_model(load_manifest(folder).card, folder, threads=1)


def test_a_model_gives_its_output(tmp_path: Path) -> None:
    model = opened(tmp_path, doubling_model())
    output = model.run(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    assert output.dtype == np.float32
    assert output.tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert model.device == "CPU"


def two_outputs_model() -> bytes:
    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y", "z")]
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Log", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "tiny", names[:1], names[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def test_every_output_of_the_card_is_given_and_checked(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny", two_outputs_model())
    manifest = folder / "model.toml"
    more = '[[outputs]]\nname = "z"\nshape = [-1, 2]\n'
    manifest.write_text(manifest.read_text(encoding="utf-8") + more, encoding="utf-8")
    model = open_model(load_manifest(folder).card, folder, threads=1)
    outputs = model.run_all({"x": np.array([[1.0, 1.0]], np.float32)})
    assert {name: output.tolist() for name, output in outputs.items()} == {"y": [[2.0, 2.0]], "z": [[0.0, 0.0]]}
    bad = np.array([[-1.0, 1.0]], np.float32)
    assert model.run(bad).tolist() == [[-2.0, 2.0]]  # the other output was not asked for
    with pytest.raises(ModelOutputError, match="output z: 1 of 2 are not finite"):
        model.run_all({"x": bad})


def test_inputs_that_the_card_does_not_name_are_refused(tmp_path: Path) -> None:
    model, tensor = opened(tmp_path, doubling_model()), np.zeros((1, 2), np.float32)
    for inputs in ({}, {"w": tensor}, {"x": tensor, "w": tensor}):
        with pytest.raises(ModelError, match="expected the inputs x, found"):
            model.run_all(inputs)
    with pytest.raises(ModelError, match=r"input x: expected float32\[-1, 2\]"):
        model.run_all({"x": tensor[0]})


@pytest.mark.parametrize("shape", [(2,), (1, 3), (1, 2, 1)])
def test_an_input_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected float32\[-1, 2\]"):
        opened(tmp_path, doubling_model()).run(np.zeros(shape, np.float32))


def test_an_input_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found float64"):
        opened(tmp_path, doubling_model()).run(np.zeros((1, 2)))  # type: ignore[arg-type]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelOutputError, match="1 of 2 are not finite"):
        opened(tmp_path, logarithm_model()).run(np.array([[-1.0, 1.0]], np.float32))


def test_infinity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelOutputError, match="1 of 2 are not finite"):
        opened(tmp_path, logarithm_model()).run(np.array([[0.0, 1.0]], np.float32))


def test_an_empty_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelOutputError, match="is empty"):
        opened(tmp_path, doubling_model()).run(np.zeros((0, 2), np.float32))


def test_an_output_of_another_shape_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    model = opened(tmp_path, onnx_of([node], input_shape=["n", 2], output_shape=["a", "b"]))
    with pytest.raises(ModelOutputError, match=r"expected shape \[-1, 2\], found \[2, 3\]"):
        model.run(np.zeros((3, 2), np.float32))


def test_a_file_with_other_tensors_than_the_card_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    with pytest.raises(ModelError, match=r"input x: the card says \[-1, 2\], the file \['n', 3\]"):
        opened(tmp_path, onnx_of([node], input_shape=["n", 3], output_shape=["n", 3]))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="refused the model"):
        opened(tmp_path, b"no protocol buffer at all")


def test_a_changed_file_is_never_opened(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "tiny", doubling_model())
    (folder / "model.onnx").write_bytes(logarithm_model())
    with pytest.raises(ModelHashError):
        open_model(load_manifest(folder).card, folder, threads=1)


def install(folder: Path, name: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")


def test_one_build_of_onnxruntime_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "onnxruntime-gpu")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    check_onnxruntime()


def test_two_builds_of_onnxruntime_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "onnxruntime")
    install(tmp_path, "onnxruntime-gpu")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="onnxruntime and onnxruntime-gpu are installed and break each other"):
        check_onnxruntime()


def test_no_onnxruntime_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"install wetread\[cpu\]"):
        check_onnxruntime()
