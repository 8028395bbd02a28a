"""What an ONNX file says of itself: its inputs and outputs, how it ends, and what its makers wrote into it."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from node.domain.models import Tensor
from node.errors import ModelError

__all__ = ["Graph", "constants_of", "last_operation", "read_graph", "stored_labels"]

LABEL_KEYS = ("names", "labels", "classes")  # under which exporters keep them in the metadata
OLDEST_OPSET = 9


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """An ONNX model and what goes in and comes out of it; shapes have -1 where any size is taken."""

    model: onnx.ModelProto
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    output_types: tuple[int, ...]

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return max((one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def read_graph(path: Path) -> Graph:
    """Read an ONNX file and what lies beside it, if its weights do.

    Raises
    ------
    ModelError
        If it is no valid ONNX model, or its inputs are not ``float32``.
    """
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        said = str(error).strip().splitlines()
        raise ModelError(f"{path}: no valid ONNX model: {said[0] if said else type(error).__name__}") from error
    weights = {initializer.name for initializer in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in weights]
    for value in given:
        found = value.type.tensor_type.elem_type
        if found != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(found).lower()
            raise ModelError(
                f"{path}: expected inputs of float32, {value.name} is {kind}; export the model with float32"
            )
    outputs = list(model.graph.output)
    if not given or not outputs:
        raise ModelError(f"{path}: expected at least one input and one output")
    types = tuple(value.type.tensor_type.elem_type for value in outputs)
    return Graph(model, _tensors(given), _tensors(outputs), types)


def _tensors(values: Sequence[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            value.name,
            tuple(size.dim_value if size.HasField("dim_value") else -1 for size in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def last_operation(graph: Graph) -> str:
    """The operation that gives the first output, such as ``Softmax``; names that only pass it on are left out."""
    producers = {name: node for node in graph.model.graph.node for name in node.output}
    node = producers.get(graph.outputs[0].name)
    while node is not None and node.op_type in ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Transpose"):
        node = producers.get(node.input[0])
    return node.op_type if node is not None else ""


def stored_labels(graph: Graph) -> tuple[str, ...]:
    """Labels that the exporter wrote into the file; empty if there are none."""
    for entry in graph.model.metadata_props:
        if entry.key in LABEL_KEYS:
            try:
                value = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError):
                value = [part.strip() for part in entry.value.split(",")]
            values = list(value.values()) if isinstance(value, dict) else value
            if isinstance(values, list | tuple) and all(isinstance(one, str) for one in values):
                return tuple(values)
    return ()


def constants_of(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.generic]]:
    """Weights and constants by name."""
    found = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = onnx.numpy_helper.to_array(attribute.t)
    return found
