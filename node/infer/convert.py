"""Turns a frozen TensorFlow network into ONNX, once, at set-up.

A node must not carry TensorFlow to run one small network. The conversion knows the operations of a
three-dimensional U-Net and refuses every other one: a network that is converted nearly right is
worse than none. The same graph gives the same bytes on every run, so their hash can be pinned in
the model's manifest.

References
----------
ONNX operators, opset 17 (onnx.ai/onnx/operators); TensorFlow ``SAME`` padding
(tensorflow.org/api_docs/python/tf/nn, "Notes on padding").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from node.errors import ModelError
from node.infer.graphdef import GraphNode, read_graph

__all__ = ["convert_frozen_graph"]

OPSET = 17
IR_VERSION = 9  # what onnxruntime 1.22 and later read
CHANNELS_FIRST = (0, 4, 1, 2, 3)  # NDHWC, TensorFlow's order of axes, as NCDHW, that of ONNX


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A value that is computed when the network runs."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class _Constant:
    """A value that stands in the graph: weights, an axis."""

    array: npt.NDArray[np.float32 | np.int32]


@dataclass(frozen=True, slots=True)
class _Dead:
    """A value of a branch that runs in training only."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A value we cannot convert; refused only if the network really needs it."""

    op: str


_Value = _Tensor | _Constant | _Dead | _Unknown
_Layer = tuple[onnx.NodeProto, tuple[onnx.TensorProto, ...]]


def convert_frozen_graph(graph: bytes, *, input_name: str, output_name: str) -> bytes:
    """Convert a frozen TensorFlow graph of a 3D convolutional network into an ONNX model.

    Parameters
    ----------
    graph
        A serialised ``GraphDef``, its variables frozen to constants.
    input_name, output_name
        Nodes that take ``float32[n, depth, height, width, channel]`` and give the result; the ONNX
        model has the same names and the axes ``[n, channel, depth, height, width]``.

    Returns
    -------
    The ONNX model, opset 17. Dropout and all that serves only training is left out.

    Raises
    ------
    ModelError
        If the bytes are no graph, a name is missing, or an operation is not one of ours.
    """
    nodes = read_graph(graph)
    values: dict[str, _Value] = {input_name: _Tensor(input_name)}
    layers: list[_Layer] = []
    for name in _in_order(nodes, input_name=input_name, output_name=output_name):
        value, layer = _convert(nodes[name], values)
        values[name] = value
        layers += [layer] if layer else []
    if values[output_name] != _Tensor(output_name) or not layers:
        raise ModelError(f"expected {output_name!r} to be computed from {input_name!r}, found {values[output_name]}")
    return _write(nodes[input_name], layers, output_name)


def _in_order(nodes: Mapping[str, GraphNode], *, input_name: str, output_name: str) -> list[str]:
    """Return what the output needs, each name after its inputs; the network's input is known and left out."""
    for name in (input_name, output_name):
        if name not in nodes:
            raise ModelError(f"expected a node {name!r} in the graph, found none among {len(nodes)}")
    needs: dict[str, list[str]] = {}
    waiting = [output_name]
    while waiting:
        name = waiting.pop()
        if name == input_name or name in needs:
            continue
        if name not in nodes:
            raise ModelError(f"expected a node {name!r} in the graph, found none")
        needs[name] = [_name(reference) for reference in nodes[name].inputs]
        waiting += needs[name]
    try:
        return [name for name in TopologicalSorter(needs).static_order() if name != input_name]
    except CycleError as error:
        raise ModelError("expected a graph without loops, found one") from error


def _name(reference: str) -> str:
    """Return the node a reference (``name``, ``name:1``, ``^name``) points to."""
    return reference.removeprefix("^").split(":")[0]


