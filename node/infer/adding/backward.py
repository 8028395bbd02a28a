"""The gradient of every class with respect to the last features, written as operations of the graph itself.

No framework is needed when a model runs: the end of a classifier (pooling, a few linear layers, rectifiers) is short,
and its derivative is again linear layers and masks. One tensor ``[label, ...]`` holds the gradients of all labels at
once; each step turns the gradient after an operation into the one before it. An operation that is not known here ends
the attempt: no gradient is better than a wrong one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Backward", "BackwardError"]

Shape = tuple[int, ...]
PREFIX = "wetread_"


class BackwardError(Exception):
    """An operation whose derivative is not known here; not an error of the model."""


@dataclass(slots=True, eq=False)
class Backward:
    """A derivative in the making.

    Parameters
    ----------
    constants, shapes
        Of the model: weights by name, and what shape each tensor had when it was run with one image.
    labels
        How many.
    is_of_sample
        True once a mask of the sample itself is part of it: then only one image may be run at a time.
    """

    constants: Mapping[str, npt.NDArray[np.generic]]
    shapes: Mapping[str, Shape]
    labels: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    is_of_sample: bool = False

    def start(self, logits: str) -> str:
        """The derivative of each label's logit by all logits: 1 by itself."""
        unit = np.eye(self.labels, dtype=np.float32)
        return self.constant(unit.reshape(self.labels, *self.shapes[logits][1:]))

    def step(self, node: onnx.NodeProto, gradient: str) -> str:
        """Pass one operation, from behind.

        Raises
        ------
        BackwardError
            If its derivative is not known.
        """
        if node.op_type not in STEPS:
            raise BackwardError(node.op_type)
        return STEPS[node.op_type](self, node, gradient)

    def emit(self, op_type: str, inputs: Sequence[str], **attributes: int | list[int]) -> str:
        """Add an operation; its result's name."""
        name = f"{PREFIX}{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], None, None, None, None, **attributes))
        return name

    def constant(self, array: npt.NDArray[np.generic]) -> str:
        """Add a constant; its name."""
        name = f"{PREFIX}constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def reshaped(self, gradient: str, tensor: str) -> str:
        """A gradient in the shape of a tensor of the model, with labels in place of the image's own axis."""
        shape = np.array((self.labels, *self.shapes[tensor][1:]), np.int64)
        return self.emit("Reshape", [gradient, self.constant(shape)])


def _same(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    del backward, node
    return gradient


def _reshape(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    if backward.shapes[node.input[0]][:1] != (1,) or backward.shapes[node.output[0]][:1] != (1,):
        raise BackwardError(f"{node.op_type} of the image's own axis")
    return backward.reshaped(gradient, node.input[0])


def _transpose(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    order = _whole(node, "perm")
    if not order or order[0] != 0:
        raise BackwardError("Transpose of the image's own axis")
    return backward.emit("Transpose", [gradient], perm=[int(axis) for axis in np.argsort(order)])


def _gemm(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    if _whole(node, "transA") == [1]:
        raise BackwardError("Gemm with transA")
    weights = _weights(backward, node.input[1], 2) * _number(node, "alpha", 1.0)
    return backward.emit(
        "MatMul", [gradient, backward.constant(weights if _whole(node, "transB") == [1] else weights.T)]
    )


def _matmul(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    return backward.emit("MatMul", [gradient, backward.constant(_weights(backward, node.input[1], 2).T)])


def _add(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    _keeps_shape(backward, node)
    return gradient


def _mul(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    _keeps_shape(backward, node)
    return backward.emit(node.op_type, [gradient, backward.constant(_weights(backward, node.input[1], None))])


def _relu(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    backward.is_of_sample = True
    is_positive = backward.emit("Greater", [node.input[0], backward.constant(np.zeros((), np.float32))])
    return backward.emit("Mul", [gradient, backward.emit("Cast", [is_positive], to=TensorProto.FLOAT)])


def _batch_norm(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    scale, variance = (_weights(backward, node.input[place], 1) for place in (1, 4))
    factor = scale / np.sqrt(variance + _number(node, "epsilon", 1e-5))
    sides = (1,) * (len(backward.shapes[node.input[0]]) - 2)
    return backward.emit("Mul", [gradient, backward.constant(factor.reshape(1, -1, *sides).astype(np.float32))])


def _mean(backward: Backward, node: onnx.NodeProto, gradient: str) -> str:
    """Each of the places that were averaged has the same share."""
    shape = backward.shapes[node.input[0]]
    axes = list(range(2, len(shape))) if node.op_type == "GlobalAveragePool" else _axes(backward, node, len(shape))
    if 0 in axes:
        raise BackwardError("mean over the image's own axis")
    kept = tuple(1 if axis in axes else side for axis, side in enumerate(shape))
    wide = backward.emit("Reshape", [gradient, backward.constant(np.array((backward.labels, *kept[1:]), np.int64))])
    share = np.float32(1.0 / np.prod([shape[axis] for axis in axes]))
    scaled = backward.emit("Mul", [wide, backward.constant(np.array(share, np.float32))])
    return backward.emit("Expand", [scaled, backward.constant(np.array((backward.labels, *shape[1:]), np.int64))])


def _axes(backward: Backward, node: onnx.NodeProto, rank: int) -> list[int]:
    axes = _whole(node, "axes")
    if not axes and len(node.input) > 1:
        if node.input[1] not in backward.constants:
            raise BackwardError("ReduceMean over axes that are computed")
        axes = [int(axis) for axis in backward.constants[node.input[1]]]
    return [int(axis) % rank for axis in axes] if axes else list(range(rank))


def _weights(backward: Backward, name: str, ndim: int | None) -> npt.NDArray[np.float32]:
    found = backward.constants.get(name)
    if found is None or found.dtype != np.float32 or (ndim is not None and found.ndim != ndim):
        raise BackwardError(f"{name} is not a constant of {ndim} axes")
    return np.asarray(found, np.float32)


def _keeps_shape(backward: Backward, node: onnx.NodeProto) -> None:
    """Refuse what adds or multiplies two computed tensors, or makes the first larger."""
    _weights(backward, node.input[1], None)
    if backward.shapes[node.input[0]] != backward.shapes[node.output[0]]:
        raise BackwardError(f"{node.op_type} that changes the shape")


def _whole(node: onnx.NodeProto, name: str) -> list[int]:
    """Whole numbers of an attribute; empty if it is not there."""
    return next((list(one.ints) or [one.i] for one in node.attribute if one.name == name), [])


def _number(node: onnx.NodeProto, name: str, default: float) -> np.float32:
    return np.float32(next((one.f for one in node.attribute if one.name == name), default))


STEPS: Mapping[str, Callable[[Backward, onnx.NodeProto, str], str]] = {
    "Identity": _same, "Dropout": _same,
    "Reshape": _reshape, "Flatten": _reshape, "Squeeze": _reshape, "Unsqueeze": _reshape, "Transpose": _transpose,
    "Gemm": _gemm, "MatMul": _matmul, "Add": _add, "Sub": _add, "Mul": _mul, "Div": _mul, "Relu": _relu,
    "BatchNormalization": _batch_norm, "GlobalAveragePool": _mean, "ReduceMean": _mean,
}  # fmt: skip
