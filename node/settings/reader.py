"""TOML tables to frozen dataclasses, strictly, with the line of every mistake."""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydicom.datadict import tag_for_keyword

from node.domain.work import Priority
from node.errors import ConfigError

__all__ = ["Reader", "line_of", "overlay_environment"]

T = TypeVar("T")
PREFIX = "WETREAD_"
NOT_A_SETTING = ("WETREAD_SITE",)


def overlay_environment(
    tables: Mapping[str, Any], environment: Mapping[str, str], *, known: Mapping[str, type]
) -> dict[str, Any]:
    """Put ``WETREAD_<TABLE>__<KEY>`` over the tables of the file, as text or number as the key wants it.

    Raises
    ------
    ConfigError
        If a variable names a table or key that does not exist.
    """
    result = {name: dict(table) if isinstance(table, Mapping) else table for name, table in tables.items()}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable in NOT_A_SETTING:
            continue
        section, separator, key = variable.removeprefix(PREFIX).lower().partition("__")
        if not separator or section not in known:
            raise ConfigError(f"environment: {variable} names no table; known are {', '.join(known)}")
        hints = typing.get_type_hints(known[section])
        if key not in hints:
            raise ConfigError(f"environment: {variable}: [{section}] has no key {key!r}; known are {', '.join(hints)}")
        result.setdefault(section, {})[key] = _from_text(variable, value, hints[key])
    return result


def _from_text(variable: str, value: str, kind: object) -> object:
    try:
        if kind is int:
            return int(value)
        if kind is float:
            return float(value)
    except ValueError as error:
        raise ConfigError(f"environment: {variable} must be a number, found {value!r}") from error
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"environment: {variable} must be true or false, found {value!r}")
        return value.lower() == "true"
    if kind in (str, Path):
        return value
    raise ConfigError(f"environment: {variable} cannot be set by the environment; set it in config.toml")


def line_of(text: str, *words: str) -> int:
    """Line, counted from 1, where the last of `words` stands; searched below the table the first word names."""
    lines = text.splitlines()
    start = 0
    found = 0
    for word in words:
        pattern = re.compile(rf"(^|[\s\[.\"'{{,]){re.escape(word)}($|[\s\].=\"',}}])")
        for number in range(start, len(lines)):
            if pattern.search(lines[number].split("#", 1)[0]):
                start, found = number, number + 1
                break
    return found


def _table(where: str) -> str:
    return where.rsplit(".", maxsplit=1)[-1]


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """Turns tables of one file into records; every error names the file and the line."""

    path: Path
    text: str

    def error(self, message: str, *words: str) -> ConfigError:
        """A `ConfigError` that points at the line where the last of `words` stands."""
        line = line_of(self.text, *words)
        return ConfigError(f"{self.path}{f', line {line}' if line else ''}: {message}")

    def record(self, kind: type[T], where: str, table: object) -> T:
        """Build the dataclass `kind` from a table.

        Raises
        ------
        ConfigError
            If a key is unknown, missing or of another type.
        """
        if not isinstance(table, Mapping):
            raise self.error(f"[{where}] must be a table, found {type(table).__name__}", where)
        fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        hints = typing.get_type_hints(kind)
        for key in table:
            if key not in fields:
                known = ", ".join(fields)
                raise self.error(f"[{where}] has no key {key!r}; known are {known}", _table(where), key)
        for name, field in fields.items():
            if name not in table and field.default is dataclasses.MISSING:
                raise self.error(f"[{where}] lacks the key {name!r}", _table(where))
        return kind(**{key: self.value(where, key, value, hints[key]) for key, value in table.items()})

    def value(self, where: str, key: str, value: Any, hint: Any) -> Any:
        """Check one value against the type of its field; whole numbers are taken where a fraction may stand."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            hint = next(argument for argument in arguments if argument is not types.NoneType)
            return self.value(where, key, value, hint)
        if origin is tuple:
            return self._tuple(where, key, value, arguments[0])
        if hint is Priority:
            return self._choice(where, key, value, {priority.name.lower(): priority for priority in Priority})
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            return self._choice(where, key, value, {str(member): member for member in hint})
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return value if isinstance(value, hint) else self.record(hint, f"{where}.{key}", value)
        if hint is Path and isinstance(value, str):
            return Path(value)
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if hint in (bool, int, float, str) and type(value) is hint:
            return value
        expected = getattr(hint, "__name__", str(hint))
        raise self.error(f"[{where}] {key} must be of type {expected}, found {value!r}", _table(where), key)

    def _tuple(self, where: str, key: str, value: Any, hint: Any) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        if typing.get_origin(hint) is types.UnionType:
            allowed = typing.get_args(hint)
            values = value if isinstance(value, list) else [value]
            if all(type(item) in allowed for item in values):
                return tuple(values)
        elif isinstance(value, list):
            return tuple(self.value(where, key, item, hint) for item in value)
        raise self.error(f"[{where}] {key} must be a list, found {value!r}", _table(where), key)

    def _choice(self, where: str, key: str, value: object, allowed: Mapping[str, T]) -> T:
        if not isinstance(value, str) or value not in allowed:
            choices = ", ".join(allowed)
            raise self.error(f"[{where}] {key} must be one of {choices}, found {value!r}", _table(where), key)
        return allowed[value]

    def check_keyword(self, keyword: str) -> None:
        """Refuse a condition on something that is not a DICOM keyword."""
        if tag_for_keyword(keyword) is None:
            raise self.error(f"{keyword!r} is not a DICOM keyword (PS3.6)", "rules", keyword)

    def check_expression(self, keyword: str, expression: str) -> None:
        """Refuse a regular expression that does not compile."""
        try:
            re.compile(expression)
        except re.error as error:
            raise self.error(
                f"{keyword}: {expression!r} is no regular expression: {error}", "rules", keyword
            ) from error