def _convert(node: GraphNode, values: Mapping[str, _Value]) -> tuple[_Value, _Layer | None]:
    """Convert one node: what it gives, and the layer that computes it, if any."""
    references = [reference for reference in node.inputs if not reference.startswith("^")]
    inputs = [_value(reference, values) for reference in references]
    is_dead = any(isinstance(value, _Dead) for value in inputs) and node.op != "Merge"
    if node.op in LAYERS and not is_dead:
        return _Tensor(node.name), LAYERS[node.op](node, inputs)
    return (_Dead() if is_dead else _pass_on(node, inputs)), None


def _pass_on(node: GraphNode, inputs: Sequence[_Value]) -> _Value:
    """Say what a node gives that computes nothing when the network runs."""
    if node.op == "Const":
        array = node.attributes.get("value")
        return _Constant(array) if isinstance(array, np.ndarray) else _Unknown(node.op)
    if (node.op, len(inputs)) in (("Identity", 1), ("Switch", 2)):
        return inputs[0]  # of a Switch this is output 0; `_value` knows that output 1 is dead
    live = [value for value in inputs if not isinstance(value, _Dead)]
    if node.op == "Merge" and len(live) == 1:  # takes the branch that was run
        return live[0]
    return _Unknown(node.op)


def _value(reference: str, values: Mapping[str, _Value]) -> _Value:
    """Look an input up; output 1 of any node here is the branch of a Switch that training takes."""
    name, _, output = reference.partition(":")
    return values[name] if output in ("", "0") else _Dead()


def _tensor(node: GraphNode, value: _Value) -> str:
    if not isinstance(value, _Tensor):
        raise ModelError(f"expected an operation we can convert before {node.name!r}, found {value}")
    return value.name


def _constant(node: GraphNode, value: _Value, ndim: int) -> npt.NDArray[np.float32 | np.int32]:
    if not isinstance(value, _Constant) or value.array.ndim != ndim:
        raise ModelError(f"expected a constant with {ndim} axes as weights of {node.name!r}")
    return value.array


def _expect(node: GraphNode, count: int, inputs: Sequence[_Value], **attributes: object) -> None:
    """Refuse a node that has other inputs or attributes than the one way in which we convert it."""
    if len(inputs) != count:
        raise ModelError(f"expected {count} inputs of {node.op} {node.name!r}, found {len(inputs)}")
    for key, expected in attributes.items():
        found = node.attributes.get(key, expected if key == "dilations" else None)
        if found != expected:
            raise ModelError(f"expected {key} {expected!r} in {node.op} {node.name!r}, found {found!r}")


def _spatial(node: GraphNode, key: str) -> list[int]:
    """Return a window or step in voxels along depth, height and width."""
    sizes = node.attributes.get(key)
    if not isinstance(sizes, tuple) or len(sizes) != 5 or sizes[0] != 1 or sizes[4] != 1 or min(sizes) < 1:
        raise ModelError(f"expected {key} of three axes in {node.op} {node.name!r}, found {sizes!r}")
    return list(sizes[1:4])


def _kernel(node: GraphNode, value: _Value) -> tuple[onnx.TensorProto, list[int]]:
    """Write weights ``[depth, height, width, a, b]`` as ONNX wants them, ``[b, a, depth, height, width]``."""
    weights = _constant(node, value, ndim=5)
    array = np.ascontiguousarray(weights.transpose(4, 3, 0, 1, 2), np.float32)
    return numpy_helper.from_array(array, f"{node.name}/weights"), list(weights.shape[:3])


