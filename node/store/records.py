"""Frozen records as plain JSON values and back, strictly; arrays are set aside by key.

The type hints of a record are its schema: an unknown, missing or wrongly typed key is refused on
the way back, and a new field of a record needs no code here.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from node.errors import StoreError

__all__ = ["Array", "Plain", "from_plain", "to_plain"]

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What JSON can hold."""
Array = npt.NDArray[np.generic]

T = TypeVar("T")


def to_plain(value: object, arrays: MutableMapping[str, Array], where: str = "") -> Plain:
    """Turn a record into what JSON can hold; every array moves to `arrays` and leaves its key.

    Raises
    ------
    StoreError
        If a value is neither a record, an array nor plain; `where` says which.
    """
    if isinstance(value, np.ndarray):
        arrays[where] = value
        return where
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_plain(getattr(value, field.name), arrays, f"{where}.{field.name}".lstrip("."))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, arrays, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item, arrays, f"{where}.{index}") for index, item in enumerate(value)]
    return _scalar(value, where)


def _scalar(value: object, where: str) -> Plain:
    """Give the plain value of what libraries and enumerations derive from one."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str | Path):
        return str(value)
    raise StoreError(f"{where} cannot be kept: expected a plain value, found {type(value).__name__}")


def from_plain(kind: type[T], plain: Plain, arrays: Mapping[str, Array]) -> T:
    """Turn what `to_plain` gave back into the record `kind`.

    Raises
    ------
    StoreError
        If a key is unknown or of another type than the record's field, one without a default is missing, or an array
        is absent. A field that has a default may be missing: it came into the record later than the text.
    """
    return typing.cast("T", _value(kind, plain, arrays, kind.__name__))  # _value builds what the hint says


def _value(hint: object, plain: Plain, arrays: Mapping[str, Array], where: str) -> object:
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _first_that_fits(arguments, plain, arrays, where)
    if origin is np.ndarray and isinstance(plain, str) and plain in arrays:
        return arrays[plain]
    if origin in (tuple, list) and isinstance(plain, list):
        return _sequence(origin, arguments, plain, arrays, where)
    if origin is Mapping and isinstance(plain, dict):
        return {key: _value(arguments[1], item, arrays, f"{where}.{key}") for key, item in plain.items()}
    if isinstance(origin, type):
        return _single(origin, plain, arrays, where)
    raise _mismatch(where, hint, plain)


def _single(kind: type, plain: Plain, arrays: Mapping[str, Array], where: str) -> object:
    if dataclasses.is_dataclass(kind) and isinstance(plain, dict):
        return _record(kind, plain, arrays, where)
    if issubclass(kind, StrEnum) and isinstance(plain, str) and plain in list(kind):
        return kind(plain)
    if kind is Path and isinstance(plain, str):
        return Path(plain)
    if kind is float and type(plain) is int:
        return float(plain)
    if (kind in (bool, int, float, str) and type(plain) is kind) or (kind is types.NoneType and plain is None):
        return plain
    raise _mismatch(where, kind, plain)


def _record(kind: type, plain: Mapping[str, Plain], arrays: Mapping[str, Array], where: str) -> object:
    hints = _hints(kind)
    if not _required(kind) <= set(plain) <= set(hints):
        raise StoreError(f"{where}: expected the keys {', '.join(hints)}, found {', '.join(plain)}")
    return kind(**{name: _value(hints[name], value, arrays, f"{where}.{name}") for name, value in plain.items()})


def _sequence(
    origin: object, arguments: tuple[object, ...], plain: list[Plain], arrays: Mapping[str, Array], where: str
) -> object:
    is_open = origin is list or arguments[-1] is Ellipsis
    hints = (arguments[0],) * len(plain) if is_open else arguments
    if len(hints) != len(plain):
        raise StoreError(f"{where}: expected {len(hints)} values, found {len(plain)}")
    items = [
        _value(hint, item, arrays, f"{where}.{index}")
        for index, (hint, item) in enumerate(zip(hints, plain, strict=True))
    ]
    return tuple(items) if origin is tuple else items


def _first_that_fits(choices: tuple[object, ...], plain: Plain, arrays: Mapping[str, Array], where: str) -> object:
    for choice in choices:
        try:
            return _value(choice, plain, arrays, where)
        except StoreError:
            if choice is choices[-1]:
                raise
    raise _mismatch(where, choices, plain)


@functools.cache
def _required(kind: type) -> frozenset[str]:
    return frozenset(
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )


@functools.cache
def _hints(kind: type) -> Mapping[str, object]:
    return typing.get_type_hints(kind)


def _mismatch(where: str, hint: object, plain: Plain) -> StoreError:
    expected = getattr(hint, "__name__", str(hint))
    return StoreError(f"{where}: expected {expected}, found {type(plain).__name__}")
