"""Reads a frozen TensorFlow graph without TensorFlow.

A frozen graph is a protocol buffer message ``GraphDef``: nodes with a name, an operation, inputs and
attributes, the weights among them. This is the part of it that a network needs, read from the wire
format alone, because TensorFlow weighs a thousand times more than the model.

References
----------
Protocol Buffers encoding (protobuf.dev/programming-guides/encoding); tensorflow/core/framework:
graph.proto, node_def.proto, attr_value.proto, tensor.proto, tensor_shape.proto, types.proto.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from node.errors import ModelError

__all__ = ["AttributeValue", "GraphNode", "read_graph"]

AttributeValue = bytes | int | float | bool | tuple[int, ...] | npt.NDArray[np.float32 | np.int32]
"""Text, a number, a truth value, a list of integers or a shape (-1 where unknown), or a tensor."""
_Array = npt.NDArray[np.float32 | np.int32]

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5  # protobuf encoding, "Message structure"
MAX_VARINT_BYTES = 10  # protobuf encoding, "Base 128 varints"
DTYPES: dict[int, np.dtype[np.float32] | np.dtype[np.int32]] = {
    1: np.dtype("<f4"),  # types.proto: DT_FLOAT
    3: np.dtype("<i4"),  # DT_INT32
}
MAX_ELEMENTS = 1 << 26  # a tensor larger than 256 MB is no part of a network we would run


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One operation of a graph.

    `inputs` are as the graph writes them: ``name``, ``name:1`` for a second output, ``^name`` for a
    mere order of execution. Attributes of other types than `AttributeValue` are left out.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


def read_graph(graph: bytes) -> dict[str, GraphNode]:
    """Read every node of a frozen TensorFlow graph, by name, in the order of the file.

    Raises
    ------
    ModelError
        If the bytes are cut, are not a ``GraphDef``, or name a node twice.
    """
    nodes: dict[str, GraphNode] = {}
    for number, value in _fields(graph):
        if number == 1:  # GraphDef.node
            node = _read_node(_message(value))
            if not node.name or node.name in nodes:
                raise ModelError(f"expected nodes with distinct names in the graph, found {node.name!r} again")
            nodes[node.name] = node
    return nodes


def _read_node(data: bytes) -> GraphNode:
    name, op = "", ""
    inputs: list[str] = []
    attributes: dict[str, AttributeValue] = {}
    for number, value in _fields(data):
        if number == 1:  # NodeDef.name
            name = _text(value)
        elif number == 2:  # NodeDef.op
            op = _text(value)
        elif number == 3:  # NodeDef.input
            inputs.append(_text(value))
        elif number == 5:  # NodeDef.attr, a map: one message with key and value for each entry
            entry = dict(_fields(_message(value)))
            attribute = _read_attribute(_message(entry.get(2, b"")))
            if attribute is not None:
                attributes[_text(entry.get(1, b""))] = attribute
    return GraphNode(name, op, tuple(inputs), attributes)


def _read_attribute(data: bytes) -> AttributeValue | None:
    for number, value in _fields(data):
        match number:
            case 1:  # AttrValue.list
                found: AttributeValue | None = _read_integers(_message(value), 3)  # ListValue.i
            case 2:  # AttrValue.s
                found = _message(value)
            case 3:  # AttrValue.i
                found = _signed(value)
            case 4:  # AttrValue.f
                found = float(_floats(_message(value)).sum())
            case 5:  # AttrValue.b
                found = bool(_signed(value))
            case 7:  # AttrValue.shape
                found = _read_shape(_message(value))
            case 8:  # AttrValue.tensor
                found = _read_tensor(_message(value))
            case _:
                continue
        return found
    return None


def _read_tensor(data: bytes) -> _Array | None:
    """Read a ``TensorProto``; None for element types a network has no weights of."""
    dtype: np.dtype[np.float32] | np.dtype[np.int32] | None = None
    shape: tuple[int, ...] = ()
    content: bytes | None = None
    listed: list[npt.NDArray[np.float32]] = []
    for number, value in _fields(data):
        if number == 1:  # TensorProto.dtype
            dtype = DTYPES.get(_signed(value))
        elif number == 2:  # TensorProto.tensor_shape
            shape = _read_shape(_message(value))
            if min(shape, default=0) < 0:
                raise ModelError(f"expected a tensor of known shape, found {list(shape)}")
        elif number == 4:  # TensorProto.tensor_content
            content = _message(value)
        elif number == 5:  # TensorProto.float_val
            listed.append(_floats(_message(value)))
    if dtype is None:
        return None
    if content is not None:
        if len(content) % dtype.itemsize:
            raise ModelError(f"expected whole elements of {dtype.itemsize} bytes in a tensor, found {len(content)}")
        return _shaped(np.frombuffer(content, dtype), shape)
    if dtype == DTYPES[1]:
        return _shaped(np.concatenate(listed or [np.zeros(0, np.float32)]), shape)
    integers = _read_integers(data, 7)  # TensorProto.int_val
    if any(not -(1 << 31) <= value < 1 << 31 for value in integers):
        raise ModelError("expected 32-bit integers in a tensor, found larger ones")
    return _shaped(np.array(integers, dtype), shape)


def _shaped(values: _Array, shape: tuple[int, ...]) -> _Array:
    """Give values their shape; a list that is too short repeats its last value (tensor.proto)."""
    size = math.prod(shape)
    if size > MAX_ELEMENTS or values.size > size or (size and not values.size):
        raise ModelError(f"expected a tensor of shape {list(shape)}, found {values.size} elements")
    return np.concatenate([values, np.repeat(values[-1:], size - values.size)]).reshape(shape)


def _read_shape(data: bytes) -> tuple[int, ...]:
    sizes = []
    for number, value in _fields(data):
        if number == 2:  # TensorShapeProto.dim
            sizes.append(_signed(dict(_fields(_message(value))).get(1, 0)))  # Dim.size, -1 if unknown
    return tuple(sizes)


def _read_integers(data: bytes, wanted: int) -> tuple[int, ...]:
    """Read a repeated integer field, packed or not."""
    values: list[int] = []
    for number, value in _fields(data):
        if number == wanted and isinstance(value, int):
            values.append(_signed(value))
        elif number == wanted:
            position, packed = 0, _message(value)
            while position < len(packed):
                item, position = _varint(packed, position)
                values.append(_signed(item))
    return tuple(values)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a message: an int for a varint, else its bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == VARINT:
            number, position = _varint(data, position)
            yield key >> 3, number
            continue
        if kind == LENGTH_DELIMITED:
            size, position = _varint(data, position)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ModelError(f"expected a protocol buffer, found wire type {kind} at byte {position}")
        if position + size > len(data):
            raise ModelError(f"expected {size} bytes at byte {position} of a message, found {len(data) - position}")
        yield key >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer at a position, unsigned 64 bit, and the position after it."""
    value = 0
    for index, byte in enumerate(data[position : position + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + index + 1
    raise ModelError(f"expected an integer at byte {position} of a message, found none")


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ModelError("expected an integer in the graph, found bytes")
    return value - (1 << 64) if value >> 63 else value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ModelError("expected bytes in the graph, found an integer")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _message(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError("expected a name in UTF-8 in the graph") from error


def _floats(data: bytes) -> npt.NDArray[np.float32]:
    try:
        return np.array([item for (item,) in struct.iter_unpack("<f", data)], np.float32)
    except struct.error as error:
        raise ModelError(f"expected whole 4-byte numbers in the graph, found {len(data)} bytes") from error
