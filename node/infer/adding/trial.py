"""Runs a graph once, before it is a model: what shape every tensor has, and whether it runs at all."""

import importlib

import numpy as np
import numpy.typing as npt
import onnx

from node.errors import ModelError
from node.infer.adding.graph import Graph
from node.infer.session import check_onnxruntime

__all__ = ["shapes_of"]

ERRORS_ONLY = 3


def shapes_of(graph: Graph, sample: npt.NDArray[np.float32]) -> dict[str, tuple[int, ...]]:
    """Run the graph on one image with every value as an output, and tell the shape of each.

    Raises
    ------
    ModelError
        If onnxruntime does not take the graph or the image.
    ConfigError
        If there is no onnxruntime.
    """
    check_onnxruntime()
    runtime = importlib.import_module("onnxruntime")
    open_graph = onnx.ModelProto()
    open_graph.CopyFrom(graph.model)
    known = {output.name for output in open_graph.graph.output}
    for node in open_graph.graph.node:
        for name in node.output:
            if name and name not in known:
                open_graph.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
    options = runtime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    try:
        session = runtime.InferenceSession(open_graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        values = session.run(names, {graph.inputs[0].name: sample})
    except Exception as error:
        said = str(error).strip().splitlines()
        raise ModelError(
            f"onnxruntime cannot run it with an input of {list(sample.shape)}: {said[0][:300] if said else 'no reason'}"
        ) from error
    shapes = {name: tuple(value.shape) for name, value in zip(names, values, strict=True) if hasattr(value, "shape")}
    return shapes | {graph.inputs[0].name: sample.shape}
