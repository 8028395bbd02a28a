"""Brings a detector's outputs into one table that is never empty: x1, y1, x2, y2, score and label of each box."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from node.domain.models import Tensor
from node.errors import ModelError
from node.infer.adding.graph import Graph

__all__ = ["is_detector", "with_one_table"]

OUTPUT = "wetread_boxes"
BOX = 6
WHOLE_NUMBERS = (TensorProto.INT64, TensorProto.INT32)


def is_detector(graph: Graph) -> bool:
    """True if it gives rows of six numbers, or boxes, scores and labels apart."""
    return graph.outputs[0].shape[-1:] == (BOX,) or _apart(graph) is not None


def with_one_table(graph: Graph) -> tuple[onnx.ModelProto, Tensor]:
    """Make one output of them, with a last row of zeros: an image without any box is no error.

    Raises
    ------
    ModelError
        If there is nothing of that kind.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for name, values in (("rows", [-1, BOX]), ("four", [-1, 4]), ("one", [-1, 1])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"{OUTPUT}_{name}"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, BOX), np.float32), f"{OUTPUT}_none"))
    nodes = model.graph.node
    apart = _apart(graph)
    if apart is not None:
        boxes, scores, labels = apart
        nodes.append(helper.make_node("Reshape", [boxes, f"{OUTPUT}_four"], [f"{OUTPUT}_corners"]))
        nodes.append(helper.make_node("Reshape", [scores, f"{OUTPUT}_one"], [f"{OUTPUT}_scores"]))
        nodes.append(helper.make_node("Cast", [labels], [f"{OUTPUT}_numbers"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Reshape", [f"{OUTPUT}_numbers", f"{OUTPUT}_one"], [f"{OUTPUT}_labels"]))
        parts = [f"{OUTPUT}_corners", f"{OUTPUT}_scores", f"{OUTPUT}_labels"]
        nodes.append(helper.make_node("Concat", parts, [f"{OUTPUT}_found"], axis=1))
    elif graph.outputs[0].shape[-1:] == (BOX,):
        nodes.append(helper.make_node("Reshape", [graph.outputs[0].name, f"{OUTPUT}_rows"], [f"{OUTPUT}_found"]))
    else:
        raise ModelError(
            "expected an output of rows x1, y1, x2, y2, score, label, or three outputs with boxes [n, 4], scores [n] "
            f"and labels [n]; found {', '.join(f'{one.name} {list(one.shape)}' for one in graph.outputs)}"
        )
    nodes.append(helper.make_node("Concat", [f"{OUTPUT}_found", f"{OUTPUT}_none"], [OUTPUT], axis=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, BOX]))
    return model, Tensor(OUTPUT, (-1, BOX))


def _apart(graph: Graph) -> tuple[str, str, str] | None:
    """Names of boxes, scores and labels, if these are three outputs."""
    if len(graph.outputs) != 3:
        return None
    kinds = list(zip(graph.outputs, graph.output_types, strict=True))
    labels = [one.name for one, kind in kinds if kind in WHOLE_NUMBERS]
    boxes = [one.name for one, kind in kinds if kind == TensorProto.FLOAT and one.shape[-1:] == (4,)]
    scores = [one.name for one, kind in kinds if kind == TensorProto.FLOAT and one.name not in boxes]
    return (boxes[0], scores[0], labels[0]) if len(boxes) == len(scores) == len(labels) == 1 else None
