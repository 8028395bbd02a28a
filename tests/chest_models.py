"""The lung fields model that is shipped, and small networks of the kind a site provides for chest radiographs."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from node.api import Model
from node.infer.models import load_manifest
from node.infer.session import open_model

SITE = Path(__file__).parent.parent

CARD = """
name = "chest_multilabel"
version = "1"
manufacturer = "Tests"
file = "model.onnx"
sha256 = "{sha256}"
licence = "none, made in a test"
purpose = "answers to brightness"
population = "nobody"
limits = ["knows nothing"]
not_for = ["patients"]
threshold = 0.5
labels = {labels}
heat_map_output = "maps"
heat_map_method = "grad_cam"
{more}
[[inputs]]
name = "film"
shape = [1, 1, 224, 224]

[[outputs]]
name = "scores"
shape = [1, {count}]

[[outputs]]
name = "maps"
shape = [1, {count}, 7, 7]
{calibration}
"""


@cache
def lung_fields() -> Model:
    """The shipped model; read and checked once."""
    folder = SITE / "models" / "lung_fields"
    return open_model(load_manifest(folder).card, folder, threads=1)


def open_network(
    folder: Path, content: bytes, labels: Sequence[str], *, more: str = "", calibration: str = ""
) -> Model:
    """Write a network and its card as a site would, and load it as the engine does."""
    folder = folder / "chest_multilabel"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    card = CARD.format(
        sha256=hashlib.sha256(content).hexdigest(), labels=list(labels), count=len(labels), more=more,
        calibration=calibration,
    )  # fmt: skip
    (folder / "model.toml").write_text(card, encoding="utf-8")
    return open_model(load_manifest(folder).card, folder, threads=1)


def brightness_network(weights: Sequence[float], *, logits: bool = False) -> bytes:
    """A class map is a weight times the brightness of each of 7 x 7 places; its mean through a sigmoid is the score."""
    kernel = (np.array(weights, dtype=np.float32) / 1024.0).reshape(-1, 1, 1, 1)
    nodes = [
        helper.make_node("AveragePool", ["film"], ["places"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Conv", ["places", "kernel"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["means"]),
        helper.make_node("Flatten", ["means"], ["scores" if logits else "logits"]),
    ]
    if not logits:
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["scores"]))
    return _network(nodes, len(weights), {"kernel": kernel})


def range_network() -> bytes:
    """Scores are how white the whitest and how black the blackest pixel is: 1 and 1 if all of -1024 to 1024 is used."""
    nodes = [
        helper.make_node("ReduceMax", ["film", "axes"], ["most"], keepdims=0),
        helper.make_node("ReduceMin", ["film", "axes"], ["least"], keepdims=0),
        helper.make_node("Neg", ["least"], ["darkest"]),
        helper.make_node("Concat", ["most", "darkest"], ["both"], axis=1),
        helper.make_node("Div", ["both", "range"], ["scores"]),
        helper.make_node("AveragePool", ["film"], ["places"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Concat", ["places", "places"], ["maps"], axis=1),
    ]
    constants = {"axes": np.array([2, 3], dtype=np.int64), "range": np.array(1024.0, dtype=np.float32)}
    return _network(nodes, 2, constants)


def _network(nodes: list[onnx.NodeProto], count: int, constants: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("film", TensorProto.FLOAT, [1, 1, 224, 224])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, count]),
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, [1, count, 7, 7]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content
