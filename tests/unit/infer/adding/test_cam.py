"""The second output of a classifier is Grad-CAM, to the last digit, and the first output stays what it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from node.domain.volume import Pixels
from node.infer.adding.cam import HeatMapOutput, with_heat_map
from node.infer.adding.graph import read_graph
from tests.networks import blob_classifier, dense_classifier, onnx_bytes

Run = Callable[[Pixels], dict[str, Pixels]]


def opened(model: onnx.ModelProto) -> Run:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    (given,) = [value.name for value in session.get_inputs()]
    return lambda tensor: dict(zip(names, session.run(names, {given: tensor}), strict=True))


def with_map(folder: Path, content: bytes, sample: Pixels, labels: int) -> HeatMapOutput:
    (folder / "m.onnx").write_bytes(content)
    return with_heat_map(read_graph(folder / "m.onnx"), sample, labels)


def noise(*shape: int, seed: int = 1) -> Pixels:
    return np.random.default_rng(seed).random(shape, np.float32)


def head_of_dense(content: bytes) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """The end of `dense_classifier` in float64, from its features on."""
    model = onnx.load_from_string(content)
    w = {one.name: onnx.numpy_helper.to_array(one).astype(np.float64) for one in model.graph.initializer}

    def head(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        g2 = features.reshape(-1) @ w["w2"].T + w["b2"]
        n2 = (g2 - w["mean"]) / np.sqrt(w["variance"] + 1e-5) * w["scale"] + w["shift"]
        return np.asarray(0.5 * np.maximum(n2, 0.0) @ w["w3"] + w["b3"])

    return head


@pytest.mark.parametrize("seed", [0, 3, 8])
def test_the_map_is_the_gradient_averaged_over_places_times_the_features(tmp_path: Path, seed: int) -> None:
    content, image = dense_classifier(seed=seed), noise(1, 1, 24, 24, seed=seed)
    made = with_map(tmp_path, content, image, 3)
    assert (made.method, made.why_not) == ("grad_cam", "")
    made.model.graph.output.append(onnx.ValueInfoProto(name="features"))
    outputs = opened(made.model)(image)
    features, head = outputs["features"][0].astype(np.float64), head_of_dense(content)
    gradient = np.empty((3, *features.shape))
    for place in np.ndindex(features.shape):
        step = np.zeros(features.shape)
        step[place] = 1e-4
        gradient[:, *place] = (head(features + step) - head(features - step)) / 2e-4
    expected = np.einsum("lc,chw->lhw", gradient.mean(axis=(2, 3)), features)
    np.testing.assert_allclose(outputs[made.tensor.name if made.tensor else ""][0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("content", [dense_classifier(), dense_classifier(odd="Softsign"), blob_classifier(size=24)])
def test_the_first_output_does_not_change_by_a_bit(tmp_path: Path, content: bytes) -> None:
    model = onnx.load_from_string(content)
    sizes = [size.dim_value or 1 for size in model.graph.input[0].type.tensor_type.shape.dim]
    image = noise(*sizes)
    labels = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    made = with_map(tmp_path, content, image, labels)
    name = model.graph.output[0].name
    np.testing.assert_array_equal(opened(made.model)(image)[name], opened(model)(image)[name])


def test_channels_last_and_a_mean_over_places_give_the_weights_of_the_last_layer(tmp_path: Path) -> None:
    content, image = blob_classifier(), noise(1, 128, 128, 3)
    image[:, 40:52, 80:92] = 1.0
    made = with_map(tmp_path, content, image, 2)
    assert made.tensor is not None
    assert made.tensor.shape == (-1, 2, 32, 32)  # no mask of the sample is in it: any number of images at once
    maps = opened(made.model)(image)[made.tensor.name][0]
    row, column = np.unravel_index(int(maps[0].argmax()), maps[0].shape)
    assert 40 <= 4 * row + 2 < 52
    assert 80 <= 4 * column + 2 < 92
    np.testing.assert_allclose(maps[1], -maps[0], rtol=1e-5)


def test_an_end_that_cannot_be_differentiated_shows_its_features_instead(tmp_path: Path) -> None:
    image = noise(1, 1, 24, 24)
    made = with_map(tmp_path, dense_classifier(odd="Softsign"), image, 3)
    assert (made.method, made.why_not) == ("score_cam", "Softsign")
    assert made.tensor is not None
    assert made.tensor.shape == (1, 5, 6, 6)


def test_a_network_without_features_on_the_image_is_left_as_it_is(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Flatten", ["image"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "w"], ["logits"]),
    ]
    weights = np.ones((16, 2), np.float32)
    content = onnx_bytes(nodes, {"w": weights}, inputs={"image": [1, 1, 4, 4]}, outputs={"logits": [1, 2]})
    made = with_map(tmp_path, content, noise(1, 1, 4, 4), 2)
    assert (made.method, made.tensor) == ("", None)
    assert made.model.SerializeToString() == onnx.load_from_string(content).SerializeToString()
