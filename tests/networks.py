"""Small networks with weights set by hand, in layouts nobody prepared for: what they find is known beforehand."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["blob_classifier", "dense_classifier", "onnx_bytes", "peak_detector", "planar_segmenter", "volume_segmenter"]

Weights = dict[str, npt.NDArray[np.generic]]
Shape = Sequence[int | str]


def onnx_bytes(
    nodes: list[onnx.NodeProto],
    weights: Weights,
    *,
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    whole: Sequence[str] = (),
    opset: int = 17,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A checked model; outputs named in `whole` are whole numbers."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if name in whole else TensorProto.FLOAT, list(shape))
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def volume_segmenter(*, size: int = 32, level: float = 0.6875) -> bytes:
    """3D, channels last, three channels: two labels, background and what is brighter than `level`."""
    kernel = np.full((1, 3, 3, 3, 3), 1.0 / 81.0, np.float32)  # the mean of three channels and 27 neighbours
    both = np.array([-60.0, 60.0], np.float32).reshape(2, 1, 1, 1, 1)
    nodes = [
        helper.make_node("Transpose", ["volume"], ["first"], perm=[0, 4, 1, 2, 3]),
        helper.make_node("Pad", ["first", "pads"], ["padded"], mode="edge"),
        helper.make_node("Conv", ["padded", "kernel", "level"], ["above"]),
        helper.make_node("Conv", ["above", "both"], ["logits"]),
        helper.make_node("Transpose", ["logits"], ["masks"], perm=[0, 2, 3, 4, 1]),
    ]
    pads = np.array([0, 0, 1, 1, 1, 0, 0, 1, 1, 1], np.int64)
    return onnx_bytes(
        nodes,
        {"kernel": kernel, "level": np.array([-level], np.float32), "both": both, "pads": pads},
        inputs={"volume": ["n", size, size, size, 3]},
        outputs={"masks": ["n", size, size, size, 2]},
    )


def planar_segmenter(*, size: int = 64, level: float = 0.6) -> bytes:
    """2D, one channel, half the resolution out: a sigmoid of what is brighter than `level`."""
    kernel = np.full((1, 1, 2, 2), 0.25, np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "level"], ["above"], strides=[2, 2]),
        helper.make_node("Mul", ["above", "steep"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["mask"]),
    ]
    return onnx_bytes(
        nodes,
        {"kernel": kernel, "level": np.array([-level], np.float32), "steep": np.array(40.0, np.float32)},
        inputs={"image": [1, 1, size, size]},
        outputs={"mask": [1, 1, size // 2, size // 2]},
    )


def blob_classifier(*, size: int = 128, labels: int = 2) -> bytes:
    """2D, channels last, three channels: label 0 is a bright spot, the last one its absence; softmax at the end."""
    means = np.full((1, 3, 5, 5), 1.0 / 75.0, np.float32)
    spread = np.full((4, 1, 3, 3), 1.0 / 9.0, np.float32)  # four features alike
    dense = np.zeros((4, labels), np.float32)
    dense[:, 0], dense[:, -1] = 300.0, -300.0
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "means", "level"], ["above"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["above"], ["spots"]),
        helper.make_node("Conv", ["spots", "spread"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["wide"], ["features"]),
        helper.make_node("MaxPool", ["features"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Transpose", ["pooled"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["last"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "dense"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["classes"], axis=-1),
    ]
    bias = np.zeros(labels, np.float32)
    bias[0], bias[-1] = -2.0, 2.0
    return onnx_bytes(
        nodes,
        {"means": means, "level": np.array([-0.75], np.float32), "spread": spread, "dense": dense, "bias": bias},
        inputs={"image": ["n", size, size, 3]},
        outputs={"classes": ["n", labels]},
        metadata={"names": str({index: f"label {index}" for index in range(labels)})},
    )


def dense_classifier(*, size: int = 24, labels: int = 3, odd: str = "", seed: int = 0) -> bytes:
    """2D with an end as VGG has it: flattened, two layers and a rectifier; `odd` is an operation put between them."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> npt.NDArray[np.float32]:
        return np.asarray(random.normal(0.0, 0.3, shape), np.float32)

    side = size // 4
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["features"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["g2"], transB=1),
        helper.make_node("BatchNormalization", ["g2", "scale", "shift", "mean", "variance"], ["n2"]),
        helper.make_node("Relu", ["n2"], ["r2"]),
        *([helper.make_node(odd, ["r2"], ["o2"])] if odd else []),
        helper.make_node("Gemm", ["o2" if odd else "r2", "w3", "b3"], ["logits"], alpha=0.5),
    ]
    weights: Weights = {
        "w1": normal(5, 1, 3, 3), "b1": normal(5), "w2": normal(16, 5 * side * side), "b2": normal(16),
        "scale": np.abs(normal(16)) + 0.5, "shift": normal(16), "mean": normal(16),
        "variance": np.abs(normal(16)) + 0.5, "w3": normal(16, labels), "b3": normal(labels),
    }  # fmt: skip
    return onnx_bytes(
        nodes, weights, inputs={"image": ["n", 1, size, size]}, outputs={"logits": ["n", labels]}, metadata=None
    )


def peak_detector(*, size: int = 96, half: int = 6) -> bytes:
    """2D, one channel, three outputs: boxes around the two brightest places, their scores, and labels from 1."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["smooth"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        helper.make_node("Reshape", ["smooth", "flat"], ["line"]),
        helper.make_node("TopK", ["line", "two"], ["scores", "places"]),
        helper.make_node("Mod", ["places", "side"], ["columns"]),
        helper.make_node("Div", ["places", "side"], ["rows"]),
        helper.make_node("Unsqueeze", ["columns", "axis"], ["x"]),
        helper.make_node("Unsqueeze", ["rows", "axis"], ["y"]),
        helper.make_node("Concat", ["x", "y", "x", "y"], ["corners"], axis=1),
        helper.make_node("Cast", ["corners"], ["centres"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["centres", "halves"], ["boxes"]),
        helper.make_node("Mul", ["places", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "first"], ["labels"]),
    ]
    halves = np.array([-half, -half, half + 1, half + 1], np.float32)
    return onnx_bytes(
        nodes,
        {
            "flat": np.array([-1], np.int64), "two": np.array([2], np.int64), "side": np.array(size, np.int64),
            "axis": np.array([1], np.int64), "halves": halves, "zero": np.array(0, np.int64),
            "first": np.array(1, np.int64),
        },
        inputs={"image": [1, 1, size, size]},
        outputs={"boxes": [2, 4], "scores": [2], "labels": [2]},
        whole=("labels",),
    )  # fmt: skip