def _convolution(node: GraphNode, inputs: Sequence[_Value]) -> _Layer:
    _expect(node, 2, inputs, padding=b"SAME", data_format=b"NDHWC", strides=(1,) * 5, dilations=(1,) * 5)
    weights, window = _kernel(node, inputs[1])
    before = [(size - 1) // 2 for size in window]  # SAME: the odd voxel of padding comes last
    pads = before + [size - 1 - pad for size, pad in zip(window, before, strict=True)]
    names = [_tensor(node, inputs[0]), weights.name]
    return helper.make_node("Conv", names, [node.name], kernel_shape=window, pads=pads), (weights,)


def _transposed_convolution(node: GraphNode, inputs: Sequence[_Value]) -> _Layer:
    """Convert an up-sampling; its output is the input times the step, whatever shape input 0 computes."""
    _expect(node, 3, inputs, padding=b"SAME", data_format=b"NDHWC", dilations=(1,) * 5)
    weights, window = _kernel(node, inputs[1])
    steps = _spatial(node, "strides")
    surplus = [size - step for size, step in zip(window, steps, strict=True)]
    if min(surplus) < 0:
        raise ModelError(f"expected a window as large as the step in {node.name!r}, found {window} and {steps}")
    pads = [pad // 2 for pad in surplus] + [pad - pad // 2 for pad in surplus]
    names = [_tensor(node, inputs[2]), weights.name]
    layer = helper.make_node("ConvTranspose", names, [node.name], kernel_shape=window, strides=steps, pads=pads)
    return layer, (weights,)


def _pooling(node: GraphNode, inputs: Sequence[_Value]) -> _Layer:
    _expect(node, 1, inputs, padding=b"VALID", data_format=b"NDHWC")
    window, steps = _spatial(node, "ksize"), _spatial(node, "strides")
    names = [_tensor(node, inputs[0])]
    return helper.make_node("MaxPool", names, [node.name], kernel_shape=window, strides=steps), ()


def _bias(node: GraphNode, inputs: Sequence[_Value]) -> _Layer:
    _expect(node, 2, inputs)
    bias = _constant(node, inputs[1], ndim=1).astype(np.float32).reshape(1, -1, 1, 1, 1)
    weights = numpy_helper.from_array(bias, f"{node.name}/bias")
    return helper.make_node("Add", [_tensor(node, inputs[0]), weights.name], [node.name]), (weights,)


def _concatenation(node: GraphNode, inputs: Sequence[_Value]) -> _Layer:
    axis = _constant(node, inputs[-1], ndim=0) if inputs else None
    if axis is None or int(axis) not in (-1, 4):
        raise ModelError(f"expected {node.name!r} to join channels, found axis {axis!r}")
    return helper.make_node("Concat", [_tensor(node, value) for value in inputs[:-1]], [node.name], axis=1), ()


def _activation(op: str) -> Callable[[GraphNode, Sequence[_Value]], _Layer]:
    def convert(node: GraphNode, inputs: Sequence[_Value]) -> _Layer:
        _expect(node, 1, inputs)
        return helper.make_node(op, [_tensor(node, inputs[0])], [node.name]), ()

    return convert


LAYERS: Mapping[str, Callable[[GraphNode, Sequence[_Value]], _Layer]] = {
    "BiasAdd": _bias,
    "ConcatV2": _concatenation,
    "Conv3D": _convolution,
    "Conv3DBackpropInputV2": _transposed_convolution,
    "MaxPool3D": _pooling,
    "Relu": _activation("Relu"),
    "Sigmoid": _activation("Sigmoid"),
}


def _write(source: GraphNode, layers: Sequence[_Layer], output_name: str) -> bytes:
    """Write the layers as a model that carries nothing but the network, so that its bytes never vary."""
    shape = source.attributes.get("shape")
    if not isinstance(shape, tuple) or len(shape) != 5:
        raise ModelError(f"expected input {source.name!r} of five axes in the graph, found {shape!r}")
    names = ("n", "channel", "depth", "height", "width")
    sizes = [shape[axis] if shape[axis] > 0 else name for axis, name in zip(CHANNELS_FIRST, names, strict=True)]
    entry = helper.make_tensor_value_info(source.name, onnx.TensorProto.FLOAT, sizes)
    result = helper.make_tensor_value_info(output_name, onnx.TensorProto.FLOAT, ["n", None, None, None, None])
    weights = [tensor for _, tensors in layers for tensor in tensors]
    network = helper.make_graph([layer for layer, _ in layers], "network", [entry], [result], weights)
    model = helper.make_model(network, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError("the converted network contradicts itself; the graph is not one we can convert") from error
    return bytes(model.SerializeToString(deterministic=True))
