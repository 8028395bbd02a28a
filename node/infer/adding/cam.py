"""Gives a classifier a second output that shows where each class was seen.

Grad-CAM, if the end of the network can be differentiated: one map for each label, computed in the graph. Else the last
features are made visible, so that they can be tried one by one. The first output does not change by a bit.

Selvaraju et al., ICCV 2017.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from node.domain.models import Tensor
from node.infer.adding.backward import Backward, BackwardError, Shape
from node.infer.adding.graph import Graph, constants_of
from node.infer.adding.trial import shapes_of

__all__ = ["HeatMapOutput", "with_heat_map"]

GRAD_CAM, SCORE_CAM = "grad_cam", "score_cam"
OUTPUT = "wetread_heat_map"
ENDS = ("Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast")
ELEMENTWISE = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Elu", "Clip", "Sigmoid", "Mul", "Add", "BatchNormalization", "HardSwish",
    "HardSigmoid", "Identity", "Dropout", "InstanceNormalization", "Mish", "Gelu",
})  # fmt: skip
SPATIAL = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Concat"})
OLDEST_OPSET = 9


@dataclass(frozen=True, slots=True, eq=False)
class HeatMapOutput:
    """A model with its second output; `method` is "" and nothing was changed if it shows no features.

    `why_not` says which operation could not be differentiated, where Grad-CAM was not possible.
    """

    model: onnx.ModelProto
    method: str
    tensor: Tensor | None = None
    why_not: str = ""


def with_heat_map(
    graph: Graph, sample: np.ndarray[tuple[int, ...], np.dtype[np.float32]], labels: int
) -> HeatMapOutput:
    """Add the output.

    Parameters
    ----------
    sample
        One image as the model takes it; it tells the shapes.
    labels
        How many the first output has.
    """
    shapes = shapes_of(graph, sample)
    producers = {name: node for node in graph.model.graph.node for name in node.output}
    logits = graph.outputs[0].name
    while logits in producers and producers[logits].op_type in ENDS:
        logits = producers[logits].input[0]
    try:
        return _grad_cam(graph, shapes, producers, logits, labels)
    except BackwardError as error:
        why_not = str(error)
    features = [name for node in graph.model.graph.node for name in node.output]
    visible = [name for name in features if _is_features(name, shapes, producers, sample.ndim)]
    if not visible:
        return HeatMapOutput(graph.model, "", None, why_not)
    model = _copy(graph.model)
    model.graph.node.append(helper.make_node("Identity", [visible[-1]], [OUTPUT]))
    return HeatMapOutput(model, SCORE_CAM, _declared(model, shapes[visible[-1]]), why_not)


def _grad_cam(
    graph: Graph, shapes: Mapping[str, Shape], producers: Mapping[str, onnx.NodeProto], logits: str, labels: int
) -> HeatMapOutput:
    if graph.opset < OLDEST_OPSET or int(np.prod(shapes.get(logits, (0,)))) != labels:
        raise BackwardError(f"operators of version {graph.opset}, or an end that is not one logit for each label")
    backward = Backward(constants_of(graph.model), shapes, labels)
    rank = len(graph.inputs[0].shape)
    tensor, gradient = logits, backward.start(logits)
    while not _is_features(tensor, shapes, producers, rank):
        if tensor not in producers:
            raise BackwardError("no features with a place on the image")
        node = producers[tensor]
        gradient = backward.step(node, gradient)
        tensor = node.input[0]
    weights = backward.emit("GlobalAveragePool", [gradient])  # the mean over places: Grad-CAM's equation 1
    backward.nodes.append(helper.make_node("Conv", [tensor, weights], [OUTPUT]))
    model = _copy(graph.model)
    model.graph.initializer.extend(backward.weights)
    model.graph.node.extend(backward.nodes)
    batch = 1 if backward.is_of_sample else graph.inputs[0].shape[0]
    return HeatMapOutput(model, GRAD_CAM, _declared(model, (batch, labels, *shapes[tensor][2:])))


def _is_features(tensor: str, shapes: Mapping[str, Shape], producers: Mapping[str, onnx.NodeProto], rank: int) -> bool:
    """True if a tensor has channels on axis 1 and more than one place on the image."""
    shape = shapes.get(tensor, ())
    if len(shape) != rank or int(np.prod(shape[2:])) <= 1 or tensor not in producers:
        return False
    node = producers[tensor]
    while node.op_type in ELEMENTWISE:
        before = next((name for name in node.input if len(shapes.get(name, ())) == rank and name in producers), "")
        if not before:
            return False
        node = producers[before]
    return node.op_type in SPATIAL


def _declared(model: onnx.ModelProto, shape: Shape) -> Tensor:
    sizes = [None if size < 0 else size for size in shape]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, sizes))
    return Tensor(OUTPUT, shape)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
