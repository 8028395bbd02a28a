"""The converter against TensorFlow's own definitions, written out in numpy; no TensorFlow needed."""

import contextlib
import struct
from itertools import product

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate

from node.errors import ModelError
from node.infer.convert import convert_frozen_graph
from node.infer.graphdef import read_graph

Field = npt.NDArray[np.float32]


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def message(number: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def shape_of(sizes: tuple[int, ...]) -> bytes:
    return b"".join(message(2, integer(1, size)) for size in sizes)


def tensor(array: npt.NDArray[np.generic]) -> bytes:
    dtype = 1 if array.dtype == np.float32 else 3
    return integer(1, dtype) + message(2, shape_of(array.shape)) + message(4, array.tobytes())


def attribute(value: object) -> bytes:
    if isinstance(value, np.ndarray):
        return message(8, tensor(value))
    if isinstance(value, str):
        return message(2, value)
    if isinstance(value, bool):
        return integer(5, int(value))
    if isinstance(value, list):
        return message(1, b"".join(integer(3, item) for item in value))
    assert isinstance(value, tuple)
    return message(7, shape_of(value))


def node(name: str, op: str, *inputs: str, **attributes: object) -> bytes:
    entries = (message(5, message(1, key) + message(2, attribute(value))) for key, value in attributes.items())
    return message(1, message(1, name) + message(2, op) + b"".join(message(3, i) for i in inputs) + b"".join(entries))


IMAGE = node("img", "Placeholder", shape=(-1, 4, 6, 8, 2))
CONV = {"padding": "SAME", "data_format": "NDHWC", "strides": [1] * 5}
UP = {"padding": "SAME", "data_format": "NDHWC", "strides": [1, 2, 2, 2, 1]}
POOL = {"padding": "VALID", "data_format": "NDHWC", "strides": [1, 2, 2, 2, 1], "ksize": [1, 2, 2, 2, 1]}
SOURCE = np.random.default_rng(1).normal(size=(1, 4, 6, 8, 2)).astype(np.float32)
KERNEL = np.random.default_rng(2).normal(size=(3, 3, 3, 2, 5)).astype(np.float32)
UP_KERNEL = np.random.default_rng(3).normal(size=(3, 3, 3, 4, 2)).astype(np.float32)
BIAS = np.arange(5, dtype=np.float32)


def run(graph: bytes, source: Field = SOURCE) -> Field:
    model = convert_frozen_graph(graph, input_name="img", output_name="out")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = session.run(["out"], {"img": np.moveaxis(source, -1, 1)})
    return np.moveaxis(output, 1, -1)


def convolved(source: Field, kernel: Field) -> Field:
    """Sum over the window at every voxel, zeros outside (SAME for an odd window)."""
    out = np.zeros((*source.shape[:-1], kernel.shape[-1]))
    for a, b in product(range(kernel.shape[3]), range(kernel.shape[4])):
        out[0, ..., b] += correlate(source[0, ..., a].astype(float), kernel[..., a, b], mode="constant")
    return out.astype(np.float32)


def spread(source: Field, kernel: Field) -> Field:
    """Transpose of a SAME convolution with step 2: every voxel is spread over the window it would be summed from."""
    _, depth, height, width, _ = source.shape
    out = np.zeros((1, 2 * depth + 1, 2 * height + 1, 2 * width + 1, kernel.shape[3]))
    for z, y, x in product(range(depth), range(height), range(width)):
        out[0, 2 * z : 2 * z + 3, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3] += kernel @ source[0, z, y, x]
    return out[:, :-1, :-1, :-1].astype(np.float32)  # total padding 1, and the odd one comes last


def test_a_convolution_with_bias_and_relu_equals_its_definition() -> None:
    graph = (
        IMAGE
        + node("w", "Const", value=KERNEL)
        + node("w/read", "Identity", "w")
        + node("b", "Const", value=BIAS)
        + node("conv", "Conv3D", "img", "w/read", dilations=[1] * 5, **CONV)
        + node("biased", "BiasAdd", "conv", "b")
        + node("out", "Relu", "biased")
    )
    np.testing.assert_allclose(run(graph), np.maximum(convolved(SOURCE, KERNEL) + BIAS, 0), atol=1e-4)


def test_a_transposed_convolution_equals_its_definition() -> None:
    graph = (
        IMAGE
        + node("w", "Const", value=UP_KERNEL)
        + node("size", "Shape", "img")
        + node("out", "Conv3DBackpropInputV2", "size", "w", "img", **UP)
    )
    np.testing.assert_allclose(run(graph), spread(SOURCE, UP_KERNEL), atol=1e-4)


def test_pooling_concatenation_and_sigmoid_equal_their_definitions() -> None:
    graph = (
        IMAGE
        + node("axis", "Const", value=np.array(-1, np.int32))
        + node("pool", "MaxPool3D", "img", **POOL)
        + node("sigmoid", "Sigmoid", "pool")
        + node("out", "ConcatV2", "pool", "sigmoid", "axis")
    )
    pooled = SOURCE.reshape(1, 2, 2, 3, 2, 4, 2, 2).max(axis=(2, 4, 6))
    np.testing.assert_allclose(run(graph), np.concatenate([pooled, 1 / (1 + np.exp(-pooled))], -1), atol=1e-6)


def test_dropout_is_left_out_and_the_branch_without_it_is_taken() -> None:
    graph = (
        IMAGE
        + node("training", "Const", value=np.array(1, np.int32))
        + node("kept/Switch", "Switch", "img", "training")
        + node("kept", "Identity", "kept/Switch")
        + node("dropped/Switch", "Switch", "img", "training")
        + node("dropped", "RandomDropout", "dropped/Switch:1")
        + node("merged", "Merge", "dropped", "kept")
        + node("out", "Relu", "merged")
    )
    np.testing.assert_array_equal(run(graph), np.maximum(SOURCE, 0))


def test_the_same_graph_gives_the_same_bytes_without_a_stamp_of_the_tool() -> None:
    graph = IMAGE + node("out", "Relu", "img")
    first, second = (convert_frozen_graph(graph, input_name="img", output_name="out") for _ in range(2))
    assert first == second
    model = onnx.load_from_string(first)
    assert (model.producer_name, model.producer_version, model.ir_version) == ("", "", 9)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (IMAGE, "'out'"),
        (node("out", "Relu", "img"), "'img'"),
        (IMAGE + node("out", "Tanh", "img"), "Tanh"),
        (IMAGE + node("x", "Tanh", "img") + node("out", "Relu", "x"), "Tanh"),
        (IMAGE + node("out", "Relu", "out"), "loop"),
        (IMAGE + node("out", "Relu", "gone"), "'gone'"),
        (IMAGE + node("out", "MaxPool3D", "img", **POOL | {"padding": "SAME"}), "padding"),
        (IMAGE + node("out", "MaxPool3D", "img", **POOL | {"ksize": [2, 2, 2, 2, 1]}), "ksize"),
        (IMAGE + node("out", "Conv3D", "img", "img", **CONV), "weights"),
        (
            IMAGE + node("w", "Const", value=KERNEL) + node("out", "Conv3D", "img", "w", **CONV | {"strides": [2] * 5}),
            "strides",
        ),
        (
            IMAGE + node("w", "Const", value=KERNEL) + node("out", "Conv3D", "img", "w", **CONV, dilations=[2] * 5),
            "dilations",
        ),
        (
            IMAGE
            + node("axis", "Const", value=np.array(-1, np.int32))
            + node("pool", "MaxPool3D", "img", **POOL)
            + node("out", "ConcatV2", "pool", "img", "axis"),
            "contradict",
        ),
        (node("img", "Placeholder") + node("out", "Relu", "img"), "five axes"),
        (IMAGE + IMAGE, "again"),
    ],
)
def test_a_graph_that_cannot_be_converted_exactly_is_refused(graph: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        convert_frozen_graph(graph, input_name="img", output_name="out")


def test_a_list_that_is_too_short_repeats_its_last_value() -> None:
    listed = integer(1, 1) + message(2, shape_of((2, 2))) + message(5, struct.pack("<2f", 1.0, 7.0))
    graph = message(
        1, message(1, "c") + message(2, "Const") + message(5, message(1, "value") + message(2, message(8, listed)))
    )
    np.testing.assert_array_equal(read_graph(graph)["c"].attributes["value"], [[1.0, 7.0], [7.0, 7.0]])


def test_a_tensor_that_claims_to_be_huge_is_refused() -> None:
    listed = integer(1, 1) + message(2, shape_of((1 << 20, 1 << 20))) + message(5, struct.pack("<f", 1.0))
    graph = message(1, message(1, "c") + message(5, message(1, "value") + message(2, message(8, listed))))
    with pytest.raises(ModelError, match="shape"):
        read_graph(graph)


NAMES = st.text("abc/_1", min_size=1, max_size=8)
ATTRIBUTES = st.dictionaries(
    NAMES,
    st.one_of(st.booleans(), NAMES, st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1).map(list)),
    max_size=3,
)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES, st.lists(NAMES, max_size=3), ATTRIBUTES), unique_by=lambda item: item[0]))
def test_every_node_that_is_written_is_read(nodes: list[tuple[str, str, list[str], dict[str, object]]]) -> None:
    graph = b"".join(node(name, op, *inputs, **attributes) for name, op, inputs, attributes in nodes)
    found = read_graph(graph)
    assert [(n.name, n.op, list(n.inputs)) for n in found.values()] == [(n, o, i) for n, o, i, _ in nodes]
    for name, _, _, attributes in nodes:
        for key, value in attributes.items():
            expected = value.encode() if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
            assert found[name].attributes[key] == expected


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_graph_are_refused_or_read_but_never_crash(data: bytes) -> None:
    with contextlib.suppress(ModelError):
        read_graph(data)


@settings(deadline=None)
@given(st.data())
def test_a_graph_that_was_cut_or_changed_never_crashes(data: st.DataObject) -> None:
    graph = bytearray(IMAGE + node("w", "Const", value=KERNEL[:1, :1, :1]) + node("out", "Conv3D", "img", "w", **CONV))
    graph[data.draw(st.integers(0, len(graph) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(0, len(graph)))
    with contextlib.suppress(ModelError):
        convert_frozen_graph(bytes(graph[:size]), input_name="img", output_name="out")
